//! The engine: one rule, every node that may interest it, one edit after another.

use std::collections::{HashSet, VecDeque};

use kiln_tensor::DType;

use super::{Decline, Edit, Judge, NewNode, Outcome, Patch, Proposal, Rewrite, Source};
use crate::cost::{Cost, cost};
use crate::schema::{self, NodeSpec};
use crate::{Error, Graph, NodeId, Op, Result, Type, Value};

/// A rule may fire this many times in a run, and as many times more for each node; it never
/// takes as many, unless it undoes and redoes its own work.
const EDITS: usize = 256;
const EDITS_PER_NODE: usize = 8;

/// Runs a rule to its end, first on the nodes of `order`, then on what its edits touch; patches
/// are numbered from `number`.
///
/// An error is a bug in the rule: an edit that does not infer, or that changes a type.
pub fn run(
    g: &mut Graph,
    rule: &dyn Rewrite,
    order: &[NodeId],
    number: usize,
    judge: &mut dyn Judge,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut work: VecDeque<NodeId> = order.iter().copied().collect();
    let mut queued = Marks::of(order);
    let (mut refused, mut declined) = (HashSet::new(), HashSet::new());
    while let Some(root) = work.pop_front() {
        queued.clear(root);
        if !g.contains(root) || refused.contains(&root) {
            continue;
        }
        let verdict = rule.rewrite(g, root).and_then(|edit| match edit {
            Some(edit) => {
                check_type(g, root, rule)?;
                check_private(g, root, &edit).map(|()| Some(edit))
            }
            None => Ok(None),
        });
        match verdict {
            Ok(None) => {}
            Err(decline) => {
                if declined.insert(root) {
                    outcome.declined.push((g.node(root).name.to_string(), decline));
                }
            }
            Ok(Some(edit)) => {
                if !judge.admits(rule.name(), &g.node(root).name) {
                    refused.insert(root);
                    continue;
                }
                let at = number + outcome.patches.len();
                if outcome.patches.len() > EDITS + EDITS_PER_NODE * order.len() {
                    return Err(Error::bug(format!("{} never ends", rule.name())));
                }
                let applied = Applying { rule, root, number: at }.apply(g, edit, judge)?;
                if applied.patch.ruling.dropped.is_some() {
                    refused.insert(root);
                }
                outcome.patches.push(applied.patch);
                work.extend(applied.touched.into_iter().filter(|&n| queued.set(n)));
            }
        }
    }
    Ok(outcome)
}

/// A set of nodes.
struct Marks(Vec<bool>);

impl Marks {
    fn of(nodes: &[NodeId]) -> Self {
        let mut marks = Marks(vec![]);
        for &n in nodes {
            marks.set(n);
        }
        marks
    }

    /// Whether it was not set before.
    fn set(&mut self, n: NodeId) -> bool {
        if n.index() >= self.0.len() {
            self.0.resize(n.index() + 1, false);
        }
        !std::mem::replace(&mut self.0[n.index()], true)
    }

    fn clear(&mut self, n: NodeId) {
        if let Some(mark) = self.0.get_mut(n.index()) {
            *mark = false;
        }
    }
}

/// Of halves, every rounding shows: rules that round elsewhere leave them alone.
fn check_type(g: &Graph, root: NodeId, rule: &dyn Rewrite) -> Result<(), Decline> {
    let is_half =
        |t: &Type| matches!(t, Type::Tensor(t) if matches!(t.dtype, DType::F16 | DType::BF16));
    match !rule.exact() && is_half(g.ty(root.first())) {
        true => Err(Decline::new("values of 16 bits would be rounded at other places")),
        false => Ok(()),
    }
}

/// Every reader of an absorbed value must be absorbed itself, or be the root.
fn check_private(g: &Graph, root: NodeId, edit: &Edit) -> Result<(), Decline> {
    let inside = |n: NodeId| n == root || edit.absorbed.contains(&n);
    for v in edit.absorbed.iter().flat_map(|&n| g.outputs_of(n)) {
        if g.is_output(v) {
            return Err(Decline::new("an inner value is an output of the graph"));
        }
        if g.readers(v).any(|(n, _)| !inside(n)) {
            return Err(Decline::new("an inner value has another reader"));
        }
    }
    Ok(())
}

/// What an edit left behind.
struct Applied {
    patch: Patch,
    /// The nodes worth another look.
    touched: Vec<NodeId>,
}

/// An edit on its way into the graph.
struct Applying<'a> {
    rule: &'a dyn Rewrite,
    root: NodeId,
    number: usize,
}

impl Applying<'_> {
    fn apply(self, g: &mut Graph, edit: Edit, judge: &mut dyn Judge) -> Result<Applied> {
        let name = g.node(self.root).name.to_string();
        let origin = (edit.absorbed.iter().chain([&self.root]))
            .flat_map(|&n| g.node(n).origin.clone())
            .collect::<Vec<_>>();
        g.set_origin(origin);
        let made = add_nodes(g, self.rule.name(), &name, &edit.nodes)?;
        g.set_origin(vec![]);
        let nodes: Vec<NodeId> = made.iter().map(|v| v.node).collect();
        let mut replaced = Vec::with_capacity(edit.replaced.len());
        for (old, new) in &edit.replaced {
            let new = resolve(*new, &made);
            replaced.push((*old, new));
        }
        let typed = match self.check_types(g, &replaced) {
            Err(e) if !judge.takes_all() => return Err(e),
            typed => typed,
        };
        let mut patch = Patch {
            number: self.number,
            rule: self.rule.name(),
            root: name,
            removed: vec![],
            added: vec![],
            boundary: replaced.iter().map(|(v, _)| g.node(v.node).name.to_string()).collect(),
            saved: Cost::default(),
            ruling: judge.judge(
                g,
                &Proposal {
                    rule: self.rule.name(),
                    exact: self.rule.exact(),
                    slack: self.rule.slack(),
                    root: self.root,
                    absorbed: &edit.absorbed,
                    made: &nodes,
                    replaced: &replaced,
                },
            ),
        };
        if patch.ruling.dropped.is_some() {
            let mut sweeper = Sweeper::default();
            nodes.iter().rev().try_for_each(|&n| sweeper.sweep(g, n))?;
            return Ok(Applied { patch, touched: vec![] });
        }
        typed?;
        let touched = self.commit(g, &edit, &nodes, &replaced, &mut patch)?;
        Ok(Applied { patch, touched })
    }

    fn check_types(&self, g: &Graph, replaced: &[(Value, Value)]) -> Result<()> {
        match replaced.iter().find(|(old, new)| !same_type(g.ty(*old), g.ty(*new))) {
            None => Ok(()),
            Some(&(old, new)) => {
                let (rule, name) = (self.rule.name(), &g.node(self.root).name);
                let (old, new) = (g.ty(old), g.ty(new));
                Err(Error::bug(format!("{rule} at `{name}` turns {old} into {new}")))
            }
        }
    }

    /// Lets the readers read what is new, and removes what nobody reads any more.
    fn commit(
        &self,
        g: &mut Graph,
        edit: &Edit,
        made: &[NodeId],
        replaced: &[(Value, Value)],
        patch: &mut Patch,
    ) -> Result<Vec<NodeId>> {
        let mut sweeper = Sweeper { touched: made.to_vec(), ..Sweeper::default() };
        sweeper.touched.extend(g.inputs_of(self.root).into_iter().flatten().map(|v| v.node));
        for &(old, new) in replaced {
            sweeper.touched.extend(g.readers(old).map(|(n, _)| n));
            g.replace(old, new);
            inherit_name(g, old.node, new.node, made);
        }
        let dying = [self.root].into_iter().chain(edit.absorbed.iter().rev().copied());
        let replaced = replaced.iter().map(|(old, _)| old.node);
        let dying = dying.chain(replaced).chain(made.iter().rev().copied());
        dying.collect::<Vec<_>>().into_iter().try_for_each(|n| sweeper.sweep(g, n))?;
        sweeper.touched.retain(|&n| g.contains(n));
        let stay: Vec<NodeId> = made.iter().copied().filter(|&n| g.contains(n)).collect();
        patch.added = stay.iter().map(|&n| g.node(n).name.to_string()).collect();
        patch.removed = sweeper.removed;
        patch.saved = stay.iter().fold(sweeper.saved, |saved, &n| saved - cost(g, n));
        Ok(sweeper.touched)
    }
}

/// `made` holds the first output of each new node.
fn resolve(source: Source, made: &[Value]) -> Value {
    match source {
        Source::Old(v) => v,
        Source::New(n, slot) => made[n].node.out(slot),
    }
}

fn add_nodes(g: &mut Graph, rule: &str, name: &str, nodes: &[NewNode]) -> Result<Vec<Value>> {
    let mut made: Vec<Value> = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        let name = format!("{name}/{rule}{i}");
        let wrong = |e| Error::bug(format!("{rule} made a wrong node: {e}"));
        let operands = |inputs: &[Option<Source>], made: &[Value]| {
            inputs.iter().map(|s| s.map(|s| resolve(s, made))).collect::<Vec<_>>()
        };
        let v = match node {
            NewNode::Const(t) => g.constant(&name, t.clone()),
            NewNode::Op(op, inputs) => {
                let inputs = operands(inputs, &made);
                g.add(&name, (**op).clone(), &inputs).map_err(wrong)?.first()
            }
            NewNode::Call(op, attrs, inputs) => {
                let given = operands(inputs, &made);
                let (inputs, attrs) = (given.clone(), attrs.clone());
                let spec = NodeSpec { op, opset: i64::MAX, name: &name, inputs, attrs, outputs: 1 };
                let values = schema::add(g, spec).map_err(wrong)?;
                let v = *values.first().ok_or_else(|| Error::bug(format!("{op} gives nothing")))?;
                // The judge is told of every new node.
                if g.inputs_of(v.node) != trimmed(&given) {
                    return Err(Error::bug(format!("{rule} calls {op}, which is no single node")));
                }
                v
            }
        };
        made.push(v);
    }
    Ok(made)
}

/// Operands without the missing ones at the end.
fn trimmed(operands: &[Option<Value>]) -> &[Option<Value>] {
    &operands[..operands.iter().rposition(Option::is_some).map_or(0, |i| i + 1)]
}

/// A new node that takes an old one's place takes its name, too.
fn inherit_name(g: &mut Graph, old: NodeId, new: NodeId, made: &[NodeId]) {
    if made.contains(&new) && !g.outputs_of(old).any(|v| g.is_read(v)) {
        let name = g.node(old).name.clone();
        g.rename(new, &name);
    }
}

/// Removes nodes that nothing reads, and what only they read.
#[derive(Default)]
struct Sweeper {
    removed: Vec<String>,
    touched: Vec<NodeId>,
    saved: Cost,
}

impl Sweeper {
    fn sweep(&mut self, g: &mut Graph, node: NodeId) -> Result<()> {
        let mut stack = vec![node];
        while let Some(n) = stack.pop() {
            let lives = !g.contains(n)
                || matches!(g.op(n), Op::Input(_))
                || g.outputs_of(n).any(|v| g.is_read(v));
            if lives {
                continue;
            }
            let operands = g.inputs_of(n);
            self.removed.push(g.node(n).name.to_string());
            self.saved = self.saved + cost(g, n);
            g.remove(n)?;
            for v in operands.into_iter().flatten() {
                self.touched.push(v.node);
                stack.push(v.node);
            }
        }
        Ok(())
    }
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
