//! Sums that are kept and normalized at once.

pub mod skip_norm;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![Box::new(skip_norm::SkipNorm)]
}
