//! The activations of recurrent cells, by the names and parameters of their attributes.

use kiln_tensor::Float;

use crate::ops::unary::{Curve, Function};
use crate::{Attrs, Result, invalid};

/// An activation of a cell with its parameters; those that it does not take are 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    /// The formula.
    pub shape: Shape,
    /// The first parameter.
    pub alpha: f32,
    /// The second parameter.
    pub beta: f32,
}

macro_rules! shapes {
    ($($name:ident($alpha:expr, $beta:expr) $doc:literal;)*) => {
        /// The formula of an activation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Shape { $(#[doc = $doc] $name,)* }

        impl Shape {
            fn name(self) -> &'static str {
                match self { $(Shape::$name => stringify!($name),)* }
            }

            /// The shape of this name; letters of either case are the same.
            fn new(name: &str) -> Result<Self> {
                $(if name.eq_ignore_ascii_case(stringify!($name)) {
                    return Ok(Shape::$name);
                })*
                invalid!("`{name}` is none of {}", [$(stringify!($name)),*].join(", "))
            }

            /// The defaults of alpha and beta; `None` where the formula has no such parameter.
            fn defaults(self) -> (Option<f32>, Option<f32>) {
                match self { $(Shape::$name => ($alpha, $beta),)* }
            }
        }
    };
}

shapes! {
    Sigmoid(None, None) "`1 / (1 + exp(-x))`.";
    Tanh(None, None) "`tanh(x)`.";
    Relu(None, None) "`max(x, 0)`.";
    Affine(Some(1.0), Some(0.0)) "`alpha * x + beta`.";
    LeakyRelu(Some(0.01), None) "`x`, or `alpha * x` below 0.";
    ThresholdedRelu(Some(1.0), None) "`x`, or 0 below alpha.";
    ScaledTanh(Some(1.0), Some(1.0)) "`alpha * tanh(beta * x)`.";
    HardSigmoid(Some(0.2), Some(0.5)) "`alpha * x + beta` between 0 and 1.";
    Elu(Some(1.0), None) "`x`, or `alpha * (exp(x) - 1)` below 0.";
    Softsign(None, None) "`x / (1 + |x|)`.";
    Softplus(None, None) "`log(1 + exp(x))`.";
}

impl Activation {
    /// The activation with its default parameters.
    pub fn new(shape: Shape) -> Self {
        let (alpha, beta) = shape.defaults();
        Self { shape, alpha: alpha.unwrap_or(0.0), beta: beta.unwrap_or(0.0) }
    }

    /// The value at `x`.
    pub fn apply<T: Float>(self, x: T) -> T {
        let (alpha, beta) = (self.alpha, self.beta);
        match self.shape {
            Shape::Sigmoid => Function::Sigmoid.apply(x),
            Shape::Tanh => Function::Tanh.apply(x),
            Shape::Softsign => Function::Softsign.apply(x),
            Shape::Softplus => Function::Softplus.apply(x),
            Shape::LeakyRelu => Curve::LeakyRelu.apply(x, alpha, beta),
            Shape::Elu => Curve::Elu.apply(x, alpha, beta),
            Shape::HardSigmoid => Curve::HardSigmoid.apply(x, alpha, beta),
            Shape::Relu if x < T::ZERO => T::ZERO,
            Shape::ThresholdedRelu if x < T::from_f64(alpha.into()) => T::ZERO,
            Shape::Relu | Shape::ThresholdedRelu => x,
            Shape::Affine => {
                x.map(|x| f64::from(alpha) * x + f64::from(beta), |x| alpha * x + beta)
            }
            Shape::ScaledTanh => x.map(
                |x| f64::from(alpha) * (f64::from(beta) * x).tanh(),
                |x| alpha * (beta * x).tanh(),
            ),
        }
    }
}

/// Takes `activations`, `activation_alpha` and `activation_beta`, whose parameters go to the
/// activations that have one, in order; `defaults` stand for each direction where none are named.
pub(super) fn take(
    attrs: &mut Attrs,
    defaults: &[Shape],
    directions: usize,
) -> Result<Vec<Activation>> {
    let names: Vec<String> = attrs.take("activations")?.unwrap_or_default();
    let mut alpha = attrs.take::<Vec<f32>>("activation_alpha")?.unwrap_or_default().into_iter();
    let mut beta = attrs.take::<Vec<f32>>("activation_beta")?.unwrap_or_default().into_iter();
    let shapes = match names.is_empty() {
        true => defaults.repeat(directions),
        false => names.iter().map(|n| Shape::new(n)).collect::<Result<_>>()?,
    };
    let want = defaults.len() * directions;
    if shapes.len() != want {
        invalid!("{} activations are named, the cell has {want}", shapes.len());
    }
    let with = |shape: Shape| {
        let (a, b) = shape.defaults();
        Activation {
            shape,
            alpha: a.map_or(0.0, |a| alpha.next().unwrap_or(a)),
            beta: b.map_or(0.0, |b| beta.next().unwrap_or(b)),
        }
    };
    Ok(shapes.into_iter().map(with).collect())
}

/// Adds what [`take`] reads, where it differs from the defaults.
pub(super) fn put(attrs: Attrs, activations: &[Activation], defaults: &[Shape]) -> Attrs {
    let plain = defaults.iter().cycle().map(|&s| Activation::new(s));
    if plain.zip(activations).all(|(p, a)| p == *a) {
        return attrs;
    }
    let names: Vec<String> = activations.iter().map(|a| a.shape.name().to_owned()).collect();
    let of = |has: fn(Shape) -> bool, value: fn(&Activation) -> f32| {
        let v: Vec<f32> = activations.iter().filter(|a| has(a.shape)).map(value).collect();
        (!v.is_empty()).then_some(v)
    };
    attrs
        .with("activations", names)
        .with("activation_alpha", of(|s| s.defaults().0.is_some(), |a| a.alpha))
        .with("activation_beta", of(|s| s.defaults().1.is_some(), |a| a.beta))
}
