//! What a file says of itself, whether or not kiln can run it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kiln_ir::{Limits, Result};
use kiln_onnx::decode::canonical_domain;
use kiln_onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use kiln_onnx::types::type_from_proto;

use crate::model::ValueInfo;

/// What stands in an ONNX file; nothing is computed, and no external data is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// The IR version.
    pub ir_version: i64,
    /// The imported versions, by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// The producer's name and version.
    pub producer: String,
    /// The graph's name.
    pub graph: String,
    /// Inputs without an initializer.
    pub inputs: Vec<ValueInfo>,
    /// Outputs; those without a readable declared type are left out.
    pub outputs: Vec<ValueInfo>,
    /// Nodes, bodies counted, functions not.
    pub nodes: usize,
    /// How often each operator occurs, as `domain::Op`, bodies counted, functions not.
    pub ops: BTreeMap<String, usize>,
    /// The names of the model's own functions, as `domain::Name`.
    pub functions: Vec<String>,
    /// Initializers.
    pub initializers: usize,
    /// Their elements; more than `u64` holds is `u64::MAX`.
    pub parameters: u64,
}

impl Facts {
    /// Reads the facts of a file. The errors are those of [`crate::Model::load`], except that
    /// operators that kiln lacks are none.
    pub fn read(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        let path = path.as_ref();
        let proto = kiln_onnx::open(path, limits);
        proto.map(|p| Self::of(&p)).map_err(|e| e.in_file(path.display().to_string()))
    }

    /// As [`Facts::read`], from memory.
    pub fn from_bytes(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Self> {
        Ok(Self::of(&kiln_onnx::decode(bytes.into(), limits)?))
    }

    fn of(model: &ModelProto) -> Self {
        let words = [&model.producer_name, &model.producer_version];
        let words = words.map(|w| w.clone().unwrap_or_default());
        let opset = |o: &kiln_onnx::proto::OperatorSetIdProto| {
            (domain(o.domain.as_deref()).to_owned(), o.version.unwrap_or(1))
        };
        let function = |f: &kiln_onnx::proto::FunctionProto| qualified(&f.domain, &f.name);
        let mut facts = Self {
            ir_version: model.ir_version.unwrap_or_default(),
            opsets: model.opset_import.iter().map(opset).collect(),
            producer: words.join(" ").trim().to_owned(),
            functions: model.functions.iter().map(function).collect(),
            ..Self::default()
        };
        if let Some(graph) = &model.graph {
            facts.graph = graph.name.clone().unwrap_or_default();
            facts.values(graph);
            facts.count(&graph.node);
        }
        facts
    }

    fn values(&mut self, graph: &GraphProto) {
        let fixed: std::collections::HashSet<_> =
            graph.initializer.iter().filter_map(|t| t.name.as_deref()).collect();
        let is_free = |v: &&ValueInfoProto| v.name.as_deref().is_none_or(|n| !fixed.contains(n));
        self.inputs = graph.input.iter().filter(is_free).filter_map(info).collect();
        self.outputs = graph.output.iter().filter_map(info).collect();
        self.initializers = graph.initializer.len() + graph.sparse_initializer.len();
        let all = graph.initializer.iter().map(elements);
        self.parameters = all.fold(0, u64::saturating_add);
    }

    fn count(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            self.nodes += 1;
            *self.ops.entry(qualified(&node.domain, &node.op_type)).or_default() += 1;
            for a in &node.attribute {
                for body in a.g.iter().map(|g| &**g).chain(&a.graphs) {
                    self.count(&body.node);
                }
            }
        }
    }
}

fn domain(text: Option<&str>) -> &str {
    match canonical_domain(text.unwrap_or("")) {
        "" => "ai.onnx",
        other => other,
    }
}

fn qualified(of: &Option<String>, op: &Option<String>) -> String {
    format!("{}::{}", domain(of.as_deref()), op.as_deref().unwrap_or(""))
}

fn info(v: &ValueInfoProto) -> Option<ValueInfo> {
    let name = v.name.clone().unwrap_or_default();
    let ty = type_from_proto(v.r#type.as_ref()?, &name).ok()?;
    Some(ValueInfo { name, ty })
}

fn elements(t: &TensorProto) -> u64 {
    let lengths = t.dims.iter().map(|&d| u64::try_from(d).unwrap_or(0));
    lengths.fold(1, u64::saturating_mul)
}
