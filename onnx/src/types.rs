//! Declared types: `TypeProto` into `Type`, and back.

use kiln_ir::{Dim, Error, Result, Type};
use kiln_tensor::DType;

use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{TensorShapeProto, TypeProto, type_proto};
use crate::tensor::{dtype_from_onnx, dtype_to_onnx};

/// The type that a proto declares for the value `name`; an error where it declares none.
///
/// A length that is neither a number nor a symbol becomes the symbol `name_axis`.
pub fn type_from_proto(proto: &TypeProto, name: &str) -> Result<Type> {
    use type_proto::Value as V;
    let inner = |t: &Option<Box<TypeProto>>| match t {
        Some(t) => type_from_proto(t, name).map(Box::new),
        None => Err(Error::invalid(format!("the declared type of `{name}` has no element type"))),
    };
    match &proto.value {
        Some(V::TensorType(t)) => {
            let shape = t.shape.as_ref().map(|s| shape_from_proto(s, name));
            Ok(Type::tensor(dtype(t.elem_type, name)?, shape))
        }
        Some(V::SparseTensorType(t)) => {
            let shape = t.shape.as_ref().map(|s| shape_from_proto(s, name));
            Ok(Type::tensor(dtype(t.elem_type, name)?, shape))
        }
        Some(V::SequenceType(s)) => Ok(Type::Sequence(inner(&s.elem_type)?)),
        Some(V::OptionalType(o)) => Ok(Type::Optional(inner(&o.elem_type)?)),
        Some(V::MapType(m)) => Ok(Type::Map(dtype(m.key_type, name)?, inner(&m.value_type)?)),
        Some(V::OpaqueType(_)) => {
            Err(Error::unsupported(format!("`{name}` has an opaque type, which kiln cannot hold")))
        }
        None => Err(Error::invalid(format!("`{name}` has no declared type"))),
    }
}

fn dtype(number: Option<i32>, name: &str) -> Result<DType> {
    dtype_from_onnx(number.unwrap_or(0))
        .map_err(|e| Error::invalid(format!("the declared type of `{name}`: {}", e.message())))
}

fn shape_from_proto(shape: &TensorShapeProto, name: &str) -> Vec<Dim> {
    let axis = |(i, d): (usize, &Dimension)| match &d.value {
        Some(dimension::Value::DimValue(n)) if *n >= 0 => Dim::from(*n),
        Some(dimension::Value::DimParam(p)) if !p.is_empty() => match p.parse::<i64>() {
            Ok(n) if n >= 0 => Dim::from(n),
            _ => Dim::sym(&symbol(p)),
        },
        _ => Dim::sym(&format!("{}_{i}", symbol(name))),
    };
    shape.dim.iter().enumerate().map(axis).collect()
}

/// A name that the text of a length can hold.
pub(crate) fn symbol(name: &str) -> String {
    let mut out: String =
        name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if out == "floor" || out == "max" {
        out.push('_');
    }
    out
}

/// The proto of a type. Lengths that are no number are written as their text.
pub fn type_to_proto(ty: &Type) -> TypeProto {
    use type_proto::Value as V;
    let value = match ty {
        Type::Tensor(t) => V::TensorType(type_proto::Tensor {
            elem_type: Some(dtype_to_onnx(t.dtype)),
            shape: t.shape.as_deref().map(shape_to_proto),
        }),
        Type::Sequence(t) => V::SequenceType(Box::new(type_proto::Sequence {
            elem_type: Some(Box::new(type_to_proto(t))),
        })),
        Type::Optional(t) => V::OptionalType(Box::new(type_proto::Optional {
            elem_type: Some(Box::new(type_to_proto(t))),
        })),
        Type::Map(k, v) => V::MapType(Box::new(type_proto::Map {
            key_type: Some(dtype_to_onnx(*k)),
            value_type: Some(Box::new(type_to_proto(v))),
        })),
    };
    TypeProto { denotation: None, value: Some(value) }
}

fn shape_to_proto(dims: &[Dim]) -> TensorShapeProto {
    let dim = dims.iter().map(|d| {
        let value = match d.as_const() {
            Some(n) => dimension::Value::DimValue(n),
            None => dimension::Value::DimParam(d.to_string()),
        };
        Dimension { denotation: None, value: Some(value) }
    });
    TensorShapeProto { dim: dim.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::text::parse_type;

    #[test]
    fn types_survive_the_proto() {
        for text in ["f32[N,3]", "seq(map(i64,f32[]))", "opt(str[..])", "bool[]"] {
            let ty = parse_type(text).expect("a type");
            assert_eq!(type_from_proto(&type_to_proto(&ty), "x").expect("back"), ty);
        }
    }

    #[test]
    fn odd_symbols_become_names() {
        assert_eq!(symbol("batch size"), "batch_size");
        assert_eq!(symbol("2N"), "_2N");
        assert_eq!(symbol("max"), "max_");
    }
}
