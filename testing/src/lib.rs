//! What the tests of every crate share: graphs made up from a seed, values for their inputs,
//! and one judge of whether two values are the same.

pub mod compare;
pub mod pipelines;
pub mod random;
pub mod values;
pub mod written;

pub use compare::{Tolerance, compare, numbers};
