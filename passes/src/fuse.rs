//! Nodes that run better as one.

pub mod conv_act;
pub mod conv_bn;
