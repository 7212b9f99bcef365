//! The same numbers by fewer or cheaper steps.

pub mod cast_chain;
pub mod clip_chain;
pub mod concat_chain;
pub mod fold_dequantize;
pub mod gather_slice;
pub mod matmul_merge;
pub mod matmul_scale;
pub mod matmul_transpose;
pub mod pad_window;
pub mod reciprocal;
pub mod reshape_chain;
pub mod scalar_chain;
pub mod slice_chain;
pub mod slice_concat;
pub mod split_concat;
pub mod transpose_sink;
pub mod where_const;

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
        Box::new(transpose_sink::TransposeSink),
        Box::new(slice_chain::SliceChain),
        Box::new(slice_concat::SliceConcat),
        Box::new(concat_chain::ConcatChain),
        Box::new(split_concat::SplitConcat),
        Box::new(gather_slice::GatherSlice),
        Box::new(where_const::WhereConst),
        Box::new(reciprocal::Reciprocal::new()),
        Box::new(matmul_merge::MatMulMerge),
    ]
}
