//! Runtime values <-> the `.pb` files that hold inputs and outputs.
//!
//! A file does not say which message it is, so the declared type of the input does.

use bytes::Bytes;
use kiln_ir::{Error, Limits, Result};
use kiln_tensor::{DType, Datum, Map, MapKeys, Tensor};
use prost::Message;

use crate::decode::briefly;
use crate::proto::sequence_proto::DataType as Held;
use crate::proto::type_proto::Value;
use crate::proto::{
    MapProto, OptionalProto, SequenceProto, SparseTensorProto, TensorProto, TypeProto,
};
use crate::tensor::{
    dtype_from_onnx, dtype_to_onnx, sparse_from_proto, tensor_from_proto, tensor_to_proto,
};
use crate::weigh::{self, Kind};

/// The value in `bytes`, a message of the kind that `declared` says. Element types and shapes are
/// those of the file; sparse tensors become dense.
///
/// # Errors
/// *invalid* if the bytes are no such message, *limit* as [`tensor_from_proto`], *unsupported* for
/// maps whose values are not single elements.
pub fn datum_from_proto(bytes: Bytes, declared: &TypeProto, limits: &Limits) -> Result<Datum> {
    let reader = Reader { limits };
    match held(declared)? {
        Held::Undefined => Err(Error::invalid("the declared type is undefined")),
        Held::Tensor => {
            let value = reader.tensor(&message(bytes, Kind::Tensor)?)?;
            bits_of_bfloats(value, declared)
        }
        Held::SparseTensor => reader.sparse(&message(bytes, Kind::Sparse)?),
        Held::Sequence => reader.sequence(&message(bytes, Kind::Sequence)?, declared),
        Held::Map => reader.map(&message(bytes, Kind::Map)?, declared),
        Held::Optional => reader.optional(&message(bytes, Kind::Optional)?, declared),
    }
}

/// Old files hold the bits of bfloat16 numbers as unsigned integers.
fn bits_of_bfloats(value: Datum, declared: &TypeProto) -> Result<Datum> {
    let wanted = matches!(&declared.value, Some(Value::TensorType(t))
        if t.elem_type.is_some_and(|e| dtype_from_onnx(e).is_ok_and(|d| d == DType::BF16)));
    match value {
        Datum::Tensor(t) if wanted && t.dtype() == DType::U16 => {
            let bytes = Bytes::copy_from_slice(t.bytes());
            Ok(Tensor::from_bytes(DType::BF16, t.shape(), bytes)?.into())
        }
        other => Ok(other),
    }
}

fn message<M: Message + Default>(bytes: Bytes, kind: Kind) -> Result<M> {
    weigh::check(&bytes, kind)?;
    M::decode(bytes).map_err(|e| {
        Error::invalid(format!("the file is no {kind:?}Proto: {}", briefly(&e.to_string())))
    })
}

/// The message that a value of this type is written as.
fn held(declared: &TypeProto) -> Result<Held> {
    Ok(match &declared.value {
        None => Held::Undefined,
        Some(Value::TensorType(_)) => Held::Tensor,
        Some(Value::SparseTensorType(_)) => Held::SparseTensor,
        Some(Value::SequenceType(_)) => Held::Sequence,
        Some(Value::MapType(_)) => Held::Map,
        Some(Value::OptionalType(_)) => Held::Optional,
        Some(Value::OpaqueType(_)) => {
            return Err(Error::unsupported("values of opaque type have no file format"));
        }
    })
}

/// The type of what a sequence, an optional or a map is declared to hold.
fn inner(declared: &TypeProto) -> Result<&TypeProto> {
    let inner = match &declared.value {
        Some(Value::SequenceType(t)) => t.elem_type.as_deref(),
        Some(Value::OptionalType(t)) => t.elem_type.as_deref(),
        Some(Value::MapType(t)) => t.value_type.as_deref(),
        _ => None,
    };
    inner.ok_or_else(|| Error::invalid("the declared type does not say what its values hold"))
}

struct Reader<'a> {
    limits: &'a Limits,
}

impl Reader<'_> {
    fn tensor(&self, proto: &TensorProto) -> Result<Datum> {
        tensor_from_proto(proto, None, self.limits).map(Datum::Tensor)
    }

    fn sparse(&self, proto: &SparseTensorProto) -> Result<Datum> {
        sparse_from_proto(proto, None, self.limits).map(Datum::Tensor)
    }

    fn sequence(&self, proto: &SequenceProto, declared: &TypeProto) -> Result<Datum> {
        let inner = inner(declared)?;
        let all = match checked_held(proto.elem_type(), inner)? {
            Held::Undefined if is_empty(proto) => Ok(vec![]),
            Held::Undefined => Err(Error::invalid("a sequence does not say what it holds")),
            Held::Tensor => proto.tensor_values.iter().map(|v| self.tensor(v)).collect(),
            Held::SparseTensor => {
                proto.sparse_tensor_values.iter().map(|v| self.sparse(v)).collect()
            }
            Held::Sequence => {
                proto.sequence_values.iter().map(|v| self.sequence(v, inner)).collect()
            }
            Held::Map => proto.map_values.iter().map(|v| self.map(v, inner)).collect(),
            Held::Optional => {
                proto.optional_values.iter().map(|v| self.optional(v, inner)).collect()
            }
        };
        all.map(Datum::Sequence)
    }

    fn optional(&self, proto: &OptionalProto, declared: &TypeProto) -> Result<Datum> {
        let inner = inner(declared)?;
        let value = match checked_held(proto.elem_type(), inner)? {
            Held::Undefined => None,
            Held::Tensor => proto.tensor_value.as_ref().map(|v| self.tensor(v)),
            Held::SparseTensor => proto.sparse_tensor_value.as_ref().map(|v| self.sparse(v)),
            Held::Sequence => proto.sequence_value.as_ref().map(|v| self.sequence(v, inner)),
            Held::Map => proto.map_value.as_ref().map(|v| self.map(v, inner)),
            Held::Optional => proto.optional_value.as_ref().map(|v| self.optional(v, inner)),
        };
        Ok(Datum::Optional(value.transpose()?.map(Box::new)))
    }

    fn map(&self, proto: &MapProto, declared: &TypeProto) -> Result<Datum> {
        let inner = inner(declared)?;
        let empty = SequenceProto::default();
        let values = proto.values.as_ref().unwrap_or(&empty);
        if !matches!(checked_held(values.elem_type(), inner)?, Held::Tensor | Held::Undefined) {
            return Err(Error::unsupported("maps to other values than tensors"));
        }
        let values = values.tensor_values.iter();
        let values = values.map(|v| tensor_from_proto(v, None, self.limits));
        let values = stack(&values.collect::<Result<Vec<_>>>()?, inner)?;
        Ok(Datum::Map(Map::new(keys(proto)?, values)?))
    }
}

/// The kind that a sequence or an optional says it holds, which must be the declared one.
fn checked_held(number: i32, declared: &TypeProto) -> Result<Held> {
    let found = Held::try_from(number)
        .map_err(|_| Error::invalid(format!("{number} is no ONNX value type")))?;
    let want = held(declared)?;
    if found == Held::Undefined || found == want {
        return Ok(found);
    }
    let (want, found) = (want.as_str_name(), found.as_str_name());
    Err(Error::invalid(format!("expected values of type {want}, the file holds {found}")))
}

fn is_empty(proto: &SequenceProto) -> bool {
    proto.tensor_values.is_empty()
        && proto.sparse_tensor_values.is_empty()
        && proto.sequence_values.is_empty()
        && proto.map_values.is_empty()
        && proto.optional_values.is_empty()
}

fn keys(proto: &MapProto) -> Result<MapKeys> {
    let dtype = dtype_from_onnx(proto.key_type())?;
    if dtype.is_integer() && dtype.bits() >= 8 {
        return Ok(MapKeys::Int(proto.keys.clone()));
    }
    if dtype != DType::String {
        return Err(Error::invalid(format!("map keys are {dtype}, not integers or strings")));
    }
    let text = |key: &Bytes| {
        String::from_utf8(key.to_vec())
            .map_err(|e| Error::invalid(format!("a map key is not UTF-8: {}", e.utf8_error())))
    };
    proto.string_keys.iter().map(text).collect::<Result<_>>().map(MapKeys::String)
}

/// Single elements as one tensor of rank 1, of the declared type if there is none.
fn stack(values: &[Tensor], declared: &TypeProto) -> Result<Tensor> {
    let Some(first) = values.first() else {
        let Some(Value::TensorType(tensor)) = &declared.value else {
            return Err(Error::unsupported("maps to other values than tensors"));
        };
        return Ok(Tensor::zeros(dtype_from_onnx(tensor.elem_type())?, &[0])?);
    };
    let dtype = first.dtype();
    if let Some(other) = values.iter().find(|v| v.dtype() != dtype) {
        let other = other.dtype();
        return Err(Error::invalid(format!("a map holds values of type {dtype} and {other}")));
    }
    if let Some(long) = values.iter().find(|v| v.len() != 1) {
        let shape = long.shape();
        return Err(Error::unsupported(format!(
            "a map holds a value of shape {shape:?}; only single elements are supported"
        )));
    }
    let shape = [values.len()];
    if dtype == DType::String {
        let all = values.iter().map(Tensor::strings).collect::<Result<Vec<_>, _>>()?;
        return Ok(Tensor::from_strings(&shape, all.concat())?);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes().iter().copied()).collect();
    Ok(Tensor::from_bytes(dtype, &shape, bytes.into())?)
}

/// The bytes of a `.pb` file that holds `datum` under `name`.
///
/// # Errors
/// *invalid* if a sequence holds values of different kinds.
pub fn datum_to_proto(datum: &Datum, name: &str) -> Result<Vec<u8>> {
    Ok(match datum {
        Datum::Tensor(tensor) => tensor_to_proto(tensor, name).encode_to_vec(),
        Datum::Sequence(all) => sequence(all, name)?.encode_to_vec(),
        Datum::Map(m) => map(m, name)?.encode_to_vec(),
        Datum::Optional(value) => optional(value.as_deref(), name)?.encode_to_vec(),
    })
}

fn some_name(name: &str) -> Option<String> {
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

fn sequence(all: &[Datum], name: &str) -> Result<SequenceProto> {
    let mut proto = SequenceProto { name: some_name(name), ..Default::default() };
    // An empty sequence holds tensors as far as anyone can tell.
    let kind = all.first().map_or(Held::Tensor, kind);
    proto.elem_type = Some(kind as i32);
    for datum in all {
        match datum {
            other if self::kind(other) != kind => {
                let (first, other) = (kind.as_str_name(), other.kind());
                return Err(Error::invalid(format!("a sequence holds {first} and {other}")));
            }
            Datum::Tensor(tensor) => proto.tensor_values.push(tensor_to_proto(tensor, "")),
            Datum::Sequence(all) => proto.sequence_values.push(sequence(all, "")?),
            Datum::Map(m) => proto.map_values.push(map(m, "")?),
            Datum::Optional(value) => {
                proto.optional_values.push(optional(value.as_deref(), "")?);
            }
        }
    }
    Ok(proto)
}

fn kind(datum: &Datum) -> Held {
    match datum {
        Datum::Tensor(_) => Held::Tensor,
        Datum::Sequence(_) => Held::Sequence,
        Datum::Map(_) => Held::Map,
        Datum::Optional(_) => Held::Optional,
    }
}

fn optional(value: Option<&Datum>, name: &str) -> Result<OptionalProto> {
    let kind = value.map_or(Held::Undefined, kind);
    let mut proto =
        OptionalProto { name: some_name(name), elem_type: Some(kind as i32), ..Default::default() };
    match value {
        None => (),
        Some(Datum::Tensor(tensor)) => {
            proto.tensor_value = Some(Box::new(tensor_to_proto(tensor, "")))
        }
        Some(Datum::Sequence(all)) => proto.sequence_value = Some(Box::new(sequence(all, "")?)),
        Some(Datum::Map(m)) => proto.map_value = Some(Box::new(map(m, "")?)),
        Some(Datum::Optional(value)) => {
            proto.optional_value = Some(Box::new(optional(value.as_deref(), "")?));
        }
    }
    Ok(proto)
}

fn map(map: &Map, name: &str) -> Result<MapProto> {
    let values = (0..map.values.len())
        .map(|i| Ok(Datum::Tensor(map.values.take(&[], std::iter::once(i))?)))
        .collect::<Result<Vec<_>>>()?;
    let mut proto = MapProto {
        name: some_name(name),
        values: Some(sequence(&values, "")?),
        ..Default::default()
    };
    let dtype = match &map.keys {
        MapKeys::Int(keys) => {
            proto.keys.clone_from(keys);
            DType::I64
        }
        MapKeys::String(keys) => {
            proto.string_keys = keys.iter().map(|k| Bytes::copy_from_slice(k.as_bytes())).collect();
            DType::String
        }
    };
    proto.key_type = Some(dtype_to_onnx(dtype));
    Ok(proto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensor_proto::DataType;
    use crate::proto::{TypeProto, type_proto};

    fn of(value: Value) -> TypeProto {
        TypeProto { value: Some(value), ..Default::default() }
    }

    fn tensor_type(data_type: DataType) -> TypeProto {
        let elem_type = Some(data_type as i32);
        of(Value::TensorType(type_proto::Tensor { elem_type, shape: None }))
    }

    fn sequence_of(inner: TypeProto) -> TypeProto {
        let elem_type = Some(Box::new(inner));
        of(Value::SequenceType(Box::new(type_proto::Sequence { elem_type })))
    }

    fn optional_of(inner: TypeProto) -> TypeProto {
        let elem_type = Some(Box::new(inner));
        of(Value::OptionalType(Box::new(type_proto::Optional { elem_type })))
    }

    fn map_of(key: DataType, inner: TypeProto) -> TypeProto {
        let (key_type, value_type) = (Some(key as i32), Some(Box::new(inner)));
        of(Value::MapType(Box::new(type_proto::Map { key_type, value_type })))
    }

    fn read(bytes: Vec<u8>, declared: &TypeProto) -> Result<Datum> {
        datum_from_proto(bytes.into(), declared, &Limits::default())
    }

    #[test]
    fn bits_declared_as_bfloats_are_bfloats() {
        let proto = TensorProto {
            dims: vec![2],
            data_type: Some(DataType::Uint16 as i32),
            int32_data: vec![0x3f80, 0xc000],
            ..Default::default()
        };
        let read = read(proto.encode_to_vec(), &tensor_type(DataType::Bfloat16)).expect("reads");
        let t = read.as_tensor().expect("a tensor");
        assert_eq!((t.dtype(), t.to_vec::<f32>().expect("floats")), (DType::BF16, vec![1.0, -2.0]));
    }

    fn message(result: Result<Datum>) -> String {
        result.expect_err("an error").to_string()
    }

    fn vector(data: Vec<f32>) -> Datum {
        Tensor::vector(data).into()
    }

    fn int_map() -> Datum {
        let values = Tensor::vector(vec![0.25f32, 0.75]);
        Datum::Map(Map::new(MapKeys::Int(vec![-1, 7]), values).expect("a map"))
    }

    fn text_map(texts: &[&str]) -> Datum {
        let texts: Vec<String> = texts.iter().map(|&t| t.into()).collect();
        let values = Tensor::from_strings(&[texts.len()], texts.clone()).expect("strings");
        Datum::Map(Map::new(MapKeys::String(texts), values).expect("a map"))
    }

    #[test]
    fn values_come_back_as_they_were_written() {
        let floats = || tensor_type(DataType::Float);
        let strings = || map_of(DataType::String, tensor_type(DataType::String));
        let ints = || map_of(DataType::Int64, floats());
        let some = |datum| Datum::Optional(Some(Box::new(datum)));
        let cases = [
            (vector(vec![1.0, 2.0]), floats()),
            (Datum::Sequence(vec![vector(vec![1.0]), vector(vec![])]), sequence_of(floats())),
            (Datum::Sequence(vec![]), sequence_of(floats())),
            (
                Datum::Sequence(vec![Datum::Sequence(vec![vector(vec![3.0])])]),
                sequence_of(sequence_of(floats())),
            ),
            (int_map(), ints()),
            (text_map(&["a", "", "é"]), strings()),
            (text_map(&[]), strings()),
            (Datum::Sequence(vec![int_map(), int_map()]), sequence_of(ints())),
            (some(vector(vec![4.0])), optional_of(floats())),
            (some(int_map()), optional_of(ints())),
            (some(Datum::Sequence(vec![])), optional_of(sequence_of(floats()))),
            (Datum::Optional(None), optional_of(floats())),
            (some(Datum::Optional(None)), optional_of(optional_of(floats()))),
            (
                Datum::Sequence(vec![Datum::Optional(None), some(vector(vec![5.0]))]),
                sequence_of(optional_of(floats())),
            ),
        ];
        for (datum, declared) in cases {
            let bytes = datum_to_proto(&datum, "x").expect("bytes");
            assert_eq!(read(bytes, &declared).expect("a value"), datum);
        }
    }

    #[test]
    fn names_are_written_once() {
        let bytes = datum_to_proto(&Datum::Sequence(vec![vector(vec![1.0])]), "y").expect("bytes");
        let proto = SequenceProto::decode(Bytes::from(bytes)).expect("a sequence");
        assert_eq!(proto.name(), "y");
        assert_eq!(proto.tensor_values[0].name, None);
    }

    #[test]
    fn other_values_than_declared_are_refused() {
        let floats = || tensor_type(DataType::Float);
        let sequence = datum_to_proto(&Datum::Sequence(vec![vector(vec![1.0])]), "x");
        let sequence = sequence.expect("bytes");
        let unsaid =
            SequenceProto { tensor_values: vec![TensorProto::default()], ..Default::default() };
        let map = |keys, values: Vec<Tensor>| {
            let values: Vec<Datum> = values.into_iter().map(Datum::from).collect();
            let values = Some(super::sequence(&values, "").expect("a sequence"));
            let key_type = Some(DataType::Int64 as i32);
            MapProto { key_type, keys, values, ..Default::default() }.encode_to_vec()
        };
        let ints = map_of(DataType::Int64, floats());
        let (one, two) = (Tensor::scalar(1f32), Tensor::vector(vec![1f32, 2.0]));
        let cases = [
            (sequence, sequence_of(int_type()), "expected values of type MAP, the file holds"),
            (b"\xff".to_vec(), floats(), "no TensorProto"),
            (b"\x12\xff".to_vec(), sequence_of(floats()), "no SequenceProto"),
            (unsaid.encode_to_vec(), sequence_of(floats()), "does not say what it holds"),
            (vec![], TypeProto::default(), "declared type is undefined"),
            (map(vec![1], vec![]), ints.clone(), "shape [1] needs 1 elements, the data has 0"),
            (map(vec![1, 2], vec![one.clone()]), ints.clone(), "needs 2 elements"),
            (map(vec![1], vec![two]), ints.clone(), "value of shape [2]"),
            (
                map(vec![1, 2], vec![one, Tensor::scalar(1i64)]),
                ints.clone(),
                "values of type f32 and i64",
            ),
            (MapProto::default().encode_to_vec(), ints, "element type is undefined"),
        ];
        for (bytes, declared, why) in cases {
            let got = message(read(bytes, &declared));
            assert!(got.contains(why), "{got:?} lacks {why:?}");
        }
        let mixed = Datum::Sequence(vec![vector(vec![]), Datum::Sequence(vec![])]);
        assert!(datum_to_proto(&mixed, "x").is_err());
    }

    fn int_type() -> TypeProto {
        map_of(DataType::Int64, tensor_type(DataType::Float))
    }

    #[test]
    fn nesting_ends() {
        let declared = (0..200).fold(tensor_type(DataType::Float), |t, _| sequence_of(t));
        let deep = (0..200).fold(vector(vec![]), |d, _| Datum::Sequence(vec![d]));
        let bytes = datum_to_proto(&deep, "").expect("bytes");
        assert!(message(read(bytes, &declared)).contains("recursion limit"));
    }
}
