//! Numbers in equal steps, and diagonals of ones.
//!
//! ```text
//! y = Range(start: i64[], limit: i64[], delta: i64[])      y: i64[ceil((limit-start)/delta)]
//! y = EyeLike(x: f32[N,M]) {k=1}                           y[i,i+1] = 1
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Scalar, Tensor, match_integer, match_number};

use super::binary::is_plain;
use super::layout::known_dims;
use super::real::{match_real, narrow};
use crate::eval::tensor;
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid, unsupported,
};

/// A tensor that follows a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// `start + i * delta` as long as that is before `limit`.
    Steps,
    /// A matrix of the input's shape with ones where column - row = `k`.
    Eye {
        /// The element type; the input's where there is none.
        dtype: Option<DType>,
        /// Which diagonal.
        k: i64,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Range", since: 11, build: |_| Ok(Range::Steps.into()) },
    Schema { name: "Range", since: 27, build: stashed },
    Schema {
        name: "EyeLike",
        since: 9,
        build: |b| Ok(Range::Eye { dtype: b.take("dtype")?, k: b.take("k")?.unwrap_or(0) }.into()),
    },
];

/// Halves are calculated in `f32`, which is what `stash_type` says unless it says otherwise.
fn stashed(b: &mut Build<'_>) -> Result<Built> {
    let stash = b.take("stash_type")?.unwrap_or(DType::F32);
    if stash != DType::F32 && matches!(b.dtype(0)?, DType::F16 | DType::BF16) {
        unsupported!("stash_type {stash} for halves; use 1 (f32)");
    }
    Ok(Range::Steps.into())
}

/// The number of steps, by the three scalars.
fn count(of: [&Tensor; 3]) -> Result<usize> {
    let [start, limit, delta] = of;
    let dtype = start.dtype();
    if [limit, delta].iter().any(|t| t.dtype() != dtype) {
        invalid!("start, limit and delta must have one type");
    }
    let n = match_real!(dtype, R => {
        let [start, limit, delta] = [start, limit, delta].map(Tensor::to_scalar::<R>);
        let (start, limit, delta) = (start?, limit?, delta?);
        // In the type itself, so that 0.3 / 0.1 is 3.
        ((limit - start) / delta).ceil().to_f64()
    }, else {
        let [start, limit, delta] = [int(start)?, int(limit)?, int(delta)?];
        // Towards zero and one more where that leaves a rest of the same sign: the ceiling.
        match limit - start {
            _ if delta == 0 => f64::NAN,
            way if (way < 0) != (delta < 0) => 0.0,
            way => way.unsigned_abs().div_ceil(delta.unsigned_abs()) as f64,
        }
    });
    match n {
        n if n.is_nan() => invalid!("delta is 0 or not a number"),
        n if n >= 9e15 => invalid!("a range of {n:e} elements is too long"),
        n => Ok(n.max(0.0) as usize),
    }
}

fn int(t: &Tensor) -> Result<i128> {
    match_integer!(t.dtype(), T => Ok(t.to_scalar::<T>()?.to_i128()),
        else invalid!("Range takes no {}", t.dtype()))
}

fn steps(cx: &Context, of: [&Tensor; 3]) -> Result<Tensor> {
    let dtype = of[0].dtype();
    let n = count(of)?;
    cx.numel(dtype, &[n])?;
    let [start, _, delta] = of;
    match_real!(dtype, R => {
        let (start, delta) = (start.to_scalar::<R>()?, delta.to_scalar::<R>()?);
        narrow(dtype, &[n], (0..n).map(|i| start + i as R * delta).collect())
    }, else match_integer!(dtype, T => {
        let (start, delta) = (start.to_scalar::<T>()?, delta.to_scalar::<T>()?);
        let step = |at: &mut T| {
            let now = *at;
            *at = at.plus(delta);
            Some(now)
        };
        Ok(Tensor::vector(std::iter::repeat_n((), n).scan(start, |at, ()| step(at)).collect()))
    }, else invalid!("Range takes no {dtype}")))
}

/// What is known of the length and the elements of a range.
fn infer_steps(cx: &mut Infer<'_>) -> Result<Fact> {
    let dtype = cx.dtype_in(0, is_plain)?;
    cx.same_dtype(0..3)?;
    for i in 0..3 {
        if cx.shape(i)?.is_some_and(|s| s.len() > 1 || s.iter().any(|d| d.as_const() > Some(1))) {
            invalid!("input {i} must be a scalar");
        }
    }
    let only = |d: Option<Vec<Dim>>| d.and_then(|d| d.into_iter().next());
    let [start, limit, delta] = [0, 1, 2].map(|i| only(known_dims(cx, i)));
    let n = match (cx.constant(0), cx.constant(1), cx.constant(2), &start, &limit) {
        (Some(start), Some(limit), Some(delta), ..) => count([start, limit, delta])?.into(),
        (.., Some(start), Some(limit)) => match delta.as_ref().and_then(Dim::as_const) {
            Some(0) => invalid!("delta is 0"),
            Some(delta) => length(start, limit, delta),
            None => cx.fresh(),
        },
        _ => cx.fresh(),
    };
    let dims = match (start, delta, n.as_len()) {
        (Some(start), Some(delta), Some(n)) if n <= 64 => {
            Some((0..n).map(|i| start.clone() + Dim::from(i) * delta.clone()).collect())
        }
        _ => None,
    };
    Ok(Fact::shaped(dtype, vec![n]).with_dims(dims))
}

fn length(start: &Dim, limit: &Dim, delta: i64) -> Dim {
    let way = match delta > 0 {
        true => limit.clone() - start.clone(),
        false => start.clone() - limit.clone(),
    };
    let n = way.ceil_div(delta.saturating_abs());
    if way.is_natural() { n } else { n.larger(&0i64.into()) }
}

fn eye(cx: &Context, shape: &[usize], dtype: DType, k: i64) -> Result<Tensor> {
    let &[rows, columns] = shape else {
        invalid!("EyeLike takes a matrix, the input has rank {}", shape.len())
    };
    cx.numel(dtype, shape)?;
    let rows = if columns == 0 { 0 } else { rows };
    let ones = (0..rows as i64).filter_map(|r| {
        let c = usize::try_from(r.checked_add(k)?).ok().filter(|&c| c < columns)?;
        Some(r as usize * columns + c)
    });
    if dtype == DType::Bool {
        let mut y = cx.zeros::<bool>(shape)?;
        ones.for_each(|i| y[i] = true);
        return Ok(Tensor::from_vec(shape, y)?);
    }
    match_number!(dtype, T => {
        let mut y = cx.zeros::<T>(shape)?;
        ones.for_each(|i| y[i] = T::ONE);
        Ok(Tensor::from_vec(shape, y)?)
    }, else invalid!("EyeLike makes no {dtype}"))
}

impl Operator for Range {
    fn name(&self) -> &str {
        match self {
            Range::Steps => "Range",
            Range::Eye { .. } => "EyeLike",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Range::Steps => Attrs::default(),
            Range::Eye { dtype, k } => {
                Attrs::default().with("dtype", *dtype).with("k", (*k != 0).then_some(*k))
            }
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Range::Steps => 3..=3,
            Range::Eye { .. } => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let Range::Eye { dtype, .. } = self else { return Ok(vec![infer_steps(cx)?]) };
        let dtype = dtype.unwrap_or(cx.dtype(0)?);
        if !is_plain(dtype) && dtype != DType::Bool {
            invalid!("EyeLike makes no {dtype}");
        }
        let shape = match cx.shape(0)? {
            Some(s) if s.len() != 2 => {
                invalid!("EyeLike takes a matrix, the input has rank {}", s.len())
            }
            Some(s) => s.to_vec(),
            None => cx.fresh_shape(2),
        };
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        Ok(vec![match self {
            Range::Steps => steps(cx, [x, tensor(inputs, 1)?, tensor(inputs, 2)?])?.into(),
            Range::Eye { dtype, k } => eye(cx, x.shape(), dtype.unwrap_or(x.dtype()), *k)?.into(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn range<T: kiln_tensor::Element>(of: [T; 3]) -> Result<Tensor> {
        let d = T::DTYPE;
        let text = format!("y = Range(a: {d}[], b: {d}[], c: {d}[])\nreturn y");
        run1(&text, &of.map(Tensor::scalar))
    }

    #[test]
    fn steps_by_hand() {
        assert_eq!(range([3i64, 9, 3]).expect("runs"), Tensor::vector(vec![3i64, 6]));
        assert_eq!(range([10i32, 4, -2]).expect("runs"), Tensor::vector(vec![10, 8, 6]));
        assert_eq!(range([0i16, 5, 2]).expect("runs"), Tensor::vector(vec![0i16, 2, 4]));
        assert_eq!(range([1i64, 1, 1]).expect("runs"), Tensor::vector::<i64>(vec![]));
        assert_eq!(range([1i64, 5, -1]).expect("runs"), Tensor::vector::<i64>(vec![]));
        assert_eq!(range([1f32, 0.0, -0.5]).expect("runs"), Tensor::vector(vec![1f32, 0.5]));
        assert_eq!(range([f64::INFINITY, 0.0, 1.0]).expect("runs").len(), 0);
    }

    #[test]
    fn hostile_ranges_are_errors() {
        assert!(range([0i64, 5, 0]).is_err());
        assert!(range([0f32, 5.0, 0.0]).is_err());
        assert!(range([0f32, f32::NAN, 1.0]).is_err());
        assert!(range([i64::MIN, i64::MAX, 1]).is_err());
        assert!(range([i64::MIN, i64::MAX, i64::MAX]).is_ok_and(|y| y.len() == 3));
        assert!(types("y = Range(a: i64[2], b: i64[], c: i64[])\nreturn y").is_err());
        assert!(types("y = Range(a: i64[], b: i32[], c: i64[])\nreturn y").is_err());
    }

    #[test]
    fn lengths_with_symbols() {
        let ty = |limit: &str, step: i64| {
            let text = format!(
                "s = Shape(x: f32[N])\nz = i64[1]{{0}}\nd = i64[1]{{{step}}}\nm = i64[1]{{-2}}\n\
                 l = {limit}\ny = Range(z, l, d)\nreturn y"
            );
            types(&text).expect("types").remove(0)
        };
        assert_eq!(ty("Identity(s)", 1), "i64[N]");
        assert_eq!(ty("Add(s, s)", 4), "i64[floor(2*N+3,4)]");
        assert_eq!(ty("Add(s, m)", 1), "i64[max(0,N-2)]");
        let text = "a = i64[]{1}\nb = i64[]{7}\nc = i64[]{3}\nr = Range(a, b, c)\n\
                    y = ConstantOfShape(r)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[1,4]"]);
    }

    #[test]
    fn diagonals() {
        let of = |attrs: &str, want: Tensor| {
            let x = Tensor::from_vec(&[2, 3], vec![9i32; 6]).expect("2x3");
            let y = run1(&format!("y = EyeLike(x: i32[2,3]) {{{attrs}}}\nreturn y"), &[x]);
            assert_eq!(y.expect("runs"), want, "{attrs}");
        };
        of("", Tensor::from_vec(&[2, 3], vec![1, 0, 0, 0, 1, 0]).expect("2x3"));
        of("k=2, dtype=1", Tensor::from_vec(&[2, 3], vec![0f32, 0., 1., 0., 0., 0.]).expect("2x3"));
        of("k=-1", Tensor::from_vec(&[2, 3], vec![0, 0, 0, 1, 0, 0]).expect("2x3"));
        assert!(eye(&Context::default(), &[1 << 60, 0], DType::F32, 0).is_ok_and(|y| y.is_empty()));
        of("k=9223372036854775807", Tensor::from_vec(&[2, 3], vec![0; 6]).expect("2x3"));
        assert!(types("y = EyeLike(x: f32[2])\nreturn y").is_err());
    }
}
