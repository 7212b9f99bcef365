//! The CUDA backend's door: says clearly that there is no device to run on.

use std::convert::Infallible;
use std::sync::Arc;

use kiln_ir::{Error, Graph, Kind, Limits, Result};
use kiln_plan::{Backend, Executable};

/// An NVIDIA GPU with its driver. There is no value of it where there is no device.
pub struct Cuda(Infallible);

impl Cuda {
    /// Finds the driver and a device; a *backend* error says what is missing.
    pub fn locate() -> Result<Self> {
        Err(Error::new(Kind::Backend, "no CUDA device: this build runs on the CPU only")
            .help("run with `--backend cpu`"))
    }
}

impl Backend for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn compile(&self, _: Arc<Graph>, _: &Limits) -> Result<Arc<dyn Executable>> {
        match self.0 {}
    }
}
