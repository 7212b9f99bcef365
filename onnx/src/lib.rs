//! ONNX files: protobuf in, graph out, and back.
//!
//! ```text
//! path ─open─▶ ModelProto          decode    is it a model, of a version kiln knows?
//! TensorProto ─▶ Tensor, and back  tensor    every dtype, inline, typed, sparse or external
//! external_data ─▶ Bytes           external  mapped files that cannot leave the model's folder
//! ```
//!
//! No code here knows what an operator means.

mod beneath;
pub mod decode;
pub mod error;
pub mod external;
mod file;
pub mod limits;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto;

pub use decode::{decode, open};
pub use external::Resolver;
