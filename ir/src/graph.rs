//! The typed DAG. Changed only by its methods, so always well typed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use kiln_tensor::Tensor;
use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::ops::source::{Const, Input};
use crate::{Error, Fact, Infer, NodeInfo, Op, Operator, Result, Type};

/// A node of a graph. Ids stay valid until their node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// A small number, unique in its graph.
    pub fn index(self) -> usize {
        self.0.index()
    }

    /// Output 0.
    pub fn first(self) -> Value {
        self.out(0)
    }

    /// Output `slot`.
    pub fn out(self, slot: usize) -> Value {
        Value { node: self, slot: slot as u32 }
    }
}

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node that makes it.
    pub node: NodeId,
    slot: u32,
}

impl Value {
    /// Which of the node's outputs it is.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// An operator at work.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Its name; texts and messages use it.
    pub name: Arc<str>,
    /// What is known of its outputs.
    pub outputs: Vec<Fact>,
    /// The places, in the file's node list, of the nodes it came from.
    pub origin: Vec<u32>,
}

/// An edge: from an output slot to an input slot.
#[derive(Clone, Copy, Debug)]
struct Wire {
    from: u32,
    to: u32,
}

/// A typed DAG with inputs and outputs.
#[derive(Clone, Default)]
pub struct Graph {
    dag: StableDiGraph<Node, Wire>,
    inputs: Vec<NodeId>,
    outputs: Vec<(Arc<str>, Value)>,
    /// The values among the outputs.
    kept: HashSet<Value>,
    /// How many bodies deep inference is.
    level: usize,
    fresh: u32,
    origin: Vec<u32>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty graph in which a body of a node at `level` is inferred.
    pub(crate) fn scratch(level: usize) -> Self {
        Self { level, ..Self::default() }
    }

    /// Nodes added from now on come from these places of the file's node list.
    pub fn set_origin(&mut self, origin: Vec<u32>) {
        self.origin = origin;
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: Type) -> Value {
        let id = self.insert(name, Input { ty: Box::new(ty.clone()) }.into(), vec![ty.into()]);
        self.inputs.push(id);
        id.first()
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> Value {
        let op = Const(tensor.into());
        let fact = op.fact();
        self.insert(name, op.into(), vec![fact]).first()
    }

    fn insert(&mut self, name: &str, op: Op, outputs: Vec<Fact>) -> NodeId {
        let node = Node { op, name: name.into(), outputs, origin: self.origin.clone() };
        NodeId(self.dag.add_node(node))
    }

    /// Adds a node and infers its outputs; an error names the node and its inputs.
    pub fn add(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[Option<Value>],
    ) -> Result<NodeId> {
        let op = op.into();
        let given = inputs.iter().rposition(Option::is_some).map_or(0, |i| i + 1);
        let inputs = &inputs[..given];
        let mut fresh = self.fresh;
        let facts = self
            .infer(&op, inputs, &mut fresh)
            .map_err(|e| e.at(|| self.info(&op, name, inputs, &self.origin)))?;
        self.fresh = fresh;
        let id = self.insert(name, op, facts);
        self.connect(id, inputs);
        Ok(id)
    }

    fn connect(&mut self, id: NodeId, inputs: &[Option<Value>]) {
        for (to, v) in inputs.iter().enumerate() {
            if let Some(v) = v {
                self.dag.add_edge(v.node.0, id.0, Wire { from: v.slot, to: to as u32 });
            }
        }
    }

    fn infer(&self, op: &Op, inputs: &[Option<Value>], fresh: &mut u32) -> Result<Vec<Fact>> {
        let arity = op.arity();
        let needed = inputs.iter().take(*arity.start()).filter(|v| v.is_some()).count();
        if needed < *arity.start() || inputs.len() > *arity.end() {
            let most = match *arity.end() {
                usize::MAX => "more".to_owned(),
                n => n.to_string(),
            };
            let got = inputs.iter().flatten().count();
            crate::invalid!("takes {} to {most} inputs, got {got}", arity.start());
        }
        let seen = inputs.iter().map(|v| v.map(|v| (self.fact(v), self.constant_of(v)))).collect();
        let mut facts = op.infer(&mut Infer::new(seen, fresh).at(self.level))?;
        facts.iter_mut().for_each(|f| f.simplify(fresh));
        Ok(facts)
    }

    fn info(&self, op: &Op, name: &str, inputs: &[Option<Value>], origin: &[u32]) -> NodeInfo {
        let show = |v: &Option<Value>| match v {
            Some(v) => format!("{} {}", self.node(v.node).name, self.fact(*v).ty),
            None => "(none)".to_owned(),
        };
        NodeInfo {
            index: origin.first().map(|&i| i as usize),
            name: name.to_owned(),
            op: op.name().to_owned(),
            inputs: inputs.iter().map(show).collect(),
        }
    }

    /// What an error says about a node.
    pub fn info_of(&self, id: NodeId) -> NodeInfo {
        let n = self.node(id);
        self.info(&n.op, &n.name, &self.inputs_of(id), &n.origin)
    }

    /// Makes `outputs` the graph's outputs, by name.
    pub fn set_outputs(&mut self, outputs: Vec<(Arc<str>, Value)>) {
        self.kept = outputs.iter().map(|(_, v)| *v).collect();
        self.outputs = outputs;
    }

    /// The node of this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id.0]
    }

    /// Whether the node still exists.
    pub fn contains(&self, id: NodeId) -> bool {
        self.dag.contains_node(id.0)
    }

    /// The operator of a node.
    pub fn op(&self, id: NodeId) -> &Op {
        &self.node(id).op
    }

    /// The graph's inputs in order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = Value> + '_ {
        self.inputs.iter().map(|id| id.first())
    }

    /// The graph's outputs in order, by name.
    pub fn outputs(&self) -> &[(Arc<str>, Value)] {
        &self.outputs
    }

    /// What is known of a value.
    pub fn fact(&self, v: Value) -> &Fact {
        &self.node(v.node).outputs[v.slot()]
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.fact(v).ty
    }

    /// The outputs of a node.
    pub fn outputs_of(&self, id: NodeId) -> impl Iterator<Item = Value> + use<> {
        (0..self.node(id).outputs.len()).map(move |s| id.out(s))
    }

    /// The operands of a node; trailing missing ones are not listed.
    pub fn inputs_of(&self, id: NodeId) -> Vec<Option<Value>> {
        let mut out = Vec::new();
        for e in self.dag.edges_directed(id.0, Incoming) {
            let to = e.weight().to as usize;
            if out.len() <= to {
                out.resize(to + 1, None);
            }
            out[to] = Some(Value { node: NodeId(e.source()), slot: e.weight().from });
        }
        out
    }

    /// The operands that a node has, in no order.
    pub fn operands(&self, id: NodeId) -> impl Iterator<Item = Value> + '_ {
        self.dag
            .edges_directed(id.0, Incoming)
            .map(|e| Value { node: NodeId(e.source()), slot: e.weight().from })
    }

    /// Operand `i` of a node, where it is given.
    pub fn input_of(&self, id: NodeId, i: usize) -> Option<Value> {
        self.dag
            .edges_directed(id.0, Incoming)
            .find(|e| e.weight().to as usize == i)
            .map(|e| Value { node: NodeId(e.source()), slot: e.weight().from })
    }

    /// Who reads a value, and at which input; graph outputs are not counted.
    pub fn readers(&self, v: Value) -> impl Iterator<Item = (NodeId, usize)> + '_ {
        self.dag
            .edges_directed(v.node.0, Outgoing)
            .filter(move |e| e.weight().from == v.slot)
            .map(|e| (NodeId(e.target()), e.weight().to as usize))
    }

    /// The node that alone reads a value, once, where the value is no output of the graph.
    ///
    /// Looks at two readers at most, however many there are.
    pub fn only_reader(&self, v: Value) -> Option<NodeId> {
        let mut readers = self.readers(v).map(|(n, _)| n);
        let only = readers.next().filter(|_| !self.is_output(v))?;
        readers.next().is_none().then_some(only)
    }

    /// Whether the value is an output of the graph.
    pub fn is_output(&self, v: Value) -> bool {
        self.kept.contains(&v)
    }

    /// Whether anything reads the value, the graph's outputs counted.
    pub fn is_read(&self, v: Value) -> bool {
        self.readers(v).next().is_some() || self.is_output(v)
    }

    /// The constant that a value is, if it is one.
    pub fn constant_of(&self, v: Value) -> Option<&Tensor> {
        match self.op(v.node) {
            Op::Const(c) => Some(&c.0),
            _ => None,
        }
    }

    /// Every node, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.dag.node_indices().map(NodeId)
    }

    /// The number of nodes, inputs and constants counted.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes every reader of `old`, graph outputs included, read `new`.
    ///
    /// The caller sees to it that `new` does not depend on those readers.
    pub fn replace(&mut self, old: Value, new: Value) {
        let edges: Vec<_> = self
            .dag
            .edges_directed(old.node.0, Outgoing)
            .filter(|e| e.weight().from == old.slot && NodeId(e.target()) != new.node)
            .map(|e| (e.id(), e.target(), e.weight().to))
            .collect();
        for (edge, target, to) in edges {
            self.dag.remove_edge(edge);
            self.dag.add_edge(new.node.0, target, Wire { from: new.slot, to });
        }
        if self.kept.remove(&old) {
            self.kept.insert(new);
            for (_, v) in self.outputs.iter_mut().filter(|(_, v)| *v == old) {
                *v = new;
            }
        }
    }

    /// Removes a node that nothing reads. Inputs stay.
    pub fn remove(&mut self, id: NodeId) -> Result<()> {
        if self.outputs_of(id).any(|v| self.is_read(v)) || matches!(self.op(id), Op::Input(_)) {
            return Err(Error::bug(format!("node `{}` is still read", self.node(id).name)));
        }
        self.dag.remove_node(id.0);
        Ok(())
    }

    /// The name of a node, for changing it.
    pub fn rename(&mut self, id: NodeId, name: &str) {
        self.dag[id.0].name = name.into();
    }

    /// Every node after what it reads; among those that are ready, the smallest id first.
    /// An error where there is a cycle.
    pub fn order(&self) -> Result<Vec<NodeId>> {
        let mut waiting: HashMap<NodeIndex, usize> = HashMap::new();
        let mut ready = BinaryHeap::new();
        for n in self.dag.node_indices() {
            match self.dag.edges_directed(n, Incoming).count() {
                0 => ready.push(Reverse(n)),
                k => {
                    waiting.insert(n, k);
                }
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(Reverse(n)) = ready.pop() {
            order.push(NodeId(n));
            for e in self.dag.edges_directed(n, Outgoing) {
                let Some(left) = waiting.get_mut(&e.target()) else { continue };
                *left -= 1;
                if *left == 0 {
                    ready.push(Reverse(e.target()));
                }
            }
        }
        if order.len() < self.len() {
            return Err(Error::bug("the graph has a cycle"));
        }
        Ok(order)
    }

    /// Infers every node anew, with symbols numbered in topological order.
    pub fn reinfer(&mut self) -> Result<()> {
        self.fresh = 0;
        for id in self.order()? {
            if matches!(self.op(id), Op::Input(_) | Op::Const(_)) {
                continue;
            }
            let inputs = self.inputs_of(id);
            let mut fresh = self.fresh;
            let facts = self
                .infer(self.op(id), &inputs, &mut fresh)
                .map_err(|e| e.at(|| self.info_of(id)))?;
            if facts.len() != self.node(id).outputs.len() {
                return Err(Error::bug(format!("`{}` changed its outputs", self.node(id).name)));
            }
            self.fresh = fresh;
            self.dag[id.0].outputs = facts;
        }
        Ok(())
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::print(self))
    }
}

#[cfg(test)]
mod tests {
    use crate::text;

    #[test]
    fn an_operand_may_be_read_twice() {
        let g = text::parse("y = Add(x: f32[2], x)\nreturn y").expect("parses");
        let (_, y) = g.outputs()[0].clone();
        let x = g.inputs().next().expect("one input");
        assert_eq!(g.inputs_of(y.node), [Some(x), Some(x)]);
        assert_eq!(g.readers(x).count(), 2);
    }

    #[test]
    fn replacing_moves_readers_and_outputs() {
        let mut g = text::parse("a = Relu(x: f32[2])\nb = Neg(a)\nreturn a, b").expect("parses");
        let (a, b) = (g.outputs()[0].1, g.outputs()[1].1);
        let x = g.inputs().next().expect("one input");
        g.replace(a, x);
        assert_eq!(g.outputs()[0].1, x);
        assert_eq!(g.inputs_of(b.node), [Some(x)]);
        assert!(g.remove(b.node).is_err());
        assert!(g.remove(a.node).is_ok());
    }

    #[test]
    fn errors_name_the_node_and_its_inputs() {
        let e = text::parse("y = Add(x: f32[2], z: i64[2])\nreturn y").expect_err("two types");
        let node = e.node().expect("a node");
        assert_eq!((node.name.as_str(), node.op.as_str()), ("y", "Add"));
        assert_eq!(node.inputs, ["x f32[2]", "z i64[2]"]);
    }
}
