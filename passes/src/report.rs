//! What the passes did, as data.

use kiln_ir::Graph;
use kiln_ir::rewrite::Patch;

/// What all passes did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One entry per pass that ran, in order; a pass that ran several times is summed up.
    pub passes: Vec<PassReport>,
    /// Every applied edit, in order.
    pub patches: Vec<Patch>,
    /// Nodes before, inputs and constants not counted.
    pub nodes_before: usize,
    /// Nodes after, inputs and constants not counted.
    pub nodes_after: usize,
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// Its phase.
    pub phase: &'static str,
    /// How many times it fired.
    pub fired: usize,
    /// Where it refused, and why.
    pub declined: Vec<Declined>,
    /// Time taken, in microseconds.
    pub micros: u64,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The node.
    pub node: String,
    /// The reason.
    pub reason: &'static str,
}

/// Who is told after each run of a pass.
pub trait Observer {
    /// The pass has run; `g` is what it left.
    fn after(&mut self, pass: &PassReport, g: &Graph);
}

impl Observer for () {
    fn after(&mut self, _: &PassReport, _: &Graph) {}
}
