//! What a kernel is: a table row that prepares, and a prepared thing that runs.

use kiln_ir::{Cancel, Graph, NodeId, Result};

/// The operands of one run of one kernel, all `f32`.
pub struct Args<'a> {
    /// The operands: shape and elements. Where the kernel runs in place, the first one's
    /// elements are in `out`, and the slice here is empty.
    pub inputs: Vec<(&'a [usize], &'a [f32])>,
    /// The shape of the result.
    pub shape: &'a [usize],
    /// The result; holds the first operand where the kernel runs in place, else anything.
    pub out: &'a mut [f32],
    /// Whether `out` holds the first operand.
    pub in_place: bool,
    /// Polled in long loops.
    pub cancel: &'a Cancel,
}

/// A kernel made ready for one node: weights packed, attributes read.
pub trait Kernel: Send + Sync {
    /// Calculates the node's only output.
    fn run(&self, args: Args<'_>) -> Result<()>;
}

/// A row of the kernel table.
pub struct Row {
    /// The name: operator, layout, dtype.
    pub name: &'static str,
    /// Which nodes it takes and how it runs them, in a line.
    pub what: &'static str,
    /// Graphs on which the tests compare it with the definitions; constants may be left empty.
    pub graphs: &'static [&'static str],
    /// Whether the result may lie where the first operand lay.
    pub in_place: bool,
    /// Makes it ready for a node; `None` where it does not take the node.
    pub prepare: fn(&Graph, NodeId) -> Option<Box<dyn Kernel>>,
}
