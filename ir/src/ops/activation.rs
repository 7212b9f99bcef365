//! The activation that a fused operator ends with.

use kiln_tensor::{DType, Float, Tensor};

use crate::ops::real::narrow;
use crate::ops::unary::{Curve, Function, GeluForm, Unary};
use crate::schema::{self, NodeSpec};
use crate::{Attrs, Graph, Operator, Result, Value, invalid};

/// A function of one element, applied where the result is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// ONNX `Sigmoid`.
    Sigmoid,
    /// ONNX `Tanh`.
    Tanh,
    /// ONNX `HardSwish`.
    HardSwish,
    /// ONNX `Mish`.
    Mish,
    /// ONNX `Gelu` by erf.
    Gelu,
    /// ONNX `Gelu` by tanh.
    GeluTanh,
    /// ONNX `LeakyRelu`.
    LeakyRelu {
        /// The slope below 0.
        alpha: f32,
    },
    /// ONNX `Elu`.
    Elu {
        /// The factor below 0.
        alpha: f32,
    },
    /// ONNX `Swish`; SiLU where alpha is 1.
    Swish {
        /// The factor inside the sigmoid.
        alpha: f32,
    },
    /// ONNX `HardSigmoid`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// ONNX `Clip`.
    Clip {
        /// The least result.
        min: f32,
        /// The greatest result.
        max: f32,
    },
}

impl Activation {
    /// The ONNX operator; `GeluTanh` for the form of `Gelu` by tanh.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::HardSwish => "HardSwish",
            Self::Mish => "Mish",
            Self::Gelu => "Gelu",
            Self::GeluTanh => "GeluTanh",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Elu { .. } => "Elu",
            Self::Swish { .. } => "Swish",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Clip { .. } => "Clip",
        }
    }

    /// The parameters in the order of their declaration.
    pub fn params(self) -> Vec<f32> {
        match self {
            Self::LeakyRelu { alpha } | Self::Elu { alpha } | Self::Swish { alpha } => vec![alpha],
            Self::HardSigmoid { alpha, beta } => vec![alpha, beta],
            Self::Clip { min, max } => vec![min, max],
            _ => vec![],
        }
    }

    /// The activation of this name; missing parameters take ONNX's defaults.
    pub fn new(name: &str, params: &[f32]) -> Result<Self> {
        let p = |i: usize, default: f32| params.get(i).copied().unwrap_or(default);
        Ok(match name {
            "Relu" => Self::Relu,
            "Sigmoid" => Self::Sigmoid,
            "Tanh" => Self::Tanh,
            "HardSwish" => Self::HardSwish,
            "Mish" => Self::Mish,
            "Gelu" => Self::Gelu,
            "GeluTanh" => Self::GeluTanh,
            "LeakyRelu" => Self::LeakyRelu { alpha: p(0, 0.01) },
            "Elu" => Self::Elu { alpha: p(0, 1.0) },
            "Swish" => Self::Swish { alpha: p(0, 1.0) },
            "HardSigmoid" => Self::HardSigmoid { alpha: p(0, 0.2), beta: p(1, 0.5) },
            "Clip" => Self::Clip { min: p(0, f32::MIN), max: p(1, f32::MAX) },
            other => invalid!("`{other}` is no activation that an operator can end with"),
        })
    }

    /// The activation that an elementwise operator is, if it is one.
    pub fn of(op: Unary) -> Option<Self> {
        let (name, params) = match op {
            Unary::Gelu(GeluForm::Tanh) => ("GeluTanh", vec![]),
            Unary::Curve(_, a, b) => (op.name(), vec![a, b]),
            _ => (op.name(), vec![]),
        };
        Self::new(name, &params).ok()
    }

    /// Takes `activation` and `activation_params`, where they are there.
    pub fn take(attrs: &mut Attrs) -> Result<Option<Self>> {
        let name = attrs.take::<String>("activation")?.unwrap_or_default();
        let params: Vec<f32> = attrs.take("activation_params")?.unwrap_or_default();
        if name.is_empty() { Ok(None) } else { Self::new(&name, &params).map(Some) }
    }

    /// Adds `activation` and `activation_params`.
    pub fn put(self, attrs: Attrs) -> Attrs {
        let params = self.params();
        attrs
            .with("activation", self.name().to_owned())
            .with("activation_params", (!params.is_empty()).then_some(params))
    }

    /// The value at `x`.
    pub fn apply<T: Float>(self, x: T) -> T {
        match self {
            Self::Relu if x < T::ZERO => T::ZERO,
            Self::Relu => x,
            Self::Sigmoid => Function::Sigmoid.apply(x),
            Self::Tanh => Function::Tanh.apply(x),
            Self::HardSwish => Function::HardSwish.apply(x),
            Self::Mish => Function::Mish.apply(x),
            Self::Gelu => Unary::Gelu(GeluForm::Exact).float(x),
            Self::GeluTanh => Unary::Gelu(GeluForm::Tanh).float(x),
            Self::LeakyRelu { alpha } => Curve::LeakyRelu.apply(x, alpha, 0.0),
            Self::Elu { alpha } => Curve::Elu.apply(x, alpha, 0.0),
            Self::Swish { alpha } => Curve::Swish.apply(x, alpha, 0.0),
            Self::HardSigmoid { alpha, beta } => Curve::HardSigmoid.apply(x, alpha, beta),
            Self::Clip { min, max } => {
                let (min, max) = (T::from_f64(min.into()), T::from_f64(max.into()));
                let x = if x < min { min } else { x };
                if x > max { max } else { x }
            }
        }
    }

    /// Adds the activation as a standard operator on `x`, whose element type is `dtype`.
    pub fn add(self, g: &mut Graph, name: &str, dtype: DType, x: Value) -> Result<Value> {
        let unary = |g: &mut Graph, op: Unary| Ok(g.add(name, op, &[Some(x)])?.first());
        match self {
            Self::Relu => unary(g, Unary::Relu),
            Self::Sigmoid => unary(g, Unary::Function(Function::Sigmoid)),
            Self::Tanh => unary(g, Unary::Function(Function::Tanh)),
            Self::HardSwish => unary(g, Unary::Function(Function::HardSwish)),
            Self::Mish => unary(g, Unary::Function(Function::Mish)),
            Self::Gelu => unary(g, Unary::Gelu(GeluForm::Exact)),
            Self::GeluTanh => unary(g, Unary::Gelu(GeluForm::Tanh)),
            Self::LeakyRelu { alpha } => unary(g, Unary::Curve(Curve::LeakyRelu, alpha, 0.0)),
            Self::Elu { alpha } => unary(g, Unary::Curve(Curve::Elu, alpha, 0.0)),
            Self::Swish { alpha } => unary(g, Unary::Curve(Curve::Swish, alpha, 0.0)),
            Self::HardSigmoid { alpha, beta } => {
                unary(g, Unary::Curve(Curve::HardSigmoid, alpha, beta))
            }
            Self::Clip { min, max } => {
                let bound = |g: &mut Graph, x: f32| -> Result<Value> {
                    let t = match dtype {
                        DType::F64 => Tensor::scalar(f64::from(x)),
                        _ => narrow(dtype, &[], vec![x])?,
                    };
                    Ok(g.constant(&format!("{name}/const"), t))
                };
                let inputs = vec![Some(x), Some(bound(g, min)?), Some(bound(g, max)?)];
                let attrs = Attrs::default();
                let spec =
                    NodeSpec { op: "Clip", opset: i64::MAX, name, inputs, attrs, outputs: 1 };
                Ok(schema::add(g, spec)?[0])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_read_back() {
        let all = [
            Activation::Relu,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::HardSwish,
            Activation::Mish,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::LeakyRelu { alpha: 0.5 },
            Activation::Elu { alpha: 2.0 },
            Activation::Swish { alpha: 1.5 },
            Activation::HardSigmoid { alpha: 0.25, beta: 0.75 },
            Activation::Clip { min: -1.0, max: 6.0 },
        ];
        for a in all {
            let mut attrs = a.put(Attrs::default());
            assert_eq!(Activation::take(&mut attrs).expect("reads"), Some(a));
            assert!(attrs.is_empty());
        }
        assert!(Activation::new("Softmax", &[]).is_err());
        assert_eq!(Activation::take(&mut Attrs::default()).expect("none"), None);
    }

    #[test]
    fn values_by_hand() {
        let clip = Activation::Clip { min: 0.0, max: 6.0 };
        assert_eq!([clip.apply(-1f32), clip.apply(3.0), clip.apply(7.0)], [0.0, 3.0, 6.0]);
        assert!(clip.apply(f32::NAN).is_nan());
        assert_eq!(Activation::LeakyRelu { alpha: 0.5 }.apply(-2f64), -1.0);
        assert_eq!(Activation::HardSwish.apply(3f32), 3.0);
        assert!((Activation::Gelu.apply(1f64) - 0.841_344_746).abs() < 1e-9);
        assert!((Activation::GeluTanh.apply(1f64) - 0.841_191_991).abs() < 1e-9);
    }

    #[test]
    fn operators_that_are_activations() {
        let of = Activation::of;
        assert_eq!(of(Unary::Gelu(GeluForm::Tanh)), Some(Activation::GeluTanh));
        assert_eq!(of(Unary::Gelu(GeluForm::Exact)), Some(Activation::Gelu));
        let leaky = Unary::Curve(Curve::LeakyRelu, 0.5, 0.0);
        assert_eq!(of(leaky), Some(Activation::LeakyRelu { alpha: 0.5 }));
        assert_eq!(of(Unary::Neg), None);
    }
}
