//! Floats of 8 bits and fewer: value tables in, nearest value out.

use bytemuck::{Pod, Zeroable};

/// What happens to a finite value, or an infinity, beyond the largest finite one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The largest finite value of the same sign.
    Saturate,
    /// Infinity where the format has it, else NaN.
    Infinite,
}

/// The layout of a small float: sign, exponent and mantissa bits and its special values.
struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// The highest exponent holds infinities and NaN.
    Ieee,
    /// Only the all-ones pattern is NaN.
    NanAllOnes,
    /// Only negative zero is NaN.
    NanNegativeZero,
    /// Every pattern is a number.
    None,
}

impl Format {
    fn decode(&self, bits: u8) -> f32 {
        let sign_at = self.exponent + self.mantissa;
        let magnitude = u32::from(bits) & ((1 << sign_at) - 1);
        let negative = (u32::from(bits) >> sign_at) & 1 == 1;
        let value = self.magnitude(magnitude);
        if self.special == Special::NanNegativeZero && negative && magnitude == 0 {
            return f32::NAN;
        }
        if negative { -value } else { value }
    }

    fn magnitude(&self, bits: u32) -> f32 {
        let exponent = bits >> self.mantissa;
        let fraction = bits & ((1 << self.mantissa) - 1);
        let top = exponent == (1 << self.exponent) - 1;
        match self.special {
            Special::Ieee if top && fraction == 0 => return f32::INFINITY,
            Special::Ieee if top => return f32::NAN,
            Special::NanAllOnes if top && fraction == (1 << self.mantissa) - 1 => return f32::NAN,
            _ => {}
        }
        let scale = (self.mantissa as i32) + self.bias;
        match exponent {
            0 => fraction as f32 * 2f32.powi(1 - scale),
            e => (fraction | (1 << self.mantissa)) as f32 * 2f32.powi(e as i32 - scale),
        }
    }

    /// The finite magnitudes are the patterns `0..finite()`, in rising order.
    fn finite(&self) -> u32 {
        let all = 1 << (self.exponent + self.mantissa);
        match self.special {
            Special::Ieee => all - (1 << self.mantissa),
            Special::NanAllOnes => all - 1,
            Special::NanNegativeZero | Special::None => all,
        }
    }

    fn nan(&self) -> u8 {
        let ones = (1u32 << (self.exponent + self.mantissa)) - 1;
        match self.special {
            Special::NanNegativeZero => 1 << (self.exponent + self.mantissa),
            Special::None => 0,
            _ => ones as u8,
        }
    }

    /// Rounds to the nearest value, ties to the even pattern.
    fn encode(&self, x: f32, overflow: Overflow) -> u8 {
        if x.is_nan() {
            return self.nan();
        }
        let a = f64::from(x.abs());
        let finite = self.finite();
        let above = partition(finite, |p| f64::from(self.magnitude(p)) <= a);
        let low = above.saturating_sub(1);
        let max = f64::from(self.magnitude(finite - 1));
        let step = max - f64::from(self.magnitude(finite - 2));
        let magnitude = if above == finite {
            match overflow {
                Overflow::Saturate => finite - 1,
                // Half a step above the largest value still rounds down to it (its pattern's
                // successor is even only where the largest is odd).
                Overflow::Infinite if a < max + step / 2.0 => finite - 1,
                Overflow::Infinite if a == max + step / 2.0 && (finite - 1).is_multiple_of(2) => {
                    finite - 1
                }
                Overflow::Infinite if self.special == Special::Ieee => finite,
                Overflow::Infinite => return self.overflowed(x),
            }
        } else {
            let (l, h) = (f64::from(self.magnitude(low)), f64::from(self.magnitude(low + 1)));
            match (a - l).total_cmp(&(h - a)) {
                std::cmp::Ordering::Less => low,
                std::cmp::Ordering::Greater => low + 1,
                std::cmp::Ordering::Equal => low + (low & 1),
            }
        };
        let unsigned_zero = magnitude == 0 && self.special == Special::NanNegativeZero;
        let sign = u32::from(x.is_sign_negative() && !unsigned_zero);
        (magnitude | (sign << (self.exponent + self.mantissa))) as u8
    }

    fn overflowed(&self, x: f32) -> u8 {
        let sign = u8::from(x.is_sign_negative()) << (self.exponent + self.mantissa);
        match self.special {
            Special::NanAllOnes => self.nan() | sign,
            Special::None => (self.finite() - 1) as u8 | sign,
            _ => self.nan(),
        }
    }
}

/// The first of `0..n` for which `below` fails; `below` holds on a prefix.
fn partition(n: u32, below: impl Fn(u32) -> bool) -> u32 {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        if below(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo
}

macro_rules! minifloats {
    ($($name:ident($e:literal, $m:literal, $bias:literal, $special:ident) $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name(
            /// The bit pattern.
            pub u8,
        );

        impl $name {
            const FORMAT: Format =
                Format { exponent: $e, mantissa: $m, bias: $bias, special: Special::$special };

            /// The value as `f32`, exactly.
            pub fn to_f32(self) -> f32 {
                Self::FORMAT.decode(self.0)
            }

            /// The nearest value, ties to even.
            pub fn from_f32(x: f32, overflow: Overflow) -> Self {
                Self(Self::FORMAT.encode(x, overflow))
            }
        }
    )*};
}

minifloats! {
    F8E4M3FN(4, 3, 7, NanAllOnes) "8-bit float with 4 exponent bits and no infinities.";
    F8E4M3FNUZ(4, 3, 8, NanNegativeZero) "As `F8E4M3FN`, without negative zero.";
    F8E5M2(5, 2, 15, Ieee) "8-bit float with 5 exponent bits and infinities.";
    F8E5M2FNUZ(5, 2, 16, NanNegativeZero) "As `F8E5M2`, without infinities and negative zero.";
    F6E2M3(2, 3, 1, None) "6-bit float with 3 mantissa bits, up to 7.5.";
    F6E3M2(3, 2, 3, None) "6-bit float with 3 exponent bits, up to 28.";
    F4E2M1(2, 1, 1, None) "4-bit float: 0 0.5 1 1.5 2 3 4 6 and their negatives.";
}

/// A power of two, `2^(bits - 127)`; 255 is NaN. Has no sign and no zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct F8E8M0(
    /// The bit pattern.
    pub u8,
);

/// How a value between two powers of two is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the larger.
    Up,
    /// To the smaller.
    Down,
    /// To the nearer in value, ties up.
    Nearest,
}

impl F8E8M0 {
    /// The value as `f32`, exactly.
    pub fn to_f32(self) -> f32 {
        match self.0 {
            255 => f32::NAN,
            0 => f32::from_bits(1 << 22),
            e => f32::from_bits(u32::from(e) << 23),
        }
    }

    /// The power of two next to `|x|`; beyond the range saturates or gives NaN.
    pub fn from_f32(x: f32, rounding: Rounding, overflow: Overflow) -> Self {
        if x.is_nan() || (x.is_infinite() && overflow == Overflow::Infinite) {
            return Self(255);
        }
        if x.is_infinite() {
            return Self(254);
        }
        let bits = x.abs().to_bits();
        let (exponent, fraction) = ((bits >> 23) as u8, bits & 0x7f_ffff);
        let up = match rounding {
            Rounding::Up if exponent == 0 => fraction > 1 << 22,
            Rounding::Up => fraction > 0,
            Rounding::Down => false,
            Rounding::Nearest if exponent == 0 => fraction >= (1 << 22) + (1 << 21),
            Rounding::Nearest => fraction >= 1 << 22,
        };
        match (exponent, up) {
            (254, true) if overflow == Overflow::Infinite => Self(255),
            (254, true) => Self(254),
            (e, up) => Self(e + u8::from(up)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(F8E4M3FN(0x7e).to_f32(), 448.0);
        assert!(F8E4M3FN(0x7f).to_f32().is_nan());
        assert_eq!(F8E4M3FNUZ(0x7f).to_f32(), 240.0);
        assert!(F8E4M3FNUZ(0x80).to_f32().is_nan());
        assert_eq!(F8E5M2(0x7b).to_f32(), 57344.0);
        assert_eq!(F8E5M2(0x7c).to_f32(), f32::INFINITY);
        assert_eq!(F8E5M2FNUZ(0x7f).to_f32(), 57344.0);
        assert_eq!((0..8).map(|b| F4E2M1(b).to_f32()).sum::<f32>(), 18.0);
        assert_eq!(F8E8M0(127).to_f32(), 1.0);
        assert_eq!((F6E2M3(0x1f).to_f32(), F6E2M3(0x21).to_f32()), (7.5, -0.125));
        assert_eq!((F6E3M2(0x1f).to_f32(), F6E3M2(0x21).to_f32()), (28.0, -0.0625));
    }

    #[test]
    fn every_pattern_survives_a_round_trip() {
        for b in 0..=255u8 {
            let v = F8E4M3FN(b).to_f32();
            if !v.is_nan() {
                assert_eq!(F8E4M3FN::from_f32(v, Overflow::Saturate).0, b);
            }
            let v = F8E5M2(b).to_f32();
            if !v.is_nan() {
                assert_eq!(F8E5M2::from_f32(v, Overflow::Infinite).0, b);
            }
            assert_eq!(F8E8M0::from_f32(F8E8M0(b).to_f32(), Rounding::Up, Overflow::Saturate).0, b);
        }
    }

    #[test]
    fn six_bits_round_to_even_and_saturate() {
        for b in 0..64u8 {
            assert_eq!(F6E2M3::from_f32(F6E2M3(b).to_f32(), Overflow::Saturate).0, b);
            assert_eq!(F6E3M2::from_f32(F6E3M2(b).to_f32(), Overflow::Saturate).0, b);
        }
        assert_eq!(F6E2M3::from_f32(1.0625, Overflow::Saturate).to_f32(), 1.0);
        assert_eq!(F6E3M2::from_f32(-1e9, Overflow::Saturate).to_f32(), -28.0);
    }

    #[test]
    fn overflow_saturates_or_not() {
        assert_eq!(F8E4M3FN::from_f32(1e6, Overflow::Saturate).to_f32(), 448.0);
        assert!(F8E4M3FN::from_f32(1e6, Overflow::Infinite).to_f32().is_nan());
        assert_eq!(F8E5M2::from_f32(-1e6, Overflow::Infinite).to_f32(), f32::NEG_INFINITY);
        assert_eq!(F8E4M3FN::from_f32(464.0, Overflow::Infinite).to_f32(), 448.0);
    }
}
