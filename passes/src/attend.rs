//! Attention, while its products are still products.

pub mod attention;
pub mod attention_cache;
pub mod attention_groups;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(attention::Attention),
        Box::new(attention_groups::AttentionGroups),
        Box::new(attention_cache::AttentionCache),
    ]
}
