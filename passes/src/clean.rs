//! Less to look at for every later rule: nothing here makes anything new but constants.

pub mod dead;
pub mod duplicate;
pub mod fold;
pub mod fold_shape;
pub mod noop;

use kiln_ir::{Limits, Rewrite};

/// The rules of the phase.
pub(crate) fn rules(limits: &Limits) -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(dead::Dead),
        Box::new(noop::Noop),
        Box::new(fold_shape::FoldShape),
        Box::new(fold::Fold::new(limits)),
        Box::new(duplicate::Duplicate),
    ]
}
