//! Quantization: what writes it into a graph.

mod place;

pub use place::{Range, Sites};
