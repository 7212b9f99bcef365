//! How a graph becomes something that runs: backends, plans, memory.

pub mod backend;
pub mod reference;

pub use backend::{Backend, Executable};
pub use reference::Reference;
