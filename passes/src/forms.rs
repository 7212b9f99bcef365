//! Patterns that mean the same, and what rules ask of constants.

use kiln_ir::ops::layout::Layout;
use kiln_ir::{Dim, Graph, Match, NodeId, Op, Operator, Pattern, Source, Value};
use kiln_tensor::Tensor;
use kiln_tensor::shape::axis;

/// The ways in which exporters write one thing.
pub(crate) struct Forms(Vec<Pattern>);

impl Forms {
    /// # Panics
    /// Where a text is no pattern: it is the pass's.
    pub(crate) fn new(texts: &[&str]) -> Self {
        let parse = |t: &&str| t.parse().unwrap_or_else(|e| panic!("invariant: {e}"));
        Self(texts.iter().map(parse).collect())
    }

    /// The first form that the node has.
    pub(crate) fn find(&self, g: &Graph, root: NodeId) -> Option<Match> {
        self.0.iter().find_map(|p| p.find(g, root))
    }

    /// The first form that the value has.
    pub(crate) fn find_value(&self, g: &Graph, v: Value) -> Option<Match> {
        self.0.iter().find_map(|p| p.find_value(g, v))
    }
}

/// The number that all elements of a constant are; `None` for an empty one.
pub(crate) fn uniform(g: &Graph, v: Value) -> Option<f64> {
    let all = g.constant_of(v)?.to_vec::<f64>().ok()?;
    let first = *all.first()?;
    all.iter().all(|x| *x == first).then_some(first)
}

/// The elements of a constant as integers.
pub(crate) fn ints(g: &Graph, v: Value) -> Option<Vec<i64>> {
    g.constant_of(v)?.to_vec::<i64>().ok()
}

/// A constant of one element, as a scalar.
pub(crate) fn scalar(g: &Graph, v: Value) -> Option<f64> {
    let t = g.constant_of(v).filter(|t| t.len() == 1)?;
    t.to_vec::<f64>().ok()?.first().copied()
}

/// Whether `v`, broadcast to the shape of `to`, adds no axis and stretches none of `to`'s.
pub(crate) fn fits_into(g: &Graph, v: Value, to: Value) -> bool {
    let dims = |v| g.ty(v).as_tensor().ok().and_then(|t| t.shape.clone());
    let (Some(small), Some(large)) = (dims(v), dims(to)) else { return false };
    small.len() <= large.len()
        && small
            .iter()
            .rev()
            .zip(large.iter().rev())
            .all(|(s, l)| s.as_const() == Some(1) || s == l)
}

/// A constant in the shape of per-channel factors, `[C]`, where it is one for values with the
/// channels at `axis` of `rank`, or a single number.
pub(crate) fn per_channel(
    t: &Tensor,
    channels: usize,
    axis: usize,
    rank: usize,
) -> Option<Vec<f64>> {
    let all = t.to_vec::<f64>().ok()?;
    if t.rank() > rank {
        return None;
    }
    if all.len() == 1 {
        return Some(vec![all[0]; channels]);
    }
    let at = (axis + t.rank()).checked_sub(rank)?;
    let others_are_one = t.shape().iter().enumerate().all(|(i, &n)| i == at || n == 1);
    (others_are_one && t.shape()[at] == channels).then_some(all)
}

/// An integer attribute that is written out.
pub(crate) fn attr_int(g: &Graph, node: NodeId, name: &str) -> Option<i64> {
    g.op(node).attrs().take::<i64>(name).ok()?
}

/// The operands of a node, as those of a new one.
pub(crate) fn sources(g: &Graph, node: NodeId) -> Vec<Option<Source>> {
    g.inputs_of(node).into_iter().map(|v| v.map(Source::from)).collect()
}

/// The lengths of a tensor, where its rank is known.
pub(crate) fn dims(g: &Graph, v: Value) -> Option<&[Dim]> {
    g.ty(v).as_tensor().ok()?.shape.as_deref()
}

/// The bytes of an element of a tensor.
pub(crate) fn element_size(g: &Graph, v: Value) -> Option<usize> {
    Some(g.ty(v).as_tensor().ok()?.dtype.size())
}

/// The node that alone reads a value, once or more often; `None` for an output of the graph.
pub(crate) fn sole_reader(g: &Graph, v: Value) -> Option<NodeId> {
    let mut readers = g.readers(v).map(|(n, _)| n);
    let reader = readers.next().filter(|_| !g.is_output(v))?;
    readers.all(|n| n == reader).then_some(reader)
}

/// What a value is the transposition of, and the axis that each of its own was before.
pub(crate) fn transposed(g: &Graph, v: Value) -> Option<(Value, Vec<usize>)> {
    let Op::Layout(Layout::Transpose { perm }) = g.op(v.node) else { return None };
    let x = g.input_of(v.node, 0)?;
    let rank = g.ty(x).rank()?;
    let perm = match perm {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&p| axis(p, rank).ok()).collect::<Option<Vec<_>>>()?,
    };
    Some((x, perm))
}
