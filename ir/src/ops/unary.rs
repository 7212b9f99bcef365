//! Elementwise functions of one tensor: `y[i] = f(x[i])`.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Float, Number, Tensor, match_float, match_integer, match_number};

use crate::eval::tensor;
use crate::{
    Attrs, Context, Fact, Infer, Operator, Result, Schema, Traits, attr_enum, invalid, schema,
};

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// A function of floats without parameters.
    Function(Function),
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// -1, 0 or 1; NaN for NaN.
    Sign,
    /// `max(x, 0)`; NaN for NaN.
    Relu,
    /// `!x`.
    Not,
    /// All bits flipped.
    BitwiseNot,
    /// Whether it is NaN.
    IsNaN,
    /// Whether it is infinite.
    IsInf {
        /// Whether negative infinity counts.
        negative: bool,
        /// Whether positive infinity counts.
        positive: bool,
    },
    /// A function of floats with up to two parameters.
    Curve(Curve, f32, f32),
    /// `x * P(X <= x)` of the normal distribution.
    Gelu(GeluForm),
}

attr_enum! {
    /// How GELU is calculated.
    pub enum GeluForm {
        /// By erf.
        Exact = "none",
        /// By tanh.
        Tanh = "tanh",
    }
}

/// Makes the functions without parameters: `f64` and `f32` forms side by side.
macro_rules! functions {
    ($($name:ident: $wide:expr, $narrow:expr;)*) => {
        /// A function of floats, in the element's own precision; halves by way of `f32`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Function { $(#[doc = concat!("ONNX `", stringify!($name), "`.")] $name,)* }

        impl Function {
            fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name),)* }
            }

            /// The value at `x`.
            pub fn apply<T: Float>(self, x: T) -> T {
                match self { $(Function::$name => x.map($wide, $narrow),)* }
            }
        }

        const FUNCTIONS: &[Schema] = &[$(Schema {
            name: stringify!($name),
            since: 1,
            build: |_| Ok(Unary::Function(Function::$name).into()),
        },)*];
    };
}

functions! {
    Acos: f64::acos, f32::acos;
    Acosh: f64::acosh, f32::acosh;
    Asin: f64::asin, f32::asin;
    Asinh: f64::asinh, f32::asinh;
    Atan: f64::atan, f32::atan;
    Atanh: f64::atanh, f32::atanh;
    Ceil: f64::ceil, f32::ceil;
    Cos: f64::cos, f32::cos;
    Cosh: f64::cosh, f32::cosh;
    Erf: libm::erf, libm::erff;
    Exp: f64::exp, f32::exp;
    Floor: f64::floor, f32::floor;
    Log: f64::ln, f32::ln;
    Reciprocal: |x| 1.0 / x, |x| 1.0 / x;
    Round: f64::round_ties_even, f32::round_ties_even;
    Sigmoid: |x| 1.0 / (1.0 + (-x).exp()), |x| 1.0 / (1.0 + (-x).exp());
    Sin: f64::sin, f32::sin;
    Sinh: f64::sinh, f32::sinh;
    // For large x the exponential overflows, and the result is x to the last bit.
    Softplus: |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), |x| x.max(0.0) + (-x.abs()).exp().ln_1p();
    Softsign: |x| x / (1.0 + x.abs()), |x| x / (1.0 + x.abs());
    Sqrt: f64::sqrt, f32::sqrt;
    Tan: f64::tan, f32::tan;
    Tanh: f64::tanh, f32::tanh;
    HardSwish: |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0), |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0);
    Mish: |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh(),
          |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh();
}

/// Makes the functions with parameters: name, attributes with defaults, formula.
macro_rules! curves {
    ($($name:ident($a:ident $an:literal = $ad:literal, $b:ident $bn:literal = $bd:literal)
        $x:ident => $formula:expr;)*) => {
        /// A function of floats with parameters, calculated in `f64` for `f64`, else in `f32`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Curve { $(#[doc = concat!("ONNX `", stringify!($name), "`.")] $name,)* }

        impl Curve {
            fn name(self) -> &'static str {
                match self { $(Curve::$name => stringify!($name),)* }
            }

            /// The names and defaults of the parameters; an empty name is no parameter.
            fn parameters(self) -> [(&'static str, f32); 2] {
                match self { $(Curve::$name => [($an, $ad), ($bn, $bd)],)* }
            }

            /// The value at `x` with parameters `a` and `b`.
            pub fn apply<T: Float>(self, x: T, a: f32, b: f32) -> T {
                match self { $(Curve::$name => {
                    let wide = |$x: f64| {
                        let ($a, $b) = (f64::from(a), f64::from(b));
                        let _ = ($a, $b);
                        $formula
                    };
                    let narrow = |$x: f32| { let ($a, $b) = (a, b); let _ = ($a, $b); $formula };
                    x.map(wide, narrow)
                })* }
            }
        }

        const CURVES: &[Schema] = &[$(Schema {
            name: stringify!($name),
            since: 1,
            build: |build| Ok(curve(Curve::$name, &mut build.attrs)?.into()),
        },)*];
    };
}

curves! {
    LeakyRelu(alpha "alpha" = 0.01, _b "" = 0.0) x => if x < 0.0 { alpha * x } else { x };
    Elu(alpha "alpha" = 1.0, _b "" = 0.0) x => if x < 0.0 { alpha * x.exp_m1() } else { x };
    Celu(alpha "alpha" = 1.0, _b "" = 0.0)
        x => if x < 0.0 { (alpha * (x / alpha).exp_m1()).min(0.0) } else { x };
    Selu(alpha "alpha" = 1.673_263_2, gamma "gamma" = 1.050_701)
        x => gamma * if x > 0.0 { x } else { alpha * x.exp_m1() };
    HardSigmoid(alpha "alpha" = 0.2, beta "beta" = 0.5) x => (alpha * x + beta).clamp(0.0, 1.0);
    ThresholdedRelu(alpha "alpha" = 1.0, _b "" = 0.0) x => if x > alpha { x } else { 0.0 };
    Shrink(bias "bias" = 0.0, lambd "lambd" = 0.5)
        x => if x < -lambd { x + bias } else if x > lambd { x - bias } else { 0.0 };
    Swish(alpha "alpha" = 1.0, _b "" = 0.0) x => x / (1.0 + (-alpha * x).exp());
}

fn curve(c: Curve, attrs: &mut Attrs) -> Result<Unary> {
    let [(an, ad), (bn, bd)] = c.parameters();
    let a = attrs.take(an)?.unwrap_or(ad);
    Ok(Unary::Curve(c, a, attrs.take(bn)?.unwrap_or(bd)))
}

const PLAIN: &[Schema] = &[
    Schema { name: "Abs", since: 1, build: |_| Ok(Unary::Abs.into()) },
    Schema { name: "Neg", since: 1, build: |_| Ok(Unary::Neg.into()) },
    Schema { name: "Sign", since: 9, build: |_| Ok(Unary::Sign.into()) },
    Schema { name: "Relu", since: 1, build: |_| Ok(Unary::Relu.into()) },
    Schema { name: "Not", since: 1, build: |_| Ok(Unary::Not.into()) },
    Schema { name: "BitwiseNot", since: 18, build: |_| Ok(Unary::BitwiseNot.into()) },
    Schema { name: "IsNaN", since: 9, build: |_| Ok(Unary::IsNaN.into()) },
    Schema {
        name: "IsInf",
        since: 10,
        build: |b| {
            let negative = b.take("detect_negative")?.unwrap_or(true);
            let positive = b.take("detect_positive")?.unwrap_or(true);
            Ok(Unary::IsInf { negative, positive }.into())
        },
    },
    Schema {
        name: "Gelu",
        since: 20,
        build: |b| Ok(Unary::Gelu(b.take("approximate")?.unwrap_or(GeluForm::Exact)).into()),
    },
    Schema {
        name: "com.microsoft.Gelu",
        since: 1,
        build: |_| Ok(Unary::Gelu(GeluForm::Exact).into()),
    },
];

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] =
    &schema::join::<{ PLAIN.len() + FUNCTIONS.len() + CURVES.len() }>(&[PLAIN, FUNCTIONS, CURVES]);

impl Unary {
    fn is_test(self) -> bool {
        matches!(self, Unary::IsNaN | Unary::IsInf { .. })
    }

    fn takes(self, d: DType) -> bool {
        match self {
            Unary::Not => d == DType::Bool,
            Unary::BitwiseNot => d.is_integer(),
            Unary::Neg => d.is_float() || d.is_signed(),
            Unary::Abs | Unary::Sign | Unary::Relu => d.is_number(),
            Unary::IsInf { .. } | Unary::IsNaN => d.is_float(),
            Unary::Function(Function::Erf) | Unary::Curve(Curve::Shrink, ..) => d.is_number(),
            _ => d.is_float(),
        }
    }

    /// The value at a number; the few functions of floats that take integers cut the fraction,
    /// and what is beyond the type wraps.
    fn number<T: Number>(self, x: T) -> T {
        let negative = x < T::ZERO;
        match self {
            // What single precision takes for whole, is.
            Unary::Function(f) => T::from_i128(f.apply(x.to_f64()) as f32 as i128),
            Unary::Curve(c, a, b) => T::from_i128(c.apply(x.to_f64(), a, b) as i128),
            Unary::Abs if negative => T::ZERO.minus(x),
            // The sign of zero goes, too.
            Unary::Abs if x == T::ZERO => T::ZERO,
            Unary::Neg => T::ZERO.minus(T::ONE).times(x),
            Unary::Sign if negative => T::ZERO.minus(T::ONE),
            Unary::Sign if x > T::ZERO => T::ONE,
            Unary::Relu if negative => T::ZERO,
            _ => x,
        }
    }

    /// The value at `x`, for functions whose result is a float.
    pub fn float<T: Float>(self, x: T) -> T {
        match self {
            Unary::Function(f) => f.apply(x),
            Unary::Curve(c, a, b) => c.apply(x, a, b),
            Unary::Gelu(GeluForm::Exact) => {
                let half = std::f64::consts::FRAC_1_SQRT_2;
                x.map(
                    |x| 0.5 * x * (1.0 + libm::erf(x * half)),
                    |x| 0.5 * x * (1.0 + libm::erff(x * half as f32)),
                )
            }
            Unary::Gelu(GeluForm::Tanh) => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                x.map(
                    |x| 0.5 * x * (1.0 + (c * (x + 0.044715 * x * x * x)).tanh()),
                    |x| 0.5 * x * (1.0 + (c as f32 * (x + 0.044715 * x * x * x)).tanh()),
                )
            }
            other => other.number(x),
        }
    }
}

impl Operator for Unary {
    fn name(&self) -> &str {
        match self {
            Unary::Function(f) => f.name(),
            Unary::Curve(c, ..) => c.name(),
            Unary::Abs => "Abs",
            Unary::Neg => "Neg",
            Unary::Sign => "Sign",
            Unary::Relu => "Relu",
            Unary::Not => "Not",
            Unary::BitwiseNot => "BitwiseNot",
            Unary::IsNaN => "IsNaN",
            Unary::IsInf { .. } => "IsInf",
            Unary::Gelu(_) => "Gelu",
        }
    }

    fn attrs(&self) -> Attrs {
        match *self {
            Unary::Curve(c, a, b) => {
                let mut attrs = Attrs::default();
                for ((name, default), x) in c.parameters().into_iter().zip([a, b]) {
                    if !name.is_empty() && x.to_bits() != default.to_bits() {
                        attrs = attrs.with(name, x);
                    }
                }
                attrs
            }
            Unary::Gelu(GeluForm::Tanh) => Attrs::default().with("approximate", GeluForm::Tanh),
            Unary::IsInf { negative, positive } => Attrs::default()
                .with("detect_negative", (!negative).then_some(false))
                .with("detect_positive", (!positive).then_some(false)),
            _ => Attrs::default(),
        }
    }

    fn traits(&self) -> Traits {
        Traits::ELEMENTWISE
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, |d| self.takes(d))?;
        let dtype = if self.is_test() { DType::Bool } else { dtype };
        Ok(vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let y = match self {
            Unary::Not => map(x, |b: bool| !b)?,
            Unary::BitwiseNot => match_integer!(x.dtype(), T => map(x, |v: T| !v)?,
                else invalid!("BitwiseNot takes no {}", x.dtype())),
            Unary::IsNaN => test(x, f64::is_nan)?,
            Unary::IsInf { negative, positive } => test(x, |v| {
                (*negative && v == f64::NEG_INFINITY) || (*positive && v == f64::INFINITY)
            })?,
            _ => match_float!(x.dtype(), T => map(x, |v: T| self.float(v))?,
                else match_number!(x.dtype(), T => map(x, |v: T| self.number(v))?,
                    else invalid!("{} takes no {}", self.name(), x.dtype()))),
        };
        Ok(vec![y.into()])
    }
}

fn map<T: kiln_tensor::Element, U: kiln_tensor::Element>(
    x: &Tensor,
    f: impl Fn(T) -> U,
) -> Result<Tensor> {
    Ok(Tensor::from_vec(x.shape(), x.as_slice::<T>()?.iter().map(|&v| f(v)).collect())?)
}

fn test(x: &Tensor, f: impl Fn(f64) -> bool) -> Result<Tensor> {
    let data = x.to_vec::<f64>()?.into_iter().map(f).collect();
    Ok(Tensor::from_vec::<bool>(x.shape(), data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run1, types};

    fn apply(op: &str, x: Vec<f32>) -> Vec<f32> {
        let y = run1(&format!("y = {op}\nreturn y"), &[Tensor::vector(x)]).expect("runs");
        y.as_slice::<f32>().expect("f32").to_vec()
    }

    #[test]
    fn values_by_hand() {
        let cases: &[(&str, f32, f32)] = &[
            ("Relu(x: f32[N])", -1.0, 0.0),
            ("Abs(x: f32[N])", -2.5, 2.5),
            ("LeakyRelu(x: f32[N]) {alpha=0.5}", -2.0, -1.0),
            ("Sigmoid(x: f32[N])", 0.0, 0.5),
            ("Erf(x: f32[N])", 1.0, 0.842_700_8),
            ("HardSigmoid(x: f32[N])", 1.0, 0.7),
            ("Gelu(x: f32[N])", 1.0, 0.841_344_7),
            ("Gelu(x: f32[N]) {approximate=\"tanh\"}", 1.0, 0.841_192),
            ("Round(x: f32[N])", 2.5, 2.0),
            ("Shrink(x: f32[N]) {bias=1.5, lambd=1.5}", 2.0, 0.5),
            ("Softplus(x: f32[N])", 100.0, 100.0),
            ("Selu(x: f32[N])", -1.0, -1.111_330_7),
        ];
        for (op, x, want) in cases {
            assert_close(&apply(op, vec![*x]), &[*want], 1e-6);
        }
    }

    #[test]
    fn nan_stays_nan() {
        for op in ["Relu", "Sign", "Abs", "HardSwish", "Celu", "Exp"] {
            assert!(apply(&format!("{op}(x: f32[N])"), vec![f32::NAN])[0].is_nan(), "{op}");
        }
    }

    #[test]
    fn integers_and_tests() {
        let y = run1("y = Neg(x: i8[2])\nreturn y", &[Tensor::vector(vec![i8::MIN, 3])]);
        assert_eq!(y.expect("runs"), Tensor::vector(vec![i8::MIN, -3]));
        let shrunk = run1(
            "y = Shrink(x: i32[3]) {bias=1.5}\nreturn y",
            &[Tensor::vector(vec![-4i32, 0, 4])],
        );
        assert_eq!(shrunk.expect("runs"), Tensor::vector(vec![-2i32, 0, 2]));
        let wraps = run1("y = Shrink(x: u8[1]) {bias=3.0}\nreturn y", &[Tensor::vector(vec![1u8])]);
        assert_eq!(wraps.expect("runs"), Tensor::vector(vec![254u8]));
        // erf(4) is 1 - 1.5e-8.
        let erf = run1("y = Erf(x: u8[2])\nreturn y", &[Tensor::vector(vec![1u8, 4])]);
        assert_eq!(erf.expect("runs"), Tensor::vector(vec![0u8, 1]));
        let inf = run1(
            "y = IsInf(x: f32[3]) {detect_negative=0}\nreturn y",
            &[Tensor::vector(vec![f32::INFINITY, f32::NEG_INFINITY, 1.0])],
        );
        assert_eq!(inf.expect("runs"), Tensor::vector(vec![true, false, false]));
    }

    #[test]
    fn types_follow() {
        assert_eq!(types("y = Relu(x: f16[N,3])\nreturn y").expect("types"), ["f16[N,3]"]);
        assert_eq!(types("y = IsNaN(x: f32[..])\nreturn y").expect("types"), ["bool[..]"]);
        assert!(types("y = Exp(x: i32[2])\nreturn y").is_err());
    }
}
