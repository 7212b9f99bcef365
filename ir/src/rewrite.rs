//! How passes change a graph: local rules, applied by one engine.
//!
//! A rule looks at a node and says what it wants done, or why it recognised its shape and
//! still refused. The engine, not the rule, checks that inner values have no other reader,
//! adds nodes through inference, records a patch, and works through a list of the nodes that
//! a change may have made interesting.

use std::collections::{HashSet, VecDeque};

use kiln_tensor::Tensor;

use crate::{Error, Graph, NodeId, Op, Result, Type, Value};

/// A local rule.
pub trait Rewrite {
    /// The name of its file, of its flag, and of its line in every report.
    fn name(&self) -> &'static str;

    /// Whether it leaves every bit of every output as it was.
    fn exact(&self) -> bool {
        true
    }

    /// What to do at `root`: an edit, nothing, or a refusal with its reason.
    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict;
}

/// What a rule says of a node.
pub type Verdict = Result<Option<Edit>, Decline>;

/// Why a rule recognised its shape and still refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline(pub &'static str);

/// Where an operand of a new node comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A value of the graph.
    Old(Value),
    /// Output `.1` of the edit's node `.0`.
    New(usize, usize),
}

impl From<Value> for Source {
    fn from(v: Value) -> Self {
        Source::Old(v)
    }
}

enum NewNode {
    Const(Tensor),
    Op(Box<Op>, Vec<Option<Source>>),
}

/// What a rule wants done: new nodes, values replaced, inner values absorbed.
#[derive(Default)]
pub struct Edit {
    nodes: Vec<NewNode>,
    replaced: Vec<(Value, Source)>,
    absorbed: Vec<Value>,
}

impl Edit {
    /// Replaces one value by another, and does nothing else.
    pub fn replacing(old: Value, new: impl Into<Source>) -> Self {
        let mut e = Self::default();
        e.replace(old, new);
        e
    }

    /// Adds a constant.
    pub fn constant(&mut self, t: Tensor) -> Source {
        self.nodes.push(NewNode::Const(t));
        Source::New(self.nodes.len() - 1, 0)
    }

    /// Adds a node and returns its first output.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Option<Source>]) -> Source {
        self.nodes.push(NewNode::Op(Box::new(op.into()), inputs.to_vec()));
        Source::New(self.nodes.len() - 1, 0)
    }

    /// Makes the readers of `old` read `new`.
    pub fn replace(&mut self, old: Value, new: impl Into<Source>) {
        self.replaced.push((old, new.into()));
    }

    /// `inner` disappears into the new nodes: nothing outside may read it.
    pub fn absorb(&mut self, inner: Value) {
        self.absorbed.push(inner);
    }
}

/// An applied edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Its place among all patches of the run, from 0.
    pub number: usize,
    /// The rule that asked for it.
    pub rule: &'static str,
    /// The node at which it was asked for.
    pub root: String,
    /// The names of the nodes that went.
    pub removed: Vec<String>,
    /// The names of the nodes that came.
    pub added: Vec<String>,
    /// The names of the values at its border whose content must not change.
    pub boundary: Vec<String>,
}

/// What one run of one rule did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The applied edits.
    pub patches: Vec<Patch>,
    /// Nodes and reasons of refusals, each node once.
    pub declined: Vec<(String, &'static str)>,
}

/// Runs a rule to its end; patches are numbered from `number`.
///
/// An error is a bug in the rule: an edit that does not infer, or that changes a type.
pub fn run(g: &mut Graph, rule: &dyn Rewrite, number: usize) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut work: VecDeque<NodeId> = g.order()?.into();
    let mut queued: HashSet<NodeId> = work.iter().copied().collect();
    let mut declined = HashSet::new();
    while let Some(root) = work.pop_front() {
        queued.remove(&root);
        if !g.contains(root) {
            continue;
        }
        let verdict = rule.rewrite(g, root).and_then(|edit| match edit {
            Some(edit) => check_private(g, root, &edit).map(|()| Some(edit)),
            None => Ok(None),
        });
        match verdict {
            Ok(None) => {}
            Err(Decline(reason)) => {
                if declined.insert(root) {
                    outcome.declined.push((g.node(root).name.to_string(), reason));
                }
            }
            Ok(Some(edit)) => {
                let at = number + outcome.patches.len();
                let (patch, touched) = apply(g, rule.name(), root, edit, at)?;
                outcome.patches.push(patch);
                work.extend(touched.into_iter().filter(|&n| queued.insert(n)));
            }
        }
    }
    Ok(outcome)
}

/// Every reader of an absorbed value must be absorbed itself, or be the root.
fn check_private(g: &Graph, root: NodeId, edit: &Edit) -> Result<(), Decline> {
    let inside = |n: NodeId| n == root || edit.absorbed.iter().any(|v| v.node == n);
    for node in edit.absorbed.iter().map(|v| v.node) {
        for v in g.outputs_of(node) {
            if g.is_output(v) {
                return Err(Decline("an inner value is an output of the graph"));
            }
            if g.readers(v).any(|(n, _)| !inside(n)) {
                return Err(Decline("an inner value has another reader"));
            }
        }
    }
    Ok(())
}

/// Applies an edit; returns the patch and the nodes worth another look.
fn apply(
    g: &mut Graph,
    rule: &'static str,
    root: NodeId,
    edit: Edit,
    number: usize,
) -> Result<(Patch, Vec<NodeId>)> {
    let name = g.node(root).name.to_string();
    let origin = edit
        .absorbed
        .iter()
        .map(|v| v.node)
        .chain([root])
        .flat_map(|n| g.node(n).origin.clone())
        .collect::<Vec<_>>();
    g.set_origin(origin);
    let before = g.inputs_of(root);
    let made = add_nodes(g, rule, &name, &edit.nodes)?;
    let mut touched = made.clone();
    let mut boundary = Vec::new();
    for (old, new) in &edit.replaced {
        let new = resolve(*new, &made);
        if !same_type(g.ty(*old), g.ty(new)) {
            let text = format!("{rule} at `{name}` turns {} into {}", g.ty(*old), g.ty(new));
            return Err(Error::bug(text));
        }
        boundary.push(g.node(old.node).name.to_string());
        touched.extend(g.readers(*old).map(|(n, _)| n));
        g.replace(*old, new);
        inherit_name(g, old.node, new.node, &made);
    }
    let mut removed = Vec::new();
    let dying = [root].into_iter().chain(edit.absorbed.iter().rev().map(|v| v.node));
    for node in dying.collect::<Vec<_>>() {
        sweep(g, node, &mut removed, &mut touched)?;
    }
    touched.extend(before.into_iter().flatten().map(|v| v.node));
    touched.retain(|&n| g.contains(n));
    let added = made.iter().filter(|&&n| g.contains(n)).map(|&n| g.node(n).name.to_string());
    let added = added.collect();
    g.set_origin(vec![]);
    Ok((Patch { number, rule, root: name, removed, added, boundary }, touched))
}

fn resolve(source: Source, made: &[NodeId]) -> Value {
    match source {
        Source::Old(v) => v,
        Source::New(n, slot) => made[n].out(slot),
    }
}

fn add_nodes(g: &mut Graph, rule: &str, name: &str, nodes: &[NewNode]) -> Result<Vec<NodeId>> {
    let mut made: Vec<NodeId> = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let name = format!("{name}/{rule}{i}");
        made.push(match node {
            NewNode::Const(t) => g.constant(&name, t.clone()).node,
            NewNode::Op(op, inputs) => {
                let inputs: Vec<_> = inputs.iter().map(|s| s.map(|s| resolve(s, &made))).collect();
                g.add(&name, (**op).clone(), &inputs)
                    .map_err(|e| Error::bug(format!("{rule} made a wrong node: {e}")))?
            }
        });
    }
    Ok(made)
}

/// A new node that takes an old one's place takes its name, too.
fn inherit_name(g: &mut Graph, old: NodeId, new: NodeId, made: &[NodeId]) {
    if made.contains(&new) && !g.outputs_of(old).any(|v| g.is_read(v)) {
        let name = g.node(old).name.clone();
        g.rename(new, &name);
    }
}

/// Removes a node that nothing reads, and what only it read.
fn sweep(
    g: &mut Graph,
    node: NodeId,
    removed: &mut Vec<String>,
    touched: &mut Vec<NodeId>,
) -> Result<()> {
    let mut stack = vec![node];
    while let Some(n) = stack.pop() {
        let lives = !g.contains(n)
            || matches!(g.op(n), Op::Input(_))
            || g.outputs_of(n).any(|v| g.is_read(v));
        if lives {
            continue;
        }
        let operands = g.inputs_of(n);
        removed.push(g.node(n).name.to_string());
        g.remove(n)?;
        for v in operands.into_iter().flatten() {
            touched.push(v.node);
            stack.push(v.node);
        }
    }
    Ok(())
}

/// Whether two types are the same as far as both are known.
fn same_type(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            let ranks = match (&a.shape, &b.shape) {
                (Some(x), Some(y)) => {
                    x.len() == y.len()
                        && x.iter().zip(y).all(|(p, q)| match (p.as_const(), q.as_const()) {
                            (Some(p), Some(q)) => p == q,
                            _ => true,
                        })
                }
                _ => true,
            };
            a.dtype == b.dtype && ranks
        }
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}
