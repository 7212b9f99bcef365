//! ONNX files: protobuf in, graph out, and back.
//!
//! ```text
//! path ─open─▶ ModelProto          decode    is it a model, of a version kiln knows?
//! TensorProto ─▶ Tensor, and back  tensor    every dtype, inline, typed, sparse or external
//! .pb ─▶ Datum, and back           datum     sequences, maps and optionals too
//! external_data ─▶ Bytes           external  mapped files that cannot leave the model's folder
//! ```
//!
//! No code here knows what an operator means.

mod attribute;
mod beneath;
mod body;
pub mod datum;
pub mod decode;
pub mod export;
pub mod external;
mod file;
mod functions;
pub mod import;
mod mask;
mod order;
mod packed;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto;
mod repair;
pub mod tensor;
pub mod types;
mod version;
mod weigh;

pub use datum::{datum_from_proto, datum_to_proto};
pub use decode::{decode, open};
pub use export::{export, export_bytes};
pub use external::Resolver;
pub use import::{Imported, import};
pub use repair::Repair;
pub use tensor::{sparse_from_proto, tensor_from_proto, tensor_to_proto};
