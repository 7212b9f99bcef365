//! The `.pb` files that hold inputs and outputs: one protobuf message each.

use bytes::Bytes;
use kiln_ir::{Limits, Result, Type};
use kiln_onnx::types::type_to_proto;
use kiln_tensor::Datum;

/// Reads a value of the declared kind; the file does not say which message it is.
///
/// Errors are *invalid* if the bytes are no such message, *limit* if it is too large.
pub fn read(bytes: Bytes, declared: &Type, limits: &Limits) -> Result<Datum> {
    kiln_onnx::datum_from_proto(bytes, &type_to_proto(declared), limits)
}

/// The bytes of a file that holds `value` under `name`.
///
/// An error is *invalid*: a sequence holds values of different kinds.
pub fn write(value: &Datum, name: &str) -> Result<Vec<u8>> {
    kiln_onnx::datum_to_proto(value, name)
}
