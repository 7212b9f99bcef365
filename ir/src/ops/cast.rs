//! Elements in another type: by value (Cast) or by their bits (BitCast).
//!
//! ```text
//! float  -> integer   towards zero, saturating; of 2 and 4 bits the low ones; NaN gives 0
//! integer-> integer   the low bits
//! number -> float     the nearest value, halves and f8 rounded once
//! string <-> number   as one writes numbers
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::minifloat::{Overflow, Rounding};
use kiln_tensor::{
    DType, Datum, Element, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, Scalar, Tensor,
    match_integer, match_scalar,
};

use super::layout::known_dims;
use crate::eval::tensor;
use crate::{
    Attrs, Build, Context, Error, Fact, Infer, Operator, Result, Schema, Traits, attr_enum, invalid,
};

attr_enum! {
    /// How a value between two powers of two becomes a F8E8M0.
    pub enum RoundMode {
        /// To the larger.
        Up = "up",
        /// To the smaller.
        Down = "down",
        /// To the nearer, ties up.
        Nearest = "nearest",
    }
}

/// A change of element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cast {
    /// The same value, as near as the type allows.
    Value {
        /// The type of the result.
        to: DType,
        /// Whether 8-bit floats saturate; else what is too large becomes infinite or NaN.
        saturate: bool,
        /// How F8E8M0 rounds.
        round: RoundMode,
    },
    /// The same bits.
    Bits {
        /// The type of the result, as wide as the input's.
        to: DType,
    },
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Cast",
        since: 1,
        build: |b| {
            let to = b.require("to")?;
            Ok(value(b, to)?.into())
        },
    },
    Schema {
        name: "CastLike",
        since: 15,
        build: |b| {
            let to = b.dtype(1)?;
            b.inputs.truncate(1);
            Ok(value(b, to)?.into())
        },
    },
    Schema {
        name: "BitCast",
        since: 26,
        build: |b| Ok(Cast::Bits { to: b.require("to")? }.into()),
    },
];

fn value(b: &mut Build<'_>, to: DType) -> Result<Cast> {
    let saturate = b.take("saturate")?.unwrap_or(true);
    let round = b.take("round_mode")?.unwrap_or(RoundMode::Up);
    Ok(Cast::Value { to, saturate, round })
}

impl Cast {
    /// A cast as ONNX does it by default.
    pub fn to(to: DType) -> Self {
        Cast::Value { to, saturate: true, round: RoundMode::Up }
    }

    fn target(self) -> DType {
        match self {
            Cast::Value { to, .. } | Cast::Bits { to } => to,
        }
    }

    fn check(self, from: DType) -> Result<()> {
        let to = self.target();
        let complex = |d| matches!(d, DType::C64 | DType::C128);
        match self {
            Cast::Bits { .. } if from.bits() != to.bits() || from == DType::String => {
                invalid!("the bits of {from} do not make a {to}")
            }
            Cast::Value { .. } if from != to && (complex(from) || complex(to)) => {
                invalid!("{from} does not cast to {to}")
            }
            _ => Ok(()),
        }
    }
}

impl Operator for Cast {
    fn name(&self) -> &str {
        match self {
            Cast::Value { .. } => "Cast",
            Cast::Bits { .. } => "BitCast",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default().with("to", self.target());
        match self {
            Cast::Value { saturate, round, .. } => a
                .with("saturate", (!saturate).then_some(false))
                .with("round_mode", Some(*round).filter(|r| *r != RoundMode::Up)),
            Cast::Bits { .. } => a,
        }
    }

    fn traits(&self) -> Traits {
        Traits::ELEMENTWISE
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let (from, to) = (cx.dtype(0)?, self.target());
        self.check(from)?;
        let keeps = matches!(self, Cast::Value { .. }) && matches!(to, DType::I64 | DType::I32);
        let dims = known_dims(cx, 0).filter(|_| keeps);
        Ok(vec![Fact::tensor(to, cx.shape(0)?.map(<[_]>::to_vec)).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        self.check(x.dtype())?;
        cx.numel(self.target(), x.shape())?;
        let y = match *self {
            Cast::Bits { to } => bits(x, to)?,
            Cast::Value { to, .. } if to == x.dtype() => x.clone(),
            Cast::Value { to: DType::String, .. } => to_strings(x)?,
            Cast::Value { to, saturate, round } if x.dtype() == DType::String => {
                from_strings(x, to, saturate, round)?
            }
            Cast::Value { to, saturate, round } => convert(x, to, saturate, round)?,
        };
        Ok(vec![y.into()])
    }
}

fn each<U: Element, T: Scalar>(x: &Tensor, f: impl Fn(T) -> U) -> Result<Tensor> {
    Ok(Tensor::from_vec(x.shape(), x.as_slice::<T>()?.iter().map(|&v| f(v)).collect())?)
}

/// `x` as another type of number.
pub(crate) fn convert(x: &Tensor, to: DType, saturate: bool, round: RoundMode) -> Result<Tensor> {
    let overflow = if saturate { Overflow::Saturate } else { Overflow::Infinite };
    match_scalar!(x.dtype(), T => match to {
        DType::F8E4M3FN => each(x, |v: T| F8E4M3FN::from_f32(narrow(v), overflow)),
        DType::F8E4M3FNUZ => each(x, |v: T| F8E4M3FNUZ::from_f32(narrow(v), overflow)),
        DType::F8E5M2 => each(x, |v: T| F8E5M2::from_f32(narrow(v), overflow)),
        DType::F8E5M2FNUZ => each(x, |v: T| F8E5M2FNUZ::from_f32(narrow(v), overflow)),
        DType::F8E8M0 => each(x, |v: T| power(narrow(v), round, saturate)),
        _ => match_scalar!(to, U => each(x, |v: T| one::<T, U>(v)),
            else invalid!("{} does not cast to {to}", x.dtype())),
    }, else invalid!("{} does not cast to {to}", x.dtype()))
}

/// One element in another type.
fn one<T: Scalar, U: Scalar>(v: T) -> U {
    match (T::DTYPE.is_float(), U::DTYPE.is_float()) {
        (false, false) => U::from_i128(v.to_i128()),
        (false, true) => U::from_f64(odd(v.to_i128(), U::DTYPE)),
        (true, false) if U::DTYPE.bits() < 8 => U::from_i128(v.to_i128()),
        _ => U::from_f64(v.to_f64()),
    }
}

/// As `f32`, by way of `f64` where it is an integer.
fn narrow<T: Scalar>(v: T) -> f32 {
    one::<T, f32>(v)
}

/// An integer as the `f64` that still rounds to the right float of type `to`.
///
/// Beyond 53 bits the last bit is set where bits were lost ("round to odd"), so that the
/// second rounding sees that the value lies off its ties.
fn odd(x: i128, to: DType) -> f64 {
    let y = x as f64;
    if to == DType::F64 || y as i128 == x {
        return y;
    }
    let away = (y as i128).unsigned_abs() > x.unsigned_abs();
    f64::from_bits((y.to_bits() - u64::from(away)) | 1)
}

/// A power of two; without saturation, what lies beyond the range is NaN.
fn power(x: f32, round: RoundMode, saturate: bool) -> F8E8M0 {
    let smallest = F8E8M0(0).to_f32();
    if !saturate && x.abs() < smallest {
        return F8E8M0(255);
    }
    let rounding = match round {
        RoundMode::Up => Rounding::Up,
        RoundMode::Down => Rounding::Down,
        RoundMode::Nearest => Rounding::Nearest,
    };
    let overflow = if saturate { Overflow::Saturate } else { Overflow::Infinite };
    F8E8M0::from_f32(x, rounding, overflow)
}

fn bits(x: &Tensor, to: DType) -> Result<Tensor> {
    let mut bytes = x.bytes().to_vec();
    let width = to.bits();
    if width < 8 {
        // One byte each in memory, the upper bits a copy of the sign.
        let spare = 8 - width;
        for b in &mut bytes {
            let high = *b << spare;
            *b = if to.is_signed() { (high as i8 >> spare) as u8 } else { high >> spare };
        }
    }
    Ok(Tensor::from_bytes(to, x.shape(), bytes.into())?)
}

fn to_strings(x: &Tensor) -> Result<Tensor> {
    let text: Vec<String> = match x.dtype() {
        DType::F64 => x.as_slice::<f64>()?.iter().map(|v| float_text(*v, v.to_string())).collect(),
        d if d.is_float() => {
            let narrow = x.to_vec::<f32>()?;
            narrow.into_iter().map(|v| float_text(f64::from(v), v.to_string())).collect()
        }
        DType::Bool => {
            let word = |&v: &bool| if v { "True" } else { "False" }.to_owned();
            x.as_slice::<bool>()?.iter().map(word).collect()
        }
        d => match_scalar!(d, T => {
            x.as_slice::<T>()?.iter().map(|v| v.to_i128().to_string()).collect()
        }, else invalid!("{d} does not cast to strings")),
    };
    Ok(Tensor::from_strings(x.shape(), text)?)
}

fn float_text(x: f64, plain: String) -> String {
    match x {
        x if x.is_nan() => "NaN".to_owned(),
        x if x.is_infinite() => if x > 0.0 { "INF" } else { "-INF" }.to_owned(),
        _ => plain,
    }
}

fn from_strings(x: &Tensor, to: DType, saturate: bool, round: RoundMode) -> Result<Tensor> {
    let (text, shape) = (x.strings()?, x.shape());
    if to == DType::F32 {
        return Ok(Tensor::from_vec(shape, parse_all::<f32>(text)?)?);
    }
    if to.is_integer() && to.size() == size_of::<u64>() || to == DType::I32 || to == DType::U32 {
        return match_integer!(to, T => {
            let data = text.iter().map(|s| integer::<T>(s)).collect::<Result<Vec<T>>>()?;
            Ok(Tensor::from_vec(shape, data)?)
        }, else Err(Error::bug("an integer type of 4 or 8 bytes")));
    }
    convert(&Tensor::from_vec(shape, parse_all::<f64>(text)?)?, to, saturate, round)
}

fn parse_all<T: std::str::FromStr>(text: &[String]) -> Result<Vec<T>> {
    text.iter().map(|s| s.trim().parse().map_err(|_| no_number(s))).collect()
}

fn integer<T: Scalar>(text: &str) -> Result<T> {
    let trimmed = text.trim();
    let whole = match trimmed.parse::<i128>() {
        Ok(x) => x,
        Err(_) => trimmed.parse::<f64>().map_err(|_| no_number(text))?.trunc() as i128,
    };
    let x = T::from_i128(whole);
    if x.to_i128() != whole {
        invalid!("`{text}` does not fit {}", T::DTYPE);
    }
    Ok(x)
}

fn no_number(text: &str) -> Error {
    Error::invalid(format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests {
    use kiln_tensor::{F4E2M1, I4, U4, bf16, f16};

    use super::*;
    use crate::ops::testing::{run1, types};

    fn cast(x: Tensor, attrs: &str) -> Result<Tensor> {
        let text = format!("y = Cast(x: {}[{}]) {{{attrs}}}\nreturn y", x.dtype(), x.len());
        run1(&text, &[x])
    }

    fn strings(s: &[&str]) -> Tensor {
        let data = s.iter().map(|&s| s.to_owned()).collect();
        Tensor::from_strings(&[s.len()], data).expect("a vector")
    }

    #[test]
    fn values_by_hand() {
        let floats = || Tensor::vector(vec![-1.7f32, 300.0, f32::NAN]);
        let cases: Vec<(Tensor, &str, Tensor)> = vec![
            (floats(), "to=3", Tensor::vector(vec![-1i8, 127, 0])),
            (floats(), "to=2", Tensor::vector(vec![0u8, 255, 0])),
            (floats(), "to=9", Tensor::vector(vec![true, true, true])),
            (Tensor::vector(vec![200i16, -1]), "to=3", Tensor::vector(vec![-56i8, -1])),
            (Tensor::vector(vec![-1i64]), "to=13", Tensor::vector(vec![u64::MAX])),
            (Tensor::vector(vec![17i32]), "to=22", Tensor::vector(vec![I4(1)])),
            (Tensor::vector(vec![-9.5f32]), "to=22", Tensor::vector(vec![I4(7)])),
            (Tensor::vector(vec![true, false]), "to=10", Tensor::vector(vec![f16::ONE, f16::ZERO])),
            (
                Tensor::vector(vec![2.4f32, -9.0]),
                "to=23",
                Tensor::vector(vec![F4E2M1(4), F4E2M1(15)]),
            ),
            (
                Tensor::vector(vec![1e6f32, -0.0]),
                "to=17",
                Tensor::vector(vec![F8E4M3FN(0x7e), F8E4M3FN(0x80)]),
            ),
            (Tensor::vector(vec![1e6f32]), "to=19,saturate=0", Tensor::vector(vec![F8E5M2(0x7c)])),
            (Tensor::vector(vec![3f32]), "to=24", Tensor::vector(vec![F8E8M0(129)])),
            (
                Tensor::vector(vec![3f32, 0.0]),
                "to=24,round_mode=\"down\",saturate=0",
                Tensor::vector(vec![F8E8M0(128), F8E8M0(255)]),
            ),
        ];
        for (x, attrs, want) in cases {
            assert_eq!(cast(x.clone(), attrs).expect("runs"), want, "{x:?} {attrs}");
        }
    }

    #[test]
    fn long_integers_are_rounded_once() {
        // 2^60 + 2^36 + 1 lies above the tie between two `f32`s; as an `f64` it lies on it.
        let x = (1i64 << 60) + (1 << 36) + 1;
        let y = cast(Tensor::vector(vec![x, -x]), "to=1").expect("runs");
        let above = (1u64 << 60) as f32 + (1u64 << 37) as f32;
        assert_eq!(y, Tensor::vector(vec![above, -above]));
        let y = cast(Tensor::vector(vec![i64::MAX]), "to=16").expect("runs");
        assert_eq!(y, Tensor::vector(vec![bf16::from_f32(9.223_372e18)]));
    }

    #[test]
    fn strings_and_numbers() {
        let y = cast(strings(&["3.5", "+INF", "nan", "-1e-2"]), "to=1").expect("floats");
        let got = y.as_slice::<f32>().expect("f32");
        assert_eq!((got[0], got[1], got[3]), (3.5, f32::INFINITY, -0.01));
        assert!(got[2].is_nan());
        let y = cast(strings(&["9007199254740993", " 100.5 "]), "to=7").expect("integers");
        assert_eq!(y, Tensor::vector(vec![9_007_199_254_740_993i64, 100]));
        assert!(cast(strings(&["Hello"]), "to=1").is_err());
        assert!(cast(strings(&["3000000000"]), "to=6").is_err());
        let y = cast(Tensor::vector(vec![0.1f32, 1e6, f32::NEG_INFINITY, f32::NAN]), "to=8");
        assert_eq!(y.expect("text"), strings(&["0.1", "1000000", "-INF", "NaN"]));
        let y = cast(Tensor::vector(vec![-7i8]), "to=8").expect("text");
        assert_eq!(y, strings(&["-7"]));
    }

    #[test]
    fn bits_stay() {
        let bit = |x: Tensor, to: i64| {
            let d = x.dtype();
            run1(&format!("y = BitCast(x: {d}[1]) {{to={to}}}\nreturn y"), &[x])
        };
        let y = bit(Tensor::vector(vec![1f32]), 12).expect("runs");
        assert_eq!(y, Tensor::vector(vec![0x3f80_0000u32]));
        assert_eq!(
            bit(Tensor::vector(vec![I4(-1)]), 21).expect("u4"),
            Tensor::vector(vec![U4(15)])
        );
        assert_eq!(
            bit(Tensor::vector(vec![U4(15)]), 22).expect("i4"),
            Tensor::vector(vec![I4(-1)])
        );
        assert!(bit(Tensor::vector(vec![1f32]), 7).is_err());
    }

    #[test]
    fn like_another() {
        let text = "y = CastLike(x: f32[N], t: i8[])\ns = Shape(x)\nc = Cast(s) {to=6}\n\
            z = Reshape(w: f32[..], c)\nreturn y, z";
        assert_eq!(types(text).expect("types"), ["i8[N]", "f32[N]"]);
    }
}
