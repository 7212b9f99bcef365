//! The typed graph: what every other part of kiln reads and writes.
//!
//! ```text
//! Graph ── Node ── Op ── Operator      what is computed, by which operator
//!   │        └─ Fact ── Type ── Dim    what is known of each output
//!   ├─ verify   every invariant
//!   ├─ text     print and parse, the same syntax
//!   ├─ eval     the definition of correct
//!   └─ rewrite  how passes change it
//! ```
//!
//! This crate knows no protobuf, no pass, no plan and no device.

pub mod attrs;
pub mod cost;
pub mod dim;
pub mod error;
pub mod eval;
pub mod graph;
pub mod infer;
pub mod limits;
pub mod op;
pub mod ops;
pub mod pattern;
pub mod profile;
mod readable;
pub mod rewrite;
pub mod schema;
pub mod text;
pub mod types;
pub mod verify;

pub use attrs::{Attr, AttrValue, Attrs};
pub use cost::Cost;
pub use dim::{Dim, Sym};
pub use error::{Error, Kind, NodeInfo, Result};
pub use eval::{Cancel, Context};
pub use graph::{Graph, Node, NodeId, Value};
pub use infer::Infer;
pub use limits::Limits;
pub use op::{Op, Operator, Traits};
pub use pattern::{Match, Pattern};
pub use profile::{NodeTime, Profile};
pub use readable::readable;
pub use rewrite::{Decline, Edit, Rewrite, Source, Verdict};
pub use schema::{Build, Built, Schema};
pub use types::{Fact, TensorType, Type};
