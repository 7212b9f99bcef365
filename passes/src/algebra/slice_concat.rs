//! Takes a part from the operand of a Concat that it lies in.
//!
//! ```text
//! c = Concat(a: f32[N,2], b: f32[N,4]) {axis=1}
//! y = Slice(c, [3], [5], [1])                     =>   y = Slice(b, [1], [3], [1])
//! ```
//!
//! Saves reading the other operands, and the Concat where nothing else reads it. Exact. Bounds
//! are constants, and the lengths of the operands before the part, or of those behind it.

use kiln_ir::ops::concat::Concat;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Value, Verdict};
use kiln_tensor::Tensor;
use kiln_tensor::shape::axis;

use crate::forms::{dims, sources};
use crate::spans::{FAR, Span, spans};

/// See the module.
pub struct SliceConcat;

impl Rewrite for SliceConcat {
    fn name(&self) -> &'static str {
        "slice_concat"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        let (Op::Slice(_), Op::Concat(Concat::Join { axis: along })) = (g.op(root), g.op(c.node))
        else {
            return Ok(None);
        };
        let Some((_, cut)) = spans(g, root)? else { return Ok(None) };
        let rank = dims(g, c).map_or(0, <[_]>::len);
        let Ok(along) = axis(*along, rank) else { return Ok(None) };
        let Some(k) = cut.iter().position(|s| s.axis == along) else { return Ok(None) };
        let parts: Vec<Value> = g.inputs_of(c.node).into_iter().flatten().collect();
        let lengths: Option<Vec<_>> =
            parts.iter().map(|&v| Some(dims(g, v)?.get(along)?.as_len())).collect();
        let Some(lengths) = lengths else { return Ok(None) };
        let (i, span) = within(cut[k], &lengths).ok_or(
            Decline::new("no single operand is known to hold the part")
                .advise("fix the symbols of the lengths with --dim NAME=N"),
        )?;
        let mut e = Edit::default();
        let mut inputs = sources(g, root);
        inputs[0] = Some(parts[i].into());
        for (slot, of) in [(1, span.start), (2, span.end), (4, span.step)] {
            let mut list: Vec<i64> =
                cut.iter().map(|s| [s.start, s.end, s.step][slot / 2]).collect();
            list[k] = of;
            if inputs.len() > slot && inputs[slot].is_some() {
                inputs[slot] = Some(e.constant(Tensor::vector(list)));
            }
        }
        let y = e.node(g.op(root).clone(), &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// The operand that holds what a span takes of all of them, and what it takes of that one.
fn within(span: Span, lengths: &[Option<usize>]) -> Option<(usize, Span)> {
    let sum = |part: &[Option<usize>]| part.iter().copied().sum::<Option<usize>>();
    if let Some(n) = sum(lengths) {
        let run = span.run(n).filter(|r| r.len > 0)?;
        let last = run.start as i64 + (run.len as i64 - 1) * run.step;
        let (low, high) = (last.min(run.start as i64), last.max(run.start as i64));
        return (0..lengths.len()).find_map(|i| {
            let (from, own) = (sum(&lengths[..i])?, lengths[i]?);
            let inside = from as i64 <= low && high < (from + own) as i64;
            let start = run.start.checked_sub(from)?;
            inside.then(|| (i, Span::of(span.axis, kiln_ir::ops::slice::Run { start, ..run }, own)))
        });
    }
    (0..lengths.len()).filter(|_| span.step > 0).find_map(|i| {
        let own = lengths[i].map(|n| n as i64);
        let place = |n: Option<usize>| n.and_then(|n| i64::try_from(n).ok());
        let (before, behind) = (place(sum(&lengths[..i])), place(sum(&lengths[i + 1..])));
        let start = match span.start {
            s if s >= 0 => s.checked_sub(before?).filter(|s| *s >= 0)?,
            s => s.checked_add(behind?).filter(|s| *s < 0 && own.is_some_and(|n| -*s <= n))?,
        };
        let end = match span.end {
            e if e >= FAR => (behind? == 0).then_some(i64::MAX)?,
            e if e >= 0 => {
                let e = e.checked_sub(before?).filter(|e| *e >= 0)?;
                (own.is_some_and(|n| e <= n) || behind == Some(0)).then_some(e)?
            }
            e => match e.checked_add(behind?)? {
                0 => i64::MAX,
                e => Some(e).filter(|e| *e < 0)?,
            },
        };
        Some((i, Span { start, end, ..span }))
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn reads_the_operand_that_holds_the_part() {
        check(
            &SliceConcat,
            "s = i64[2]{3, 1}\ne = i64[2]{5, 9}\na = i64[2]{-1, 0}\nt = i64[2]{1, 2}\n\
             c = Concat(p: f32[N,2], q: f32[N,4]) {axis=1}\ny = Slice(c, s, e, a, t)\nreturn y",
            expect![[r#"
                p: f32[N,2]
                q: f32[N,4]
                a = i64[2]{-1, 0}
                y/slice_concat0 = i64[2]{1, 1}
                y/slice_concat1 = i64[2]{3, 9}
                y/slice_concat2 = i64[2]{1, 2}
                y = Slice(q, y/slice_concat0, y/slice_concat1, a, y/slice_concat2)
                return y
            "#]],
        );
    }

    #[test]
    fn counts_from_the_nearer_end() {
        check(
            &SliceConcat,
            "s = i64[1]{-2}\ne = i64[1]{9223372036854775807}\nf = i64[1]{2}\ng = i64[1]{-3}\n\
             c = Concat(p: f32[N], q: f32[3]) {axis=0}\ny = Slice(c, s, e)\n\
             d = Concat(u: f32[2], v: f32[N], q) {axis=0}\nz = Slice(d, f, g)\nreturn y, z",
            expect![[r#"
                p: f32[N]
                q: f32[3]
                u: f32[2]
                v: f32[N]
                z/slice_concat1 = i64[1]{9223372036854775807}
                z/slice_concat0 = i64[1]{0}
                z = Slice(v, z/slice_concat0, z/slice_concat1)
                y/slice_concat0 = i64[1]{-2}
                y/slice_concat1 = i64[1]{9223372036854775807}
                y = Slice(q, y/slice_concat0, y/slice_concat1)
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_what_two_operands_hold() {
        check(
            &SliceConcat,
            "s = i64[1]{1}\ne = i64[1]{4}\nc = Concat(p: f32[2], q: f32[4]) {axis=0}\n\
             y = Slice(c, s, e)\nd = Concat(u: f32[N], q) {axis=0}\nz = Slice(d, s, e)\n\
             return y, z",
            expect![[r#"
                (unchanged)
                # slice_concat @ y: no single operand is known to hold the part
                # slice_concat @ z: no single operand is known to hold the part
            "#]],
        );
    }

    /// Every span of every short row of operands, against taking it of the whole.
    #[test]
    fn parts_are_the_same_places() {
        let bounds = [-100, -5, -3, -2, -1, 0, 1, 2, 3, 4, 6, i64::MAX];
        let places = |s: Span, x: &[usize]| -> Vec<usize> {
            let run = s.run(x.len()).expect("no step is 0");
            (0..run.len).map(|i| x[(run.start as i64 + i as i64 * run.step) as usize]).collect()
        };
        let mut found = 0;
        for lengths in [[2, 1, 3], [0, 2, 2], [1, 4, 0], [3, 1, 1]] {
            let x: Vec<usize> = (0..lengths.iter().sum()).collect();
            for known in 0..8 {
                let seen: Vec<_> =
                    (0..3).map(|i| (known >> i & 1 == 1).then_some(lengths[i])).collect();
                for (start, end) in bounds.iter().flat_map(|&s| bounds.map(|e| (s, e))) {
                    for step in [-2, -1, 1, 2] {
                        let span = Span { axis: 0, start, end, step };
                        let Some((i, part)) = within(span, &seen) else { continue };
                        let from: usize = lengths[..i].iter().sum();
                        let got = places(part, &x[from..from + lengths[i]]);
                        assert_eq!(got, places(span, &x), "{span:?} of {seen:?}: {part:?} of {i}");
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 1000, "{found}");
    }
}
