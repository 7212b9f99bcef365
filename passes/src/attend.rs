//! Attention, while its products are still products.

pub mod attention;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![Box::new(attention::Attention)]
}
