//! Quantization: what writes it into a graph.

mod place;
mod rank_forest;

pub use place::{Range, Sites};
pub use rank_forest::rank_forests;
