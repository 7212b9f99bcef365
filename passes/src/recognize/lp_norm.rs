//! Names the division of vectors by their lengths.
//!
//! ```text
//! n = ReduceL2(x, [1])
//! z = Equal(n, 0)
//! w = Where(z, 1, n)
//! y = Div(x, w)         =>   y = LpNormalization(x) {axis=1}
//! ```
//!
//! Saves all passes over `x` but two. Not exact: the length is not rounded. LpNormalization leaves
//! zeros as they are; the rule declines where a vector of zeros or a short one gives something
//! else.

use kiln_ir::ops::reduce::{Reduce, ReduceKind};
use kiln_ir::ops::softmax::{Softmax, SoftmaxKind};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::DType;

use crate::forms::{Forms, ints, scalar};

/// See the module.
pub struct LpNorm {
    exact: Forms,
    bounded: Forms,
    plain: Forms,
}

impl LpNorm {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self {
            exact: Forms::new(&["Div(x, Where(Equal(n, 0), 1, n))"]),
            bounded: Forms::new(&["Div(x, [Clip(n, $e) | Max(n, $e)])"]),
            plain: Forms::new(&["Div(x, ReduceL2|ReduceL1(x, ..))"]),
        }
    }
}

impl Default for LpNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for LpNorm {
    fn name(&self) -> &'static str {
        "lp_norm"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if self.plain.find(g, root).is_some() {
            return Err(Decline::new("a vector of zeros gives NaN, and would give zeros"));
        }
        let Some(m) = self.exact.find(g, root).or_else(|| self.bounded.find(g, root)) else {
            return Ok(None);
        };
        let (Some(x), Some(n)) = (m.get("x"), m.get("n")) else { return Ok(None) };
        let Some((kind, axis)) = length(g, x, n) else { return Ok(None) };
        if let Some(e) = m.get("e")
            && !scalar(g, e).is_some_and(|e| e > 0.0 && e <= least(g, x))
        {
            return Err(Decline::new("vectors shorter than the bound are divided by the bound"));
        }
        let mut e = Edit::default();
        let y = e.node(Softmax { kind, axis }, &[Some(Source::from(x))]);
        e.replace(root.first(), y);
        e.absorb_below(m.nodes());
        e.absorb(n);
        Ok(Some(e))
    }
}

/// How, and along which single axis, `n` is the length of the vectors of `x`.
fn length(g: &Graph, x: Value, n: Value) -> Option<(SoftmaxKind, i64)> {
    let Op::Reduce(Reduce { kind, keepdims: true, .. }) = g.op(n.node) else { return None };
    let kind = match kind {
        ReduceKind::L1 => SoftmaxKind::L1,
        ReduceKind::L2 => SoftmaxKind::L2,
        _ => return None,
    };
    let axes = ints(g, g.input_of(n.node, 1)?)?;
    let &[axis] = &axes[..] else { return None };
    (g.input_of(n.node, 0) == Some(x)).then_some((kind, axis))
}

/// The least positive number of the type of `x`.
fn least(g: &Graph, x: Value) -> f64 {
    match g.ty(x).as_tensor().map(|t| t.dtype) {
        Ok(DType::F64) => f64::from_bits(1),
        Ok(DType::F32) => f64::from(f32::from_bits(1)),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_what_leaves_zeros_alone() {
        check(
            &LpNorm::new(),
            "a = i64[1]{1}\none = f32[]{1.0}\nzero = f32[]{0.0}\ntiny = f32[]{1e-45}\n\
             n = ReduceL2(x: f32[N,M], a)\nz = Equal(zero, n)\nw = Where(z, one, n)\n\
             y = Div(x, w)\nm = ReduceL1(v: f32[N,M], a)\nc = Clip(m, tiny)\nu = Div(v, c)\n\
             return y, u",
            expect![[r#"
                x: f32[N,M]
                v: f32[N,M]
                u = LpNormalization(v) {axis=1, p=1}
                y = LpNormalization(x) {axis=1}
                return y, u
            "#]],
        );
    }

    #[test]
    fn keeps_bounds_that_count_and_what_gives_no_number() {
        check(
            &LpNorm::new(),
            "a = i64[1]{1}\neps = f32[]{1e-12}\nn = ReduceL2(x: f32[N,M], a)\nc = Clip(n, eps)\n\
             y = Div(x, c)\nm = ReduceL1(x, a)\nz = Div(x, m)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # lp_norm @ y: vectors shorter than the bound are divided by the bound
                # lp_norm @ z: a vector of zeros gives NaN, and would give zeros
            "#]],
        );
    }
}
