//! From a model to a session: kiln's table of contents.

use std::str::FromStr;
use std::sync::Arc;

use kiln_ir::{Error, Graph, Result};
use kiln_passes::Report;
use kiln_plan::{Backend, Executable};

use crate::model::Model;
use crate::session::Session;

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendKind {
    /// The multithreaded CPU backend.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// The definitions of the operators: slow, obvious, correct.
    Reference,
}

impl FromStr for BackendKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "reference" => Ok(Self::Reference),
            _ => Err(Error::invalid(format!("`{text}` is no backend: cpu, cuda or reference"))),
        }
    }
}

/// How a model is optimized and run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it runs.
    pub backend: BackendKind,
    /// Threads inside one run; 0 is one per core.
    pub threads: usize,
    /// 0 no passes, 1 clean only, 2 and 3 all.
    pub opt_level: u8,
    /// Passes that are left out, by name.
    pub skip: Vec<String>,
    /// Where random operators without a seed of their own begin.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { backend: BackendKind::Cpu, threads: 0, opt_level: 3, skip: vec![], seed: 0 }
    }
}

/// Runs the passes that the options ask for on a copy of the model's graph.
pub(crate) fn optimize(model: &Model, options: &Options) -> Result<(Graph, Report)> {
    let mut graph = model.graph.clone();
    let pipeline = kiln_passes::pipeline(options.opt_level, &options.skip, model.limits())?;
    let report = kiln_passes::run(&mut graph, &pipeline)?;
    Ok((graph, report))
}

/// Optimizes, and compiles for the backend.
pub(crate) fn build(model: &Model, options: &Options) -> Result<Session> {
    let (graph, _) = optimize(model, options)?;
    let graph = Arc::new(graph);
    let executable = backend(options)?.compile(graph.clone(), model.limits())?;
    Ok(Session::new(&graph, executable, options, model))
}

pub(crate) fn backend(options: &Options) -> Result<Box<dyn Backend>> {
    match options.backend {
        BackendKind::Cpu => Ok(Box::new(kiln_cpu::Cpu::new(options.threads)?)),
        BackendKind::Cuda => Ok(Box::new(kiln_cuda::Cuda::locate()?)),
        BackendKind::Reference => Ok(Box::new(kiln_plan::Reference)),
    }
}

/// What a session holds.
pub(crate) type Compiled = Arc<dyn Executable>;
