//! Replaces the thresholds of a forest by their ranks.
//!
//! ```text
//! y = ai.onnx.ml.TreeEnsembleRegressor(x)
//!   => y = ai.kiln.RankForest(x) {operator="ai.onnx.ml.TreeEnsembleRegressor", ..}
//! ```
//!
//! Nodes of integers of 16 bits are half as large, so more of a forest stays in the caches; a row
//! pays for it by a search in each column. Exact: integers give the answers of the thresholds.

use kiln_ir::ops::forest::RankForest;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Result, Rewrite, Source, Verdict, rewrite};

/// Ranks all forests of a graph for which it pays, and returns how many that are.
pub fn rank_forests(g: &mut Graph) -> Result<usize> {
    let order = g.order()?;
    let done = rewrite::run(g, &RankForests, &order, 0, &mut ())?;
    Ok(done.patches.len())
}

/// See the module.
struct RankForests;

impl Rewrite for RankForests {
    fn name(&self) -> &'static str {
        "rank_forest"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let ranked = RankForest::new(trees)
            .map_err(|_| Decline::new("the tests of a column have no ranks of 16 bits"))?;
        let forest = &trees.ensemble().forest;
        // Trees are about as deep as the logarithm of their leaves.
        let depth = (forest.leaves.len() / forest.roots.len().max(1)).max(1).ilog2() as usize;
        if ranked.ranks().steps() >= forest.roots.len().saturating_mul(depth) {
            return Err(Decline::new("ranking a row takes longer than walking down the trees"));
        }
        let mut e = Edit::default();
        let y = e.node(ranked, &[Some(Source::from(x))]);
        for v in g.outputs_of(root) {
            e.replace(v, y.slot(v.slot()));
        }
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    /// A regressor of stumps that ask for one threshold.
    fn stumps(n: usize, mode: &str) -> String {
        let per = |f: &dyn Fn(usize) -> String, count: usize| {
            (0..count).map(f).collect::<Vec<_>>().join(",")
        };
        let mut t = String::from("y = ai.onnx.ml.TreeEnsembleRegressor(x: f32[N,1]) {");
        let tree = per(&|i| (i / 3).to_string(), 3 * n);
        let id = per(&|i| (i % 3).to_string(), 3 * n);
        let zero = per(&|_| "0".to_owned(), 3 * n);
        let value = per(&|_| "1.0".to_owned(), 3 * n);
        let modes = per(&|i| format!("\"{}\"", if i % 3 == 0 { mode } else { "LEAF" }), 3 * n);
        let yes = per(&|i| usize::from(i % 3 == 0).to_string(), 3 * n);
        let no = per(&|i| (2 * usize::from(i % 3 == 0)).to_string(), 3 * n);
        let voters = per(&|i| (i / 2).to_string(), 2 * n);
        let leaves = per(&|i| (i % 2 + 1).to_string(), 2 * n);
        let ids = per(&|_| "0".to_owned(), 2 * n);
        let weights = per(&|i| format!("{}.0", i), 2 * n);
        let _ = write!(
            t,
            "nodes_treeids=[{tree}], nodes_nodeids=[{id}], nodes_featureids=[{zero}], \
             nodes_values=[{value}], nodes_modes=[{modes}], nodes_truenodeids=[{yes}], \
             nodes_falsenodeids=[{no}], target_treeids=[{voters}], target_nodeids=[{leaves}], \
             target_ids=[{ids}], target_weights=[{weights}]}}\nreturn y"
        );
        t
    }

    #[test]
    fn many_trees_are_ranked() {
        let mut g = kiln_ir::text::parse(&stumps(4, "BRANCH_LEQ")).expect("parses");
        assert_eq!(rank_forests(&mut g).expect("sound"), 1);
        let y = g.outputs()[0].1;
        let Op::RankForest(f) = g.op(y.node) else { panic!("no ranks") };
        assert_eq!(f.trees().ensemble().forest.roots.len(), 4);
    }

    #[test]
    fn what_does_not_pay_or_has_no_order_stays() {
        check(
            &RankForests,
            &stumps(1, "BRANCH_LEQ"),
            expect![[r#"
                (unchanged)
                # rank_forest @ y: ranking a row takes longer than walking down the trees
            "#]],
        );
        check(
            &RankForests,
            &stumps(4, "BRANCH_EQ"),
            expect![[r#"
                (unchanged)
                # rank_forest @ y: the tests of a column have no ranks of 16 bits
            "#]],
        );
    }
}
