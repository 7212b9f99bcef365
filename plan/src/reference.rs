//! The backend that runs the definitions of the operators, one after another.

use std::sync::Arc;

use kiln_ir::{Context, Graph, Limits, Result, eval};
use kiln_tensor::Datum;

use crate::backend::{Backend, Executable};

/// Runs every node by its definition.
pub struct Reference;

struct Evaluated(Arc<Graph>);

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn compile(&self, graph: Arc<Graph>, _: &Limits) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(Evaluated(graph)))
    }
}

impl Executable for Evaluated {
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        eval::run(&self.0, cx, inputs)
    }
}
