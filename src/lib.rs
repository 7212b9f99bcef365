//! kiln

pub mod npy;
