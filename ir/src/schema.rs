//! Rows that teach the importer one ONNX operator since one version.
//!
//! A row builds the newest form, whatever its version: an attribute that became an input is
//! appended as a constant, a semantic that changed is written with more nodes. Nothing behind
//! the importer asks for an opset.

use std::collections::HashMap;
use std::sync::OnceLock;

use kiln_tensor::{DType, Tensor};

use crate::{AttrValue, Attrs, Error, Graph, NodeId, Op, Result, Type, Value};

/// One operator of ONNX since one version of its domain.
#[derive(Clone, Copy)]
pub struct Schema {
    /// The name, led by the domain where that is not `ai.onnx`.
    pub name: &'static str,
    /// The first version of the domain that this row holds for.
    pub since: i64,
    /// Makes the newest form.
    pub build: fn(&mut Build<'_>) -> Result<Built>,
}

/// What a row makes: one operator on the node's inputs, or values made by nodes of its own.
pub enum Built {
    /// An operator; the node's inputs, as the row left them, are its inputs.
    Op(Op),
    /// The node's outputs.
    Values(Vec<Value>),
}

impl<T: Into<Op>> From<T> for Built {
    fn from(op: T) -> Self {
        Built::Op(op.into())
    }
}

impl From<Value> for Built {
    fn from(v: Value) -> Self {
        Built::Values(vec![v])
    }
}

/// The node that a row reads.
pub struct Build<'a> {
    /// The graph that is being made.
    pub graph: &'a mut Graph,
    /// The inputs; `None` where one is left out.
    pub inputs: Vec<Option<Value>>,
    /// The attributes; rows take what they read.
    pub attrs: Attrs,
    /// The version of the domain that the model imports.
    pub opset: i64,
    /// How many outputs the node names.
    pub outputs: usize,
    /// The node's name.
    pub name: String,
}

impl Build<'_> {
    /// Takes an optional attribute.
    pub fn take<T: AttrValue>(&mut self, name: &str) -> Result<Option<T>> {
        self.attrs.take(name)
    }

    /// Takes an attribute that must be there.
    pub fn require<T: AttrValue>(&mut self, name: &str) -> Result<T> {
        self.attrs.require(name)
    }

    /// Input `i`; an error where it is left out.
    pub fn input(&self, i: usize) -> Result<Value> {
        self.inputs
            .get(i)
            .copied()
            .flatten()
            .ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }

    /// Sets input `i`, leaving out what lies before it.
    pub fn set_input(&mut self, i: usize, value: Option<Value>) {
        if self.inputs.len() <= i {
            self.inputs.resize(i + 1, None);
        }
        self.inputs[i] = value;
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.graph.fact(v).ty
    }

    /// The element type of input `i`.
    pub fn dtype(&self, i: usize) -> Result<DType> {
        Ok(self.ty(self.input(i)?).as_tensor()?.dtype)
    }

    /// The rank of input `i`, where it is known.
    pub fn rank(&self, i: usize) -> Result<Option<usize>> {
        Ok(self.ty(self.input(i)?).as_tensor()?.shape.as_ref().map(Vec::len))
    }

    /// The constant fed to input `i`, if it is one.
    pub fn constant_input(&self, i: usize) -> Option<&Tensor> {
        self.graph.constant_of(self.inputs.get(i).copied().flatten()?)
    }

    /// Adds a constant.
    pub fn constant(&mut self, t: Tensor) -> Value {
        let name = format!("{}/const", self.name);
        self.graph.constant(&name, t)
    }

    /// Adds a node and returns its first output.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value> {
        Ok(self.nodes(op, inputs)?.first())
    }

    /// Adds a node, for rows that need more than its first output.
    pub fn nodes(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<NodeId> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        let name = self.name.clone();
        self.graph.add(&name, op, &inputs)
    }

    /// Adds a node by its operator's name, in its newest form, and returns its outputs.
    pub fn call(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: Attrs,
        outputs: usize,
    ) -> Result<Vec<Value>> {
        let name = self.name.clone();
        let inputs = inputs.to_vec();
        add(self.graph, NodeSpec { op, opset: i64::MAX, name: &name, inputs, attrs, outputs })
    }

    /// Moves an attribute of integers to input `i` as a constant vector, where it is there.
    pub fn ints_to_input(&mut self, name: &str, i: usize) -> Result<()> {
        if let Some(ints) = self.take::<Vec<i64>>(name)? {
            let v = self.constant(Tensor::vector(ints));
            self.set_input(i, Some(v));
        }
        Ok(())
    }
}

fn index() -> &'static HashMap<&'static str, Vec<&'static Schema>> {
    static INDEX: OnceLock<HashMap<&'static str, Vec<&'static Schema>>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut map: HashMap<_, Vec<&Schema>> = HashMap::new();
        for s in all() {
            map.entry(s.name).or_default().push(s);
        }
        map.values_mut().for_each(|rows| rows.sort_by_key(|s| s.since));
        map
    })
}

/// Every row of every family.
pub fn all() -> impl Iterator<Item = &'static Schema> {
    tables().flat_map(|(_, rows)| rows.iter())
}

/// The families: the name of the file, and its rows.
pub fn tables() -> impl Iterator<Item = (&'static str, &'static [Schema])> {
    crate::ops::TABLES.iter().copied()
}

/// One table from several; `N` is the sum of their lengths.
pub(crate) const fn join<const N: usize>(parts: &[&[Schema]]) -> [Schema; N] {
    let mut all = [parts[0][0]; N];
    let (mut n, mut i) = (0, 0);
    while i < parts.len() {
        let mut j = 0;
        while j < parts[i].len() {
            all[n] = parts[i][j];
            (n, j) = (n + 1, j + 1);
        }
        i += 1;
    }
    all
}

/// The row for an operator at a version of its domain.
pub fn find(name: &str, opset: i64) -> Option<&'static Schema> {
    index().get(name)?.iter().rev().find(|s| s.since <= opset).copied()
}

/// The versions at which an operator's rows begin, lowest first.
pub fn versions(name: &str) -> impl Iterator<Item = i64> {
    index().get(name).into_iter().flatten().map(|s| s.since)
}

/// The name of an operator in a domain, as rows spell it.
pub fn qualified(domain: &str, op: &str) -> String {
    match domain {
        "" | "ai.onnx" => op.to_owned(),
        _ => format!("{domain}.{op}"),
    }
}

/// The domain and the bare name of an operator's name; the default domain is empty.
pub fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

/// A node as it is written, before a row reads it.
#[derive(Clone, Debug)]
pub struct NodeSpec<'a> {
    /// The operator, led by its domain.
    pub op: &'a str,
    /// The version of the domain.
    pub opset: i64,
    /// The node's name.
    pub name: &'a str,
    /// The inputs; `None` where one is left out.
    pub inputs: Vec<Option<Value>>,
    /// The attributes.
    pub attrs: Attrs,
    /// How many outputs the node names.
    pub outputs: usize,
}

/// Adds a written node to the graph in its newest form and returns its outputs.
pub fn add(graph: &mut Graph, spec: NodeSpec<'_>) -> Result<Vec<Value>> {
    let Some(schema) = find(spec.op, spec.opset) else {
        return Err(Error::unsupported(format!(
            "kiln has no operator `{}` at version {}",
            spec.op, spec.opset
        )));
    };
    let NodeSpec { opset, name, inputs, attrs, outputs, .. } = spec;
    let name = name.to_owned();
    let mut build = Build { graph, inputs, attrs, opset, outputs, name };
    let built = (schema.build)(&mut build)?;
    let (inputs, name) = (std::mem::take(&mut build.inputs), std::mem::take(&mut build.name));
    let values = match built {
        Built::Values(v) => v,
        Built::Op(op) => {
            let node = graph.add(&name, op, &inputs)?;
            graph.outputs_of(node).collect()
        }
    };
    if values.len() < outputs {
        crate::invalid!("the node names {outputs} outputs, the operator has {}", values.len());
    }
    Ok(values)
}
