//! What is dead, does nothing, is known, or is there twice.

pub mod dead;
pub mod duplicate;
pub mod fold;
pub mod fold_shape;
pub mod noop;
