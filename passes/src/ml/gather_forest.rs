//! Lets trees read the columns of the table that columns are picked from.
//!
//! ```text
//! s = Gather(x, [2, 0]) {axis=1}
//! y = ai.onnx.ml.TreeEnsembleRegressor(s) {nodes_featureids=[0, 1]}
//!             =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {nodes_featureids=[2, 0]}
//! ```
//!
//! Saves a pass over the picked columns, also where `ArrayFeatureExtractor` or `Slice` picks them.
//! Exact.

use kiln_ir::ops::gather::Gather;
use kiln_ir::{
    Context, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict,
};
use kiln_tensor::{Datum, Tensor};

use crate::columns::matrix;
use crate::forms::ints;

/// See the module.
pub struct GatherForest;

impl Rewrite for GatherForest {
    fn name(&self) -> &'static str {
        "gather_forest"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(table) = g.input_of(root, 0).filter(|v| matrix(g, *v).is_some()) else {
            return Ok(None);
        };
        let Some((x, columns)) = picked(g, table)? else { return Ok(None) };
        let e = trees.ensemble();
        let mut forest = e.forest.clone();
        for node in &mut forest.nodes {
            node.feature = columns[node.feature as usize];
        }
        let Ok(trees) = trees.with_forest(forest, &e.base) else { return Ok(None) };
        let mut edit = Edit::default();
        let y = edit.node(trees, &[Some(Source::from(x))]);
        g.outputs_of(root).for_each(|v| edit.replace(v, y.slot(v.slot())));
        Ok(Some(edit))
    }
}

/// The table that the columns of `v` are picked from, and which they are.
pub(super) fn picked(g: &Graph, v: Value) -> Result<Option<(Value, Vec<u32>)>, Decline> {
    let op = g.op(v.node);
    let Some((x, (_, width))) = g.input_of(v.node, 0).and_then(|x| Some((x, matrix(g, x)?))) else {
        return Ok(None);
    };
    let lists: Option<Vec<Tensor>> =
        (g.inputs_of(v.node).into_iter().skip(1)).map(|v| g.constant_of(v?).cloned()).collect();
    let of_columns = match op {
        Op::Gather(Gather::Features | Gather::Slices { axis: 1 | -1 }) => true,
        op if op.name() == "Slice" => {
            let axes = g.input_of(v.node, 3).and_then(|a| ints(g, a));
            axes.is_some_and(|a| matches!(a[..], [1 | -1]))
        }
        _ => false,
    };
    if !of_columns {
        return Ok(None);
    }
    let lists = lists.ok_or(
        Decline::new("the picked columns are not constant")
            .advise("export the columns as an initializer"),
    )?;
    // What the operator makes of a row of numbers of columns.
    let row = Tensor::from_vec(&[1, width], (0..width as i64).collect::<Vec<_>>());
    let row = row.map_err(|_| Decline::new("the table is too wide"))?;
    let operands: Vec<Datum> = [row].into_iter().chain(lists).map(Datum::Tensor).collect();
    let operands: Vec<_> = operands.iter().map(Some).collect();
    let wrong = |_| Decline::new("a picked column does not exist");
    let y = op.eval(&Context::default(), &operands).map_err(wrong)?;
    let Some(Datum::Tensor(y)) = y.first() else { return Ok(None) };
    let columns = y.to_vec::<i64>().unwrap_or_default();
    Ok(Some((x, columns.into_iter().map(|c| c as u32).collect())))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const TREE: &str = "y = ai.onnx.ml.TreeEnsembleRegressor(s) \
        {nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0], \
         nodes_values=[0.5,0.0,0.0], nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], \
         nodes_truenodeids=[1,0,0], nodes_falsenodeids=[2,0,0], target_treeids=[0,0], \
         target_nodeids=[1,2], target_ids=[0,0], target_weights=[3.0,7.0]}\n";

    #[test]
    fn reads_the_columns_themselves() {
        check(
            &GatherForest,
            &format!(
                "i = i64[2]{{0, -1}}\nj = i64[3]{{1, 0, 2}}\n\
                 r = ai.onnx.ml.ArrayFeatureExtractor(x: f32[N,3], j)\n\
                 q = Gather(r, i) {{axis=1}}\na = i64[1]{{1}}\nz = i64[1]{{0}}\n\
                 k = i64[1]{{-1}}\nl = i64[1]{{-9}}\ns = Slice(q, k, l, a, k)\n{TREE}return y"
            ),
            expect![[r#"
                x: f32[N,3]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {n_targets=1, nodes_falsenodeids=[2,0,0],
                    nodes_featureids=[1,0,0], nodes_missing_value_tracks_true=[0,0,0],
                    nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2],
                    nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,0], nodes_values=[0.5,0.0,0.0],
                    target_ids=[0,0], target_nodeids=[1,2], target_treeids=[0,0],
                    target_weights=[3.0,7.0]}
                z = i64[1]{0}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_columns_that_nobody_knows() {
        check(
            &GatherForest,
            &format!("s = Gather(x: f32[N,3], i: i64[2]) {{axis=-1}}\n{TREE}return y"),
            expect![[r#"
                (unchanged)
                # gather_forest @ y: the picked columns are not constant
            "#]],
        );
    }
}
