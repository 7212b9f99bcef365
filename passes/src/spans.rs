//! What slices with constant bounds take of each axis.

use kiln_ir::ops::slice::{Run, Slice, runs};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Source, Value};
use kiln_tensor::Tensor;
use kiln_tensor::shape::axis;

use crate::forms::ints;

/// Bounds at least this far out mean the end of any axis.
pub(crate) const FAR: i64 = i32::MAX as i64;

/// `start:end:step` of an axis, as `Slice` takes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub axis: usize,
    pub start: i64,
    pub end: i64,
    pub step: i64,
}

impl Span {
    /// The places that it means on an axis of length `n`.
    pub(crate) fn run(self, n: usize) -> Option<Run> {
        let lists = [Some(vec![self.start]), Some(vec![self.end]), None, Some(vec![self.step])];
        runs(&[n], lists).ok()?.first().copied()
    }

    /// The span that means these places of an axis of length `n`.
    pub(crate) fn of(axis: usize, run: Run, n: usize) -> Self {
        let (start, len) = (run.start as i64, run.len as i64);
        match len {
            0 => Self { axis, start: 0, end: 0, step: 1 },
            1 => Self { axis, start, end: start + 1, step: 1 },
            _ => {
                let last = start + (len - 1) * run.step;
                let end = match (run.step > 0, last) {
                    (true, _) => last + 1,
                    (false, 0) => -(n as i64) - 1,
                    (false, _) => last - 1,
                };
                Self { axis, start, end, step: run.step }
            }
        }
    }
}

/// What a Slice reads and what it takes of it, where the rank is known; `None` for other
/// operators.
pub(crate) fn spans(g: &Graph, node: NodeId) -> Result<Option<(Value, Vec<Span>)>, Decline> {
    let (Op::Slice(Slice), Some(x)) = (g.op(node), g.input_of(node, 0)) else { return Ok(None) };
    let Some(rank) = g.ty(x).rank() else { return Ok(None) };
    let list = |i| match g.input_of(node, i) {
        None => Ok(None),
        Some(v) => ints(g, v).map(Some).ok_or(
            Decline::new("a bound is not constant").advise("export the model with constant bounds"),
        ),
    };
    let (Some(starts), Some(ends)) = (list(1)?, list(2)?) else { return Ok(None) };
    let axes = list(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || steps.contains(&0) {
        return Ok(None);
    }
    let span = |k: usize| {
        let axis = axis(axes[k], rank).ok()?;
        Some(Span { axis, start: starts[k], end: ends[k], step: steps[k] })
    };
    Ok((0..starts.len()).map(span).collect::<Option<_>>().map(|all| (x, all)))
}

/// A Slice of `x` that takes these spans, each of another axis.
pub(crate) fn slice(e: &mut Edit, x: impl Into<Source>, spans: &[Span]) -> Source {
    let mut list = |of: fn(&Span) -> i64| {
        let list = spans.iter().map(of).collect();
        Some(e.constant(Tensor::vector::<i64>(list)))
    };
    let mut inputs = vec![Some(x.into())];
    inputs.extend([list(|s| s.start), list(|s| s.end), list(|s| s.axis as i64)]);
    if spans.iter().any(|s| s.step != 1) {
        inputs.push(list(|s| s.step));
    }
    e.node(Slice, &inputs)
}
