//! Calculates a function of a tree's score once for each leaf instead of for each row.
//!
//! ```text
//! t = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=w}
//! y = ai.onnx.ml.LabelEncoder(t)
//!                   =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {target_weights=f(w)}
//! ```
//!
//! Saves every pass over the scores between the tree and `y`, however these are connected, where
//! nothing else reads them. One tree of one target only: what isolation forests and exporters of
//! leaf numbers write for each tree. Exact: the function is evaluated on the leaves' scores.

use std::collections::HashMap;

use kiln_ir::ops::forest::{Ensemble, Kind, Lists, Vote};
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{
    Context, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Type, Value, Verdict,
    eval,
};
use kiln_tensor::{DType, Datum, Tensor};

use crate::columns::matrix;

/// See the module.
pub struct ForestLeaf;

/// A function of a score has at most this many nodes.
const LARGEST: usize = 64;

impl Rewrite for ForestLeaf {
    fn name(&self) -> &'static str {
        "forest_leaf"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !is_pointwise(g, root) || matrix(g, root.first()) != Some((DType::F32, 1)) {
            return Ok(None);
        }
        let Some(f) = function(g, root) else { return Ok(None) };
        let Op::TreeEnsemble(tree) = g.op(f.tree.node) else { return Ok(None) };
        let (Some(x), Some(scores)) = (g.input_of(f.tree.node, 0), leaf_scores(tree.ensemble()))
        else {
            return Ok(None);
        };
        let Some(weights) = f.apply(g, scores) else { return Ok(None) };
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(Decline::new("the score of a leaf would not be finite"));
        }
        // Votes are added to 0.
        if weights.iter().any(|w| w.to_bits() == (-0f32).to_bits()) {
            return Err(Decline::new("the score of a leaf would be 0 with a sign"));
        }
        let mut forest = tree.ensemble().forest.clone();
        forest.leaves = Lists::default();
        for w in weights {
            forest.leaves.push([Vote { target: 0, weight: w.into() }]);
        }
        let Ok(new) = tree.with_forest(forest, &[]) else { return Ok(None) };
        let mut e = Edit::default();
        let y = e.node(new, &[Some(Source::from(x))]);
        e.replace(root.first(), y);
        f.inner.iter().filter(|n| **n != root).for_each(|n| e.absorb(n.first()));
        e.absorb(f.tree);
        Ok(Some(e))
    }
}

/// Whether a node calculates each element of its output from the same element of its inputs.
fn is_pointwise(g: &Graph, node: NodeId) -> bool {
    let op = g.op(node);
    let one = g.outputs_of(node).count() == 1;
    one && match op.name() {
        "ai.onnx.ml.LabelEncoder" | "Identity" => true,
        // Scores are a column and stay one.
        "Reshape" | "Flatten" => {
            g.ty(node.first()).as_tensor().is_ok_and(|t| is_column(t.shape.as_deref()))
        }
        "ai.kiln.Region" => false,
        _ => op.traits().elementwise && !op.traits().random,
    }
}

fn is_column(shape: Option<&[kiln_ir::Dim]>) -> bool {
    matches!(shape, Some([_, one]) if one.as_len() == Some(1))
}

/// A function of the score of one tree.
struct Function {
    tree: Value,
    /// Its nodes, operands first.
    inner: Vec<NodeId>,
}

/// The function of one tree's score that a node gives, if nothing else reads what is between.
fn function(g: &Graph, root: NodeId) -> Option<Function> {
    let (mut tree, mut inner, mut seen) = (None, vec![], vec![root]);
    // Nodes are done when they are met the second time.
    let mut stack = vec![(root, false)];
    while let Some((node, done)) = stack.pop() {
        if done {
            inner.push(node);
            continue;
        }
        stack.push((node, true));
        for v in g.inputs_of(node).into_iter().flatten() {
            if let Some(c) = g.constant_of(v) {
                // A longer one would stretch the column.
                if c.len() != 1 && !is_shape_of(g, node) {
                    return None;
                }
            } else if matches!(g.op(v.node), Op::TreeEnsemble(_)) {
                if *tree.get_or_insert(v) != v {
                    return None;
                }
            } else if !is_pointwise(g, v.node) || g.is_output(v) || inner.len() > LARGEST {
                return None;
            } else if !seen.contains(&v.node) {
                seen.push(v.node);
                stack.push((v.node, false));
            }
        }
    }
    let tree: Value = tree?;
    let private = |v: Value| !g.is_output(v) && g.readers(v).all(|(n, _)| seen.contains(&n));
    let inside = inner.iter().filter(|n| **n != root).all(|n| private(n.first()));
    (inside && private(tree)).then_some(Function { tree, inner })
}

fn is_shape_of(g: &Graph, node: NodeId) -> bool {
    g.op(node).name() == "Reshape"
}

/// What a tree gives for each of its leaves; `None` unless it is one tree of one target.
fn leaf_scores(e: &Ensemble) -> Option<Vec<f32>> {
    let f = &e.forest;
    let plain = e.kind == Kind::Regressor && e.post != PostTransform::Probit;
    if !plain || f.roots.len() != 1 || f.targets != 1 {
        return None;
    }
    let base = e.base.first().copied().unwrap_or(0.0);
    let score = |i: usize| f.leaves.at(i).first().map_or(0.0, |v| v.weight);
    Some((0..f.leaves.len()).map(|i| (score(i) + base) as f32).collect())
}

impl Function {
    /// The function of many scores, by its definition.
    fn apply(&self, g: &Graph, scores: Vec<f32>) -> Option<Vec<f32>> {
        let n = scores.len();
        let mut small = Graph::new();
        let column = Type::tensor(DType::F32, Some(vec![n.into(), 1i64.into()]));
        let mut at = HashMap::from([(self.tree, small.input("score", column))]);
        for &node in &self.inner {
            let mut inputs = vec![];
            for v in g.inputs_of(node) {
                inputs.push(v.map(|v| match g.constant_of(v) {
                    Some(c) => small.constant(&g.node(v.node).name, c.clone()),
                    None => at[&v],
                }));
            }
            let new = small.add(&g.node(node).name, g.op(node).clone(), &inputs).ok()?;
            at.insert(node.first(), new.first());
        }
        let y = at[&self.inner.last()?.first()];
        small.set_outputs(vec![("y".into(), y)]);
        let scores = Tensor::from_vec(&[n, 1], scores).ok()?;
        let y = eval::run(&small, &Context::default(), vec![Datum::Tensor(scores)]).ok()?;
        let y = y[0].as_tensor().ok().filter(|y| y.shape() == [n, 1])?;
        y.to_vec().ok()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const TREE: &str = "t = ai.onnx.ml.TreeEnsembleRegressor(x: f32[N,2]) \
        {nodes_treeids=[0,0,0], nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0], \
         nodes_values=[0.5,0.0,0.0], nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"], \
         nodes_truenodeids=[1,0,0], nodes_falsenodeids=[2,0,0], target_treeids=[0,0], \
         target_nodeids=[1,2], target_ids=[0,0], target_weights=[3.0,7.0]}\n";

    #[test]
    fn branches_that_meet_again_are_one_function() {
        check(
            &ForestLeaf,
            &format!(
                "{TREE}one = f32[1]{{1.0}}\ns = i64[2]{{-1, 1}}\ni = Cast(t) {{to=7}}\n\
                 a = ai.onnx.ml.LabelEncoder(i) {{keys_int64s=[3,7], values_floats=[10.0,20.0]}}\n\
                 b = ai.onnx.ml.LabelEncoder(i) {{keys_int64s=[3,7], values_floats=[5.0,-1.0]}}\n\
                 c = Reshape(a, s)\nd = Add(b, one)\ny = Mul(c, d)\nreturn y"
            ),
            expect![[r#"
                x: f32[N,2]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {n_targets=1, nodes_falsenodeids=[2,0,0],
                    nodes_featureids=[1,0,0], nodes_missing_value_tracks_true=[0,0,0],
                    nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2],
                    nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,0], nodes_values=[0.5,0.0,0.0],
                    target_ids=[0,0], target_nodeids=[1,2], target_treeids=[0,0],
                    target_weights=[60.0,0.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_others_read_and_what_rows_differ_in() {
        check(
            &ForestLeaf,
            &format!("{TREE}y = Exp(t)\nz = Add(q: f32[N,1], y)\nreturn t, z"),
            expect![[r#"
                (unchanged)
            "#]],
        );
    }

    #[test]
    fn keeps_scores_that_are_not_finite() {
        check(
            &ForestLeaf,
            &format!("{TREE}z = f32[]{{0.0}}\ny = Div(t, z)\nreturn y"),
            expect![[r#"
                (unchanged)
                # forest_leaf @ y: the score of a leaf would not be finite
            "#]],
        );
    }
}
