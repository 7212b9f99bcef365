//! The same numbers by fewer or cheaper steps.

pub mod cast_chain;
pub mod clip_chain;
pub mod fold_dequantize;
pub mod matmul_scale;
pub mod matmul_transpose;
pub mod pad_window;
pub mod reshape_chain;
pub mod scalar_chain;

use kiln_ir::{Limits, Rewrite};

/// The rules of the phase.
pub(crate) fn rules(limits: &Limits) -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(cast_chain::CastChain),
        Box::new(clip_chain::ClipChain),
        Box::new(fold_dequantize::FoldDequantize::new(limits)),
        Box::new(reshape_chain::ReshapeChain),
        Box::new(scalar_chain::ScalarChain),
        Box::new(matmul_transpose::MatMulTranspose),
        Box::new(matmul_scale::MatMulScale),
        Box::new(pad_window::PadWindow),
    ]
}
