//! Nodes that run better as one.

pub mod conv_act;
pub mod conv_add;
pub mod conv_affine;
pub mod conv_bn;
pub mod matmul_act;
pub mod matmul_add;
pub mod matmul_affine;
pub mod neighbours;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(conv_bn::ConvBn),
        Box::new(conv_affine::ConvAffine),
        Box::new(conv_add::ConvAdd),
        Box::new(conv_act::ConvAct),
        Box::new(matmul_add::MatMulAdd),
        Box::new(matmul_affine::MatMulAffine),
        Box::new(matmul_act::MatMulAct),
        Box::new(neighbours::Neighbours),
    ]
}
