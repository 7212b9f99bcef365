//! Attributes: `AttributeProto` into `Attr`, and back. Bodies are left to the importer.

use bytes::Bytes;
use kiln_ir::{Attr, Error, Limits, Result};

use crate::Resolver;
use crate::proto::AttributeProto;
use crate::proto::attribute_proto::AttributeType as T;
use crate::tensor::{sparse_from_proto, tensor_from_proto, tensor_to_proto};
use crate::types::type_from_proto;

/// The kind of an attribute; files older than IR version 2 do not say it.
pub(crate) fn kind(a: &AttributeProto) -> T {
    match a.r#type.map(T::try_from) {
        Some(Ok(t)) if t != T::Undefined => t,
        _ => guessed(a),
    }
}

fn guessed(a: &AttributeProto) -> T {
    let found = [
        (a.f.is_some(), T::Float),
        (a.i.is_some(), T::Int),
        (a.s.is_some(), T::String),
        (a.t.is_some(), T::Tensor),
        (a.g.is_some(), T::Graph),
        (!a.floats.is_empty(), T::Floats),
        (!a.ints.is_empty(), T::Ints),
        (!a.strings.is_empty(), T::Strings),
        (!a.tensors.is_empty(), T::Tensors),
    ];
    found.iter().find(|(there, _)| *there).map_or(T::Ints, |(_, t)| *t)
}

/// The value of an attribute that holds no body.
pub(crate) fn attr_from_proto(
    a: &AttributeProto,
    resolver: Option<&Resolver>,
    limits: &Limits,
) -> Result<Attr> {
    let name = a.name.as_deref().unwrap_or_default();
    let missing = || Error::invalid(format!("attribute `{name}` has no value of its own type"));
    match kind(a) {
        T::Float => Ok(Attr::Float(a.f.unwrap_or_default())),
        T::Int => Ok(Attr::Int(a.i.unwrap_or_default())),
        T::String => Ok(Attr::String(text(a.s.as_ref().unwrap_or(&Bytes::new()), name)?)),
        T::Tensor => {
            tensor_from_proto(a.t.as_ref().ok_or_else(missing)?, resolver, limits).map(Attr::Tensor)
        }
        T::Floats => Ok(Attr::Floats(a.floats.clone())),
        T::Ints => Ok(Attr::Ints(a.ints.clone())),
        T::Strings => {
            Ok(Attr::Strings(a.strings.iter().map(|s| text(s, name)).collect::<Result<_>>()?))
        }
        T::Tensors => {
            let read = |t| tensor_from_proto(t, resolver, limits);
            Ok(Attr::Tensors(a.tensors.iter().map(read).collect::<Result<_>>()?))
        }
        T::SparseTensor => {
            let sparse = a.sparse_tensor.as_ref().ok_or_else(missing)?;
            sparse_from_proto(sparse, resolver, limits).map(Attr::Tensor)
        }
        // A type travels as its text, which `text::parse_type` reads.
        T::TypeProto => {
            let ty = type_from_proto(a.tp.as_ref().ok_or_else(missing)?, name)?;
            Ok(Attr::String(ty.to_string()))
        }
        other => Err(Error::unsupported(format!("attribute `{name}` is of kind {other:?}"))),
    }
}

fn text(bytes: &Bytes, name: &str) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::invalid(format!("attribute `{name}` is not UTF-8 text")))
}

/// The proto of an attribute; `None` for a body, which the exporter writes itself.
pub(crate) fn attr_to_proto(name: &str, attr: &Attr) -> Option<AttributeProto> {
    let mut p = AttributeProto { name: Some(name.to_owned()), ..Default::default() };
    let kind = match attr {
        Attr::Int(x) => {
            p.i = Some(*x);
            T::Int
        }
        Attr::Float(x) => {
            p.f = Some(*x);
            T::Float
        }
        Attr::String(s) => {
            p.s = Some(s.clone().into());
            T::String
        }
        Attr::Tensor(t) => {
            p.t = Some(tensor_to_proto(t, "").into());
            T::Tensor
        }
        Attr::Ints(v) => {
            p.ints.clone_from(v);
            T::Ints
        }
        Attr::Floats(v) => {
            p.floats.clone_from(v);
            T::Floats
        }
        Attr::Strings(v) => {
            p.strings = v.iter().map(|s| s.clone().into()).collect();
            T::Strings
        }
        Attr::Tensors(v) => {
            p.tensors = v.iter().map(|t| tensor_to_proto(t, "")).collect();
            T::Tensors
        }
        Attr::Graph(_) => return None,
    };
    p.r#type = Some(kind as i32);
    Some(p)
}
