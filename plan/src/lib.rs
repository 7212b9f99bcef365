//! How a graph becomes something that runs: backends, plans, memory.
//!
//! ```text
//! Graph + input shapes ── bind ──▶ lengths of every value
//!                      ── memory ▶ a place for every value: held alone, or a slice of one arena
//!                      ── Plan ──▶ steps in order; plain data
//! ```

pub mod backend;
pub mod bind;
pub mod memory;
pub mod plan;
pub mod reference;
pub mod rows;

pub use backend::{Backend, Executable};
pub use bind::Bindings;
pub use memory::Span;
pub use plan::{Claim, Place, Plan, Step};
pub use reference::Reference;
pub use rows::{Rows, rows};
