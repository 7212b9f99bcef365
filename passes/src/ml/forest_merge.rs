//! Puts forests over one table whose scores are added into one.
//!
//! ```text
//! a = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=v}
//! b = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=w}
//! y = Add(a, b)        =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=[v, w]}
//! ```
//!
//! Saves a pass over the scores and one over the table for each, and lets more trees run side by
//! side. A `Sum` keeps what else it adds. Not exact: the votes are added in another order.

use kiln_ir::{Attrs, Edit, Graph, NodeId, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::DType;

use crate::columns::matrix;
use crate::trees::Trees;

/// See the module.
pub struct ForestMerge;

impl Rewrite for ForestMerge {
    fn name(&self) -> &'static str {
        "forest_merge"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let ty = matrix(g, root.first()).filter(|m| m.0 == DType::F32);
        if !matches!(g.op(root).name(), "Add" | "Sum") || ty.is_none() {
            return Ok(None);
        }
        let operands: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
        // Others are summed as they were; a score twice is two readers.
        let trees = |v: Value| {
            let fits = matrix(g, v) == ty && g.readers(v).count() == 1;
            if fits { Trees::of(g, v) } else { None }
        };
        let Some(mut all) = operands.iter().find_map(|v| trees(*v)) else { return Ok(None) };
        let x = all.x;
        let is_over = |v: &Value| g.input_of(v.node, 0) == Some(x);
        let merged: Vec<Value> =
            operands.iter().copied().filter(|v| is_over(v) && trees(*v).is_some()).collect();
        if merged.len() < 2 {
            return Ok(None);
        }
        merged.iter().skip(1).filter_map(|v| trees(*v)).for_each(|t| all.join(t));
        let Some(forest) = all.regressor() else { return Ok(None) };
        let mut e = Edit::default();
        let mut y = e.node(forest, &[Some(Source::from(x))]);
        let others = operands.iter().filter(|v| !merged.contains(v));
        let mut sum: Vec<_> = others.map(|v| Some(Source::from(*v))).collect();
        if !sum.is_empty() {
            sum.insert(0, Some(y));
            y = e.call("Sum", &sum, Attrs::default());
        }
        e.replace(root.first(), y);
        merged.iter().for_each(|v| e.absorb(*v));
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    fn stump(name: &str, x: &str, weights: [f32; 2], extra: &str) -> String {
        format!(
            "{name} = ai.onnx.ml.TreeEnsembleRegressor({x}) {{nodes_treeids=[0,0,0], \
             nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0], nodes_values=[0.5,0.0,0.0], \
             nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], nodes_truenodeids=[1,0,0], \
             nodes_falsenodeids=[2,0,0], target_treeids=[0,0], target_nodeids=[1,2], \
             target_ids=[0,0], target_weights={weights:?}{extra}}}\n"
        )
    }

    #[test]
    fn sums_become_one_forest() {
        let a = stump("a", "x: f32[N,2]", [1.0, 2.0], ", base_values=[0.5]");
        let b = stump("b", "x", [4.0, 8.0], ", base_values=[2.0]");
        check(
            &ForestMerge,
            &format!("{a}{b}y = Sum(a, z: f32[N,1], b)\nreturn y"),
            expect![[r#"
                x: f32[N,2]
                z: f32[N,1]
                y/forest_merge0 = ai.onnx.ml.TreeEnsembleRegressor(x) {base_values=[2.5],
                    n_targets=1, nodes_falsenodeids=[2,0,0,2,0,0], nodes_featureids=[1,0,0,1,0,0],
                    nodes_missing_value_tracks_true=[0,0,0,0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                    "LEAF","BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2,0,1,2],
                    nodes_treeids=[0,0,0,1,1,1], nodes_truenodeids=[1,0,0,1,0,0], nodes_values=[0.5,
                    0.0,0.0,0.5,0.0,0.0], target_ids=[0,0,0,0], target_nodeids=[1,2,1,2],
                    target_treeids=[0,0,1,1], target_weights=[1.0,2.0,4.0,8.0]}
                y = Sum(y/forest_merge0, z)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_scores_that_others_read_or_that_are_transformed() {
        let a = stump("a", "x: f32[N,2]", [1.0, 2.0], "");
        let b = stump("b", "x", [4.0, 8.0], ", post_transform=\"PROBIT\"");
        let c = stump("c", "x", [4.0, 8.0], "");
        check(
            &ForestMerge,
            &format!("{a}{b}{c}y = Sum(a, b, c)\nreturn y, c"),
            expect![[r#"
            (unchanged)
            # forest_merge @ y: an inner value is an output of the graph
        "#]],
        );
    }
}
