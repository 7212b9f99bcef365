//! kiln imports ONNX and ONNX-ML models into one graph, optimizes it, and runs it.
//!
//! ```no_run
//! # fn main() -> Result<(), kiln::Error> {
//! let model = kiln::Model::load("model.onnx")?;
//! let session = model.compile(&kiln::Options::default())?;
//! let x = kiln::Tensor::from_vec(&[1, 4], vec![5.1f32, 3.5, 1.4, 0.2])?;
//! for (name, value) in session.run(vec![("X".to_owned(), x.into())])? {
//!     println!("{name}: {value:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod bind;
mod builder;
mod check;
mod facts;
mod lint;
mod model;
pub mod npy;
pub mod pb;
mod quantize;
mod session;
mod sway;

pub use builder::{BackendKind, Options};
pub use check::{Checked, Checking};
pub use facts::Facts;
pub use kiln_ir::{Cancel, Error, Graph, Kind, Limits, NodeInfo, NodeTime, Profile, Result, Type};
pub use kiln_tensor::{DType, Datum, Map, MapKeys, Tensor};
pub use lint::{Finding, lint};
pub use model::{Model, ValueInfo};
pub use quantize::{Layer, Method, Metric, Precision, Quantized, Quantizing};
pub use session::Session;
