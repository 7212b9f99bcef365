//! Models of classical machine learning, and what happens to tables before them.

pub mod forest_leaf;
pub mod forest_mean;
pub mod forest_merge;
pub mod gather_forest;
pub mod scaler_forest;
pub mod scaler_linear;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(scaler_linear::ScalerLinear),
        Box::new(scaler_forest::ScalerForest),
        Box::new(gather_forest::GatherForest),
        Box::new(forest_leaf::ForestLeaf),
        Box::new(forest_merge::ForestMerge),
        Box::new(forest_mean::ForestMean),
    ]
}
