//! Slices instead of looking up indices that follow one another.
//!
//! ```text
//! y = Gather(x: f32[N,8], [2,4,6]) {axis=1}   =>   y = Slice(x, [2], [7], [1], [2])
//! ```
//!
//! Saves a look-up for every index, and lets slices join. Exact. The length of the axis is
//! known, and there are at least as many indices as numbers that describe the slice.

use kiln_ir::ops::gather::Gather;
use kiln_ir::ops::slice::Run;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};
use kiln_tensor::shape::axis;

use crate::forms::{dims, ints};
use crate::spans::{Span, slice};

/// See the module.
pub struct GatherSlice;

impl Rewrite for GatherSlice {
    fn name(&self) -> &'static str {
        "gather_slice"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Gather(Gather::Slices { axis: along }) = g.op(root) else { return Ok(None) };
        let [Some(x), Some(i)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        if g.ty(i).rank() != Some(1) || g.constant_of(x).is_some() {
            return Ok(None);
        }
        let (Some(indices), Some(lengths)) = (ints(g, i), dims(g, x)) else { return Ok(None) };
        let Ok(along) = axis(*along, lengths.len()) else { return Ok(None) };
        if !steady(&indices) {
            return Ok(None);
        }
        let n = lengths[along].as_len().ok_or(
            Decline::new("the length of the axis is unknown")
                .advise("fix its symbol with --dim NAME=N"),
        )?;
        let Some(span) = span(&indices, along, n) else { return Ok(None) };
        let described = if span.step == 1 { 3 } else { 4 };
        if indices.len() < described {
            return Err(Decline::new("the slice takes more numbers to describe than to look up"));
        }
        let mut e = Edit::default();
        let y = slice(&mut e, x, &[span]);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// Whether there are two indices or more, from each to the next the same way.
fn steady(indices: &[i64]) -> bool {
    let mut ways = indices.windows(2).map(|w| w[1].checked_sub(w[0]));
    let Some(Some(way)) = ways.next().filter(|w| *w != Some(0)) else { return false };
    ways.all(|w| w == Some(way))
}

/// What the indices mean on an axis of length `n`, where they are steady and none is beyond it.
fn span(indices: &[i64], along: usize, n: usize) -> Option<Span> {
    let place = |i: i64| if i < 0 { i.checked_add(n as i64) } else { Some(i) };
    let places: Option<Vec<i64>> = indices.iter().map(|&i| place(i)).collect();
    let places = places.filter(|p| steady(p) && p.iter().all(|&i| i >= 0 && i < n as i64))?;
    let run = Run { start: places[0] as usize, step: places[1] - places[0], len: places.len() };
    Some(Span::of(along, run, n))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn steady_indices_are_a_slice() {
        check(
            &GatherSlice,
            "i = i64[3]{-3, -2, -1}\nj = i64[4]{6, 4, 2, 0}\n\
             y = Gather(x: f32[N,8], i) {axis=1}\nz = Gather(x, j) {axis=-1}\nreturn y, z",
            expect![[r#"
                x: f32[N,8]
                z/gather_slice0 = i64[1]{6}
                z/gather_slice1 = i64[1]{-9}
                y/gather_slice0 = i64[1]{5}
                y/gather_slice1 = i64[1]{8}
                y/gather_slice2 = i64[1]{1}
                y = Slice(x, y/gather_slice0, y/gather_slice1, y/gather_slice2)
                z/gather_slice2 = i64[1]{1}
                z/gather_slice3 = i64[1]{-2}
                z = Slice(x, z/gather_slice0, z/gather_slice1, z/gather_slice2, z/gather_slice3)
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_few_and_unsteady_indices_and_unknown_lengths() {
        check(
            &GatherSlice,
            "i = i64[3]{0, 1, 3}\nj = i64[2]{0, 1}\nk = i64[3]{0, 1, 2}\nl = i64[3]{-1, 0, 1}\n\
             a = Gather(x: f32[N,8], i) {axis=1}\nb = Gather(x, j) {axis=1}\nc = Gather(x, k)\n\
             d = Gather(x, l) {axis=1}\nreturn a, b, c, d",
            expect![[r#"
                (unchanged)
                # gather_slice @ b: the slice takes more numbers to describe than to look up
                # gather_slice @ c: the length of the axis is unknown
            "#]],
        );
    }
}
