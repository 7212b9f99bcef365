//! One runtime value: a tensor, or what ONNX has beside tensors.

use crate::{Error, Result, Tensor};

/// What flows along one edge of a graph at run time.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// A dense tensor.
    Tensor(Tensor),
    /// A list of values of one type.
    Sequence(Vec<Datum>),
    /// Keys to values, in the order in which they were written.
    Map(Map),
    /// A value that may be missing.
    Optional(Option<Box<Datum>>),
}

/// A map from integers or strings to the elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The keys.
    pub keys: MapKeys,
    /// One value per key: a rank-1 tensor as long as the keys.
    pub values: Tensor,
}

/// The keys of a map.
#[derive(Clone, Debug, PartialEq)]
pub enum MapKeys {
    /// Integer keys of any width.
    Int(Vec<i64>),
    /// String keys.
    String(Vec<String>),
}

impl Map {
    /// A map; an error where keys and values differ in number.
    pub fn new(keys: MapKeys, values: Tensor) -> Result<Self> {
        let n = match &keys {
            MapKeys::Int(k) => k.len(),
            MapKeys::String(k) => k.len(),
        };
        if values.shape() == [n] {
            return Ok(Self { keys, values });
        }
        Err(Error::Length { shape: vec![n], want: n, got: values.len() })
    }
}

impl Datum {
    /// The word for this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Datum::Tensor(_) => "tensor",
            Datum::Sequence(_) => "sequence",
            Datum::Map(_) => "map",
            Datum::Optional(_) => "optional",
        }
    }

    /// The tensor, or an error that names what is there instead.
    pub fn as_tensor(&self) -> Result<&Tensor> {
        match self {
            Datum::Tensor(t) => Ok(t),
            other => Err(Error::Kind { want: "tensor", got: other.kind() }),
        }
    }

    /// The elements of a sequence, or an error that names what is there instead.
    pub fn as_sequence(&self) -> Result<&[Datum]> {
        match self {
            Datum::Sequence(s) => Ok(s),
            other => Err(Error::Kind { want: "sequence", got: other.kind() }),
        }
    }

    /// The map, or an error that names what is there instead.
    pub fn as_map(&self) -> Result<&Map> {
        match self {
            Datum::Map(m) => Ok(m),
            other => Err(Error::Kind { want: "map", got: other.kind() }),
        }
    }

    /// Bytes held, strings by their length.
    pub fn nbytes(&self) -> usize {
        match self {
            Datum::Tensor(t) => t.bytes().len() + t.strings().map_or(0, strings_len),
            Datum::Sequence(s) => s.iter().map(Datum::nbytes).sum(),
            Datum::Map(m) => m.values.bytes().len(),
            Datum::Optional(o) => o.as_deref().map_or(0, Datum::nbytes),
        }
    }
}

fn strings_len(s: &[String]) -> usize {
    s.iter().map(|s| s.len() + size_of::<String>()).sum()
}

impl From<Tensor> for Datum {
    fn from(t: Tensor) -> Self {
        Datum::Tensor(t)
    }
}
