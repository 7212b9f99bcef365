//! Operators with bodies: graphs that run never, once, or once per step.
//!
//! Bodies are closed: beside its own inputs a body has one input for every value that it reads
//! from around the node, and the node has those values as its last inputs.
//!
//! ```text
//! y = If(c, a, b) {captures=2, then_branch=graph { a, b -> .. }, else_branch=graph { a, b -> .. }}
//! ```

mod body;
mod branch;
mod repeat;
mod scan;
mod scan8;
mod stack;

pub use body::inline;
pub(crate) use body::{Budget, captures, given, inward, is_random, outputs_of, run};
pub use branch::If;
pub use repeat::Loop;
pub use scan::{Scan, Steps};
pub(crate) use stack::{Stack, stack};

use crate::Schema;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "If", since: 1, build: branch::build },
    Schema { name: "Loop", since: 1, build: repeat::build },
    Schema { name: "Scan", since: 8, build: scan8::build },
    Schema { name: "Scan", since: 9, build: scan::build },
];
