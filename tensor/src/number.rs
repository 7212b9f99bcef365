//! What elements can do: convert (`Scalar`), calculate (`Number`), approximate (`Float`).

use half::{bf16, f16};

use crate::element::{Element, I2, I4, U2, U4};
use crate::minifloat::{
    F4E2M1, F6E2M3, F6E3M2, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, Overflow, Rounding,
};

/// An element that stands for one real number.
///
/// Conversions from floats saturate and send NaN to 0 for integers; conversions between
/// integers wrap.
pub trait Scalar: Element {
    /// The value; integers beyond 2^53 are rounded.
    fn to_f64(self) -> f64;
    /// The nearest value, saturating.
    fn from_f64(x: f64) -> Self;
    /// The value towards zero; exact for integers, saturating for floats.
    fn to_i128(self) -> i128;
    /// The value modulo the type's range; the nearest value for floats.
    fn from_i128(x: i128) -> Self;
}

/// A number that calculates. Integers wrap.
pub trait Number: Scalar + PartialOrd {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The least value; negative infinity for floats.
    const LEAST: Self;
    /// The greatest value; infinity for floats.
    const GREATEST: Self;
    /// The sum.
    fn plus(self, rhs: Self) -> Self;
    /// The difference.
    fn minus(self, rhs: Self) -> Self;
    /// The product.
    fn times(self, rhs: Self) -> Self;
    /// The quotient; integers towards zero, `MIN / -1 = MIN`, `None` for an integer by 0.
    fn over(self, rhs: Self) -> Option<Self>;
    /// The remainder with the dividend's sign; `None` for an integer by 0.
    fn rem(self, rhs: Self) -> Option<Self>;
    /// Whether this is a float's NaN.
    fn is_nan(self) -> bool;
}

/// A float that calculates in its own precision, halves by way of `f32`.
pub trait Float: Number {
    /// Applies a function of `f64`s (for `f64`) or of `f32`s (for the rest).
    fn map(self, wide: impl Fn(f64) -> f64, narrow: impl Fn(f32) -> f32) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f64(x: f64) -> Self { x as $t }
            fn to_i128(self) -> i128 { self as i128 }
            fn from_i128(x: i128) -> Self { x as $t }
        }

        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LEAST: Self = <$t>::MIN;
            const GREATEST: Self = <$t>::MAX;
            fn plus(self, rhs: Self) -> Self { self.wrapping_add(rhs) }
            fn minus(self, rhs: Self) -> Self { self.wrapping_sub(rhs) }
            fn times(self, rhs: Self) -> Self { self.wrapping_mul(rhs) }
            fn over(self, rhs: Self) -> Option<Self> {
                if rhs == 0 { None } else { Some(self.wrapping_div(rhs)) }
            }
            fn rem(self, rhs: Self) -> Option<Self> {
                if rhs == 0 { None } else { Some(self.wrapping_rem(rhs)) }
            }
            fn is_nan(self) -> bool { false }
        }
    )*};
}

integers!(i64, i32, i16, i8, u64, u32, u16, u8);

macro_rules! floats {
    ($($t:ty, $to:expr, $from:expr, $zero:expr, $one:expr, $least:expr, $greatest:expr;)*) => {$(
        impl Scalar for $t {
            fn to_f64(self) -> f64 { f64::from(self) }
            fn from_f64(x: f64) -> Self { <$t>::from_f64_nearest(x) }
            fn to_i128(self) -> i128 { f64::from(self) as i128 }
            fn from_i128(x: i128) -> Self { <$t>::from_f64_nearest(x as f64) }
        }

        impl Number for $t {
            const ZERO: Self = $zero;
            const ONE: Self = $one;
            const LEAST: Self = $least;
            const GREATEST: Self = $greatest;
            fn plus(self, rhs: Self) -> Self { $from($to(self) + $to(rhs)) }
            fn minus(self, rhs: Self) -> Self { $from($to(self) - $to(rhs)) }
            fn times(self, rhs: Self) -> Self { $from($to(self) * $to(rhs)) }
            fn over(self, rhs: Self) -> Option<Self> { Some($from($to(self) / $to(rhs))) }
            fn rem(self, rhs: Self) -> Option<Self> { Some($from($to(self) % $to(rhs))) }
            fn is_nan(self) -> bool { $to(self).is_nan() }
        }
    )*};
}

trait Nearest {
    fn from_f64_nearest(x: f64) -> Self;
}
impl Nearest for f64 {
    fn from_f64_nearest(x: f64) -> Self {
        x
    }
}
impl Nearest for f32 {
    fn from_f64_nearest(x: f64) -> Self {
        x as f32
    }
}
impl Nearest for f16 {
    fn from_f64_nearest(x: f64) -> Self {
        f16::from_f64(x)
    }
}
impl Nearest for bf16 {
    fn from_f64_nearest(x: f64) -> Self {
        bf16::from_f64(x)
    }
}

fn same<T>(x: T) -> T {
    x
}

floats! {
    f64, same::<f64>, same::<f64>, 0.0, 1.0, f64::NEG_INFINITY, f64::INFINITY;
    f32, same::<f32>, same::<f32>, 0.0, 1.0, f32::NEG_INFINITY, f32::INFINITY;
    f16, f16::to_f32, f16::from_f32, f16::ZERO, f16::ONE, f16::NEG_INFINITY, f16::INFINITY;
    bf16, bf16::to_f32, bf16::from_f32, bf16::ZERO, bf16::ONE, bf16::NEG_INFINITY, bf16::INFINITY;
}

impl Float for f64 {
    fn map(self, wide: impl Fn(f64) -> f64, _: impl Fn(f32) -> f32) -> Self {
        wide(self)
    }
}
impl Float for f32 {
    fn map(self, _: impl Fn(f64) -> f64, narrow: impl Fn(f32) -> f32) -> Self {
        narrow(self)
    }
}
impl Float for f16 {
    fn map(self, _: impl Fn(f64) -> f64, narrow: impl Fn(f32) -> f32) -> Self {
        f16::from_f32(narrow(self.to_f32()))
    }
}
impl Float for bf16 {
    fn map(self, _: impl Fn(f64) -> f64, narrow: impl Fn(f32) -> f32) -> Self {
        bf16::from_f32(narrow(self.to_f32()))
    }
}

impl Scalar for bool {
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn from_f64(x: f64) -> Self {
        x != 0.0
    }
    fn to_i128(self) -> i128 {
        i128::from(self)
    }
    fn from_i128(x: i128) -> Self {
        x != 0
    }
}

macro_rules! narrow_integers {
    ($($t:ident $inner:ty, $bits:literal, $lo:literal, $hi:literal;)*) => {$(
        impl Scalar for $t {
            fn to_f64(self) -> f64 { f64::from(self.0) }
            fn from_f64(x: f64) -> Self { $t((x as $inner).clamp($lo, $hi)) }
            fn to_i128(self) -> i128 { i128::from(self.0) }
            fn from_i128(x: i128) -> Self {
                // Shifting the wanted bits to the top and back extends the sign.
                $t(((x << (128 - $bits)) as <$inner as Wide>::Wide >> (128 - $bits)) as $inner)
            }
        }
    )*};
}

trait Wide {
    type Wide;
}
impl Wide for i8 {
    type Wide = i128;
}
impl Wide for u8 {
    type Wide = u128;
}

narrow_integers! {
    I4 i8, 4, -8, 7;
    I2 i8, 2, -2, 1;
    U4 u8, 4, 0, 15;
    U2 u8, 2, 0, 3;
}

macro_rules! mini {
    ($($t:ident),*) => {$(
        impl Scalar for $t {
            fn to_f64(self) -> f64 { f64::from(self.to_f32()) }
            fn from_f64(x: f64) -> Self { $t::from_f32(x as f32, Overflow::Saturate) }
            fn to_i128(self) -> i128 { self.to_f32() as i128 }
            fn from_i128(x: i128) -> Self { $t::from_f32(x as f32, Overflow::Saturate) }
        }
    )*};
}

mini!(F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F6E2M3, F6E3M2, F4E2M1);

impl Scalar for F8E8M0 {
    fn to_f64(self) -> f64 {
        f64::from(self.to_f32())
    }
    fn from_f64(x: f64) -> Self {
        F8E8M0::from_f32(x as f32, Rounding::Up, Overflow::Saturate)
    }
    fn to_i128(self) -> i128 {
        self.to_f32() as i128
    }
    fn from_i128(x: i128) -> Self {
        Self::from_f64(x as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_and_refuse_zero() {
        assert_eq!(i8::MIN.over(-1), Some(i8::MIN));
        assert_eq!(1u8.minus(2), 255);
        assert_eq!(5i64.rem(0), None);
    }

    #[test]
    fn narrow_integers_wrap_and_saturate() {
        assert_eq!(I4::from_i128(9), I4(-7));
        assert_eq!(U4::from_i128(-1), U4(15));
        assert_eq!(I2::from_f64(5.0), I2(1));
        assert_eq!(i32::from_f64(f64::NAN), 0);
        assert_eq!(u8::from_f64(-3.0), 0);
    }
}
