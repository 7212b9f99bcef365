//! Takes a part of a part at once.
//!
//! ```text
//! a = Slice(x, [2], [9])
//! y = Slice(a, [1], [4])      =>   y = Slice(x, [3], [6])
//! ```
//!
//! Saves one of two copies. Exact. Bounds are constants; of an axis that both cut the length is
//! known, or the bounds are counted from ends that fit together whatever the length is.

use kiln_ir::ops::slice::Run;
use kiln_ir::{Decline, Edit, Graph, NodeId, Rewrite, Verdict};

use crate::forms::dims;
use crate::spans::{FAR, Span, slice, spans};

/// See the module.
pub struct SliceChain;

impl Rewrite for SliceChain {
    fn name(&self) -> &'static str {
        "slice_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let is_slice = |n| matches!(g.op(n), kiln_ir::Op::Slice(_));
        let Some(middle) = g.input_of(root, 0).filter(|m| is_slice(root) && is_slice(m.node))
        else {
            return Ok(None);
        };
        // Nothing of a part is nothing of any operand: let it name the one that it came from.
        let is_empty =
            dims(g, root.first()).is_some_and(|all| all.iter().any(|d| d.as_const() == Some(0)));
        if is_empty {
            return Ok(None);
        }
        let Some((_, outer)) = spans(g, root)? else { return Ok(None) };
        let Some((x, mut joined)) = spans(g, middle.node)? else { return Ok(None) };
        for span in outer {
            let Some(inner) = joined.iter_mut().find(|s| s.axis == span.axis) else {
                joined.push(span);
                continue;
            };
            let n = dims(g, x).and_then(|d| d.get(span.axis)?.as_len());
            *inner = match n {
                Some(n) => known(*inner, span, n).ok_or(Decline::new("nothing is left")),
                None => unknown(*inner, span).ok_or(
                    Decline::new("which of the bounds is the nearer one depends on the length")
                        .advise("fix the symbol of its length with --dim NAME=N"),
                ),
            }?;
        }
        let mut e = Edit::default();
        let y = slice(&mut e, x, &joined);
        e.replace(root.first(), y);
        e.absorb(middle);
        Ok(Some(e))
    }
}

/// `outer` of what `inner` takes of an axis of length `n`, where that is anything at all.
fn known(inner: Span, outer: Span, n: usize) -> Option<Span> {
    let first = inner.run(n)?;
    let then = outer.run(first.len).filter(|run| run.len > 0)?;
    let start = first.start as i64 + then.start as i64 * first.step;
    let start = usize::try_from(start).ok()?;
    let step = first.step.checked_mul(then.step)?;
    Some(Span::of(inner.axis, Run { start, step, len: then.len }, n))
}

/// As [`known`], for any length.
fn unknown(inner: Span, outer: Span) -> Option<Span> {
    let forward = inner.step == 1 && outer.step > 0;
    if !forward || inner.start < 0 || outer.start < 0 || inner.start.max(outer.start) >= FAR {
        return None;
    }
    let start = inner.start + outer.start;
    let far = |end: i64| end >= FAR;
    let end = match (inner.end, outer.end) {
        (b, d) if far(d) => b,
        (b, d) if far(b) && d < 0 => d,
        (b, d) if far(b) => inner.start + d,
        (b, d) if b < 0 && d < 0 => b.saturating_add(d),
        (b, d) if b >= 0 && d >= 0 => b.min(inner.start + d),
        _ => return None,
    };
    Some(Span { axis: inner.axis, start, end, step: outer.step })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn known_lengths_take_any_steps() {
        check(
            &SliceChain,
            "s = i64[1]{-2}\ne = i64[1]{-100}\na = i64[1]{1}\nt = i64[1]{-2}\n\
             p = Slice(x: f32[N,9], s, e, a, t)\nu = i64[1]{1}\nv = i64[1]{3}\n\
             y = Slice(p, u, v, a)\nreturn y",
            expect![[r#"
                x: f32[N,9]
                y/slice_chain0 = i64[1]{5}
                y/slice_chain1 = i64[1]{2}
                y/slice_chain2 = i64[1]{1}
                y/slice_chain3 = i64[1]{-2}
                y = Slice(x, y/slice_chain0, y/slice_chain1, y/slice_chain2, y/slice_chain3)
                return y
            "#]],
        );
    }

    #[test]
    fn other_axes_and_bounds_of_one_kind_take_any_length() {
        check(
            &SliceChain,
            "s = i64[1]{2}\ne = i64[1]{-1}\na = i64[1]{0}\nb = i64[1]{1}\n\
             p = Slice(x: f32[N,M], s, e, a)\nq = Slice(p, s, e, b)\nr = Slice(q, s, e, a)\n\
             return r",
            expect![[r#"
                x: f32[N,M]
                r/slice_chain1 = i64[2]{-2, -1}
                r/slice_chain0 = i64[2]{4, 2}
                r/slice_chain2 = i64[2]{0, 1}
                r = Slice(x, r/slice_chain0, r/slice_chain1, r/slice_chain2)
                return r
            "#]],
        );
    }

    #[test]
    fn keeps_what_depends_on_the_length_and_what_others_read() {
        check(
            &SliceChain,
            "s = i64[1]{2}\ne = i64[1]{-1}\nf = i64[1]{5}\np = Slice(x: f32[N], s, e)\n\
             y = Slice(p, s, f)\nq = Slice(z: f32[9], s, e)\nr = Slice(q, s, e)\n\
             t = Slice(r, c: i64[1], f)\nreturn y, r, q, t",
            expect![[r#"
                (unchanged)
                # slice_chain @ y: which of the bounds is the nearer one depends on the length
                # slice_chain @ r: an inner value is an output of the graph
                # slice_chain @ t: a bound is not constant
            "#]],
        );
    }

    /// Every pair of slices of every short axis, against taking one after the other.
    #[test]
    fn joined_bounds_take_the_same_places() {
        let bounds = [-100, -3, -1, 0, 1, 2, 4, i64::MAX];
        let steps = [-2, -1, 1, 3];
        let all = |steps: &[i64]| -> Vec<Span> {
            let ends = bounds.iter().flat_map(|&s| bounds.iter().map(move |&e| (s, e)));
            let span =
                |(start, end)| steps.iter().map(move |&step| Span { axis: 0, start, end, step });
            ends.flat_map(span).collect()
        };
        let places = |s: Span, x: &[i64]| -> Vec<i64> {
            let run = s.run(x.len()).expect("no step is 0");
            (0..run.len).map(|i| x[(run.start as i64 + i as i64 * run.step) as usize]).collect()
        };
        let mut joined = 0;
        for n in [0, 1, 2, 3, 5usize] {
            let x: Vec<i64> = (0..n as i64).collect();
            for inner in all(&steps) {
                let middle = places(inner, &x);
                for outer in all(&[-1, 1, 2]) {
                    let want = places(outer, &middle);
                    for span in [known(inner, outer, n), unknown(inner, outer)] {
                        let Some(span) = span else { continue };
                        assert_eq!(places(span, &x), want, "{inner:?} {outer:?} of {n}: {span:?}");
                        joined += 1;
                    }
                }
            }
        }
        assert!(joined > 20_000, "{joined}");
    }
}
