//! Parts of a tensor: `y = x[start:end:step, ..]`, and the walk that such reads share.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, shape};

use super::layout::{known_dims, vector_len};
use crate::eval::{optional, tensor};
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// The elements from `start` towards `end` in steps; as Python slices.
///
/// Inputs: data, starts, ends, and optionally axes and steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Slice",
        since: 1,
        build: |b| {
            b.ints_to_input("starts", 1)?;
            b.ints_to_input("ends", 2)?;
            b.ints_to_input("axes", 3)?;
            Ok(Slice.into())
        },
    },
    Schema { name: "Slice", since: 10, build: |_| Ok(Slice.into()) },
];

impl Operator for Slice {
    fn name(&self) -> &str {
        "Slice"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=5
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype(0)?;
        let given: Vec<usize> = (1..5).filter(|&i| cx.has(i)).collect();
        for &i in &given {
            cx.dtype_in(i, |d| matches!(d, DType::I64 | DType::I32))?;
        }
        let Some(x) = cx.shape(0)? else { return Ok(vec![Fact::tensor(dtype, None)]) };
        let count = given.iter().find_map(|&i| vector_len(cx, i).ok().flatten());
        let axes = match (cx.has(3), cx.ints(3)?, count) {
            (true, Some(axes), _) => axes,
            (false, _, Some(n)) => (0..n as i64).collect(),
            _ => return Ok(vec![Fact::shaped(dtype, cx.fresh_shape(x.len()))]),
        };
        let (starts, ends) = (known_dims(cx, 1), known_dims(cx, 2));
        let steps = if cx.has(4) { cx.ints(4)? } else { Some(vec![1; axes.len()]) };
        check_counts(axes.len(), [&starts, &ends].map(|d| d.as_ref().map(Vec::len)))?;
        check_counts(axes.len(), [steps.as_ref().map(Vec::len), None])?;
        check_once(&axes, x.len())?;
        let mut out = x.to_vec();
        let mut dims = known_dims(cx, 0).filter(|_| x.len() == 1);
        for (k, &axis) in axes.iter().enumerate() {
            let axis = shape::axis(axis, x.len())?;
            let at = |d: &Option<Vec<Dim>>| d.as_ref().and_then(|d| d.get(k).cloned());
            let step = steps.as_ref().and_then(|s| s.get(k).copied());
            let (Some(start), Some(end), Some(step)) = (at(&starts), at(&ends), step) else {
                out[axis] = cx.fresh();
                dims = None;
                continue;
            };
            dims = dims.and_then(|d| slice_dims(d, &start, &end, step));
            out[axis] = match length(&out[axis], &start, &end, step)? {
                Some(n) => n,
                None => cx.fresh(),
            };
        }
        Ok(vec![Fact::shaped(dtype, out).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let ints = |i: usize| -> Result<Option<Vec<i64>>> {
            Ok(optional(inputs, i)?.map(Tensor::to_vec::<i64>).transpose()?)
        };
        let lists = [ints(1)?, ints(2)?, ints(3)?, ints(4)?];
        let runs = runs(x.shape(), lists)?;
        let out: Vec<usize> = runs.iter().map(|r| r.len).collect();
        if cx.numel(x.dtype(), &out)? == 0 {
            return Ok(vec![Tensor::zeros(x.dtype(), &out)?.into()]);
        }
        let strides = shape::strides(x.shape());
        let offsets: Vec<Vec<usize>> =
            runs.iter().zip(strides).map(|(r, s)| r.places().map(|p| p * s).collect()).collect();
        Ok(vec![x.take(&out, Cross::new(&offsets))?.into()])
    }
}

fn check_counts(axes: usize, lens: [Option<usize>; 2]) -> Result<()> {
    match lens.into_iter().flatten().find(|&n| n != axes) {
        Some(n) => invalid!("a slice of {axes} axes, but {n} starts, ends or steps"),
        None => Ok(()),
    }
}

/// What a slice takes of each axis of a shape; the lists are inputs 1 to 4: starts, ends, axes
/// and steps.
pub fn runs(x: &[usize], lists: [Option<Vec<i64>>; 4]) -> Result<Vec<Run>> {
    let [Some(starts), Some(ends), axes, steps] = lists else {
        invalid!("a slice needs starts and ends");
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; axes.len()]);
    check_counts(axes.len(), [Some(starts.len()), Some(ends.len())])?;
    check_counts(axes.len(), [Some(steps.len()), None])?;
    let mut runs: Vec<Run> = x.iter().map(|&n| Run { start: 0, step: 1, len: n }).collect();
    check_once(&axes, x.len())?;
    for (k, &axis) in axes.iter().enumerate() {
        let axis = shape::axis(axis, x.len())?;
        runs[axis] = run(x[axis], starts[k], ends[k], steps[k])?;
    }
    Ok(runs)
}

/// An error where an axis is named twice: what that means is not defined.
fn check_once(axes: &[i64], rank: usize) -> Result<()> {
    let mut seen = vec![false; rank];
    for &axis in axes {
        if std::mem::replace(&mut seen[shape::axis(axis, rank)?], true) {
            invalid!("axis {axis} is sliced twice: slice once for each");
        }
    }
    Ok(())
}

/// Some places of an axis: `len` of them from `start` in steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The first place.
    pub start: usize,
    /// From one place to the next; not 0.
    pub step: i64,
    /// How many.
    pub len: usize,
}

impl Run {
    fn places(self) -> impl Iterator<Item = usize> {
        (0..self.len).map(move |i| (self.start as i64 + i as i64 * self.step) as usize)
    }
}

/// The places of an axis of length `n` that a slice means.
fn run(n: usize, start: i64, end: i64, step: i64) -> Result<Run> {
    let n = n as i64;
    let (low, high) = if step < 0 { (-1, n - 1) } else { (0, n) };
    let clamp = |k: i64| if k < 0 { k.saturating_add(n) } else { k }.clamp(low, high.max(low));
    let (start, end) = (clamp(start), clamp(end));
    let way = if step < 0 { start - end } else { end - start };
    let Some(stride) = usize::try_from(step.unsigned_abs()).ok().filter(|&s| s > 0) else {
        invalid!("a slice in steps of 0");
    };
    let len = usize::try_from(way).unwrap_or(0).div_ceil(stride);
    // A step beyond the axis is taken at most once.
    let step = step.clamp(-n.max(1), n.max(1));
    Ok(Run { start: start.max(0) as usize, step, len })
}

/// The known elements of a vector after a slice of it.
fn slice_dims(dims: Vec<Dim>, start: &Dim, end: &Dim, step: i64) -> Option<Vec<Dim>> {
    let run = run(dims.len(), start.as_const()?, end.as_const()?, step).ok()?;
    run.places().map(|i| dims.get(i).cloned()).collect()
}

/// Ends at least this far mean the end of any axis.
const FAR: i64 = i32::MAX as i64;

/// The length of a slice of an axis of length `n`; `None` where it cannot be told.
fn length(n: &Dim, start: &Dim, end: &Dim, step: i64) -> Result<Option<Dim>> {
    if step == 0 {
        invalid!("a slice in steps of 0");
    }
    if let (Some(n), Some(s), Some(e)) = (n.as_len(), start.as_const(), end.as_const()) {
        return Ok(Some(run(n, s, e, step)?.len.into()));
    }
    if step < 0 {
        let from_last = start.as_const().is_some_and(|s| s == -1 || s >= FAR);
        let to_first = end.as_const().is_some_and(|e| e <= -FAR);
        let whole = (from_last && to_first).then(|| n.ceil_div(step.saturating_neg()));
        return Ok(whole);
    }
    let (Some(from), Some(to)) = (bound(n, start), bound(n, end)) else { return Ok(None) };
    let way = to.clone() - from.clone();
    let zero = Dim::from(0i64);
    // Counted from one end, the order of the two is known.
    let way = match (start.as_const(), end.as_const()) {
        (Some(s), Some(e)) if (s >= 0) == (e >= 0) && s >= e => zero,
        (Some(s), Some(e)) if (s >= 0) == (e >= 0) => way,
        _ if to == *n || from == zero => way,
        _ => way.larger(&zero),
    };
    Ok(Some(way.ceil_div(step)))
}

/// The place in `0..=n` that a start or an end means under a positive step.
fn bound(n: &Dim, k: &Dim) -> Option<Dim> {
    let zero = Dim::from(0i64);
    let least = |a: &Dim, b: &Dim| a.clone() + b.clone() - a.larger(b);
    match k.as_const() {
        Some(0) => Some(zero),
        Some(c) if c >= FAR => Some(n.clone()),
        Some(c) if c <= -FAR => Some(zero),
        Some(c) if c > 0 => Some(least(k, n)),
        Some(_) => Some((n.clone() + k.clone()).larger(&zero)),
        None if k == n => Some(n.clone()),
        None if k.as_sym().is_some() => Some(least(k, n)),
        None => match (n.clone() - k.clone()).as_const() {
            Some(d) if d >= 0 => Some(k.larger(&zero)),
            Some(_) => Some(n.clone()),
            None => None,
        },
    }
}

/// Every sum of one offset per axis, the last axis fastest.
///
/// Sums saturate, so that `usize::MAX` on any axis stays `usize::MAX`.
pub(crate) struct Cross<'a> {
    axes: &'a [Vec<usize>],
    at: Vec<usize>,
    /// The sum of the offsets of the axes before each axis.
    sums: Vec<usize>,
    left: usize,
}

impl<'a> Cross<'a> {
    /// A walk; the product of the lengths must fit `usize`.
    pub(crate) fn new(axes: &'a [Vec<usize>]) -> Self {
        let left = axes.iter().map(Vec::len).product();
        let mut walk = Self { axes, at: vec![0; axes.len()], sums: vec![0; axes.len() + 1], left };
        if left > 0 {
            walk.sum_from(0);
        }
        walk
    }

    fn sum_from(&mut self, axis: usize) {
        for i in axis..self.axes.len() {
            self.sums[i + 1] = self.sums[i].saturating_add(self.axes[i][self.at[i]]);
        }
    }
}

impl Iterator for Cross<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let out = self.sums[self.axes.len()];
        for i in (0..self.axes.len()).rev() {
            self.at[i] += 1;
            if self.at[i] < self.axes[i].len() {
                self.sum_from(i);
                break;
            }
            self.at[i] = 0;
        }
        Some(out)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn runs_of_an_axis() {
        let cases: &[(usize, i64, i64, i64, &[usize])] = &[
            (5, 1, 4, 1, &[1, 2, 3]),
            (5, -2, i64::MAX, 1, &[3, 4]),
            (5, i64::MIN, 9, 2, &[0, 2, 4]),
            (5, -1, i64::MIN, -1, &[4, 3, 2, 1, 0]),
            (5, 20, 0, -2, &[4, 2]),
            (5, 3, 1, 1, &[]),
            (5, 0, 5, i64::MAX, &[0]),
            (5, 4, -9, i64::MIN, &[4]),
            (0, 0, 1, 1, &[]),
            (0, -1, i64::MIN, -1, &[]),
        ];
        for &(n, start, end, step, want) in cases {
            let got: Vec<_> = run(n, start, end, step).expect("a step").places().collect();
            assert_eq!(got, want, "{n}[{start}:{end}:{step}]");
        }
        assert!(run(5, 0, 5, 0).is_err());
    }

    #[test]
    fn two_axes() {
        let x = Tensor::from_vec(&[3, 4], (0..12).collect::<Vec<i32>>()).expect("3x4");
        let text = "s = i64[2]{-1,1}\ne = i64[2]{-9,4}\na = i64[2]{0,-1}\nt = i64[2]{-2,2}\n\
            y = Slice(x: i32[3,4], s, e, a, t)\nreturn y";
        let want = Tensor::from_vec(&[2, 2], vec![9, 11, 1, 3]).expect("2x2");
        assert_eq!(run1(text, &[x]).expect("runs"), want);
    }

    #[test]
    fn lengths_with_symbols() {
        let of = |start: &str, end: &str, step: &str| {
            let text = format!(
                "s = i64[1]{{{start}}}\ne = i64[1]{{{end}}}\na = i64[1]{{1}}\n\
                t = i64[1]{{{step}}}\ny = Slice(x: f32[B,N], s, e, a, t)\nreturn y"
            );
            types(&text).expect("types")[0].clone()
        };
        assert_eq!(of("0", "9223372036854775807", "1"), "f32[B,N]");
        assert_eq!(of("0", "9223372036854775807", "2"), "f32[B,floor(N+1,2)]");
        assert_eq!(of("-1", "-9223372036854775807", "-1"), "f32[B,N]");
        assert_eq!(of("1", "9223372036854775807", "1"), "f32[B,max(1,N)-1]");
        assert_eq!(of("0", "-1", "1"), "f32[B,max(0,N-1)]");
        assert_eq!(of("5", "2", "1"), "f32[B,0]");
        let text = "s = Shape(x: f32[N,C,H,W])\na = i64[1]{2}\ne = i64[1]{4}\nk = Slice(s, a, e)\n\
            y = ConstantOfShape(k)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[H,W]"]);
        let text = "y = Slice(x: f32[N,3], s: i64[1], e: i64[1])\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[?1,3]"]);
    }

    #[test]
    fn wrong_counts_are_errors() {
        let text = "s = i64[1]{0}\ne = i64[2]{1,1}\ny = Slice(x: f32[2,2], s, e)\nreturn y";
        assert!(types(text).is_err());
        let text = "s = i64[1]{0}\ne = i64[1]{1}\na = i64[1]{2}\n\
            y = Slice(x: f32[2,2], s, e, a)\nreturn y";
        assert!(types(text).is_err());
    }

    #[test]
    fn walks_saturate() {
        let axes = [vec![0, usize::MAX], vec![1, 2]];
        let got: Vec<_> = Cross::new(&axes).collect();
        assert_eq!(got, [1, 2, usize::MAX, usize::MAX]);
        assert_eq!(Cross::new(&[]).collect::<Vec<_>>(), [0]);
    }
}
