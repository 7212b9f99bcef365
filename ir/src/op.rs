//! What every operator says of itself, and the closed enum of operator families.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use kiln_tensor::Datum;

use crate::eval::Context;
use crate::{Attrs, Fact, Infer, Result};

/// The whole contract of an operator.
///
/// An operator is an ONNX operator in its newest form: it knows no opset. The number of its
/// outputs follows from its attributes and the number of its inputs; optional outputs are
/// always made.
pub trait Operator: Debug + Send + Sync {
    /// The ONNX name, led by the domain where that is not `ai.onnx`: `Relu`, `ai.onnx.ml.Scaler`.
    fn name(&self) -> &str;

    /// The attributes, defaults left out; the schema row of `name` reads them back.
    fn attrs(&self) -> Attrs;

    /// What rewrites may rely on.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// How many inputs are needed, and how many are taken.
    fn arity(&self) -> RangeInclusive<usize>;

    /// The facts about the outputs; symbols are welcome, wrong inputs are errors.
    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>>;

    /// The definition: slow, obvious, correct. Kernels are tested against it.
    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>>;
}

/// What rewrites may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// The first two inputs may be swapped.
    pub commutative: bool,
    /// Each output element depends on the input elements at its own (broadcast) place only.
    pub elementwise: bool,
    /// Two runs may differ: not folded, not merged.
    pub random: bool,
    /// How many outputs at the end ONNX lets a node leave unnamed.
    pub optional_outputs: usize,
}

impl Traits {
    const NONE: Traits =
        Traits { commutative: false, elementwise: false, random: false, optional_outputs: 0 };
    /// Elementwise, and nothing else.
    pub const ELEMENTWISE: Traits = Traits { elementwise: true, ..Self::NONE };
    /// Random, and nothing else.
    pub const RANDOM: Traits = Traits { random: true, ..Self::NONE };

    /// With `n` optional outputs, and nothing else.
    pub const fn optional(n: usize) -> Traits {
        Traits { optional_outputs: n, ..Self::NONE }
    }
}

/// Makes the enum of families, its conversions, its dispatch and the list of schema tables.
macro_rules! families {
    ($($module:ident: $($family:ident),*;)*) => {
        /// An operator: one of kiln's families, or one that the user brings.
        #[derive(Clone, Debug)]
        pub enum Op {
            $($(
                #[doc = concat!("See [`", stringify!($module), "::", stringify!($family), "`].")]
                $family($module::$family),
            )*)*
            /// An operator that the user brings.
            Custom(Arc<dyn Operator>),
        }

        $($(impl From<$module::$family> for Op {
            fn from(op: $module::$family) -> Op {
                Op::$family(op)
            }
        })*)*

        impl Op {
            pub(crate) fn operator(&self) -> &dyn Operator {
                match self {
                    $($(Op::$family(op) => op,)*)*
                    Op::Custom(op) => op.as_ref(),
                }
            }
        }

        /// The schema rows of every family, with the name of its file.
        pub(crate) const TABLES: &[(&str, &[crate::Schema])] =
            &[$((stringify!($module), $module::SCHEMAS),)*];
    };
}
pub(crate) use families;

pub use crate::ops::Op;

impl Operator for Op {
    fn name(&self) -> &str {
        self.operator().name()
    }
    fn attrs(&self) -> Attrs {
        self.operator().attrs()
    }
    fn traits(&self) -> Traits {
        self.operator().traits()
    }
    fn arity(&self) -> RangeInclusive<usize> {
        self.operator().arity()
    }
    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        self.operator().infer(cx)
    }
    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        self.operator().eval(cx, inputs)
    }
}

impl PartialEq for Op {
    /// The same operator with the same attributes.
    fn eq(&self, other: &Self) -> bool {
        // The attributes of trees are long, and made anew to be compared.
        if let (Op::TreeEnsemble(a), Op::TreeEnsemble(b)) = (self, other)
            && a.differs(b)
        {
            return false;
        }
        self.name() == other.name() && self.attrs() == other.attrs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stay_small() {
        assert!(size_of::<Op>() <= 64, "{} bytes: box the big attributes", size_of::<Op>());
    }
}
