//! The Rust types that hold one element.

use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};
use half::{bf16, f16};

use crate::DType;
use crate::minifloat::{F4E2M1, F6E2M3, F6E3M2, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0};

/// A fixed-size element; everything but strings.
pub trait Element:
    NoUninit + CheckedBitPattern + Default + PartialEq + std::fmt::Debug + Send + Sync
{
    /// The element type that this Rust type holds.
    const DTYPE: DType;
}

/// A complex number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Zeroable)]
#[repr(C)]
pub struct Complex<T> {
    /// The real part.
    pub re: T,
    /// The imaginary part.
    pub im: T,
}

// SAFETY: two fields of the same plain type leave no padding.
#[allow(unsafe_code)]
unsafe impl Pod for Complex<f32> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Pod for Complex<f64> {}

macro_rules! narrow {
    ($($name:ident($inner:ty) $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name(
            /// The value, already in range.
            pub $inner,
        );
    )*};
}

narrow! {
    I4(i8) "A signed 4-bit integer, -8 to 7.";
    I2(i8) "A signed 2-bit integer, -2 to 1.";
    U4(u8) "An unsigned 4-bit integer, 0 to 15.";
    U2(u8) "An unsigned 2-bit integer, 0 to 3.";
}

macro_rules! elements {
    ($($t:ty => $d:ident),* $(,)?) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }
    )*};
}

elements! {
    f64 => F64, f32 => F32, f16 => F16, bf16 => BF16,
    F8E4M3FN => F8E4M3FN, F8E4M3FNUZ => F8E4M3FNUZ, F8E5M2 => F8E5M2, F8E5M2FNUZ => F8E5M2FNUZ,
    F8E8M0 => F8E8M0, F6E2M3 => F6E2M3, F6E3M2 => F6E3M2, F4E2M1 => F4E2M1,
    i64 => I64, i32 => I32, i16 => I16, i8 => I8, I4 => I4, I2 => I2,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8, U4 => U4, U2 => U2,
    bool => Bool, Complex<f32> => C64, Complex<f64> => C128,
}

/// Runs `$body` with `$T` bound to the Rust type of a dtype, for the listed dtypes only.
///
/// ```
/// use kiln_tensor::{DType, match_dtype};
/// let bytes = match_dtype!(DType::F32, [F32 f32, I64 i64], T => size_of::<T>(), else 0);
/// assert_eq!(bytes, 4);
/// ```
#[macro_export]
macro_rules! match_dtype {
    ($dtype:expr, [$($d:ident $t:ty),* $(,)?], $T:ident => $body:expr, else $other:expr) => {
        match $dtype {
            $($crate::DType::$d => {
                #[allow(dead_code)]
                type $T = $t;
                $body
            })*
            #[allow(unreachable_patterns)]
            _ => $other,
        }
    };
}

/// `match_dtype!` over f64, f32, f16 and bf16.
#[macro_export]
macro_rules! match_float {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(
            $dtype,
            [F64 f64, F32 f32, F16 $crate::f16, BF16 $crate::bf16],
            $T => $body, else $other
        )
    };
}

/// `match_dtype!` over the eight integers of whole bytes.
#[macro_export]
macro_rules! match_integer {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(
            $dtype,
            [I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8],
            $T => $body, else $other
        )
    };
}

/// `match_dtype!` over every type that implements `Number`.
#[macro_export]
macro_rules! match_number {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(
            $dtype,
            [F64 f64, F32 f32, F16 $crate::f16, BF16 $crate::bf16,
             I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8],
            $T => $body, else $other
        )
    };
}

/// `match_dtype!` over every type that implements `Scalar` (all but strings and complex).
#[macro_export]
macro_rules! match_scalar {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        $crate::match_dtype!(
            $dtype,
            [F64 f64, F32 f32, F16 $crate::f16, BF16 $crate::bf16,
             I64 i64, I32 i32, I16 i16, I8 i8, U64 u64, U32 u32, U16 u16, U8 u8,
             I4 $crate::I4, I2 $crate::I2, U4 $crate::U4, U2 $crate::U2, Bool bool,
             F8E4M3FN $crate::F8E4M3FN, F8E4M3FNUZ $crate::F8E4M3FNUZ,
             F8E5M2 $crate::F8E5M2, F8E5M2FNUZ $crate::F8E5M2FNUZ,
             F8E8M0 $crate::F8E8M0, F6E2M3 $crate::F6E2M3, F6E3M2 $crate::F6E3M2,
             F4E2M1 $crate::F4E2M1],
            $T => $body, else $other
        )
    };
}

/// `match_dtype!` over every fixed-size type (all but strings).
#[macro_export]
macro_rules! match_element {
    ($dtype:expr, $T:ident => $body:expr, else $other:expr) => {
        match $dtype {
            $crate::DType::C64 => {
                #[allow(dead_code)]
                type $T = $crate::Complex<f32>;
                $body
            }
            $crate::DType::C128 => {
                #[allow(dead_code)]
                type $T = $crate::Complex<f64>;
                $body
            }
            other => $crate::match_scalar!(other, $T => $body, else $other),
        }
    };
}
