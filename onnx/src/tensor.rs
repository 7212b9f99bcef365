//! [`TensorProto`] -> [`Tensor`] and back.
//!
//! ```text
//! raw_data, external file ─▶ unpacked if below a byte ─▶ shared if aligned, else copied
//! int32_data, float_data, ... ─────────────────────────▶ elements, or their bit patterns
//! SparseTensorProto ───────────────────────────────────▶ dense
//! ```

use bytes::Bytes;
use kiln_ir::{Error, Limits, Result};
use kiln_tensor::{Complex, DType, Element, Tensor, match_element, shape::numel};

use crate::external::Resolver;
use crate::packed::{pack, packed_len, unpack};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{SparseTensorProto, TensorProto};

/// The element type that ONNX numbers `number`.
///
/// # Errors
/// *invalid* for numbers that ONNX has not.
pub fn dtype_from_onnx(number: i32) -> Result<DType> {
    let unknown = || Error::invalid(format!("{number} is no ONNX element type"));
    Ok(match DataType::try_from(number).map_err(|_| unknown())? {
        DataType::Undefined => {
            return Err(Error::invalid("the element type is undefined"));
        }
        DataType::Float => DType::F32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Uint16 => DType::U16,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::String => DType::String,
        DataType::Bool => DType::Bool,
        DataType::Float16 => DType::F16,
        DataType::Double => DType::F64,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Complex64 => DType::C64,
        DataType::Complex128 => DType::C128,
        DataType::Bfloat16 => DType::BF16,
        DataType::Float8e4m3fn => DType::F8E4M3FN,
        DataType::Float8e4m3fnuz => DType::F8E4M3FNUZ,
        DataType::Float8e5m2 => DType::F8E5M2,
        DataType::Float8e5m2fnuz => DType::F8E5M2FNUZ,
        DataType::Uint4 => DType::U4,
        DataType::Int4 => DType::I4,
        DataType::Float4e2m1 => DType::F4E2M1,
        DataType::Float6e2m3 => DType::F6E2M3,
        DataType::Float6e3m2 => DType::F6E3M2,
        DataType::Float8e8m0 => DType::F8E8M0,
        DataType::Uint2 => DType::U2,
        DataType::Int2 => DType::I2,
    })
}

/// The number that ONNX gives to `dtype`.
pub fn dtype_to_onnx(dtype: DType) -> i32 {
    let data_type = match dtype {
        DType::F32 => DataType::Float,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::Uint16,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::String => DataType::String,
        DType::Bool => DataType::Bool,
        DType::F16 => DataType::Float16,
        DType::F64 => DataType::Double,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::C64 => DataType::Complex64,
        DType::C128 => DataType::Complex128,
        DType::BF16 => DataType::Bfloat16,
        DType::F8E4M3FN => DataType::Float8e4m3fn,
        DType::F8E4M3FNUZ => DataType::Float8e4m3fnuz,
        DType::F8E5M2 => DataType::Float8e5m2,
        DType::F8E5M2FNUZ => DataType::Float8e5m2fnuz,
        DType::U4 => DataType::Uint4,
        DType::I4 => DataType::Int4,
        DType::F4E2M1 => DataType::Float4e2m1,
        DType::F6E2M3 => DataType::Float6e2m3,
        DType::F6E3M2 => DataType::Float6e3m2,
        DType::F8E8M0 => DataType::Float8e8m0,
        DType::U2 => DataType::Uint2,
        DType::I2 => DataType::Int2,
    };
    data_type as i32
}

/// The tensor that `proto` holds. Raw data is shared with it where the alignment allows.
///
/// External data is found by `resolver`; without one it is refused.
///
/// # Errors
/// *limit* if the tensor takes more than `limits.tensor_bytes` in memory; *unsupported* for
/// segments; *invalid* if data and shape disagree. All name the tensor.
pub fn tensor_from_proto(
    proto: &TensorProto,
    resolver: Option<&Resolver>,
    limits: &Limits,
) -> Result<Tensor> {
    dense(proto, resolver, limits).map_err(|e| in_tensor(proto.name(), e))
}

fn in_tensor(name: &str, e: Error) -> Error {
    if name.is_empty() {
        return e;
    }
    let named = Error::new(e.kind(), format!("tensor `{name}`: {}", e.message()));
    match e.remedy() {
        Some(help) => named.help(help),
        None => named,
    }
}

fn dense(proto: &TensorProto, resolver: Option<&Resolver>, limits: &Limits) -> Result<Tensor> {
    if proto.segment.is_some() {
        return Err(Error::unsupported("it is a segment of a larger tensor")
            .help("store the tensor in one piece"));
    }
    let dtype = dtype_from_onnx(proto.data_type())?;
    let shape = checked_shape(dtype, &proto.dims, limits)?;
    let inline = proto.raw_data.clone().filter(|raw| !raw.is_empty());
    let raw = match proto.data_location.unwrap_or_default() {
        n if n == DataLocation::Default as i32 => inline,
        n if n == DataLocation::External as i32 => {
            Some(resolver.unwrap_or(&Resolver::in_memory()).bytes(proto)?)
        }
        n => return Err(Error::invalid(format!("it has unknown data location {n}"))),
    };
    match raw {
        Some(_) if has_typed_data(proto) => Err(Error::invalid("it has its data twice")),
        Some(raw) => from_raw(dtype, &shape, raw),
        None => from_typed(dtype, &shape, proto),
    }
}

/// The dims as lengths, if the tensor fits the limit.
fn checked_shape(dtype: DType, dims: &[i64], limits: &Limits) -> Result<Vec<usize>> {
    let length = |&dim: &i64| {
        usize::try_from(dim)
            .map_err(|_| Error::invalid(format!("its shape {dims:?} has a length out of range")))
    };
    let shape = dims.iter().map(length).collect::<Result<Vec<_>>>()?;
    let size = if dtype == DType::String { size_of::<String>() } else { dtype.size() };
    let bytes = numel(&shape)?.checked_mul(size);
    if bytes.is_some_and(|bytes| bytes as u64 <= limits.tensor_bytes) {
        return Ok(shape);
    }
    let limit = limits.tensor_bytes;
    Err(Error::limit(
        "tensor-bytes",
        format!("shape {shape:?} of {dtype} takes more than the limit of {limit} bytes"),
    ))
}

fn has_typed_data(proto: &TensorProto) -> bool {
    !(proto.float_data.is_empty()
        && proto.int32_data.is_empty()
        && proto.string_data.is_empty()
        && proto.int64_data.is_empty()
        && proto.double_data.is_empty()
        && proto.uint64_data.is_empty())
}

fn from_raw(dtype: DType, shape: &[usize], raw: Bytes) -> Result<Tensor> {
    if dtype == DType::String {
        return Err(Error::invalid("strings cannot be raw data").help("use string_data"));
    }
    let len = numel(shape)?;
    let want = packed_len(dtype, len);
    if want != Some(raw.len()) {
        return Err(wrong_length(dtype, shape, &format!("{} bytes", raw.len())));
    }
    let raw = if dtype.bits() < 8 { unpack(dtype, &raw, len).into() } else { raw };
    Ok(Tensor::from_bytes(dtype, shape, raw)?)
}

fn wrong_length(dtype: DType, shape: &[usize], got: &str) -> Error {
    Error::invalid(format!("shape {shape:?} of {dtype} does not fit its data of {got}"))
        .help("check that the file is complete")
}

/// From the field that ONNX assigns to the element type.
fn from_typed(dtype: DType, shape: &[usize], proto: &TensorProto) -> Result<Tensor> {
    match dtype {
        DType::F32 => elements(shape, &proto.float_data, "float_data"),
        DType::F64 => elements(shape, &proto.double_data, "double_data"),
        DType::I32 => elements(shape, &proto.int32_data, "int32_data"),
        DType::I64 => elements(shape, &proto.int64_data, "int64_data"),
        DType::U64 => elements(shape, &proto.uint64_data, "uint64_data"),
        DType::U32 => {
            let narrow = |&x: &u64| {
                u32::try_from(x).map_err(|_| Error::invalid(format!("element {x} is no u32")))
            };
            let data = proto.uint64_data.iter().map(narrow).collect::<Result<Vec<_>>>()?;
            elements(shape, &data, "uint64_data")
        }
        DType::C64 => elements(shape, &complex(&proto.float_data)?, "float_data"),
        DType::C128 => elements(shape, &complex(&proto.double_data)?, "double_data"),
        DType::String => strings(shape, &proto.string_data),
        _ => bit_patterns(dtype, shape, &proto.int32_data),
    }
}

fn elements<T: Element>(shape: &[usize], data: &[T], field: &str) -> Result<Tensor> {
    if numel(shape)? != data.len() {
        return Err(wrong_length(T::DTYPE, shape, &format!("{} elements in {field}", data.len())));
    }
    Ok(Tensor::from_vec(shape, data.to_vec())?)
}

fn complex<T: Copy>(parts: &[T]) -> Result<Vec<Complex<T>>> {
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::invalid("a complex number lacks its imaginary part"));
    }
    Ok(pairs.iter().map(|&[re, im]| Complex { re, im }).collect())
}

fn strings(shape: &[usize], data: &[Bytes]) -> Result<Tensor> {
    if numel(shape)? != data.len() {
        let got = format!("{} elements in string_data", data.len());
        return Err(wrong_length(DType::String, shape, &got));
    }
    let text = |bytes: &Bytes| {
        String::from_utf8(bytes.to_vec())
            .map_err(|e| Error::invalid(format!("a string is not UTF-8: {}", e.utf8_error())))
    };
    Ok(Tensor::from_strings(shape, data.iter().map(text).collect::<Result<_>>()?)?)
}

/// `int32_data` holds everything of at most 16 bits: one element, or one packed byte, per entry.
/// Of 6 bits it holds one element.
fn bit_patterns(dtype: DType, shape: &[usize], data: &[i32]) -> Result<Tensor> {
    let size = dtype.size();
    let entries = match dtype.bits() {
        6 => Some(numel(shape)?),
        _ => packed_len(dtype, numel(shape)?).map(|bytes| bytes / size),
    };
    if entries != Some(data.len()) {
        return Err(wrong_length(dtype, shape, &format!("{} entries in int32_data", data.len())));
    }
    // Exporters write either the number or its bits, so both readings of the top bit are in range.
    let bits = 8 * size as u32;
    let range = -(1i32 << (bits - 1))..(1i32 << bits);
    if let Some(x) = data.iter().find(|x| !range.contains(x)) {
        return Err(Error::invalid(format!("entry {x} in int32_data does not fit {dtype}")));
    }
    let raw: Vec<u8> = match size {
        1 if dtype.bits() == 6 => pack(dtype, &data.iter().map(|&x| x as u8).collect::<Vec<_>>()),
        1 => data.iter().map(|&x| x as u8).collect(),
        _ => data.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect(),
    };
    from_raw(dtype, shape, raw.into())
}

/// The dense tensor that `proto` describes; what it does not list is zero or the empty string.
///
/// The indices are flat, or one row of coordinates per value, in strictly ascending order.
///
/// # Errors
/// As [`tensor_from_proto`], and *invalid* if an index is out of range or order.
pub fn sparse_from_proto(
    proto: &SparseTensorProto,
    resolver: Option<&Resolver>,
    limits: &Limits,
) -> Result<Tensor> {
    let missing = |what| Error::invalid(format!("a sparse tensor has no {what}"));
    let values = proto.values.as_ref().ok_or_else(|| missing("values"))?;
    let scatter = || {
        let indices = proto.indices.as_ref().ok_or_else(|| missing("indices"))?;
        let stored = dense(values, resolver, limits)?;
        let shape = checked_shape(stored.dtype(), &proto.dims, limits)?;
        let &[count] = stored.shape() else {
            let shape = stored.shape();
            return Err(Error::invalid(format!("sparse values have shape {shape:?}, not rank 1")));
        };
        let places = places(&dense(indices, resolver, limits)?, &shape, count)?;
        densify(&stored, &shape, &places)
    };
    scatter().map_err(|e| in_tensor(values.name(), e))
}

/// The flat index of each of `count` values.
fn places(indices: &Tensor, shape: &[usize], count: usize) -> Result<Vec<usize>> {
    if indices.dtype() != DType::I64 {
        let dtype = indices.dtype();
        return Err(Error::invalid(format!("sparse indices are {dtype}, they must be i64")));
    }
    let flat = [numel(shape)?];
    let lengths = match *indices.shape() {
        [n] if n == count => &flat[..],
        [n, rank] if n == count && rank == shape.len() => shape,
        ref other => {
            return Err(Error::invalid(format!(
                "sparse indices of shape {other:?} do not fit {count} values of shape {shape:?}"
            )));
        }
    };
    let data = indices.as_slice::<i64>()?;
    let mut places: Vec<usize> = Vec::with_capacity(count);
    for row in 0..count {
        let row = &data[row * lengths.len()..(row + 1) * lengths.len()];
        let place = flat_index(row, lengths).ok_or_else(|| {
            Error::invalid(format!("sparse index {row:?} is outside of shape {shape:?}"))
        })?;
        if places.last().is_some_and(|&last| last >= place) {
            return Err(Error::invalid(format!("sparse index {row:?} is not in ascending order")));
        }
        places.push(place);
    }
    Ok(places)
}

/// `None` if a coordinate is out of range. Else no length is 0, so no step overflows.
fn flat_index(row: &[i64], lengths: &[usize]) -> Option<usize> {
    let inside =
        |(&index, &length)| usize::try_from(index).is_ok_and(|index: usize| index < length);
    let place = |place, (&index, &length): (&i64, &usize)| place * length + index as usize;
    row.iter().zip(lengths).all(inside).then(|| row.iter().zip(lengths).fold(0, place))
}

fn densify(values: &Tensor, shape: &[usize], places: &[usize]) -> Result<Tensor> {
    if let Ok(strings) = values.strings() {
        let mut data = vec![String::new(); numel(shape)?];
        for (&place, text) in places.iter().zip(strings) {
            data[place].clone_from(text);
        }
        return Ok(Tensor::from_strings(shape, data)?);
    }
    match_element!(values.dtype(), T => {
        let mut data = vec![T::default(); numel(shape)?];
        for (&place, &value) in places.iter().zip(values.as_slice::<T>()?) {
            data[place] = value;
        }
        Ok(Tensor::from_vec(shape, data)?)
    }, else Err(Error::bug("a tensor is neither strings nor elements")))
}

/// The tensor as ONNX writes it: raw data, packed below a byte; strings in `string_data`.
pub fn tensor_to_proto(tensor: &Tensor, name: &str) -> TensorProto {
    let dtype = tensor.dtype();
    let mut proto = TensorProto {
        dims: tensor.shape().iter().map(|&length| length as i64).collect(),
        data_type: Some(dtype_to_onnx(dtype)),
        name: Some(name.into()).filter(|name: &String| !name.is_empty()),
        ..Default::default()
    };
    if let Ok(strings) = tensor.strings() {
        proto.string_data = strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
    } else if dtype.bits() < 8 {
        proto.raw_data = Some(pack(dtype, tensor.bytes()).into());
    } else {
        proto.raw_data = Some(Bytes::copy_from_slice(tensor.bytes()));
    }
    proto
}

#[cfg(test)]
mod tests {
    use kiln_tensor::{F6E3M2, F8E5M2, I4, U2, bf16, f16};

    use super::*;
    use crate::proto::StringStringEntryProto;
    use crate::proto::tensor_proto::Segment;

    fn typed(data_type: DataType, dims: &[i64]) -> TensorProto {
        let name = Some("w".into());
        TensorProto {
            dims: dims.to_vec(),
            data_type: Some(data_type as i32),
            name,
            ..Default::default()
        }
    }

    fn raw(data_type: DataType, dims: &[i64], raw: &[u8]) -> TensorProto {
        TensorProto { raw_data: Some(Bytes::copy_from_slice(raw)), ..typed(data_type, dims) }
    }

    fn ints(data_type: DataType, dims: &[i64], data: &[i32]) -> TensorProto {
        TensorProto { int32_data: data.to_vec(), ..typed(data_type, dims) }
    }

    fn read(proto: &TensorProto) -> Result<Tensor> {
        tensor_from_proto(proto, None, &Limits::default())
    }

    fn message(result: Result<Tensor>) -> String {
        let error = result.expect_err("an error");
        format!("{error}; {}", error.remedy().unwrap_or_default())
    }

    #[test]
    fn dtypes_are_numbered_as_onnx_does() {
        for &dtype in DType::ALL {
            assert_eq!(dtype_from_onnx(dtype_to_onnx(dtype)).expect("a dtype"), dtype);
        }
        let cases = [(1, DType::F32), (10, DType::F16), (16, DType::BF16), (28, DType::F6E3M2)];
        for (number, dtype) in cases {
            assert_eq!(dtype_from_onnx(number).expect("a dtype"), dtype);
        }
        for number in [-1, 0, 29] {
            assert!(dtype_from_onnx(number).is_err(), "{number}");
        }
    }

    #[test]
    fn raw_data_of_each_width() {
        let cases = [
            (raw(DataType::Float, &[1], &[0, 0, 0xc0, 0x3f]), Tensor::vector(vec![1.5f32])),
            (raw(DataType::Int16, &[2], &[1, 0, 0xfe, 0xff]), Tensor::vector(vec![1i16, -2])),
            (raw(DataType::Bool, &[3], &[0, 1, 2]), Tensor::vector(vec![false, true, true])),
            (raw(DataType::Uint8, &[], &[9]), Tensor::scalar(9u8)),
            (raw(DataType::Int4, &[3], &[0x8f, 7]), Tensor::vector(vec![I4(-1), I4(-8), I4(7)])),
            (raw(DataType::Uint2, &[2], &[0b1101]), Tensor::vector(vec![U2(1), U2(3)])),
            (
                raw(DataType::Complex64, &[1], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]),
                Tensor::vector(vec![Complex { re: 1f32, im: -2.0 }]),
            ),
            (raw(DataType::Double, &[2, 0], &[]), Tensor::zeros(DType::F64, &[2, 0]).expect("t")),
            (
                raw(DataType::Int64, &[i64::MAX, i64::MAX, 0], &[]),
                Tensor::zeros(DType::I64, &[i64::MAX as usize, i64::MAX as usize, 0]).expect("t"),
            ),
        ];
        for (proto, want) in cases {
            assert_eq!(read(&proto).expect("a tensor"), want);
        }
    }

    #[test]
    fn each_typed_field() {
        let text = |t: &'static str| Bytes::from_static(t.as_bytes());
        let cases = [
            (
                TensorProto { float_data: vec![1.0, 2.0], ..typed(DataType::Float, &[2, 1]) },
                Tensor::from_vec(&[2, 1], vec![1f32, 2.0]).expect("t"),
            ),
            (
                TensorProto { double_data: vec![0.1], ..typed(DataType::Double, &[]) },
                Tensor::scalar(0.1f64),
            ),
            (
                TensorProto { int64_data: vec![i64::MIN], ..typed(DataType::Int64, &[1]) },
                Tensor::vector(vec![i64::MIN]),
            ),
            (
                TensorProto { uint64_data: vec![u64::MAX], ..typed(DataType::Uint64, &[1]) },
                Tensor::vector(vec![u64::MAX]),
            ),
            (
                TensorProto { uint64_data: vec![0xffff_ffff], ..typed(DataType::Uint32, &[1]) },
                Tensor::vector(vec![u32::MAX]),
            ),
            (
                TensorProto { float_data: vec![1.0, -1.0], ..typed(DataType::Complex64, &[1]) },
                Tensor::vector(vec![Complex { re: 1f32, im: -1.0 }]),
            ),
            (
                TensorProto { double_data: vec![1.0, 2.0], ..typed(DataType::Complex128, &[]) },
                Tensor::scalar(Complex { re: 1f64, im: 2.0 }),
            ),
            (
                TensorProto {
                    string_data: vec![text("a"), text(""), text("é")],
                    ..typed(DataType::String, &[3])
                },
                Tensor::from_strings(&[3], vec!["a".into(), "".into(), "é".into()]).expect("t"),
            ),
            (typed(DataType::Float, &[0]), Tensor::zeros(DType::F32, &[0]).expect("t")),
        ];
        for (proto, want) in cases {
            assert_eq!(read(&proto).expect("a tensor"), want);
        }
    }

    #[test]
    fn int32_data_carries_bit_patterns() {
        let (half, brain) = (f16::from_f32(-1.5), bf16::from_f32(3.0));
        let cases = [
            (ints(DataType::Int32, &[1], &[i32::MIN]), Tensor::vector(vec![i32::MIN])),
            (ints(DataType::Float16, &[1], &[0xbe00]), Tensor::vector(vec![half])),
            (ints(DataType::Bfloat16, &[1], &[0x4040]), Tensor::vector(vec![brain])),
            (ints(DataType::Float8e5m2, &[1], &[0x3c]), Tensor::vector(vec![F8E5M2(0x3c)])),
            (ints(DataType::Int8, &[3], &[-128, 127, 255]), Tensor::vector(vec![-128i8, 127, -1])),
            (ints(DataType::Uint8, &[2], &[0, 255]), Tensor::vector(vec![0u8, 255])),
            (ints(DataType::Uint16, &[1], &[65535]), Tensor::vector(vec![u16::MAX])),
            (ints(DataType::Int16, &[1], &[-2]), Tensor::vector(vec![-2i16])),
            (ints(DataType::Bool, &[2], &[1, 0]), Tensor::vector(vec![true, false])),
            (ints(DataType::Int4, &[3], &[0x8f, 7]), Tensor::vector(vec![I4(-1), I4(-8), I4(7)])),
            (ints(DataType::Uint2, &[2], &[0b1101]), Tensor::vector(vec![U2(1), U2(3)])),
            (
                ints(DataType::Float6e3m2, &[2], &[0x21, 0x1f]),
                Tensor::vector(vec![F6E3M2(0x21), F6E3M2(0x1f)]),
            ),
        ];
        for (proto, want) in cases {
            assert_eq!(read(&proto).expect("a tensor"), want);
        }
    }

    #[test]
    fn wrong_protos_say_why_and_name_the_tensor() {
        let twice = TensorProto { int64_data: vec![1], ..raw(DataType::Float, &[1], &[0; 4]) };
        let place =
            |n| TensorProto { data_location: Some(n), ..raw(DataType::Float, &[1], &[0; 4]) };
        let segment =
            TensorProto { segment: Some(Segment::default()), ..raw(DataType::Int8, &[1], &[1]) };
        let wide = TensorProto { uint64_data: vec![1 << 32], ..typed(DataType::Uint32, &[1]) };
        let odd = TensorProto { float_data: vec![1.0], ..typed(DataType::Complex64, &[1]) };
        let text =
            |bytes| TensorProto { string_data: vec![bytes], ..typed(DataType::String, &[1]) };
        let cases = [
            (raw(DataType::Float, &[2], &[0; 7]), "[2] of f32 does not fit its data of 7 bytes"),
            (raw(DataType::Int4, &[3], &[0; 3]), "does not fit its data of 3 bytes"),
            (raw(DataType::String, &[1], &[0]), "strings cannot be raw data"),
            (typed(DataType::Float, &[2]), "0 elements in float_data"),
            (typed(DataType::String, &[1]), "0 elements in string_data"),
            (ints(DataType::Float16, &[2], &[1]), "1 entries in int32_data"),
            (ints(DataType::Uint4, &[3], &[1]), "1 entries in int32_data"),
            (ints(DataType::Int8, &[1], &[256]), "entry 256 in int32_data does not fit i8"),
            (ints(DataType::Int16, &[1], &[-32769]), "does not fit i16"),
            (ints(DataType::Float, &[1], &[1]), "0 elements in float_data"),
            (wide, "4294967296 is no u32"),
            (odd, "lacks its imaginary part"),
            (text(Bytes::from_static(b"\xff")), "not UTF-8"),
            (raw(DataType::Float, &[-1], &[0; 4]), "length out of range"),
            (raw(DataType::Float, &[i64::MAX, i64::MAX], &[0; 4]), "more elements than memory"),
            (raw(DataType::Float, &[1 << 62], &[0; 4]), "takes more than the limit"),
            (raw(DataType::Undefined, &[1], &[0]), "element type is undefined"),
            (ints(DataType::Float6e2m3, &[2], &[1]), "1 entries in int32_data"),
            (twice, "data twice"),
            (segment, "segment"),
            (place(7), "unknown data location 7"),
            (place(1), "external data has no location"),
        ];
        for (proto, why) in cases {
            let got = message(read(&proto));
            assert!(got.contains(why), "{got:?} lacks {why:?}");
            assert!(got.contains("tensor `w`: "), "{got:?} does not name the tensor");
        }
    }

    #[test]
    fn the_limit_is_on_bytes_in_memory() {
        let limits = Limits { tensor_bytes: 8, ..Limits::default() };
        let get = |proto: &TensorProto| tensor_from_proto(proto, None, &limits);
        assert!(get(&raw(DataType::Float, &[2], &[0; 8])).is_ok());
        assert!(message(get(&raw(DataType::Float, &[3], &[0; 12]))).contains("tensor-bytes"));
        assert!(message(get(&raw(DataType::Uint2, &[9], &[0; 3]))).contains("limit of 8 bytes"));
        let sparse = sparse(&[3], &[1], &[0], Tensor::vector(vec![1f32]));
        assert!(message(sparse_from_proto(&sparse, None, &limits)).contains("limit of 8 bytes"));
    }

    #[test]
    fn external_data_is_raw_data_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("d"), [9, 0, 0, 0x80, 0x3f, 0x21]).expect("a file");
        let resolver = Resolver::beside(&folder.path().join("m.onnx"), &[]).expect("a resolver");
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value.into()),
        };
        let proto = |data_type, offset, length| TensorProto {
            data_location: Some(DataLocation::External as i32),
            external_data: vec![
                entry("location", "d"),
                entry("offset", offset),
                entry("length", length),
            ],
            ..typed(data_type, &[1])
        };
        let get = |proto| tensor_from_proto(&proto, Some(&resolver), &Limits::default());
        let float = get(proto(DataType::Float, "1", "4")).expect("a tensor");
        assert_eq!(float, Tensor::vector(vec![1f32]));
        let nibble = get(proto(DataType::Int4, "5", "1")).expect("a tensor");
        assert_eq!(nibble, Tensor::vector(vec![I4(1)]));
        assert!(message(get(proto(DataType::Float, "1", "3"))).contains("data of 3 bytes"));
        assert!(message(get(proto(DataType::Float, "3", "4"))).contains("tensor `w`: it needs 4"));
        assert!(message(read(&proto(DataType::Float, "1", "4"))).contains("came from memory"));
    }

    #[test]
    fn tensors_come_back_as_they_were_written() {
        for &dtype in DType::ALL {
            let tensor = match dtype {
                DType::String => {
                    Tensor::from_strings(&[1, 3], ["a", "", "é"].map(String::from).into())
                }
                _ => {
                    let bits = dtype.bits().min(8);
                    let raw = (0..3 * dtype.size()).map(|i| (0x5a_u8 >> (i % 3)) & 0x7f);
                    let low =
                        raw.map(|b| if bits < 8 { b & ((1 << (bits - 1)) - 1) } else { b & 1 });
                    Tensor::from_bytes(dtype, &[1, 3], low.collect::<Vec<u8>>().into())
                }
            };
            let tensor = tensor.expect("a tensor");
            let proto = tensor_to_proto(&tensor, "w");
            assert_eq!(proto.name(), "w");
            assert_eq!(read(&proto).expect("a tensor"), tensor, "{dtype}");
        }
        let packed = tensor_to_proto(&Tensor::vector(vec![I4(-1), I4(-8), I4(7)]), "");
        assert_eq!((packed.raw_data(), &packed.name), (&[0x8f, 7][..], &None));
    }

    fn sparse(
        dims: &[i64],
        index_dims: &[i64],
        indices: &[i64],
        values: Tensor,
    ) -> SparseTensorProto {
        let indices =
            TensorProto { int64_data: indices.to_vec(), ..typed(DataType::Int64, index_dims) };
        SparseTensorProto {
            values: Some(tensor_to_proto(&values, "s")),
            indices: Some(indices),
            dims: dims.to_vec(),
        }
    }

    #[test]
    fn sparse_tensors_become_dense() {
        let values = || Tensor::vector(vec![1i32, 2]);
        let texts = Tensor::from_strings(&[1], vec!["x".into()]).expect("t");
        let none = Tensor::vector(Vec::<f32>::new());
        let dense = Tensor::from_vec(&[2, 3], vec![0i32, 1, 0, 0, 0, 2]).expect("t");
        let cases = [
            (sparse(&[2, 3], &[2], &[1, 5], values()), dense.clone()),
            (sparse(&[2, 3], &[2, 2], &[0, 1, 1, 2], values()), dense),
            (
                sparse(&[2], &[1], &[1], texts),
                Tensor::from_strings(&[2], vec!["".into(), "x".into()]).expect("t"),
            ),
            (sparse(&[2], &[0], &[], none.clone()), Tensor::vector(vec![0f32, 0.0])),
            (sparse(&[2, 1], &[0, 2], &[], none), Tensor::zeros(DType::F32, &[2, 1]).expect("t")),
        ];
        for (proto, want) in cases {
            let got = sparse_from_proto(&proto, None, &Limits::default()).expect("a tensor");
            assert_eq!(got, want);
        }
    }

    #[test]
    fn wrong_sparse_tensors_say_why() {
        let (max, values) = (i64::MAX, || Tensor::vector(vec![1i32, 2]));
        let matrix = Tensor::from_vec(&[1, 2], vec![1i32, 2]).expect("t");
        let floats = SparseTensorProto {
            indices: Some(raw(DataType::Float, &[2], &[0; 8])),
            ..sparse(&[3], &[2], &[0, 1], values())
        };
        let cases = [
            (sparse(&[3], &[2], &[0, 3], values()), "index [3] is outside of shape [3]"),
            (sparse(&[3], &[2], &[-1, 0], values()), "index [-1] is outside"),
            (sparse(&[2, 3], &[2, 2], &[0, 3, 1, 0], values()), "index [0, 3] is outside"),
            (sparse(&[max, max, 0], &[2, 3], &[9, max - 1, 0, 9, 9, 0], values()), "is outside"),
            (sparse(&[3], &[2], &[1, 1], values()), "not in ascending order"),
            (sparse(&[3], &[2], &[2, 1], values()), "not in ascending order"),
            (sparse(&[3], &[1], &[1], values()), "do not fit 2 values"),
            (sparse(&[3], &[2, 2], &[0, 0, 0, 1], values()), "do not fit 2 values"),
            (sparse(&[3], &[2], &[0, 1], matrix), "not rank 1"),
            (sparse(&[-3], &[2], &[0, 1], values()), "out of range"),
            (sparse(&[1 << 40], &[2], &[0, 1], values()), "takes more than the limit"),
            (floats, "indices are f32"),
            (
                SparseTensorProto { indices: None, ..sparse(&[3], &[2], &[0, 1], values()) },
                "no indices",
            ),
            (SparseTensorProto::default(), "no values"),
        ];
        for (proto, why) in cases {
            let got = message(sparse_from_proto(&proto, None, &Limits::default()));
            assert!(got.contains(why), "{got:?} lacks {why:?}");
        }
    }

    #[test]
    fn damaged_bytes_do_not_panic() {
        use prost::Message;
        let limits = Limits { tensor_bytes: 1 << 16, ..Limits::default() };
        let mut seeds: Vec<Vec<u8>> = vec![
            sparse(&[2, 3], &[2, 2], &[0, 1, 1, 2], Tensor::vector(vec![1i32, 2])).encode_to_vec(),
        ];
        for &dtype in DType::ALL {
            let values = tensor_to_proto(&Tensor::zeros(dtype, &[2, 3]).expect("t"), "w");
            seeds.push(
                SparseTensorProto { values: Some(values), ..Default::default() }.encode_to_vec(),
            );
        }
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % below
        };
        let mut decoded = 0;
        for turn in 0..20_000 {
            let mut bytes = seeds[turn % seeds.len()].clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            let Ok(proto) = SparseTensorProto::decode(Bytes::from(bytes)) else { continue };
            decoded += 1;
            let _ = sparse_from_proto(&proto, None, &limits);
            let _ = tensor_from_proto(&proto.values.unwrap_or_default(), None, &limits);
        }
        assert!(decoded > 1_000, "only {decoded} of the damaged messages were messages");
    }
}
