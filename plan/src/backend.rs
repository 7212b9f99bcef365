//! What a place that can run nodes says of itself.

use std::sync::Arc;

use kiln_ir::{Context, Graph, Limits, Result};
use kiln_tensor::Datum;

/// A place that can run nodes.
pub trait Backend: Send + Sync {
    /// The name that users give.
    fn name(&self) -> &'static str;

    /// Makes a graph ready to run here.
    fn compile(&self, graph: Arc<Graph>, limits: &Limits) -> Result<Arc<dyn Executable>>;
}

/// A compiled graph: immutable, shared, run from many threads at once.
pub trait Executable: Send + Sync {
    /// Runs on values for the graph's inputs, in their order, and returns its outputs in theirs.
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>>;
}
