//! What is known of a value before it exists.

use std::fmt;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, MapKeys, Tensor};

use crate::{Dim, Result, invalid};

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// A list of values of one type.
    Sequence(Box<Type>),
    /// A map of keys (an integer type or strings) to values.
    Map(DType, Box<Type>),
    /// A value that may be missing.
    Optional(Box<Type>),
}

/// Element type and, where it is known, shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The element type.
    pub dtype: DType,
    /// The lengths; `None` where even the rank is unknown.
    pub shape: Option<Vec<Dim>>,
}

impl TensorType {
    /// The shape as numbers, where all of it is known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::as_len).collect()
    }
}

impl Type {
    /// A tensor type; `None` is an unknown rank.
    pub fn tensor(dtype: DType, shape: Option<Vec<Dim>>) -> Self {
        Type::Tensor(TensorType { dtype, shape })
    }

    /// The type of an existing value.
    pub fn of(datum: &Datum) -> Self {
        let tensor = |t: &Tensor| {
            Type::tensor(t.dtype(), Some(t.shape().iter().map(|&d| d.into()).collect()))
        };
        match datum {
            Datum::Tensor(t) => tensor(t),
            Datum::Sequence(s) => Type::Sequence(Box::new(
                s.iter()
                    .map(Type::of)
                    .reduce(|a, b| a.join(&b))
                    .unwrap_or(Type::tensor(DType::F32, None)),
            )),
            Datum::Map(m) => {
                let key = match m.keys {
                    MapKeys::Int(_) => DType::I64,
                    MapKeys::String(_) => DType::String,
                };
                Type::Map(key, Box::new(Type::tensor(m.values.dtype(), Some(vec![]))))
            }
            Datum::Optional(o) => Type::Optional(Box::new(
                o.as_deref().map_or(Type::tensor(DType::F32, None), Type::of),
            )),
        }
    }

    /// The tensor type, or an error that names the kind found.
    pub fn as_tensor(&self) -> Result<&TensorType> {
        match self {
            Type::Tensor(t) => Ok(t),
            other => invalid!("expected a tensor, found {other}"),
        }
    }

    /// The rank of a tensor, where it is known.
    pub fn rank(&self) -> Option<usize> {
        match self {
            Type::Tensor(t) => t.shape.as_ref().map(Vec::len),
            _ => None,
        }
    }

    /// What holds of values of either type; shapes that differ become unknown.
    #[must_use]
    pub fn join(&self, other: &Type) -> Type {
        match (self, other) {
            (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype => {
                match (&a.shape, &b.shape) {
                    (Some(x), Some(y)) if x == y => self.clone(),
                    _ => Type::tensor(a.dtype, None),
                }
            }
            (Type::Sequence(a), Type::Sequence(b)) => Type::Sequence(Box::new(a.join(b))),
            (Type::Optional(a), Type::Optional(b)) => Type::Optional(Box::new(a.join(b))),
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Sequence(t) => write!(f, "seq({t})"),
            Type::Map(k, v) => write!(f, "map({k},{v})"),
            Type::Optional(t) => write!(f, "opt({t})"),
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        match &self.shape {
            None => write!(f, "..")?,
            Some(dims) => {
                for (i, d) in dims.iter().enumerate() {
                    write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
                }
            }
        }
        write!(f, "]")
    }
}

/// What is known of one output: its type and, for short integer vectors, its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The type.
    pub ty: Type,
    /// The elements of an i64 tensor of rank 0 or 1 as lengths: how shapes flow through
    /// `Shape`, `Gather`, `Concat` and arithmetic into `Reshape`.
    pub dims: Option<Arc<[Dim]>>,
}

impl Fact {
    /// Of a tensor nothing but the type is known.
    pub fn tensor(dtype: DType, shape: Option<Vec<Dim>>) -> Self {
        Type::tensor(dtype, shape).into()
    }

    /// A tensor of known shape.
    pub fn shaped(dtype: DType, shape: Vec<Dim>) -> Self {
        Self::tensor(dtype, Some(shape))
    }

    /// Replaces lengths that have grown beyond use by new symbols; `next` numbers them.
    pub(crate) fn simplify(&mut self, next: &mut u32) {
        if self.dims.as_ref().is_some_and(|dims| dims.iter().any(Dim::is_unwieldy)) {
            self.dims = None;
        }
        let mut ty = &mut self.ty;
        while let Type::Sequence(inner) | Type::Optional(inner) | Type::Map(_, inner) = ty {
            ty = inner;
        }
        let Type::Tensor(TensorType { shape: Some(shape), .. }) = ty else { return };
        for d in shape.iter_mut().filter(|d| d.is_unwieldy()) {
            *next += 1;
            *d = Dim::sym(&format!("?{next}"));
        }
    }

    /// Adds the elements as lengths.
    #[must_use]
    pub fn with_dims(mut self, dims: Option<Vec<Dim>>) -> Self {
        self.dims = dims.map(Into::into);
        self
    }
}

impl From<Type> for Fact {
    fn from(ty: Type) -> Self {
        Fact { ty, dims: None }
    }
}
