//! Models of classical machine learning, and what happens to tables before them.

pub mod column_liveness;
pub mod feature_concat;
pub mod feature_gather;
pub mod feature_products;
pub mod forest_constant;
pub mod forest_leaf;
pub mod forest_mean;
pub mod forest_merge;
pub mod forest_prune;
pub mod gather_forest;
pub mod gather_linear;
pub mod label_encoder_chain;
pub mod label_gather;
pub mod one_hot_forest;
pub mod one_hot_linear;
pub mod scaler_forest;
pub mod scaler_linear;
pub mod svm_duplicate;
pub mod svm_linear;

use kiln_ir::Rewrite;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(scaler_linear::ScalerLinear),
        Box::new(svm_duplicate::SvmDuplicate),
        Box::new(svm_linear::SvmLinear),
        Box::new(one_hot_linear::OneHotLinear),
        Box::new(one_hot_forest::OneHotForest),
        Box::new(scaler_forest::ScalerForest),
        Box::new(feature_concat::FeatureConcat),
        Box::new(feature_gather::FeatureGather),
        Box::new(feature_products::FeatureProducts),
        Box::new(gather_forest::GatherForest),
        Box::new(gather_linear::GatherLinear),
        Box::new(forest_prune::ForestPrune::default()),
        Box::new(forest_constant::ForestConstant),
        Box::new(column_liveness::ColumnLiveness),
        Box::new(label_encoder_chain::LabelEncoderChain),
        Box::new(label_gather::LabelGather),
        Box::new(forest_leaf::ForestLeaf),
        Box::new(forest_merge::ForestMerge),
        Box::new(forest_mean::ForestMean),
    ]
}
