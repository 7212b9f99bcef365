//! The multithreaded CPU backend.
//!
//! ```text
//! exec     runs a plan: kernels on the arena, definitions for the rest
//! kernels  one table row per kernel: which nodes it takes, how it is prepared, how it runs
//! simd     vectors of every instruction set under one loop text
//! team     work shared among threads
//! arena    one block of memory, lent out in slices that cannot overlap
//! ```

mod arena;
mod exec;
mod kernel;
mod kernels;
pub mod simd;
mod team;

use std::sync::Arc;

use kiln_ir::{Error, Graph, Kind, Limits, Result};
use kiln_plan::{Backend, Executable};
use rayon::{ThreadPool, ThreadPoolBuilder};

pub use kernel::{Args, Integers, Kernel, Operand, Row};
pub use kernels::rows;

/// The CPU with a number of threads.
pub struct Cpu {
    pool: Arc<ThreadPool>,
}

impl Cpu {
    /// A backend of `threads` threads; 0 is one per core.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("kiln-{i}"))
            .build()
            .map_err(|e| Error::new(Kind::Backend, format!("no threads: {e}")))?;
        Ok(Self { pool: Arc::new(pool) })
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn compile(&self, graph: Arc<Graph>, _: &Limits) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(exec::Compiled::new(graph, self.pool.clone())?))
    }
}
