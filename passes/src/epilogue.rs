//! What may follow where a result is made.

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::select::Select;
use kiln_ir::{Graph, NodeId, Op, Value};

use crate::forms::scalar;

/// Whether a node may be an activation.
pub(crate) fn is_candidate(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Select(Select::Clip))
}

/// The activation that a node is, if fused operators know it.
pub(crate) fn activation(g: &Graph, node: NodeId) -> Option<Activation> {
    let bound = |i, open| match g.input_of(node, i) {
        Some(v) => narrow(g, v),
        None => Some(open),
    };
    let [min, max] = match g.op(node) {
        Op::Unary(op) => return Activation::of(*op),
        _ => [bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?],
    };
    Some(Activation::Clip { min, max })
}

/// A single number, where an `f32` holds it exactly.
fn narrow(g: &Graph, v: Value) -> Option<f32> {
    let x = scalar(g, v)?;
    (f64::from(x as f32) == x).then_some(x as f32)
}
