//! What the passes did, as data.

use kiln_ir::Cost;
use kiln_ir::rewrite::Patch;

/// What all passes did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One entry per pass that ran, in order; a pass that ran several times is summed up.
    pub passes: Vec<PassReport>,
    /// Every edit, in order; those that the judge dropped, too.
    pub patches: Vec<Patch>,
    /// Nodes before, inputs and constants not counted.
    pub nodes_before: usize,
    /// Nodes after, inputs and constants not counted.
    pub nodes_after: usize,
    /// What a run cost before, where every symbol stands for 1.
    pub before: Cost,
    /// What a run costs now, where every symbol stands for 1.
    pub after: Cost,
    /// Time that all took, in microseconds.
    pub micros: u64,
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// Its phase.
    pub phase: &'static str,
    /// How many times it fired; what the judge dropped is not counted.
    pub fired: usize,
    /// Where it refused, and why.
    pub declined: Vec<Declined>,
    /// What a run costs less for it, where every symbol stands for 1.
    pub saved: Cost,
    /// Time taken, in microseconds.
    pub micros: u64,
}

impl PassReport {
    /// The entry of a pass that has done nothing yet.
    pub(crate) fn new(name: &'static str, phase: &'static str) -> Self {
        Self { name, phase, fired: 0, declined: vec![], saved: Cost::default(), micros: 0 }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The node.
    pub node: String,
    /// The reason.
    pub reason: &'static str,
    /// What would make the pass fire, where the user can do something; else empty.
    pub advice: &'static str,
}
