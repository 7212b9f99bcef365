//! A graph into a model: valid ONNX, bodies opened again, fused operators as functions.

use std::collections::{BTreeMap, HashMap, HashSet};

use kiln_ir::{Attr, Graph, Node, NodeId, Op, Operator, Result, Type, Value, schema};

use crate::attribute::attr_to_proto;
use crate::mask;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto,
};
use crate::tensor::tensor_to_proto;
use crate::types::type_to_proto;
use crate::version;

/// The domain of kiln's fused operators; they are written as functions.
pub const KILN_DOMAIN: &str = "ai.kiln";

/// Exports a graph. `opsets` are the lowest versions to import, by domain.
///
/// Every operator is in its newest form, so the versions written are at least those that
/// made these forms.
pub fn export(g: &Graph, opsets: &BTreeMap<String, i64>) -> Result<ModelProto> {
    let mut exporter = Exporter { opsets: BTreeMap::new(), functions: Vec::new() };
    for (domain, version) in opsets {
        exporter.import(crate::decode::canonical_domain(domain), *version);
    }
    exporter.import("", version::LOWEST);
    let graph = exporter.graph(g, &HashMap::new(), usize::MAX, &mut Names::default())?;
    let default = exporter.opsets[""];
    let imports = exporter.imports();
    Ok(ModelProto {
        ir_version: Some(ir_version(default, !exporter.functions.is_empty())),
        producer_name: Some("kiln".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        // Functions import what the whole model does.
        functions: (exporter.functions.into_iter())
            .map(|(_, f)| FunctionProto { opset_import: imports.clone(), ..f })
            .collect(),
        opset_import: imports,
        graph: Some(graph),
        ..Default::default()
    })
}

/// The lowest IR version that may import this version of the default domain.
fn ir_version(opset: i64, functions: bool) -> i64 {
    let lowest = match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        _ => 13,
    };
    // Functions came with IR 8.
    if functions { lowest.max(8) } else { lowest }
}

/// Attributes that say in texts what a file says by the names of outputs and of captured values.
const OWN_ATTRIBUTES: &[&str] = &["captures", "made_outputs"];

struct Exporter {
    opsets: BTreeMap<String, i64>,
    functions: Vec<(String, FunctionProto)>,
}

/// Names that are taken, over a graph and its bodies.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn unique(&mut self, wanted: &str) -> String {
        let base = if wanted.is_empty() { "v" } else { wanted };
        let mut name = base.to_owned();
        let mut k = 1;
        while !self.0.insert(name.clone()) {
            k += 1;
            name = format!("{base}_{k}");
        }
        name
    }
}

impl Exporter {
    fn import(&mut self, domain: &str, version: i64) {
        let v = self.opsets.entry(domain.to_owned()).or_insert(version);
        *v = (*v).max(version);
    }

    fn imports(&self) -> Vec<OperatorSetIdProto> {
        let one = |(d, v): (&String, &i64)| OperatorSetIdProto {
            domain: Some(d.clone()),
            version: Some(*v),
        };
        self.opsets.iter().map(one).collect()
    }

    /// A graph or a body. The inputs from `own` on are captured: `captured` names them.
    fn graph(
        &mut self,
        g: &Graph,
        captured: &HashMap<usize, String>,
        own: usize,
        names: &mut Names,
    ) -> Result<GraphProto> {
        let mut proto = GraphProto { name: Some("kiln".to_owned()), ..Default::default() };
        let mut value_names: HashMap<Value, String> = HashMap::new();
        for (i, v) in g.inputs().enumerate() {
            if i >= own {
                value_names.insert(v, captured.get(&i).cloned().unwrap_or_default());
                continue;
            }
            let name = names.unique(&g.node(v.node).name);
            proto.input.push(value_info(g, v, &name));
            value_names.insert(v, name);
        }
        let outputs = self.output_names(g, &mut value_names, names);
        for id in g.order()? {
            self.node(g, id, &mut value_names, names, &mut proto)?;
        }
        for (name, v) in outputs {
            if value_names[&v] != name {
                proto.node.push(identity(&value_names[&v], &name));
            }
            proto.output.push(value_info(g, v, &name));
        }
        Ok(proto)
    }

    /// Gives every output value its output's name, where no other value or output has it.
    fn output_names(
        &self,
        g: &Graph,
        value_names: &mut HashMap<Value, String>,
        names: &mut Names,
    ) -> Vec<(String, Value)> {
        let mut outputs = Vec::new();
        for (name, v) in g.outputs() {
            let name = names.unique(name);
            // An initializer may not be an output in all runtimes: it goes through Identity.
            if g.constant_of(*v).is_none() {
                value_names.entry(*v).or_insert_with(|| name.clone());
            }
            outputs.push((name, *v));
        }
        outputs
    }

    fn node(
        &mut self,
        g: &Graph,
        id: NodeId,
        value_names: &mut HashMap<Value, String>,
        names: &mut Names,
        proto: &mut GraphProto,
    ) -> Result<()> {
        let node = g.node(id);
        for v in g.outputs_of(id) {
            let wanted = match v.slot() {
                0 => node.name.to_string(),
                k => format!("{}_{k}", node.name),
            };
            value_names.entry(v).or_insert_with(|| names.unique(&wanted));
        }
        match &node.op {
            Op::Input(_) => return Ok(()),
            Op::Const(c) => {
                proto.initializer.push(tensor_to_proto(&c.0, &value_names[&id.first()]));
                return Ok(());
            }
            _ => {}
        }
        let mut inputs: Vec<String> = g
            .inputs_of(id)
            .iter()
            .map(|v| v.map_or(String::new(), |v| value_names[&v].clone()))
            .collect();
        let outputs = outputs(g, id, value_names);
        let (domain, op) = self.operator(g, id)?;
        let attribute = self.attributes(node, &mut inputs, names)?;
        mask::widen(g, id, &mut inputs, proto, &mut |wanted| names.unique(wanted));
        proto.node.push(NodeProto {
            name: Some(node.name.to_string()),
            op_type: Some(op),
            domain: Some(domain),
            input: inputs,
            output: outputs,
            attribute,
            ..Default::default()
        });
        Ok(())
    }

    /// The domain and name of an operator; records what must be imported or defined for it.
    fn operator(&mut self, g: &Graph, id: NodeId) -> Result<(String, String)> {
        let node = g.node(id);
        let (domain, op) = schema::split(node.op.name());
        if domain == KILN_DOMAIN {
            return Ok((domain.to_owned(), self.function(op, g, id)?));
        }
        self.import(domain, version::needed(g, id));
        Ok((domain.to_owned(), op.to_owned()))
    }

    /// Defines the function of a fused operator, one for each set of attributes and kinds of
    /// operands.
    fn function(&mut self, op: &str, g: &Graph, id: NodeId) -> Result<String> {
        let (node, inputs) = (g.node(id), g.inputs_of(id));
        let operands: Vec<Option<&Type>> = inputs.iter().map(|v| v.map(|v| g.ty(v))).collect();
        let kinds: Vec<_> = operands.iter().map(|ty| ty.map(kind)).collect();
        let key = format!("{op} {:?} {kinds:?}", node.op.attrs());
        if let Some((_, f)) = self.functions.iter().find(|(k, _)| *k == key) {
            return Ok(f.name.clone().unwrap_or_default());
        }
        let body = node.op.expansion(&operands).ok_or_else(|| {
            kiln_ir::Error::bug(format!("`{op}` is fused, but has no body in standard operators"))
        })?;
        let graph = self.graph(&body, &HashMap::new(), usize::MAX, &mut Names::default())?;
        let name = format!("{op}_{}", self.functions.len());
        self.import(KILN_DOMAIN, 1);
        let plain = |v: &ValueInfoProto| v.name.clone().unwrap_or_default();
        let constants = graph.initializer.iter().map(constant_node);
        let f = FunctionProto {
            name: Some(name.clone()),
            domain: Some(KILN_DOMAIN.to_owned()),
            input: graph.input.iter().map(plain).collect(),
            output: graph.output.iter().map(plain).collect(),
            // Nodes of functions need no names, and runtimes refuse two of the same.
            node: constants
                .chain(graph.node.clone())
                .map(|n| NodeProto { name: None, ..n })
                .collect(),
            ..Default::default()
        };
        self.functions.push((key, f));
        Ok(name)
    }

    /// The attributes. Bodies are opened: they read the captured values by name, so these
    /// are no longer inputs of the node.
    fn attributes(
        &mut self,
        node: &Node,
        inputs: &mut Vec<String>,
        names: &mut Names,
    ) -> Result<Vec<AttributeProto>> {
        if schema::split(node.op.name()).0 == KILN_DOMAIN {
            return Ok(vec![]);
        }
        let attrs = node.op.attrs();
        let captures = match attrs.get("captures") {
            Some(Attr::Int(n)) => usize::try_from(*n).unwrap_or(0).min(inputs.len()),
            _ => 0,
        };
        let captured = inputs.split_off(inputs.len() - captures);
        let mut out = Vec::new();
        // The lengths of the parts tell their number, and both may not be given.
        let told = node.op.name() == "Split" && inputs.len() > 1;
        let own = |n: &str| OWN_ATTRIBUTES.contains(&n) || told && n == "num_outputs";
        for (name, attr) in attrs.iter().filter(|(n, _)| !own(n)) {
            let Attr::Graph(body) = attr else {
                out.extend(attr_to_proto(name, attr));
                continue;
            };
            let own = body.inputs().len().saturating_sub(captures);
            let outer = captured.iter().enumerate().map(|(i, n)| (own + i, n.clone())).collect();
            out.push(AttributeProto {
                name: Some(name.to_owned()),
                r#type: Some(AttributeType::Graph as i32),
                g: Some(self.graph(body, &outer, own, names)?.into()),
                ..Default::default()
            });
        }
        Ok(out)
    }
}

/// What the body of a function depends on: the element type and the rank of an operand.
fn kind(ty: &Type) -> String {
    match ty {
        Type::Tensor(t) => format!("{} {:?}", t.dtype, ty.rank()),
        other => other.to_string(),
    }
}

/// The names of a node's outputs: an optional one that nothing reads is left out.
fn outputs(g: &Graph, id: NodeId, value_names: &HashMap<Value, String>) -> Vec<String> {
    let all: Vec<Value> = g.outputs_of(id).collect();
    let needed = all.len() - g.op(id).traits().optional_outputs.min(all.len());
    let named = |v: &Value| v.slot() < needed || g.is_read(*v);
    let count = all.iter().rposition(named).map_or(1, |last| last + 1);
    let name = |v: &Value| if named(v) { value_names[v].clone() } else { String::new() };
    all[..count].iter().map(name).collect()
}

fn value_info(g: &Graph, v: Value, name: &str) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(type_to_proto(g.ty(v))),
        ..Default::default()
    }
}

fn identity(from: &str, to: &str) -> NodeProto {
    NodeProto {
        op_type: Some("Identity".to_owned()),
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        ..Default::default()
    }
}

/// Functions have no initializers: their constants are nodes.
fn constant_node(t: &crate::proto::TensorProto) -> NodeProto {
    let value = AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(AttributeType::Tensor as i32),
        t: Some(t.clone().into()),
        ..Default::default()
    };
    NodeProto {
        op_type: Some("Constant".to_owned()),
        output: vec![t.name.clone().unwrap_or_default()],
        attribute: vec![value],
        ..Default::default()
    }
}

/// As [`export`], as the bytes of a file.
pub fn export_bytes(g: &Graph, opsets: &BTreeMap<String, i64>) -> Result<Vec<u8>> {
    Ok(prost::Message::encode_to_vec(&export(g, opsets)?))
}
