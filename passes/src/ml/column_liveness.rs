//! Leaves out parts of a table that no tree reads.
//!
//! ```text
//! t = Concat(a: f32[N,2], b: f32[N,3]) {axis=1}
//! y = ai.onnx.ml.TreeEnsembleRegressor(t) {nodes_featureids=[2, 4]}
//!                =>   y = ai.onnx.ml.TreeEnsembleRegressor(b) {nodes_featureids=[0, 2]}
//! ```
//!
//! Saves writing the parts, and whatever calculates them. A product with constant weights that
//! only trees read loses the columns that none of them reads. Exact.

use kiln_ir::ops::forest::TreeEnsemble;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::{Attrs, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::{Scalar, Tensor, match_float};

use crate::columns::matrix;
use crate::forms::attr_int;

/// See the module.
pub struct ColumnLiveness;

impl Rewrite for ColumnLiveness {
    fn name(&self) -> &'static str {
        "column_liveness"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(table) = g.input_of(root, 0) else { return Ok(None) };
        let Some((_, columns)) = matrix(g, table) else { return Ok(None) };
        let mut live = vec![false; columns];
        for node in &trees.ensemble().forest.nodes {
            live[node.feature as usize] = true;
        }
        // Without any column, there would be no rows.
        if let (false, Some(first)) = (live.contains(&true), live.first_mut()) {
            *first = true;
        }
        Ok(joined(g, table, &live, root, trees).or_else(|| product(g, table, &live, root, trees)))
    }
}

/// Joins the live parts only.
fn joined(
    g: &Graph,
    table: Value,
    live: &[bool],
    root: NodeId,
    trees: &TreeEnsemble,
) -> Option<Edit> {
    let axis = attr_int(g, table.node, "axis").filter(|_| g.op(table.node).name() == "Concat")?;
    if axis != 1 && axis != -1 {
        return None;
    }
    let (mut at, mut kept, mut left) = (0, vec![], vec![]);
    for part in g.inputs_of(table.node).into_iter().flatten() {
        let (_, n) = matrix(g, part)?;
        let is_live = live[at..at + n].contains(&true);
        left.resize(at + n, is_live);
        kept.extend(is_live.then_some(part));
        at += n;
    }
    if left.iter().all(|l| *l) {
        return None;
    }
    let mut e = Edit::default();
    let parts: Vec<_> = kept.iter().map(|v| Some(Source::from(*v))).collect();
    let x = match kept[..] {
        [one] => one.into(),
        _ => e.call("Concat", &parts, Attrs::default().with("axis", axis)),
    };
    moved(g, e, (root, trees), x, table, &left)
}

/// Multiplies by the live columns only.
fn product(
    g: &Graph,
    table: Value,
    live: &[bool],
    root: NodeId,
    trees: &TreeEnsemble,
) -> Option<Edit> {
    let plain = matches!(g.op(table.node), Op::MatMul(m) if *m == MatMul::PLAIN);
    let [x, w] = [g.input_of(table.node, 0)?, g.input_of(table.node, 1)?];
    let w = g.constant_of(w).filter(|w| plain && w.rank() == 2)?;
    if live.iter().all(|l| *l) {
        return None;
    }
    let (rows, columns) = (w.shape()[0], live.iter().filter(|l| **l).count());
    let w = match_float!(w.dtype(), T => {
        let all = w.to_vec::<f64>().ok()?;
        let kept = all.iter().zip(live.iter().cycle()).filter(|(_, l)| **l);
        Tensor::from_vec(&[rows, columns], kept.map(|(w, _)| T::from_f64(*w)).collect()).ok()?
    }, else return None);
    let mut e = Edit::default();
    let w = e.constant(w);
    let x = e.node(MatMul::PLAIN, &[Some(x.into()), Some(w)]);
    moved(g, e, (root, trees), x, table, live)
}

/// The trees over what is left of the columns.
fn moved(
    g: &Graph,
    mut e: Edit,
    (root, trees): (NodeId, &TreeEnsemble),
    x: Source,
    table: Value,
    left: &[bool],
) -> Option<Edit> {
    let ensemble = trees.ensemble();
    let mut forest = ensemble.forest.clone();
    let places = left.iter().scan(0u32, |at, l| Some(std::mem::replace(at, *at + u32::from(*l))));
    let places: Vec<u32> = places.collect();
    for node in &mut forest.nodes {
        node.feature = places[node.feature as usize];
    }
    let trees = trees.with_forest(forest, &ensemble.base).ok()?;
    let y = e.node(trees, &[Some(x)]);
    g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
    e.absorb(table);
    Some(e)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const TREE: &str = "y = ai.onnx.ml.TreeEnsembleRegressor(t) \
        {nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2], nodes_featureids=[3,0,0], \
         nodes_values=[0.5,0.0,0.0], nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], \
         nodes_truenodeids=[1,0,0], nodes_falsenodeids=[2,0,0], target_treeids=[0,0], \
         target_nodeids=[1,2], target_ids=[0,0], target_weights=[3.0,7.0]}\n";

    #[test]
    fn parts_that_no_tree_reads_go() {
        check(
            &ColumnLiveness,
            &format!("a = Exp(x: f32[N,2])\nt = Concat(a, b: f32[N,3]) {{axis=1}}\n{TREE}return y"),
            expect![[r#"
                x: f32[N,2]
                b: f32[N,3]
                y = ai.onnx.ml.TreeEnsembleRegressor(b) {n_targets=1, nodes_falsenodeids=[2,0,0],
                    nodes_featureids=[1,0,0], nodes_missing_value_tracks_true=[0,0,0],
                    nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2],
                    nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,0], nodes_values=[0.5,0.0,0.0],
                    target_ids=[0,0], target_nodeids=[1,2], target_treeids=[0,0],
                    target_weights=[3.0,7.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn products_lose_columns() {
        check(
            &ColumnLiveness,
            &format!(
                "w = f32[2,4]{{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}}\n\
                 t = MatMul(x: f32[N,2], w)\n{TREE}return y"
            ),
            expect![[r#"
                x: f32[N,2]
                y/column_liveness0 = f32[2,1]{4.0, 8.0}
                y/column_liveness1 = MatMul(x, y/column_liveness0)
                y = ai.onnx.ml.TreeEnsembleRegressor(y/column_liveness1) {n_targets=1,
                    nodes_falsenodeids=[2,0,0], nodes_featureids=[0,0,0],
                    nodes_missing_value_tracks_true=[0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                    "LEAF"], nodes_nodeids=[0,1,2], nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,
                    0], nodes_values=[0.5,0.0,0.0], target_ids=[0,0], target_nodeids=[1,2],
                    target_treeids=[0,0], target_weights=[3.0,7.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_tables_that_others_read() {
        check(
            &ColumnLiveness,
            &format!("t = Concat(a: f32[N,2], b: f32[N,3]) {{axis=1}}\n{TREE}return y, t"),
            expect![[r#"
                (unchanged)
                # column_liveness @ y: an inner value is an output of the graph
            "#]],
        );
    }
}
