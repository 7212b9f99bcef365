//! Takes the mean of forests over one table as one forest.
//!
//! ```text
//! a = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=v}
//! b = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=w}
//! p = Reshape(a, [1, -1, 1])
//! q = Reshape(b, [1, -1, 1])
//! c = Concat(p, q) {axis=0}
//! y = ReduceMean(c, [0]) {keepdims=0}
//!                   =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=[v/2, w/2]}
//! ```
//!
//! Saves all passes over the scores; so exporters write bagging, of regressors and of classifiers.
//! Not exact: the weights are rounded.

use kiln_ir::{Decline, Edit, Graph, NodeId, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::DType;

use crate::columns::matrix;
use crate::forms::{attr_int, ints};
use crate::trees::Trees;

/// See the module.
pub struct ForestMean;

impl Rewrite for ForestMean {
    fn name(&self) -> &'static str {
        "forest_mean"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some((stacked, columns)) = mean_of_stack(g, root) else { return Ok(None) };
        let parts: Vec<Value> = g.inputs_of(stacked.node).into_iter().flatten().collect();
        let tables: Option<Vec<Value>> = parts.iter().map(|v| layer(g, *v, columns)).collect();
        let Some(tables) = tables else { return Ok(None) };
        let trees: Option<Vec<Trees>> = tables.iter().map(|v| Trees::of(g, *v)).collect();
        let Some(trees) = trees else { return Ok(None) };
        let n = trees.len() as f64;
        let mut trees = trees.into_iter();
        let Some(mut all) = trees.next() else { return Ok(None) };
        for t in trees {
            if t.x != all.x || t.forest.targets != all.forest.targets {
                return Err(Decline::new("the forests are over different tables"));
            }
            all.join(t);
        }
        let labelled = |v: &Value| v.slot() == 1 && g.is_read(v.node.first());
        if tables.iter().any(labelled) {
            return Err(Decline::new("the labels of a forest are read"));
        }
        all.scale(1.0 / n);
        let x = all.x;
        let Some(forest) = all.regressor() else { return Ok(None) };
        let mut e = Edit::default();
        let y = e.node(forest, &[Some(Source::from(x))]);
        e.replace(root.first(), y);
        [&[stacked][..], &parts, &tables].concat().iter().for_each(|v| e.absorb(*v));
        Ok(Some(e))
    }
}

/// The tables along axis 0 whose mean a node takes, and how many columns each has.
fn mean_of_stack(g: &Graph, root: NodeId) -> Option<(Value, usize)> {
    if g.op(root).name() != "ReduceMean" || attr_int(g, root, "keepdims") != Some(0) {
        return None;
    }
    let [stacked, axes] = [g.input_of(root, 0)?, g.input_of(root, 1)?];
    let along = attr_int(g, stacked.node, "axis").filter(|_| g.op(stacked.node).name() == "Concat");
    let (dtype, columns) = matrix(g, root.first())?;
    (along == Some(0) && ints(g, axes)? == [0] && dtype == DType::F32).then_some((stacked, columns))
}

/// The table of these many columns that a layer of the stack is.
fn layer(g: &Graph, v: Value, columns: usize) -> Option<Value> {
    if g.op(v.node).name() != "Reshape" {
        return None;
    }
    let [table, to] = [g.input_of(v.node, 0)?, g.input_of(v.node, 1)?];
    let to = ints(g, to)?;
    let fits = to.len() == 3 && to[..2] == [1, -1] && to[2] == columns as i64;
    (fits && matrix(g, table) == Some((DType::F32, columns))).then_some(table)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    fn stump(name: &str, x: &str, weights: [f32; 2]) -> String {
        format!(
            "{name} = ai.onnx.ml.TreeEnsembleRegressor({x}) {{nodes_treeids=[0,0,0], \
             nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0], nodes_values=[0.5,0.0,0.0], \
             nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], nodes_truenodeids=[1,0,0], \
             nodes_falsenodeids=[2,0,0], target_treeids=[0,0], target_nodeids=[1,2], \
             target_ids=[0,0], target_weights={weights:?}}}\n"
        )
    }

    fn mean(b: &str) -> String {
        let a = stump("a", "x: f32[N,2]", [1.0, 2.0]);
        format!(
            "{a}{b}s = i64[3]{{1, -1, 1}}\nz = i64[1]{{0}}\np = Reshape(a, s)\n\
             q = Reshape(b, s)\nc = Concat(p, q) {{axis=0}}\n\
             y = ReduceMean(c, z) {{keepdims=0}}\nreturn y"
        )
    }

    #[test]
    fn means_become_one_forest() {
        check(
            &ForestMean,
            &mean(&stump("b", "x", [4.0, 8.0])),
            expect![[r#"
                x: f32[N,2]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {n_targets=1, nodes_falsenodeids=[2,0,0,2,0,
                    0], nodes_featureids=[1,0,0,1,0,0], nodes_missing_value_tracks_true=[0,0,0,0,0,
                    0], nodes_modes=["BRANCH_LEQ","LEAF","LEAF","BRANCH_LEQ","LEAF","LEAF"],
                    nodes_nodeids=[0,1,2,0,1,2], nodes_treeids=[0,0,0,1,1,1], nodes_truenodeids=[1,
                    0,0,1,0,0], nodes_values=[0.5,0.0,0.0,0.5,0.0,0.0], target_ids=[0,0,0,0],
                    target_nodeids=[1,2,1,2], target_treeids=[0,0,1,1], target_weights=[0.5,1.0,2.0,
                    4.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn one_score_for_two_classes_is_two() {
        let of = |name: &str, x: &str, weights: [f32; 2]| {
            stump(&format!("l{name}, {name}"), x, weights)
                .replace("Regressor", "Classifier")
                .replace("target_", "class_")
                .replace("{", "{classlabels_int64s=[0,1], ")
        };
        let text = mean(&of("b", "x", [0.75, 0.25]))
            .replace(&stump("a", "x: f32[N,2]", [1.0, 2.0]), &of("a", "x: f32[N,2]", [1.0, 0.5]))
            .replace("i64[3]{1, -1, 1}", "i64[3]{1, -1, 2}");
        check(
            &ForestMean,
            &text,
            expect![[r#"
            x: f32[N,2]
            y = ai.onnx.ml.TreeEnsembleRegressor(x) {base_values=[1.0,0.0], n_targets=2,
                nodes_falsenodeids=[2,0,0,2,0,0], nodes_featureids=[1,0,0,1,0,0],
                nodes_missing_value_tracks_true=[0,0,0,0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                "LEAF","BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2,0,1,2],
                nodes_treeids=[0,0,0,1,1,1], nodes_truenodeids=[1,0,0,1,0,0], nodes_values=[0.5,
                0.0,0.0,0.5,0.0,0.0], target_ids=[0,1,0,1,0,1,0,1], target_nodeids=[1,1,2,2,1,1,
                2,2], target_treeids=[0,0,0,0,1,1,1,1], target_weights=[-0.5,0.5,-0.25,0.25,
                -0.375,0.375,-0.125,0.125]}
            return y
        "#]],
        );
    }

    #[test]
    fn keeps_forests_over_different_tables() {
        let b = stump("b", "k: f32[N,2]", [4.0, 8.0]);
        check(
            &ForestMean,
            &mean(&b),
            expect![[r#"
            (unchanged)
            # forest_mean @ y: the forests are over different tables
        "#]],
        );
    }
}
