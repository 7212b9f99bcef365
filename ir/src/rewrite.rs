//! How passes change a graph: local rules, applied by one engine.
//!
//! A rule looks at a node and says what it wants done, or why it recognised its shape and
//! still refused. The engine, not the rule, checks that inner values have no other reader,
//! adds nodes through inference, lets a judge look at them, records a patch, and works through
//! a list of the nodes that a change may have made interesting.

use kiln_tensor::Tensor;

use crate::cost::Cost;
use crate::{Attrs, Graph, NodeId, Op, Value};

mod engine;

pub use engine::run;

/// A local rule.
pub trait Rewrite {
    /// The name of its file, of its flag, and of its line in every report.
    fn name(&self) -> &'static str;

    /// Whether it leaves every bit of every output as it was.
    fn exact(&self) -> bool {
        true
    }

    /// How many times the usual rounding of a few thousand terms the values at its border may be
    /// off, where it is not exact: more where a factor is moved past a difference of large
    /// numbers.
    fn slack(&self) -> f64 {
        1.0
    }

    /// Called before the first node of a graph is looked at; forgets what was counted of others.
    fn begin(&self) {}

    /// What to do at `root`: an edit, nothing, or a refusal with its reason.
    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict;
}

/// What a rule says of a node.
pub type Verdict = Result<Option<Edit>, Decline>;

/// Why a rule recognised its shape and still refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decline {
    /// What is in the way.
    pub reason: &'static str,
    /// What would make the rule fire, where the user can do something; else empty.
    pub advice: &'static str,
}

impl Decline {
    /// A refusal that the user can do nothing about.
    pub const fn new(reason: &'static str) -> Self {
        Self { reason, advice: "" }
    }

    /// The same, with what would make the rule fire.
    #[must_use]
    pub const fn advise(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }
}

/// Where an operand of a new node comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A value of the graph.
    Old(Value),
    /// Output `.1` of the edit's node `.0`.
    New(usize, usize),
}

impl Source {
    /// Output `slot` of the same new node.
    #[must_use]
    pub fn slot(self, slot: usize) -> Self {
        match self {
            Source::Old(v) => Source::Old(v.node.out(slot)),
            Source::New(n, _) => Source::New(n, slot),
        }
    }
}

impl From<Value> for Source {
    fn from(v: Value) -> Self {
        Source::Old(v)
    }
}

enum NewNode {
    Const(Tensor),
    Op(Box<Op>, Vec<Option<Source>>),
    Call(String, Attrs, Vec<Option<Source>>),
}

/// What a rule wants done: new nodes, values replaced, inner values absorbed.
#[derive(Default)]
pub struct Edit {
    nodes: Vec<NewNode>,
    replaced: Vec<(Value, Source)>,
    absorbed: Vec<NodeId>,
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
        self.push(NewNode::Const(t))
    }

    /// Adds a node and returns its first output.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Option<Source>]) -> Source {
        self.push(NewNode::Op(Box::new(op.into()), inputs.to_vec()))
    }

    /// Adds a node of the operator of this name, in its newest version, and returns its first
    /// output.
    pub fn call(&mut self, name: &str, inputs: &[Option<Source>], attrs: Attrs) -> Source {
        self.push(NewNode::Call(name.to_owned(), attrs, inputs.to_vec()))
    }

    fn push(&mut self, node: NewNode) -> Source {
        self.nodes.push(node);
        Source::New(self.nodes.len() - 1, 0)
    }

    /// Makes the readers of `old` read `new`.
    pub fn replace(&mut self, old: Value, new: impl Into<Source>) {
        self.replaced.push((old, new.into()));
    }

    /// The node of `inner` disappears into the new nodes: nothing outside may read it.
    pub fn absorb(&mut self, inner: Value) {
        self.absorbed.push(inner.node);
    }

    /// As [`Edit::absorb`], for all nodes but the first, which is the root of what was matched.
    pub fn absorb_below(&mut self, matched: &[NodeId]) {
        self.absorbed.extend(matched.iter().skip(1));
    }
}

/// An edit whose new nodes stand in the graph, but that nothing reads yet.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The name of the rule.
    pub rule: &'static str,
    /// Whether the rule promises every bit.
    pub exact: bool,
    /// How many times the usual rounding it may be off, else.
    pub slack: f64,
    /// The node at which the rule fired.
    pub root: NodeId,
    /// The nodes that go with the root.
    pub absorbed: &'a [NodeId],
    /// The new nodes, constants first or not, operands before their readers.
    pub made: &'a [NodeId],
    /// Whose readers will read what instead.
    pub replaced: &'a [(Value, Value)],
}

/// What a judge says of an edit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruling {
    /// Whether its values were compared.
    pub checked: bool,
    /// The largest difference seen.
    pub max_error: f64,
    /// Why it is dropped, if it is.
    pub dropped: Option<String>,
}

/// Who is asked before an edit is applied.
pub trait Judge {
    /// Whether the rule may fire at the node of this name; asked before anything is made.
    fn admits(&mut self, _rule: &'static str, _root: &str) -> bool {
        true
    }

    /// Whether it is shown edits that change a type, too, which it must drop; else these are
    /// errors.
    fn takes_all(&self) -> bool {
        false
    }

    /// What becomes of an edit.
    fn judge(&mut self, _g: &Graph, _proposal: &Proposal<'_>) -> Ruling {
        Ruling::default()
    }
}

/// Whoever trusts every rule.
impl Judge for () {}

/// An edit that was applied, or dropped by the judge.
#[derive(Clone, Debug, PartialEq)]
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
    /// What a run costs less, where every symbol stands for 1.
    pub saved: Cost,
    /// What the judge said.
    pub ruling: Ruling,
}

/// What one run of one rule did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The edits, in order.
    pub patches: Vec<Patch>,
    /// Nodes and refusals, each node once.
    pub declined: Vec<(String, Decline)>,
}
