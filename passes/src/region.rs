//! What is left of elementwise operators, as few groups.

pub mod batch_norm;
pub mod elementwise;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![Box::new(batch_norm::BatchNorm), Box::new(elementwise::Elementwise)]
}
