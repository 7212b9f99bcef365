//! A model as it was read: typed, checked, not yet optimized.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kiln_ir::{Error, Graph, Limits, Result, Type, Value};
use kiln_onnx::{Repair, Resolver};
use kiln_tensor::Datum;

use crate::bind;
use crate::builder::{self, Options};
use crate::check::{self, Checked, Checking};
use crate::quantize::{self, Quantized, Quantizing};
use crate::session::Session;

/// An imported model.
#[derive(Debug)]
pub struct Model {
    pub(crate) graph: Graph,
    name: String,
    warnings: Vec<String>,
    repairs: Vec<Repair>,
    ir_version: i64,
    opsets: BTreeMap<String, i64>,
    producer: String,
    limits: Limits,
    nbytes: u64,
}

/// The name and the type of an input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// The name.
    pub name: String,
    /// The type; lengths may be symbols.
    pub ty: Type,
}

impl Model {
    /// Loads a file under the default limits; external data must lie beneath its folder.
    ///
    /// Errors name the file, the node and what to do; a model with operators that kiln lacks
    /// is *unsupported*, and all of them are listed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Limits::default(), &[])
    }

    /// As [`Model::load`], with limits and further folders where external data may lie.
    pub fn load_with(path: impl AsRef<Path>, limits: &Limits, roots: &[PathBuf]) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let load = || {
            let proto = kiln_onnx::open(path, limits)?;
            let resolver = Resolver::beside(path, roots)?;
            Self::import(&proto, &resolver, name.clone(), limits)
        };
        load().map_err(|e: Error| e.in_file(name.clone()))
    }

    /// Reads a model from memory under the default limits; it may have no external data.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::from_bytes_with(bytes, &Limits::default())
    }

    /// As [`Model::from_bytes`], with limits.
    pub fn from_bytes_with(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Self> {
        let proto = kiln_onnx::decode(bytes.into(), limits)?;
        Self::import(&proto, &Resolver::in_memory(), "-".to_owned(), limits)
    }

    fn import(
        proto: &kiln_onnx::proto::ModelProto,
        resolver: &Resolver,
        name: String,
        limits: &Limits,
    ) -> Result<Self> {
        let i = kiln_onnx::import(proto, resolver, limits)?;
        Ok(Self {
            nbytes: i.nbytes,
            graph: i.graph,
            name,
            warnings: i.warnings,
            repairs: i.repairs,
            ir_version: i.ir_version,
            opsets: i.opsets,
            producer: i.producer,
            limits: limits.clone(),
        })
    }

    /// The graph, every node in its newest form.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The file's name, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was odd in the file and put right.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The nodes that break the specification and were read as they must be meant.
    pub(crate) fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// The IR version of the file.
    pub fn ir_version(&self) -> i64 {
        self.ir_version
    }

    /// The versions of the domains that the file imports.
    pub fn opsets(&self) -> &BTreeMap<String, i64> {
        &self.opsets
    }

    /// The producer's name and version.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// The limits under which it was read, and under which it runs.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The bytes of the model, with its external data.
    pub fn nbytes(&self) -> u64 {
        self.nbytes
    }

    /// The inputs that a run needs, in order.
    pub fn inputs(&self) -> Vec<ValueInfo> {
        inputs_of(&self.graph)
    }

    /// The outputs that a run gives, in order.
    pub fn outputs(&self) -> Vec<ValueInfo> {
        outputs_of(&self.graph)
    }

    /// The model for inputs of one size: symbols of the inputs replaced by numbers.
    ///
    /// An error is *invalid*: a name is no symbol of an input, or the lengths do not fit.
    pub fn with_dims(mut self, dims: &BTreeMap<String, i64>) -> Result<Self> {
        if !dims.is_empty() {
            let bound = bind::bind(&self.graph, dims);
            self.graph = bound.map_err(|e| e.in_file(self.name.clone()))?;
        }
        Ok(self)
    }

    /// Optimizes the graph as the options say and returns it, for looking at and exporting.
    pub fn optimize(&self, options: &Options) -> Result<(Graph, kiln_passes::Report)> {
        builder::optimize(self, options)
    }

    /// Each edit of a report of [`Model::optimize`] under the same options, as two small graphs;
    /// `None` where an edit has no such picture.
    pub fn pictures(
        &self,
        options: &Options,
        report: &kiln_passes::Report,
    ) -> Result<Vec<Option<kiln_passes::Sides>>> {
        let pipeline = kiln_passes::pipeline(options.opt_level, &options.skip, &self.limits)?;
        kiln_passes::pictures(&self.graph, &pipeline, report)
    }

    /// Optimizes the graph and proves it against the untouched one, by samples that are given
    /// and made up; what is guilty of a difference is dropped.
    ///
    /// An error: the model itself fails on a sample that was given.
    pub fn check(&self, options: &Options, checking: &Checking) -> Result<Checked> {
        check::check(self, options, checking).map_err(|e| e.in_file(self.name.clone()))
    }

    /// Quantizes the model by samples, each a value for every input in order; the result has
    /// standard operators only. The order of the samples does not matter.
    ///
    /// An error: nothing can be quantized, there are no samples where they are needed, or the
    /// model fails on one.
    pub fn quantize(&self, samples: &[Vec<Datum>], how: &Quantizing) -> Result<Quantized> {
        quantize::quantize(self, samples, how).map_err(|e| e.in_file(self.name.clone()))
    }

    /// Makes the model ready to run.
    pub fn compile(&self, options: &Options) -> Result<Session> {
        builder::build(self, options).map_err(|e| e.in_file(self.name.clone()))
    }

    /// Writes a graph made from this model as an ONNX model.
    pub fn export(&self, graph: &Graph) -> Result<Vec<u8>> {
        kiln_onnx::export_bytes(graph, &self.opsets)
    }
}

fn info(g: &Graph, name: &str, v: Value) -> ValueInfo {
    ValueInfo { name: name.to_owned(), ty: g.ty(v).clone() }
}

pub(crate) fn inputs_of(g: &Graph) -> Vec<ValueInfo> {
    g.inputs().map(|v| info(g, &g.node(v.node).name, v)).collect()
}

pub(crate) fn outputs_of(g: &Graph) -> Vec<ValueInfo> {
    g.outputs().iter().map(|(name, v)| info(g, name, *v)).collect()
}
