//! A model into a graph: every node in its newest form, bodies closed, functions inlined.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kiln_ir::schema::{self, NodeSpec};
use kiln_ir::{Attr, Attrs, Dim, Error, Graph, Kind, Limits, NodeInfo, Result, Type, Value};
use kiln_tensor::{DType, Tensor};
use prost::Message;

use crate::Resolver;
use crate::attribute::{attr_from_proto, kind};
use crate::body::{FreeNames, bodies, sparse_name};
use crate::decode::canonical_domain;
use crate::functions::Functions;
use crate::order;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, ValueInfoProto,
};
use crate::repair::{self, Repair};
use crate::tensor::{sparse_from_proto, tensor_from_proto};
use crate::types::{symbol, type_from_proto};

/// A graph, and what its file says beside it.
#[derive(Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// What was odd and put right.
    pub warnings: Vec<String>,
    /// The nodes that break the specification and were read as they must be meant.
    pub repairs: Vec<Repair>,
    /// The IR version of the file.
    pub ir_version: i64,
    /// The versions of the domains that the file imports; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// The producer's name and version.
    pub producer: String,
    /// The bytes of the model, with its external data.
    pub nbytes: u64,
}

/// Imports a model. `resolver` finds external data; without one there is none.
///
/// Errors are *unsupported* with every missing operator at once, *invalid* with the node, or
/// *limit*.
pub fn import(model: &ModelProto, resolver: &Resolver, limits: &Limits) -> Result<Imported> {
    let proto = model.graph.as_ref().ok_or_else(|| Error::invalid("the model has no graph"))?;
    let functions = Functions::of(model)?;
    functions.check_size(proto, limits)?;
    let opsets = opsets(&model.opset_import);
    check_supported(proto, &opsets, &functions)?;
    let mut importer = Importer {
        resolver,
        functions,
        free: FreeNames::default(),
        warnings: Vec::new(),
        repairs: Vec::new(),
        limits,
        made: 0,
        at: 0,
        dense_left: limits.within(proto.encoded_len() as u64).memory_bytes,
    };
    let graph = importer.main(proto, &opsets)?;
    let nbytes = (proto.encoded_len() as u64).saturating_add(resolver.given());
    let named = |(d, v): (&str, i64)| (if d.is_empty() { "ai.onnx" } else { d }.to_owned(), v);
    Ok(Imported {
        graph,
        warnings: importer.warnings,
        repairs: importer.repairs,
        ir_version: model.ir_version.unwrap_or_default(),
        opsets: opsets.into_iter().map(named).collect(),
        producer: [&model.producer_name, &model.producer_version]
            .map(|s| s.clone().unwrap_or_default())
            .join(" ")
            .trim()
            .to_owned(),
        nbytes,
    })
}

/// The version of each domain.
type Opsets<'a> = HashMap<&'a str, i64>;

fn opsets(imports: &[OperatorSetIdProto]) -> Opsets<'_> {
    let domain = |o: &OperatorSetIdProto| o.version.unwrap_or(1);
    imports
        .iter()
        .map(|o| (canonical_domain(o.domain.as_deref().unwrap_or("")), domain(o)))
        .collect()
}

/// The operator's name, led by its domain, and the version of the domain.
fn op_of(node: &NodeProto, opsets: &Opsets<'_>) -> (String, i64) {
    let domain = canonical_domain(node.domain.as_deref().unwrap_or(""));
    let name = schema::qualified(domain, node.op_type.as_deref().unwrap_or(""));
    (name, opsets.get(domain).copied().unwrap_or(1))
}

/// Finds every operator that kiln lacks, each body and each called function visited once.
fn check_supported(graph: &GraphProto, opsets: &Opsets<'_>, functions: &Functions) -> Result<()> {
    let mut missing = Vec::new();
    let mut seen_functions = HashSet::new();
    survey(&graph.node, opsets, functions, &mut seen_functions, &mut missing);
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    missing.dedup();
    let list = missing.join(", ");
    Err(Error::unsupported(format!(
        "kiln lacks {} of this model's operators: {list}",
        missing.len()
    ))
    .help("`kiln ops` lists what there is")
    .missing(missing))
}

fn survey<'a>(
    nodes: &[NodeProto],
    opsets: &Opsets<'_>,
    functions: &Functions<'a>,
    seen: &mut HashSet<*const FunctionProto>,
    missing: &mut Vec<String>,
) {
    for node in nodes {
        if let Some(f) = functions.called(node) {
            if seen.insert(std::ptr::from_ref(f)) {
                survey(&f.node, &self::opsets(&f.opset_import), functions, seen, missing);
            }
        } else {
            let (name, opset) = op_of(node, opsets);
            if schema::find(&name, opset).is_none() {
                let (domain, op) = schema::split(&name);
                let domain = if domain.is_empty() { "ai.onnx" } else { domain };
                missing.push(format!("{domain}::{op}"));
            }
        }
        for body in node.attribute.iter().flat_map(bodies) {
            survey(&body.node, opsets, functions, seen, missing);
        }
    }
}

struct Importer<'a> {
    resolver: &'a Resolver,
    functions: Functions<'a>,
    free: FreeNames,
    warnings: Vec<String>,
    repairs: Vec<Repair>,
    limits: &'a Limits,
    made: usize,
    /// The place of the main graph's node that is being read.
    at: usize,
    /// Bytes that sparse tensors may still take in their dense form.
    dense_left: u64,
}

/// The values that names stand for, and the graph that makes them.
struct Scope<'a> {
    graph: Graph,
    names: HashMap<String, Value>,
    opsets: &'a Opsets<'a>,
    /// The attributes of the function call being inlined.
    arguments: HashMap<String, Arguments>,
    depth: usize,
}

/// What a reference to a function's attribute stands for.
#[derive(Clone)]
struct Arguments {
    attr: Attr,
    /// The outer values that the body reads, where the attribute is one.
    captures: Vec<Value>,
}

impl<'a> Scope<'a> {
    fn new(opsets: &'a Opsets<'a>, depth: usize) -> Self {
        let (graph, names, arguments) = (Graph::new(), HashMap::new(), HashMap::new());
        Self { graph, names, opsets, arguments, depth }
    }

    fn define(&mut self, name: &str, v: Value) -> Result<()> {
        match self.names.insert(name.to_owned(), v) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!("two values have the name `{name}`"))),
        }
    }

    fn lookup(&self, name: &str) -> Result<Value> {
        self.names.get(name).copied().ok_or_else(|| {
            Error::invalid(format!("`{name}` is read, but nothing before makes it"))
                .help("define every input by a node, an input or an initializer, without cycles")
        })
    }
}

impl<'a> Importer<'a> {
    fn main(&mut self, proto: &'a GraphProto, opsets: &Opsets<'a>) -> Result<Graph> {
        let mut scope = Scope::new(opsets, 0);
        self.initializers(&mut scope, proto)?;
        for input in &proto.input {
            let name = input.name.as_deref().unwrap_or_default();
            // An initializer of the same name is the input's value.
            if scope.names.contains_key(name) {
                continue;
            }
            let declared = input
                .r#type
                .as_ref()
                .ok_or_else(|| Error::invalid(format!("input `{name}` has no declared type")))?;
            let ty = type_from_proto(declared, name)?;
            let v = scope.graph.input(name, ty);
            scope.define(name, v)?;
        }
        for i in order::sorted(&proto.node, &mut self.free) {
            let node = &proto.node[i];
            scope.graph.set_origin(vec![i as u32]);
            self.at = i;
            self.node(&mut scope, node).map_err(|e| e.at(|| place(i, node, &scope)))?;
        }
        self.outputs(&mut scope, &proto.output, true)?;
        self.warnings.extend(repair::warning(&self.repairs));
        Ok(scope.graph)
    }

    fn initializers(&mut self, scope: &mut Scope<'_>, proto: &GraphProto) -> Result<()> {
        let named = |name: &str, t: Result<Tensor>| {
            t.map_err(|e| Error::new(e.kind(), format!("initializer `{name}`: {}", e.message())))
        };
        for t in &proto.initializer {
            let name = t.name.as_deref().unwrap_or_default();
            let tensor = named(name, tensor_from_proto(t, Some(self.resolver), self.limits))?;
            let v = scope.graph.constant(name, tensor);
            scope.define(name, v)?;
        }
        for t in &proto.sparse_initializer {
            let name = sparse_name(t).unwrap_or_default();
            let tensor = named(name, self.sparse(t))?;
            let v = scope.graph.constant(name, tensor);
            scope.define(name, v)?;
        }
        Ok(())
    }

    /// A sparse tensor in its dense form, which all such tensors of a model share a limit for.
    fn sparse(&mut self, t: &SparseTensorProto) -> Result<Tensor> {
        let left = self.dense_left.min(self.limits.tensor_bytes);
        let limits = Limits { tensor_bytes: left, ..self.limits.clone() };
        let read = sparse_from_proto(t, Some(self.resolver), &limits);
        let dense = read.map_err(|e| match e.kind() {
            Kind::Limit if left < self.limits.tensor_bytes => {
                Error::limit("memory-bytes", e.message())
            }
            _ => e,
        })?;
        self.dense_left -= (dense.bytes().len() as u64).min(left);
        Ok(dense)
    }

    /// Names the outputs. A declared element type that is false is cast to, with a warning.
    fn outputs(
        &mut self,
        scope: &mut Scope<'_>,
        declared: &[ValueInfoProto],
        cast: bool,
    ) -> Result<()> {
        let mut outputs: Vec<(Arc<str>, Value)> = Vec::new();
        for out in declared {
            let name = out.name.as_deref().unwrap_or_default();
            let mut v = scope.lookup(name).map_err(|_| {
                Error::invalid(format!("the graph's output `{name}` is made by no node"))
            })?;
            let want = out.r#type.as_ref().and_then(|t| type_from_proto(t, name).ok());
            if let (true, Some(Type::Tensor(want)), Type::Tensor(got)) =
                (cast, want, scope.graph.ty(v).clone())
                && want.dtype != got.dtype
            {
                self.warnings.push(format!(
                    "output `{name}` is declared {}, but it is {}: cast to the declared type",
                    want.dtype, got.dtype
                ));
                v = repair::cast(&mut scope.graph, name, v, want.dtype)?;
            }
            outputs.push((name.into(), v));
        }
        scope.graph.set_outputs(outputs);
        Ok(())
    }

    fn node(&mut self, scope: &mut Scope<'_>, node: &NodeProto) -> Result<()> {
        self.made += 1;
        if self.made > self.limits.nodes {
            return Err(Error::limit("nodes", format!("more than {} nodes", self.limits.nodes)));
        }
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(if name.is_empty() { None } else { Some(scope.lookup(name)?) });
        }
        let values = match self.functions.called(node) {
            Some(f) => self.call(scope, node, f, &inputs)?,
            None => self.operator(scope, node, inputs)?,
        };
        for (name, v) in node.output.iter().zip(values) {
            if !name.is_empty() {
                scope.define(name, v)?;
            }
        }
        Ok(())
    }

    fn operator(
        &mut self,
        scope: &mut Scope<'_>,
        node: &NodeProto,
        mut inputs: Vec<Option<Value>>,
    ) -> Result<Vec<Value>> {
        let (op, opset) = op_of(node, scope.opsets);
        let (mut attrs, captures) = self.attributes(scope, node, &inputs)?;
        if !captures.is_empty() {
            attrs.set("captures", Attr::Int(captures.len() as i64));
            inputs.extend(captures.into_iter().map(Some));
        }
        let named = node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |i| i + 1);
        let name = node.output.iter().find(|o| !o.is_empty()).map_or("", String::as_str);
        let spec = NodeSpec { op: &op, opset, name, inputs, attrs, outputs: named };
        let (values, repaired) = repair::add(&mut scope.graph, spec)?;
        if let Some(what) = repaired {
            self.repairs.push(Repair { node: place(self.at, node, scope), what });
        }
        Ok(values)
    }

    /// The attributes of a node and the outer values that its bodies read.
    fn attributes(
        &mut self,
        scope: &mut Scope<'_>,
        node: &NodeProto,
        inputs: &[Option<Value>],
    ) -> Result<(Attrs, Vec<Value>)> {
        let mut attrs = Attrs::default();
        let mut captures = Vec::new();
        let free = self.free.of_node(node);
        // Constants go into the bodies themselves, where inference sees them.
        let (constant, captured): (Vec<String>, Vec<String>) = free.into_iter().partition(
            |n| matches!(scope.names.get(n), Some(v) if scope.graph.constant_of(*v).is_some()),
        );
        for name in &captured {
            captures.push(scope.lookup(name)?);
        }
        let outer = Outer { constant, captured };
        for a in &node.attribute {
            let name = a.name.as_deref().unwrap_or_default();
            if attrs.has(name) {
                return Err(Error::invalid(format!("attribute `{name}` is given twice")));
            }
            if let Some(reference) = a.ref_attr_name.as_deref().filter(|r| !r.is_empty()) {
                // An attribute that the call leaves out is left out here, too.
                if let Some(arg) = scope.arguments.get(reference).cloned() {
                    attrs.set(name, arg.attr);
                    captures.extend(arg.captures);
                }
                continue;
            }
            let value = match (kind(a), &a.sparse_tensor) {
                (AttributeType::Graph, _) => {
                    Attr::Graph(self.body(scope, node, a, inputs, &outer)?.into())
                }
                (AttributeType::SparseTensor, Some(t)) => Attr::Tensor(self.sparse(t)?),
                _ => attr_from_proto(a, Some(self.resolver), self.limits)?,
            };
            attrs.set(name, value);
        }
        Ok((attrs, captures))
    }

    /// A body, closed: its inputs are its own, then the captured values.
    fn body(
        &mut self,
        outer: &mut Scope<'_>,
        node: &NodeProto,
        attribute: &AttributeProto,
        inputs: &[Option<Value>],
        reads: &Outer,
    ) -> Result<Graph> {
        let Some(proto) = &attribute.g else {
            return Err(Error::invalid("an attribute of kind graph holds none"));
        };
        if outer.depth >= self.limits.depth {
            let text = format!("bodies nest deeper than {}", self.limits.depth);
            return Err(Error::limit("depth", text));
        }
        let mut scope = Scope::new(outer.opsets, outer.depth + 1);
        scope.arguments.clone_from(&outer.arguments);
        let hints = body_input_types(node, &outer.graph, inputs, proto.input.len());
        for (input, hint) in proto.input.iter().zip(hints) {
            let name = input.name.as_deref().unwrap_or_default();
            let declared = match &input.r#type {
                Some(t) if t.value.is_some() => Some(loosened(type_from_proto(t, name)?, name)),
                _ => None,
            };
            // A float is the likeliest type of what nobody has declared.
            let ty = declared.or(hint).unwrap_or(Type::tensor(DType::F32, None));
            let v = scope.graph.input(name, ty);
            scope.define(name, v)?;
        }
        for name in &reads.captured {
            let v = scope.graph.input(name, outer.graph.ty(outer.lookup(name)?).clone());
            scope.names.entry(name.clone()).or_insert(v);
        }
        for name in &reads.constant {
            if let Some(t) = outer.graph.constant_of(outer.lookup(name)?).cloned() {
                let v = scope.graph.constant(name, t);
                scope.names.entry(name.clone()).or_insert(v);
            }
        }
        self.body_nodes(&mut scope, proto)?;
        Ok(scope.graph)
    }

    fn body_nodes(&mut self, scope: &mut Scope<'_>, proto: &GraphProto) -> Result<()> {
        // A body may give an outer name a new meaning.
        let own = proto.initializer.iter().filter_map(|t| t.name.as_deref());
        for name in own {
            scope.names.remove(name);
        }
        self.initializers(scope, proto)?;
        for node in &proto.node {
            for name in &node.output {
                scope.names.remove(name);
            }
            self.node(scope, node)?;
        }
        self.outputs(scope, &proto.output, false)
    }

    /// Inlines a call of a model-local function.
    fn call(
        &mut self,
        scope: &mut Scope<'_>,
        node: &NodeProto,
        f: &'a FunctionProto,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>> {
        let name = f.name.as_deref().unwrap_or_default();
        if scope.depth >= self.limits.depth {
            let text = format!("function calls nest deeper than {}", self.limits.depth);
            return Err(Error::limit("depth", text));
        }
        if inputs.len() > f.input.len() {
            let (takes, got) = (f.input.len(), inputs.len());
            return Err(Error::invalid(format!(
                "function `{name}` takes {takes} inputs, got {got}"
            )));
        }
        let arguments = self.arguments(scope, node, f, inputs)?;
        let given = f.input.iter().zip(inputs);
        let names = given.filter_map(|(n, v)| v.map(|v| (n.clone(), v))).collect();
        let opsets = opsets(&f.opset_import);
        let mut inner = Scope {
            graph: std::mem::take(&mut scope.graph),
            names,
            opsets: &opsets,
            arguments,
            depth: scope.depth + 1,
        };
        // An input that the call leaves out reads as left out within.
        let absent: HashSet<&str> =
            f.input.iter().map(String::as_str).filter(|n| !inner.names.contains_key(*n)).collect();
        let mut nodes = order::sorted(&f.node, &mut self.free).into_iter().map(|i| &f.node[i]);
        let made = nodes.try_for_each(|n| match without(n, &absent) {
            None => self.node(&mut inner, n),
            Some(n) => {
                let made = self.node(&mut inner, &n);
                // What is remembered of its bodies dies with the copy.
                self.free = FreeNames::default();
                made
            }
        });
        let values = made.and_then(|()| f.output.iter().map(|o| inner.lookup(o)).collect());
        scope.graph = inner.graph;
        values.map_err(|e: Error| Error::new(e.kind(), format!("in function `{name}`: {e}")))
    }

    fn arguments(
        &mut self,
        scope: &mut Scope<'_>,
        node: &NodeProto,
        f: &FunctionProto,
        inputs: &[Option<Value>],
    ) -> Result<HashMap<String, Arguments>> {
        let (given, captures) = self.attributes(scope, node, inputs)?;
        let mut out = HashMap::new();
        for a in &f.attribute_proto {
            let attr = attr_from_proto(a, Some(self.resolver), self.limits)?;
            let name = a.name.clone().unwrap_or_default();
            out.insert(name, Arguments { attr, captures: vec![] });
        }
        for (name, attr) in given.iter() {
            let captures = if matches!(attr, Attr::Graph(_)) { captures.clone() } else { vec![] };
            out.insert(name.to_owned(), Arguments { attr: attr.clone(), captures });
        }
        Ok(out)
    }
}

/// The outer names that the bodies of one node read.
struct Outer {
    constant: Vec<String>,
    captured: Vec<String>,
}

/// A copy of the node with the inputs that a call leaves out made empty, where it reads any.
fn without(node: &NodeProto, absent: &HashSet<&str>) -> Option<NodeProto> {
    let gone = |n: &String| absent.contains(n.as_str());
    node.input.iter().any(gone).then(|| {
        let mut node = node.clone();
        node.input.iter_mut().filter(|n| gone(n)).for_each(String::clear);
        node
    })
}

/// What an error says of a node that has not been made.
fn place(index: usize, node: &NodeProto, scope: &Scope<'_>) -> NodeInfo {
    let (op, _) = op_of(node, scope.opsets);
    let name = match node.name.as_deref() {
        Some(n) if !n.is_empty() => n,
        _ => node.output.first().map_or("", String::as_str),
    };
    let show = |n: &String| match scope.names.get(n) {
        Some(v) => format!("{n} {}", scope.graph.ty(*v)),
        None => format!("{n} (undefined)"),
    };
    let inputs = node.input.iter().map(show).collect();
    NodeInfo { index: Some(index), name: name.to_owned(), op, inputs }
}

/// Lengths may change from one trip to the next; ranks and element types may not.
fn loosened(ty: Type, name: &str) -> Type {
    match ty {
        Type::Tensor(t) => {
            let free = |shape: Vec<Dim>| {
                (0..shape.len()).map(|i| Dim::sym(&format!("{}.{i}", symbol(name)))).collect()
            };
            Type::tensor(t.dtype, t.shape.map(free))
        }
        other => other,
    }
}

/// What the inputs of a body are, as far as the node's own inputs tell.
fn body_input_types(
    node: &NodeProto,
    g: &Graph,
    inputs: &[Option<Value>],
    count: usize,
) -> Vec<Option<Type>> {
    let outer = |i: usize| inputs.get(i).copied().flatten().map(|v| g.ty(v).clone());
    let unshaped = |ty: Type| match ty {
        Type::Tensor(t) => Type::tensor(t.dtype, None),
        Type::Sequence(inner) => Type::Sequence(inner),
        other => other,
    };
    let element = |ty: Type| match ty {
        Type::Sequence(inner) => *inner,
        other => unshaped(other),
    };
    let scalar = |d| Some(Type::tensor(d, Some(vec![])));
    (0..count)
        .map(|i| match (node.op_type.as_deref(), i) {
            (Some("Loop"), 0) => scalar(DType::I64),
            (Some("Loop"), 1) => scalar(DType::Bool),
            (Some("SequenceMap"), i) => outer(i).map(element),
            (Some("Scan"), i) => outer(i + inputs.len().saturating_sub(count)).map(unshaped),
            (_, i) => outer(i).map(unshaped),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;
    use prost::Message;

    use super::*;

    /// Exports the text of a graph, imports it again, and prints it.
    fn there_and_back(graph: &str) -> String {
        let g = text::parse(graph).expect("parses");
        let model = crate::export(&g, &BTreeMap::new()).expect("exports");
        let bytes = model.encode_to_vec();
        let model = crate::decode(bytes.into(), &Limits::default()).expect("decodes");
        let back = import(&model, &Resolver::in_memory(), &Limits::default()).expect("imports");
        text::print(&back.graph)
    }

    #[test]
    fn export_and_import_give_the_same_graph() {
        let text = "x: f32[N,2]\nc = f32[2]{1.0, 2.0}\ns = Add(x, c)\n\
                    y = LeakyRelu(s) {alpha=0.5}\nreturn y\n";
        let sorted = |t: &str| {
            let mut lines: Vec<_> = t.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&there_and_back(text)), sorted(text));
    }

    #[test]
    fn fused_operators_are_written_as_functions_of_standard_ones() {
        for (text, wanted) in [
            (
                "y = ai.kiln.Conv(x: f32[1,1,2], w: f32[1,1,1], _, z: f32[1,1,2]) \
                 {activation=\"GeluTanh\"}\nreturn y",
                &["Conv(x, w)", "Add(", "Gelu("][..],
            ),
            (
                "y = ai.kiln.MatMul(a: f32[2,2], b: f32[3,2], _, z: f32[3]) {transB=1}\n\
                 v = ai.kiln.MatMul(y, c: f32[3,3], d: f32[3]) {alpha=0.5}\nreturn v",
                &["Transpose(b)", ", z)", "Mul(", ", d)"][..],
            ),
            (
                "y = ai.kiln.MatMulIntegerToFloat(a: u8[2,2], b: i8[2,3], s: f32[3], z: u8[], _, \
                 c: f32[3]) {activation=\"Gelu\"}\nreturn y",
                &["MatMulInteger(a, b, z)", "Cast(", ", s)", ", c)", "Gelu("][..],
            ),
            (
                "y, s = ai.kiln.SkipLayerNormalization(x: f32[2,3], k: f32[2,3], g: f32[3])\n\
                 return y, s",
                &["Add(x, k)", "LayerNormalization("][..],
            ),
            (
                "x: f32[2]\nz: f32[2]\ny = ai.kiln.Region(x, z) {body=graph {\n a: f32[..]\n \
                 b: f32[..]\n c = Mul(a, b)\n d = Exp(c)\n return d\n}}\nreturn y",
                &["Mul(x, z)", "Exp("][..],
            ),
        ] {
            let back = there_and_back(text);
            let all = wanted.iter().all(|w| back.contains(w));
            assert!(all && !back.contains("ai.kiln"), "{back}");
        }
    }

    #[test]
    fn every_missing_operator_is_listed_at_once() {
        let node = |op: &str| NodeProto {
            op_type: Some(op.to_owned()),
            output: vec![op.to_owned()],
            ..Default::default()
        };
        let graph = GraphProto { node: vec![node("Foo"), node("Bar")], ..Default::default() };
        let model = ModelProto { graph: Some(graph), ..Default::default() };
        let e = import(&model, &Resolver::in_memory(), &Limits::default()).expect_err("unknown");
        assert_eq!(e.missing_ops(), ["ai.onnx::Bar", "ai.onnx::Foo"]);
    }
}
