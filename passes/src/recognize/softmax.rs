//! Names Softmax and LogSoftmax where they are spelled out.
//!
//! ```text
//! m = ReduceMax(x, [-1])
//! d = Sub(x, m)
//! e = Exp(d)
//! s = ReduceSum(e, [-1])
//! y = Div(e, s)            =>   y = Softmax(x)
//! y = Sub(x, ReduceLogSumExp(x, [-1]))   =>   y = LogSoftmax(x)
//! y = Log(Softmax(x))                    =>   y = LogSoftmax(x)
//! ```
//!
//! Saves four passes over the elements of five. Not exact: sums are taken in another order, and
//! without the difference what overflowed no longer does.

use kiln_ir::ops::reduce::Reduce;
use kiln_ir::ops::softmax::{Softmax as Op, SoftmaxKind};
use kiln_ir::{Decline, Edit, Graph, Match, NodeId, Rewrite, Source, Value, Verdict};
use kiln_tensor::shape::axis;

use crate::forms::{Forms, ints};

/// See the module.
pub struct Softmax {
    soft: Forms,
    log: Forms,
    named: Forms,
    centered: Forms,
}

impl Softmax {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self {
            soft: Forms::new(&[
                "Div(Exp(d), s@ReduceSum(Exp(d), ..))",
                "Mul(Exp(d), Reciprocal(s@ReduceSum(Exp(d), ..)))",
                "Mul(Exp(d), Div(1, s@ReduceSum(Exp(d), ..)))",
                "Exp(Sub(d, s@ReduceLogSumExp(d, ..)))",
            ]),
            log: Forms::new(&[
                "Sub(d, Log(s@ReduceSum(Exp(d), ..)))",
                "Sub(d, s@ReduceLogSumExp(d, ..))",
            ]),
            named: Forms::new(&["Log(s@Softmax(x))"]),
            centered: Forms::new(&["Sub(x, m@ReduceMax(x, ..))"]),
        }
    }
}

impl Default for Softmax {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if let Some(m) = self.named.find(g, root) {
            return Ok(logarithm(g, root, &m));
        }
        let (m, kind) = match (self.soft.find(g, root), self.log.find(g, root)) {
            (Some(m), _) => (m, SoftmaxKind::Soft),
            (None, Some(m)) => (m, SoftmaxKind::Log),
            (None, None) => return Ok(None),
        };
        let (Some(d), Some(s)) = (m.get("d"), m.node("s")) else { return Ok(None) };
        let axis = reduced(g, s)?;
        let inner = self.centered.find_value(g, d).filter(|inner| {
            let along = inner.node("m").and_then(|n| reduced(g, n).ok());
            let inside = |n: NodeId| n == root || m.nodes().contains(&n);
            along == Some(axis) && !g.is_output(d) && g.readers(d).all(|(n, _)| inside(n))
        });
        let x = inner.as_ref().and_then(|m| m.get("x")).unwrap_or(d);
        let mut e = Edit::default();
        let y = e.node(Op { kind, axis }, &[Some(Source::from(x))]);
        e.replace(root.first(), y);
        e.absorb_below(m.nodes());
        if let Some(inner) = inner {
            // The greatest may have other readers; it then stays for them.
            e.absorb(inner.nodes()[0].first());
        }
        Ok(Some(e))
    }
}

fn logarithm(g: &Graph, root: NodeId, m: &Match) -> Option<Edit> {
    let kiln_ir::Op::Softmax(soft) = g.op(m.node("s")?) else { return None };
    let x: Value = m.get("x")?;
    let mut e = Edit::default();
    let y = e.node(Op { kind: SoftmaxKind::Log, axis: soft.axis }, &[Some(x.into())]);
    e.replace(root.first(), y);
    e.absorb_below(m.nodes());
    Some(e)
}

/// The one axis that a node reduces and keeps, from the end.
fn reduced(g: &Graph, node: NodeId) -> Result<i64, Decline> {
    let kiln_ir::Op::Reduce(Reduce { keepdims, .. }) = g.op(node) else {
        return Err(Decline::new("no sum"));
    };
    let (Some(x), Some(axes)) = (g.input_of(node, 0), g.input_of(node, 1)) else {
        return Err(Decline::new("the sum is over all axes"));
    };
    let axes = ints(g, axes).ok_or(Decline::new("the axes are not constant"))?;
    let rank = g.ty(x).rank().ok_or(Decline::new("the rank is unknown"))?;
    match (&axes[..], *keepdims) {
        (&[one], true) => axis(one, rank)
            .map(|a| a as i64 - rank as i64)
            .map_err(|_| Decline::new("the axis does not exist")),
        _ => Err(Decline::new("the sum is over several axes, or does not keep its axis")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_softmax_with_and_without_the_difference() {
        check(
            &Softmax::new(),
            "a = i64[1]{-1}\nb = i64[1]{1}\nm = ReduceMax(x: f32[N,3], a)\nd = Sub(x, m)\n\
             e = Exp(d)\ns = ReduceSum(e, b)\ny = Div(e, s)\nf = Exp(z: f32[N,M,3])\n\
             t = ReduceSum(f, b)\nr = Reciprocal(t)\nw = Mul(r, f)\nreturn y, w",
            expect![[r#"
                x: f32[N,3]
                z: f32[N,M,3]
                w = Softmax(z) {axis=-2}
                y = Softmax(x)
                return y, w
            "#]],
        );
    }

    #[test]
    fn names_log_softmax() {
        check(
            &Softmax::new(),
            "a = i64[1]{1}\ns = ReduceLogSumExp(x: f32[N,M], a)\ny = Sub(x, s)\n\
             p = Softmax(x) {axis=0}\nz = Log(p)\nm = ReduceMax(v: f32[N,M], a)\nd = Sub(v, m)\n\
             e = Exp(d)\nt = ReduceSum(e, a)\nl = Log(t)\nw = Sub(d, l)\nreturn y, z, w",
            expect![[r#"
                x: f32[N,M]
                v: f32[N,M]
                z = LogSoftmax(x) {axis=0}
                w = LogSoftmax(v)
                y = LogSoftmax(x)
                return y, z, w
            "#]],
        );
    }

    #[test]
    fn keeps_other_axes_and_what_others_read() {
        check(
            &Softmax::new(),
            "a = i64[2]{0, 1}\nb = i64[1]{1}\ne = Exp(x: f32[N,M])\ns = ReduceSum(e, a)\n\
             y = Div(e, s)\nt = ReduceSum(e, b)\nz = Div(e, t)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # softmax @ y: the sum is over several axes, or does not keep its axis
                # softmax @ z: an inner value has another reader
            "#]],
        );
    }
}
