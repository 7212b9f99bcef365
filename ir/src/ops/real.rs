//! What definitions calculate in: `f64` for `f64`, `f32` for `f32` and the halves, integers
//! in themselves.

use std::borrow::Cow;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use kiln_tensor::{DType, Float, Number, Scalar, Tensor, match_float};

use crate::{Context, Result, invalid};

/// A float with operators and the functions that definitions need.
pub(crate) trait Real:
    Float
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    fn sqrt(self) -> Self;
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    fn powf(self, by: Self) -> Self;
    /// The nearest value.
    fn of(x: f64) -> Self {
        Self::from_f64(x)
    }
}

macro_rules! reals {
    ($($t:ident),*) => {$(
        impl Real for $t {
            fn sqrt(self) -> Self { $t::sqrt(self) }
            fn exp(self) -> Self { $t::exp(self) }
            fn tanh(self) -> Self { $t::tanh(self) }
            fn powf(self, by: Self) -> Self { $t::powf(self, by) }
        }
    )*};
}

reals!(f32, f64);

/// `|x|`.
pub(crate) fn abs<R: Real>(x: R) -> R {
    x.map(f64::abs, f32::abs)
}

/// Runs `$body` with `$R` bound to the float that a float dtype calculates in.
macro_rules! match_real {
    ($dtype:expr, $R:ident => $body:expr, else $other:expr) => {
        match $dtype {
            ::kiln_tensor::DType::F64 => {
                type $R = f64;
                $body
            }
            ::kiln_tensor::DType::F32 | ::kiln_tensor::DType::F16 | ::kiln_tensor::DType::BF16 => {
                type $R = f32;
                $body
            }
            _ => $other,
        }
    };
}
pub(crate) use match_real;

/// As `match_real!`, for integers too.
macro_rules! match_wide {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::ops::real::match_real!($dtype, $T => $body,
            else ::kiln_tensor::match_integer!($dtype, $T => $body, else $other))
    };
}
pub(crate) use match_wide;

/// Whether `match_real!` takes the type.
pub(crate) fn is_real(d: DType) -> bool {
    matches!(d, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

/// The elements in the type to calculate in.
pub(crate) fn widen<T: Scalar>(t: &Tensor) -> Result<Cow<'_, [T]>> {
    Ok(match t.dtype() == T::DTYPE {
        true => Cow::Borrowed(t.as_slice::<T>()?),
        false => Cow::Owned(t.to_vec::<T>()?),
    })
}

/// A tensor of a dtype from what was calculated for it.
pub(crate) fn narrow<T: Scalar>(dtype: DType, shape: &[usize], data: Vec<T>) -> Result<Tensor> {
    if dtype == T::DTYPE {
        return Ok(Tensor::from_vec(shape, data)?);
    }
    match_float!(dtype, U => {
        let data = data.iter().map(|x| U::from_f64(x.to_f64())).collect();
        Ok(Tensor::from_vec::<U>(shape, data)?)
    }, else invalid!("{} is not stored as {dtype}", T::DTYPE))
}

/// The mean and the variance of some elements, summed in `f64`.
pub(crate) fn moments<R: Real>(x: impl Iterator<Item = R> + Clone) -> (f64, f64) {
    let n = x.clone().count().max(1) as f64;
    let mean = x.clone().map(Scalar::to_f64).sum::<f64>() / n;
    let variance = x.map(|x| (x.to_f64() - mean).powi(2)).sum::<f64>() / n;
    (mean, variance)
}

/// Counts steps and polls the cancel token about every million.
pub(crate) struct Ticks<'a> {
    cx: &'a Context,
    left: usize,
}

impl<'a> Ticks<'a> {
    const EVERY: usize = 1 << 20;

    pub(crate) fn new(cx: &'a Context) -> Self {
        Self { cx, left: Self::EVERY }
    }

    /// Counts `n` steps; an error once cancelled.
    pub(crate) fn add(&mut self, n: usize) -> Result<()> {
        if n < self.left {
            self.left -= n;
            return Ok(());
        }
        self.left = Self::EVERY;
        self.cx.cancel.poll()
    }
}

/// `y[i] += a * x[i]`.
pub(crate) fn axpy<T: Number>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = y.plus(a.times(x));
    }
}
