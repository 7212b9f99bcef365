//! Nodes that run better as one.

pub mod activation;
pub mod attention;
pub mod conv_act;
pub mod conv_affine;
pub mod conv_bn;
pub mod norm;
pub mod norm_affine;
mod weights;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(activation::Activation::new()),
        Box::new(norm::Norm::new()),
        Box::new(norm_affine::NormAffine),
        Box::new(attention::Attention),
        Box::new(conv_bn::ConvBn),
        Box::new(conv_affine::ConvAffine),
        Box::new(conv_act::ConvAct),
    ]
}
