//! Less to look at for every later rule: nothing here makes an operator of another kind.

pub mod dead;
pub mod duplicate;
pub mod expand_broadcast;
pub mod fold;
pub mod fold_reshape;
pub mod fold_shape;
pub mod if_constant;
pub mod noop;
pub mod transpose_chain;

use kiln_ir::{Limits, Rewrite};

/// The rules of the phase.
pub(crate) fn rules(limits: &Limits) -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(dead::Dead),
        Box::new(noop::Noop),
        Box::new(transpose_chain::TransposeChain),
        Box::new(if_constant::IfConstant),
        Box::new(expand_broadcast::ExpandBroadcast),
        Box::new(fold_shape::FoldShape),
        Box::new(fold_reshape::FoldReshape),
        Box::new(fold::Fold::new(limits)),
        Box::new(duplicate::Duplicate::default()),
    ]
}
