//! Moves quantizers to where fewer bytes are moved, and next to what calculates.
//!
//! ```text
//! d = DequantizeLinear(x, s, z)
//! t = Transpose(d)                   =>   u = Transpose(x)
//! y = MatMul(t, w)                        t = DequantizeLinear(u, s, z); y = MatMul(t, w)
//! ```
//! and
//! ```text
//! t = Transpose(x)
//! y = QuantizeLinear(t, s, z)        =>   q = QuantizeLinear(x, s, z); y = Transpose(q)
//! ```
//!
//! Saves three of four bytes that are moved. Exact: what only moves elements, or picks the
//! greatest, does the same to their integers. Only where nothing else reads what lies between.

use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::pool::PoolKind;
use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};

use super::{dequantized, quantizes};
use crate::forms::sources;

/// See the module.
pub struct QdqMove;

impl Rewrite for QdqMove {
    fn name(&self) -> &'static str {
        "qdq_move"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::QuantizeLinear(_) => up(g, root),
            Op::Concat(_) => joined(g, root),
            op if moves_down(op) => down(g, root),
            _ => Ok(None),
        }
    }
}

/// Whether the operator gives as many elements as it takes, in another order or shape.
pub(super) fn rearranges(op: &Op) -> bool {
    matches!(
        op,
        Op::Layout(
            Layout::Reshape { .. }
                | Layout::Flatten { .. }
                | Layout::Squeeze
                | Layout::Unsqueeze
                | Layout::Transpose { .. }
        )
    )
}

/// Whether the operator gives some of the elements that it takes, and no others.
fn moves_down(op: &Op) -> bool {
    let greatest = matches!(op, Op::Pool(p) if matches!(p.kind, PoolKind::Max { .. }));
    rearranges(op) || greatest || matches!(op, Op::Slice(_))
}

/// The operator at `root`, then its dequantizer.
fn down(g: &Graph, root: NodeId) -> Verdict {
    let Some(d) = g.input_of(root, 0) else { return Ok(None) };
    let Some(Ok(from)) = dequantized(g, d) else { return Ok(None) };
    let others = g.outputs_of(root).skip(1).any(|v| g.is_read(v));
    if from.single().is_none() || !from.is_byte() || others {
        return Ok(None);
    }
    let mut inputs = sources(g, root);
    inputs[0] = Some(from.q.into());
    let mut e = Edit::default();
    let moved = e.node(g.op(root).clone(), &inputs);
    let mut parameters = sources(g, d.node);
    parameters[0] = Some(moved);
    let y = e.node(g.op(d.node).clone(), &parameters);
    e.replace(root.first(), y);
    e.absorb(d);
    Ok(Some(e))
}

/// The quantizer at `root`, then the operator that fed it.
fn up(g: &Graph, root: NodeId) -> Verdict {
    let Some(t) = g.input_of(root, 0).filter(|t| rearranges(g.op(t.node))) else {
        return Ok(None);
    };
    let Some(Ok(to)) = quantizes(g, root) else { return Ok(None) };
    let Some(x) = g.input_of(t.node, 0).filter(|_| to.single().is_some()) else {
        return Ok(None);
    };
    if comes_down(g, x) {
        return Ok(None);
    }
    let mut parameters = sources(g, root);
    parameters[0] = Some(x.into());
    let mut e = Edit::default();
    let q = e.node(g.op(root).clone(), &parameters);
    let mut inputs = sources(g, t.node);
    inputs[0] = Some(q);
    let y = e.node(g.op(t.node).clone(), &inputs);
    e.replace(root.first(), y);
    e.absorb(t);
    Ok(Some(e))
}

/// Whether a dequantizer moves towards the readers of a value: then it is the one that moves.
fn comes_down(g: &Graph, v: Value) -> bool {
    let mut v = v;
    while let Some(x) = g.input_of(v.node, 0).filter(|_| rearranges(g.op(v.node))) {
        v = x;
    }
    dequantized(g, v).is_some()
}

/// Tensors of the same steps, joined before they are dequantized.
fn joined(g: &Graph, root: NodeId) -> Verdict {
    let inputs: Vec<_> = g.inputs_of(root).into_iter().flatten().collect();
    let all: Option<Vec<_>> = inputs.iter().map(|&v| dequantized(g, v)?.ok()).collect();
    let (Some(all), Some(&d)) = (all, inputs.first()) else { return Ok(None) };
    let same = all.iter().all(|l| l.same(&all[0]) && l.single().is_some() && l.is_byte());
    // What is joined twice is cheaper as one, before.
    let twice = inputs.iter().enumerate().any(|(i, v)| inputs[..i].contains(v));
    if !same || twice {
        return Ok(None);
    }
    let mut e = Edit::default();
    let integers: Vec<_> = all.iter().map(|l| Some(Source::from(l.q))).collect();
    let moved = e.node(g.op(root).clone(), &integers);
    let mut parameters = sources(g, d.node);
    parameters[0] = Some(moved);
    let y = e.node(g.op(d.node).clone(), &parameters);
    e.replace(root.first(), y);
    inputs.into_iter().for_each(|d| e.absorb(d));
    Ok(Some(e))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn both_ends_of_a_transposition() {
        check(
            &QdqMove,
            "s = f32[]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N,2], s, z)\n\
             t = Transpose(d)\ny = Neg(t)\nu = Transpose(v: f32[N,2])\n\
             q = QuantizeLinear(u, s, z)\nreturn y, q",
            expect![[r#"
                x: u8[N,2]
                v: f32[N,2]
                s = f32[]{0.5}
                z = u8[]{3}
                q/qdq_move0 = QuantizeLinear(v, s, z)
                q = Transpose(q/qdq_move0)
                t/qdq_move0 = Transpose(x)
                t = DequantizeLinear(t/qdq_move0, s, z)
                y = Neg(t)
                return y, q
            "#]],
        );
    }

    #[test]
    fn pools_and_joins() {
        check(
            &QdqMove,
            "s = f32[]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N,2,4], s, z)\n\
             p = MaxPool(d) {kernel_shape=[2]}\ne = DequantizeLinear(v: u8[N,2,3], s, z)\n\
             y = Concat(p, e) {axis=2}\nreturn y",
            expect![[r#"
                x: u8[N,2,4]
                v: u8[N,2,3]
                s = f32[]{0.5}
                z = u8[]{3}
                p/qdq_move0, p/qdq_move0#1 = MaxPool(x) {kernel_shape=[2]}
                y/qdq_move0 = Concat(p/qdq_move0, v) {axis=2}
                y = DequantizeLinear(y/qdq_move0, s, z)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_others_read_or_would_be_more() {
        check(
            &QdqMove,
            "s = f32[]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N,2,4], s, z)\n\
             t = Transpose(d)\na = Neg(d)\np = MaxPool(v: f32[N,2,4]) {kernel_shape=[2]}\n\
             q = QuantizeLinear(p, s, z)\nreturn t, a, q",
            expect![[r#"
                (unchanged)
                # qdq_move @ t: an inner value has another reader
            "#]],
        );
    }
}
