//! Operators that exporters spell out, by their names.

pub mod activation;
pub mod group_norm;
pub mod lp_norm;
pub mod norm;
pub mod norm_affine;
pub mod reduction;
pub mod rotary;
pub mod scan_distance;
pub mod softmax;
pub mod space_to_depth;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(activation::Activation::new()),
        Box::new(norm::Norm::new()),
        Box::new(norm_affine::NormAffine),
        Box::new(softmax::Softmax::new()),
        Box::new(group_norm::GroupNormalization),
        Box::new(reduction::Reduction),
        Box::new(rotary::Rotary::new()),
        Box::new(lp_norm::LpNorm::new()),
        Box::new(space_to_depth::SpaceToDepth),
        Box::new(scan_distance::ScanDistance),
    ]
}
