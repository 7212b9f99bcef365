//! Lets trees ask which category a row has, instead of a column of ones and zeros for each.
//!
//! ```text
//! h = ai.onnx.ml.OneHotEncoder(c: str[N,1]) {cats_strings=["a", "b"]}
//! t = Reshape(h, [-1, 2])
//! y = ai.onnx.ml.TreeEnsembleRegressor(t) {x[1] <= 0.5 ? u : v}
//!        =>   t = ai.onnx.ml.LabelEncoder(c) {keys=["a", "b"], values=[0, 1], default=-1}
//!             y = ai.onnx.ml.TreeEnsembleRegressor(t) {x[0] != 1 ? u : v}
//! ```
//!
//! Saves all columns but one of each encoder. A question has one answer for a one and one for a
//! zero, which say what to ask of the place. Exact.

use kiln_ir::ops::forest::{Forest, Node, Test};
use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Verdict};

use super::forest_prune::pruned;
use crate::columns::matrix;
use crate::encoded::{Part, joined, parts};

/// See the module.
pub struct OneHotForest;

/// Places up to here are exact in single precision.
const MOST: usize = 1 << 24;

impl Rewrite for OneHotForest {
    fn name(&self) -> &'static str {
        "one_hot_forest"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(table) = g.input_of(root, 0) else { return Ok(None) };
        if matrix(g, table).is_none_or(|(_, columns)| columns > MOST) {
            return Ok(None);
        }
        let Some(parts) = parts(g, table)? else { return Ok(None) };
        let ensemble = trees.ensemble();
        let columns = columns(&parts);
        let mut forest = ensemble.forest.clone();
        for i in 0..forest.nodes.len() {
            forest.nodes[i] = asked(&ensemble.forest, i, columns[forest.nodes[i].feature as usize]);
        }
        let with = |f: Forest| trees.with_forest(f, &ensemble.base).ok();
        // Who is of one category is of no other.
        let smaller = pruned(&forest).and_then(with);
        let Some(trees) = smaller.or_else(|| with(forest)) else { return Ok(None) };
        let (mut e, mut tables) = (Edit::default(), vec![]);
        for part in &parts {
            if part.encoders.is_empty() {
                tables.push(part.value.into());
                continue;
            }
            part.absorb(&mut e);
            for encoder in &part.encoders {
                let places = (0..encoder.columns()).map(|i| i as f32).collect();
                tables.push(encoder.lookup(&mut e, places, -1.0));
            }
        }
        let x = joined(&mut e, &tables);
        let y = e.node(trees, &[Some(x)]);
        g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
        Ok(Some(e))
    }
}

/// Where a column of the table is found.
#[derive(Clone, Copy)]
enum Column {
    /// It is this one.
    Same(u32),
    /// It is a one where column `.0` is `.1`.
    Place(u32, usize),
}

fn columns(parts: &[Part]) -> Vec<Column> {
    let (mut columns, mut at) = (vec![], 0u32);
    for part in parts {
        if part.encoders.is_empty() {
            columns.extend((at..).take(part.columns).map(Column::Same));
            at += part.columns as u32;
        }
        for encoder in &part.encoders {
            columns.extend((0..encoder.columns()).map(|place| Column::Place(at, place)));
            at += 1;
        }
    }
    columns
}

/// What a node asks instead.
fn asked(forest: &Forest, i: usize, column: Column) -> Node {
    let node = forest.nodes[i];
    let (feature, place) = match column {
        Column::Same(feature) => return Node { feature, ..node },
        Column::Place(feature, place) => (feature, place as f64),
    };
    let answer = |x: f64| forest.answer(&node, x);
    let (test, missing) = match (answer(0.0), answer(1.0)) {
        (false, true) => (Test::Eq(place), false),
        (true, false) => (Test::Neq(place), false),
        // Whatever the place.
        (true, true) => (Test::Leq(f64::INFINITY), true),
        (false, false) => (Test::Lt(f64::NEG_INFINITY), false),
    };
    Node { test, feature, missing, ..node }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    fn tree(x: &str) -> String {
        format!(
            "y = ai.onnx.ml.TreeEnsembleRegressor({x}) {{nodes_treeids=[0,0,0,0,0], \
             nodes_nodeids=[0,1,2,3,4], nodes_featureids=[1,2,0,0,0], \
             nodes_values=[0.5,0.5,0.0,0.0,0.0], \
             nodes_modes=[\"BRANCH_LEQ\",\"BRANCH_GT\",\"LEAF\",\"LEAF\",\"LEAF\"], \
             nodes_truenodeids=[1,3,0,0,0], nodes_falsenodeids=[2,4,0,0,0], \
             target_treeids=[0,0,0], target_nodeids=[2,3,4], target_ids=[0,0,0], \
             target_weights=[3.0,7.0,9.0]}}\n"
        )
    }

    #[test]
    fn trees_ask_for_places() {
        check(
            &OneHotForest,
            &format!(
                "p = ai.onnx.ml.OneHotEncoder(c: str[N,1]) {{cats_strings=[\"a\",\"b\"]}}\n\
                 q = ai.onnx.ml.OneHotEncoder(d: i64[N,1]) {{cats_int64s=[7,8]}}\n\
                 s = i64[2]{{-1, 4}}\nr = Concat(p, q) {{axis=2}}\nh = Reshape(r, s)\n{}return y",
                tree("h")
            ),
            expect![[r#"
                c: str[N,1]
                d: i64[N,1]
                y/one_hot_forest0 = ai.onnx.ml.LabelEncoder(c) {default_tensor=f32[1]{-1.0},
                    keys_tensor=str[2]{"a", "b"}, values_tensor=f32[2]{0.0, 1.0}}
                y/one_hot_forest1 = ai.onnx.ml.LabelEncoder(d) {default_tensor=f32[1]{-1.0},
                    keys_tensor=i64[2]{7, 8}, values_tensor=f32[2]{0.0, 1.0}}
                y/one_hot_forest2 = Concat(y/one_hot_forest0, y/one_hot_forest1) {axis=1}
                y = ai.onnx.ml.TreeEnsembleRegressor(y/one_hot_forest2) {n_targets=1,
                    nodes_falsenodeids=[2,4,0,0,0], nodes_featureids=[0,1,0,0,0],
                    nodes_missing_value_tracks_true=[0,0,0,0,0], nodes_modes=["BRANCH_NEQ",
                    "BRANCH_EQ","LEAF","LEAF","LEAF"], nodes_nodeids=[0,1,2,3,4], nodes_treeids=[0,
                    0,0,0,0], nodes_truenodeids=[1,3,0,0,0], nodes_values=[1.0,0.0,0.0,0.0,0.0],
                    target_ids=[0,0,0], target_nodeids=[2,3,4], target_treeids=[0,0,0],
                    target_weights=[3.0,7.0,9.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_categories_that_must_be_known() {
        check(
            &OneHotForest,
            &format!(
                "p = ai.onnx.ml.OneHotEncoder(c: str[N,1]) \
                 {{cats_strings=[\"a\",\"b\",\"c\"], zeros=0}}\nh = Flatten(p)\n{}return y",
                tree("h")
            ),
            expect![[r#"
                (unchanged)
                # one_hot_forest @ y: an unknown category is an error
            "#]],
        );
    }
}
