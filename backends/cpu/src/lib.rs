//! The multithreaded CPU backend.

use std::sync::Arc;

use kiln_ir::{Graph, Limits, Result};
use kiln_plan::{Backend, Executable, Reference};

/// The CPU with a number of threads.
pub struct Cpu {
    _threads: usize,
}

impl Cpu {
    /// A backend of `threads` threads; 0 is one per core.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Self { _threads: threads })
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn compile(&self, graph: Arc<Graph>, limits: &Limits) -> Result<Arc<dyn Executable>> {
        Reference.compile(graph, limits)
    }
}
