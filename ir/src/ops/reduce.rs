//! Reductions: one value from all elements along some axes.
//!
//! ```text
//! y = ReduceSum(x: f32[N,C,H], axes: i64[1]{2})     y: f32[N,C,1]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::{axis, numel, offsets, strides};
use kiln_tensor::{DType, Datum, Number, Tensor, match_number};

use super::binary::is_plain;
use super::layout::{known_dims, vector_len};
use super::real::Ticks;
use super::variadic::Variadic;
use crate::eval::{optional, tensor};
use crate::{Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// What is made of the elements. Floats are summed in `f64` and rounded once; sums and products
/// of integers wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceKind {
    /// The sum.
    Sum,
    /// The mean; of integers, towards zero.
    Mean,
    /// The greatest; NaN where there is one; true where one is.
    Max,
    /// The least; NaN where there is one; true where all are.
    Min,
    /// The product.
    Prod,
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of the squares.
    L2,
    /// The logarithm of the sum.
    LogSum,
    /// The logarithm of the sum of the exponentials.
    LogSumExp,
    /// The sum of the squares.
    SumSquare,
}

/// A reduction of input 0 over the axes in input 1, or over all axes where that is left out or
/// empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// What is made of the elements.
    pub kind: ReduceKind,
    /// Whether reduced axes stay, with length 1.
    pub keepdims: bool,
    /// Whether no axes means none rather than all.
    pub noop_with_empty_axes: bool,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "ReduceSum", since: 1, build: |b| build(b, ReduceKind::Sum) },
    Schema { name: "ReduceMean", since: 1, build: |b| build(b, ReduceKind::Mean) },
    Schema { name: "ReduceMax", since: 1, build: |b| build(b, ReduceKind::Max) },
    Schema { name: "ReduceMin", since: 1, build: |b| build(b, ReduceKind::Min) },
    Schema { name: "ReduceProd", since: 1, build: |b| build(b, ReduceKind::Prod) },
    Schema { name: "ReduceL1", since: 1, build: |b| build(b, ReduceKind::L1) },
    Schema { name: "ReduceL2", since: 1, build: |b| build(b, ReduceKind::L2) },
    Schema { name: "ReduceLogSum", since: 1, build: |b| build(b, ReduceKind::LogSum) },
    Schema { name: "ReduceLogSumExp", since: 1, build: |b| build(b, ReduceKind::LogSumExp) },
    Schema { name: "ReduceSumSquare", since: 1, build: |b| build(b, ReduceKind::SumSquare) },
];

fn build(b: &mut Build<'_>, kind: ReduceKind) -> Result<Built> {
    b.ints_to_input("axes", 1)?;
    let keepdims = b.take("keepdims")?.unwrap_or(true);
    let noop_with_empty_axes = b.take("noop_with_empty_axes")?.unwrap_or(false);
    Ok(Reduce { kind, keepdims, noop_with_empty_axes }.into())
}

impl ReduceKind {
    fn takes(self, d: DType) -> bool {
        let compares = matches!(self, ReduceKind::Max | ReduceKind::Min);
        is_plain(d) || (compares && d == DType::Bool)
    }

    /// Whether the result is calculated in `f64`.
    fn is_real(self, d: DType) -> bool {
        use ReduceKind::{L2, LogSum, LogSumExp, Max, Mean, Min};
        match self {
            Max | Min => false,
            Mean | L2 | LogSum | LogSumExp => true,
            _ => d.is_float(),
        }
    }

    /// The result of no elements, in `T` itself.
    fn start<T: Number>(self) -> T {
        match self {
            ReduceKind::Max => T::LEAST,
            ReduceKind::Min => T::GREATEST,
            ReduceKind::Prod => T::ONE,
            _ => T::ZERO,
        }
    }

    /// The step from the result so far and the next element, in `T` itself.
    fn step<T: Number>(self, a: T, x: T) -> T {
        match self {
            ReduceKind::Max => Variadic::Max.step(a, x),
            ReduceKind::Min => Variadic::Min.step(a, x),
            ReduceKind::Prod => a.times(x),
            ReduceKind::L1 => a.plus(if x < T::ZERO { T::ZERO.minus(x) } else { x }),
            ReduceKind::L2 | ReduceKind::SumSquare => a.plus(x.times(x)),
            _ => a.plus(x),
        }
    }

    /// What is made of the sum of `n` elements.
    fn finish(self, sum: f64, n: usize) -> f64 {
        match self {
            ReduceKind::Mean => sum / n as f64,
            ReduceKind::L2 => sum.sqrt(),
            ReduceKind::LogSum | ReduceKind::LogSumExp => sum.ln(),
            _ => sum,
        }
    }

    /// The result for a vector of lengths.
    fn length(self, x: &[Dim]) -> Option<Dim> {
        let mut x = x.iter().cloned();
        let first = x.next()?;
        match self {
            ReduceKind::Sum => Some(x.fold(first, |a, b| a + b)),
            ReduceKind::Prod => Some(x.fold(first, |a, b| a * b)),
            ReduceKind::Max => Some(x.fold(first, |a, b| a.larger(&b))),
            ReduceKind::Min => Some(x.fold(first, |a, b| a.clone() + b.clone() - a.larger(&b))),
            _ => None,
        }
    }
}

/// Which of `rank` axes are reduced; an error where one is named twice.
fn reduced(axes: Option<&[i64]>, rank: usize, noop: bool) -> Result<Vec<bool>> {
    let axes = axes.unwrap_or_default();
    let mut out = vec![axes.is_empty() && !noop; rank];
    for &a in axes {
        if std::mem::replace(&mut out[axis(a, rank)?], true) {
            invalid!("axis {a} is named twice");
        }
    }
    Ok(out)
}

impl Reduce {
    fn shape(&self, x: &[Dim], gone: &[bool]) -> Vec<Dim> {
        let one = Dim::from(1i64);
        let both = x.iter().zip(gone);
        match self.keepdims {
            true => both.map(|(d, &gone)| if gone { one.clone() } else { d.clone() }).collect(),
            false => both.filter(|(_, gone)| !**gone).map(|(d, _)| d.clone()).collect(),
        }
    }

    /// The axes, where they are known; the inner `None` where the input is left out.
    fn axes(cx: &Infer<'_>) -> Option<Option<Vec<i64>>> {
        if !cx.has(1) {
            return Some(None);
        }
        cx.dims(1)?.iter().map(Dim::as_const).collect::<Option<Vec<_>>>().map(Some)
    }

    /// The shape where the axes are not known.
    fn open_shape(&self, cx: &mut Infer<'_>, rank: usize) -> Result<Option<Vec<Dim>>> {
        let count = vector_len(cx, 1)?.filter(|&n| n > 0);
        Ok(match (self.keepdims, count) {
            (true, _) => Some(cx.fresh_shape(rank)),
            (false, Some(n)) if n > rank => invalid!("{n} axes of {rank} cannot be reduced"),
            (false, Some(n)) => Some(cx.fresh_shape(rank - n)),
            (false, None) => None,
        })
    }
}

impl Operator for Reduce {
    fn name(&self) -> &str {
        match self.kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::LogSum => "ReduceLogSum",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
            ReduceKind::SumSquare => "ReduceSumSquare",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("keepdims", (!self.keepdims).then_some(false))
            .with("noop_with_empty_axes", self.noop_with_empty_axes.then_some(true))
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, |d| self.kind.takes(d))?;
        if cx.has(1) {
            cx.dtype_in(1, |d| d == DType::I64)?;
        }
        let mut dims = None;
        let shape = match (cx.shape(0)?, Self::axes(cx)) {
            (Some(x), Some(axes)) => {
                let gone = reduced(axes.as_deref(), x.len(), self.noop_with_empty_axes)?;
                if gone == [true] {
                    dims = known_dims(cx, 0).and_then(|d| self.kind.length(&d));
                }
                Some(self.shape(x, &gone))
            }
            (Some(x), None) => self.open_shape(cx, x.len())?,
            (None, Some(axes)) if !self.noop_with_empty_axes && !self.keepdims => {
                axes.is_none_or(|a| a.is_empty()).then(Vec::new)
            }
            (None, _) => None,
        };
        Ok(vec![Fact::tensor(dtype, shape).with_dims(dims.map(|d| vec![d]))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let axes = optional(inputs, 1)?.map(Tensor::to_vec::<i64>).transpose()?;
        let gone = reduced(axes.as_deref(), x.rank(), self.noop_with_empty_axes)?;
        let walk = Walk::new(x.shape(), &gone)?;
        let y = match x.dtype() {
            DType::Bool => {
                let x: Vec<u8> = x.to_vec()?;
                let y = self.plain(cx, &walk, &x)?;
                Tensor::vector(y.into_iter().map(|y| y != 0).collect())
            }
            d => match_number!(d, T => {
                let x = x.as_slice::<T>()?;
                Tensor::vector(match self.kind.is_real(d) {
                    true => self.real(cx, &walk, x)?,
                    false => self.plain(cx, &walk, x)?,
                })
            }, else invalid!("{} takes no {d}", self.name())),
        };
        let dims: Vec<Dim> = x.shape().iter().map(|&n| n.into()).collect();
        let shape: Vec<usize> = self.shape(&dims, &gone).iter().filter_map(Dim::as_len).collect();
        Ok(vec![y.reshape(&shape)?.into()])
    }
}

impl Reduce {
    fn plain<T: Number>(&self, cx: &Context, walk: &Walk, x: &[T]) -> Result<Vec<T>> {
        let mut y = cx.zeros::<T>(&[walk.results])?;
        y.fill(self.kind.start());
        walk.fold(cx, x, &mut y, |a, x| *a = self.kind.step(*a, x))?;
        Ok(y)
    }

    fn real<T: Number>(&self, cx: &Context, walk: &Walk, x: &[T]) -> Result<Vec<T>> {
        cx.numel(DType::C128, &[walk.results])?;
        // Exponentials are taken from the peak, so that the greatest is 1.
        let mut y = vec![Partial { sum: self.kind.start(), peak: 0.0 }; walk.results];
        if self.kind == ReduceKind::LogSumExp {
            y.iter_mut().for_each(|y| y.peak = f64::LEAST);
            walk.fold(cx, x, &mut y, |y, x| y.peak = Variadic::Max.step(y.peak, x.to_f64()))?;
            y.iter_mut().filter(|y| !y.peak.is_finite()).for_each(|y| y.peak = 0.0);
            walk.fold(cx, x, &mut y, |y, x| y.sum += (x.to_f64() - y.peak).exp())?;
        } else {
            walk.fold(cx, x, &mut y, |y, x| y.sum = self.kind.step(y.sum, x.to_f64()))?;
        }
        let finish = |y: Partial| T::from_f64(self.kind.finish(y.sum, walk.each) + y.peak);
        Ok(y.into_iter().map(finish).collect())
    }
}

/// A sum of values or of `exp(value - peak)`.
#[derive(Clone, Copy)]
struct Partial {
    sum: f64,
    peak: f64,
}

/// The order in which elements meet their results: runs of elements, each run meeting either
/// one result or as many results in a row.
struct Walk {
    outer: Vec<usize>,
    strides: Vec<usize>,
    run: usize,
    one: bool,
    /// How many results there are.
    results: usize,
    /// How many elements make one result.
    each: usize,
}

impl Walk {
    fn new(shape: &[usize], gone: &[bool]) -> Result<Self> {
        let mut merged: Vec<(usize, bool)> = Vec::new();
        for (&n, &gone) in shape.iter().zip(gone).filter(|(n, _)| **n != 1) {
            match merged.last_mut() {
                Some(last) if last.1 == gone => last.0 = last.0.saturating_mul(n),
                _ => merged.push((n, gone)),
            }
        }
        let part = |gone: bool| -> Vec<usize> {
            merged.iter().filter(|m| m.1 == gone).map(|m| m.0).collect()
        };
        let (results, each) = (numel(&part(false))?, numel(&part(true))?);
        let (run, one) = merged.pop().unwrap_or((1, true));
        let kept = merged.iter().map(|&(n, gone)| if gone { 1 } else { n });
        let mut own = strides(&kept.chain([if one { 1 } else { run }]).collect::<Vec<_>>());
        own.pop();
        own.iter_mut().zip(&merged).filter(|(_, m)| m.1).for_each(|(s, _)| *s = 0);
        let outer = merged.iter().map(|m| m.0).collect();
        Ok(Self { outer, strides: own, run, one, results, each })
    }

    fn fold<T: Copy, A>(
        &self,
        cx: &Context,
        x: &[T],
        y: &mut [A],
        step: impl Fn(&mut A, T),
    ) -> Result<()> {
        if x.is_empty() {
            return Ok(());
        }
        let mut ticks = Ticks::new(cx);
        let runs = x.chunks_exact(self.run);
        for (run, at) in runs.zip(offsets(&self.outer, &self.strides)) {
            match self.one {
                true => run.iter().for_each(|&x| step(&mut y[at], x)),
                false => y[at..].iter_mut().zip(run).for_each(|(y, &x)| step(y, x)),
            }
            ticks.add(self.run)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, t, types};

    fn all(op: &str, x: Tensor) -> Tensor {
        let text = format!("y = {op}(x: {}[{}]) {{keepdims=0}}\nreturn y", x.dtype(), x.len());
        run1(&text, &[x]).expect("runs")
    }

    #[test]
    fn every_kind_by_hand() {
        let kinds = [
            ("Sum", 3.0, 3, 0.0),
            ("Mean", 1.0, 1, f32::NAN),
            ("Max", 4.0, 4, f32::NEG_INFINITY),
            ("Min", -2.0, -2, f32::INFINITY),
            ("Prod", -8.0, -8, 1.0),
            ("L1", 7.0, 7, 0.0),
            ("L2", 21f32.sqrt(), 4, 0.0),
            ("LogSum", 3f32.ln(), 1, f32::NEG_INFINITY),
            ("LogSumExp", 4.0509458, 4, f32::NEG_INFINITY),
            ("SumSquare", 21.0, 21, 0.0),
        ];
        for (kind, float, integer, empty) in kinds {
            let op = format!("Reduce{kind}");
            let y = all(&op, t(&[3], &[-2.0, 1.0, 4.0])).to_scalar::<f32>().expect("one");
            assert!((y - float).abs() < 1e-6, "{op}: {y}");
            assert_eq!(
                all(&op, Tensor::vector(vec![-2i32, 1, 4])),
                Tensor::scalar(integer),
                "{op}"
            );
            let y = all(&op, t(&[0], &[])).to_scalar::<f32>().expect("one");
            assert!(y == empty || y.is_nan() && empty.is_nan(), "{op}: {y}");
        }
    }

    #[test]
    fn axes_in_every_place() {
        let x = Tensor::from_vec(&[2, 3, 2], (0..12i64).collect()).expect("2x3x2");
        for (axes, shape, want) in [
            ("i64[1]{0}", vec![3, 2], vec![6, 8, 10, 12, 14, 16]),
            ("i64[1]{1}", vec![2, 2], vec![6, 9, 24, 27]),
            ("i64[1]{-1}", vec![2, 3], vec![1, 5, 9, 13, 17, 21]),
            ("i64[2]{0, 2}", vec![3], vec![14, 22, 30]),
            ("i64[2]{2, 1}", vec![2], vec![15, 51]),
            ("i64[0]{}", vec![], vec![66]),
        ] {
            let text =
                format!("a = {axes}\ny = ReduceSum(x: i64[2,3,2], a) {{keepdims=0}}\nreturn y");
            let want = Tensor::from_vec::<i64>(&shape, want).expect("lengths agree");
            assert_eq!(run1(&text, std::slice::from_ref(&x)).expect(axes), want, "{axes}");
        }
        let twice = "a = i64[2]{1, -2}\ny = ReduceSum(x: f32[2,3,2], a)\nreturn y";
        assert!(types(twice).is_err());
    }

    #[test]
    fn no_axes_and_no_step_back() {
        let text = "y = ReduceL2(x: f32[2]) {noop_with_empty_axes=1}\nreturn y";
        assert_eq!(run1(text, &[t(&[2], &[-3.0, 4.0])]).expect("runs"), t(&[2], &[3.0, 4.0]));
        let text = "y = ReduceMax(x: f32[2,0], a: i64[1])\nreturn y";
        let y = run1(text, &[t(&[2, 0], &[]), Tensor::vector(vec![1i64])]).expect("runs");
        assert_eq!(y, t(&[2, 1], &[f32::NEG_INFINITY; 2]));
        let y = run1(text, &[t(&[2, 0], &[]), Tensor::vector(vec![0i64])]).expect("runs");
        assert_eq!(y, t(&[1, 0], &[]));
    }

    #[test]
    fn truth_and_extremes() {
        let b = |v: &[bool]| Tensor::vector(v.to_vec());
        assert_eq!(all("ReduceMax", b(&[false, true])), Tensor::scalar(true));
        assert_eq!(all("ReduceMin", b(&[false, true])), Tensor::scalar(false));
        assert_eq!(all("ReduceMin", b(&[])), Tensor::scalar(true));
        assert_eq!(all("ReduceMin", Tensor::vector::<u8>(vec![])), Tensor::scalar(255u8));
        assert!(all("ReduceMax", t(&[2], &[f32::NAN, 1.0])).to_scalar::<f32>() != Ok(1.0));
        let big = all("ReduceLogSumExp", t(&[2], &[1000.0, 1000.0]));
        assert_eq!(big, Tensor::scalar(1000.0 + 2f32.ln()));
        assert_eq!(
            all("ReduceLogSumExp", t(&[2], &[f32::NEG_INFINITY; 2])),
            Tensor::scalar(f32::NEG_INFINITY)
        );
        // In f32, 2^24 + 1 + 1 would stay 2^24.
        let y = all("ReduceSum", t(&[3], &[16_777_216.0, 1.0, 1.0]));
        assert_eq!(y, Tensor::scalar(16_777_218f32));
    }

    #[test]
    fn shapes_with_symbols() {
        let ty = |text: &str| types(&format!("{text}\nreturn y")).expect("types");
        assert_eq!(ty("a = i64[1]{1}\ny = ReduceSum(x: f32[N,C,4], a)"), ["f32[N,1,4]"]);
        assert_eq!(ty("y = ReduceMean(x: f32[N,C]) {keepdims=0}"), ["f32[]"]);
        assert_eq!(ty("y = ReduceMean(x: f32[..]) {keepdims=0}"), ["f32[]"]);
        assert_eq!(ty("y = ReduceMin(x: bool[N]) {noop_with_empty_axes=1}"), ["bool[N]"]);
        let text = "s = Shape(x: f32[N,4])\np = ReduceProd(s)\ny = Reshape(x, p)";
        assert_eq!(ty(text), ["f32[4*N]"]);
        assert!(types("y = ReduceSum(x: bool[2])\nreturn y").is_err());
        assert!(types("y = ReduceSum(x: f32[2], a: f32[1])\nreturn y").is_err());
    }
}
