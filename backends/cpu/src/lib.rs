//! The multithreaded CPU backend.
//!
//! ```text
//! blocks   many rows, some at a time
//! exec     runs a plan: kernels on the arena, definitions for the rest
//! program  a plan with every place looked up
//! kernels  one table row per kernel: which nodes it takes, how it is prepared, how it runs
//! simd     vectors of every instruction set under one loop text
//! team     work shared among threads
//! arena    one block of memory, lent out in slices that cannot overlap
//! cells    a matrix whose pieces different threads write
//! lanes    rows of a table in lanes
//! lines    numbers that begin on a cache line
//! ```

mod arena;
mod blocks;
mod cells;
mod exec;
mod kernel;
mod kernels;
mod lanes;
mod lines;
mod program;
pub mod simd;
mod team;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use kiln_ir::{Error, Graph, Kind, Limits, Result};
use kiln_plan::{Backend, Executable};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

pub use kernel::{Args, Integers, Kernel, Operand, Row};
pub use kernels::{OneTactic, TreeTactic, rows};

/// The CPU with a number of threads.
pub struct Cpu {
    pool: Arc<ThreadPool>,
}

impl Cpu {
    /// A backend of `threads` threads; 0 is one per core. All backends of as many threads share
    /// them.
    pub fn new(threads: usize) -> Result<Self> {
        static POOLS: Mutex<Vec<(usize, Weak<ThreadPool>)>> = Mutex::new(vec![]);
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(_, pool)| pool.strong_count() > 0);
        let same = pools.iter().find(|(n, _)| *n == threads);
        if let Some(pool) = same.and_then(|(_, pool)| pool.upgrade()) {
            return Ok(Self { pool });
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("kiln-{i}"))
            .build()
            .map_err(|e| Error::new(Kind::Backend, format!("no threads: {e}")))?;
        let pool = Arc::new(pool);
        pools.push((threads, Arc::downgrade(&pool)));
        Ok(Self { pool })
    }

    /// Does some jobs at the same time. What they run on backends of as many threads shares the
    /// same threads, so there are never more.
    pub fn together<T: Sync, R: Send>(
        &self,
        jobs: &[T],
        job: impl Fn(&T) -> R + Send + Sync,
    ) -> Vec<R> {
        match jobs.len() {
            0 | 1 => jobs.iter().map(job).collect(),
            _ => self.pool.install(|| jobs.par_iter().map(job).collect()),
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn compile(&self, graph: Arc<Graph>, _: &Limits) -> Result<Arc<dyn Executable>> {
        blocks::Blocks::compile(graph, self.pool.clone())
    }
}
