//! Takes trees of one leaf out of a forest: what they vote is added to every row.
//!
//! ```text
//! y = ai.onnx.ml.TreeEnsembleRegressor(x) {trees: a, leaf 0.5, b; base_values=[1.0]}
//!                =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {trees: a, b; base_values=[1.5]}
//! ```
//!
//! Saves a vote per row and tree; of a forest of such trees alone, one is left. Exact: votes move
//! to the numbers that scores are added to only where every order of the sum gives the same bits,
//! because all votes are whole multiples of one power of two and small enough, or where the one
//! tree was last and nothing is added behind it; trees at the beginning are summed as rows would.

use std::collections::BTreeSet;

use kiln_ir::ops::forest::{Aggregate, Ensemble, Forest, Kind, Lists, Next, Pair, Vote};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};
use kiln_tensor::DType;

use crate::columns::matrix;

/// See the module.
pub struct ForestConstant;

impl Rewrite for ForestConstant {
    fn name(&self) -> &'static str {
        "forest_constant"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let e = trees.ensemble();
        let constants = e.forest.roots.iter().filter(|r| r.as_leaf().is_some()).count();
        if constants == 0 || e.forest.roots.len() == 1 {
            return Ok(None);
        }
        if e.aggregate != Aggregate::Sum {
            return Err(Decline::new("the votes of the trees are not summed"));
        }
        let Some((dtype, _)) = matrix(g, x) else { return Ok(None) };
        let sum = Sum { e, wide: e.forest.wide || dtype == DType::F64 };
        let ways: Vec<_> = [sum.moved(), sum.joined()].into_iter().flatten().collect();
        if ways.is_empty() {
            return Err(Decline::new("the scores would be rounded in another order"));
        }
        let mut said = ways.into_iter().filter_map(|(f, base)| trees.with_forest(f, &base).ok());
        let Some(trees) = said.next() else {
            return Err(Decline::new("the operator cannot say what is added to every row"));
        };
        let mut edit = Edit::default();
        let y = edit.node(trees, &[Some(Source::from(x))]);
        g.outputs_of(root).for_each(|v| edit.replace(v, y.slot(v.slot())));
        Ok(Some(edit))
    }
}

/// How a forest sums.
struct Sum<'a> {
    e: &'a Ensemble,
    /// Whether in double precision.
    wide: bool,
}

impl Sum<'_> {
    fn add(&self, a: f64, b: f64) -> f64 {
        if self.wide { a + b } else { f64::from((a + b) as f32) }
    }

    fn votes(&self, root: Next) -> &[Vote] {
        root.as_leaf().map_or(&[], |leaf| self.e.forest.leaves.at(leaf))
    }

    /// The forest without its constant trees, and what is added to its scores.
    fn moved(&self) -> Option<(Forest, Vec<f64>)> {
        let f = &self.e.forest;
        let grown: Vec<Next> = f.roots.iter().copied().filter(|r| r.as_node().is_some()).collect();
        let last = f.roots.last().is_some_and(|r| r.as_leaf().is_some());
        let alone = last && grown.len() + 1 == f.roots.len();
        let nothing_behind = self.e.base.iter().all(|b| *b == 0.0);
        let once = |votes: &[Vote]| {
            let targets: BTreeSet<u32> = votes.iter().map(|v| v.target).collect();
            targets.len() == votes.len()
        };
        let is_last = alone && nothing_behind && once(self.votes(*f.roots.last()?));
        let movable = !grown.is_empty() && (is_last || self.any_order());
        if !movable || !self.says_as_much() {
            return None;
        }
        let mut base = self.e.base.clone();
        base.resize(f.targets, 0.0);
        for v in f.roots.iter().flat_map(|r| self.votes(*r)) {
            let b = &mut base[v.target as usize];
            *b = self.add(*b, v.weight);
        }
        // What says nothing is not written.
        if self.e.base.is_empty() && base.iter().all(|b| *b == 0.0) {
            base.clear();
        }
        Some((Forest { roots: grown, ..f.clone() }, base))
    }

    /// The forest with one tree for the constant ones at its beginning.
    fn joined(&self) -> Option<(Forest, Vec<f64>)> {
        let f = &self.e.forest;
        let n = f.roots.iter().take_while(|r| r.as_leaf().is_some()).count();
        if n < 2 {
            return None;
        }
        let mut scores: Vec<Option<f64>> = vec![None; f.targets];
        for v in f.roots[..n].iter().flat_map(|r| self.votes(*r)) {
            let score = &mut scores[v.target as usize];
            *score = Some(self.add(score.unwrap_or(0.0), v.weight));
        }
        let votes = (0..).zip(scores).filter_map(|(target, s)| Some(Vote { target, weight: s? }));
        let mut new = f.clone();
        let leaf = Next::leaf(new.leaves.len());
        let mut leaves = Lists::default();
        (0..f.leaves.len()).for_each(|i| leaves.push(f.leaves.at(i).iter().copied()));
        leaves.push(votes);
        new.leaves = leaves;
        new.roots = [leaf].into_iter().chain(f.roots[n..].iter().copied()).collect();
        Some((new, self.e.base.clone()))
    }

    /// Whether a class counts as voted for where it did: numbers to begin with count for all.
    fn says_as_much(&self) -> bool {
        let own = matches!(self.e.kind, Kind::Classifier { pair: Pair::Own, .. });
        let constant = self.e.forest.roots.iter().flat_map(|r| self.votes(*r));
        let voted: BTreeSet<u32> = constant.map(|v| v.target).collect();
        !own || !self.e.base.is_empty() || voted.len() == self.e.forest.targets
    }

    /// Whether the votes add up to the same in any order: all partial sums are multiples of the
    /// least unit, and so many of these fit into the precision.
    fn any_order(&self) -> bool {
        let f = &self.e.forest;
        let votes = f.leaves.items().iter().map(|v| v.weight);
        let numbers = || votes.clone().chain(self.e.base.iter().copied()).filter(|x| *x != 0.0);
        if numbers().any(|x| !x.is_finite()) {
            return false;
        }
        let Some(unit) = numbers().map(unit).min() else { return true };
        let largest = numbers().fold(0.0, |m: f64, x| m.max(x.abs()));
        // No leaf has more votes than there are.
        let votes = (0..f.leaves.len()).map(|i| f.leaves.at(i).len()).max().unwrap_or(0);
        let most = (f.roots.len() as f64 * votes as f64 + 1.0) * largest;
        let (digits, greatest) = if self.wide { (53, f64::MAX) } else { (24, f32::MAX.into()) };
        most <= greatest.min(2f64.powi(unit + digits))
    }
}

/// The exponent of the lowest bit of a number that is not 0.
fn unit(x: f64) -> i32 {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    match exponent {
        0 => fraction.trailing_zeros() as i32 - 1074,
        e => (fraction | 1 << 52).trailing_zeros() as i32 + e - 1075,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    /// A stump that votes 1 or `no`, and trees of one leaf before and behind it.
    fn forest(before: &[f32], no: f32, behind: &[f32], extra: &str) -> String {
        let (mut tree, mut id, mut yes, mut no_id) = (vec![], vec![], vec![], vec![]);
        let (mut modes, mut vote, mut weights) = (vec![], vec![], vec![]);
        let mut leaf = |t: usize, w: f32| {
            tree.push(t);
            [&mut id, &mut yes, &mut no_id].into_iter().for_each(|list| list.push(0));
            modes.push("LEAF");
            vote.push((t, 0));
            weights.push(w);
        };
        before.iter().enumerate().for_each(|(t, w)| leaf(t, *w));
        let at = before.len();
        behind.iter().enumerate().for_each(|(t, w)| leaf(at + 1 + t, *w));
        let stump = [(0, 1, 2, "BRANCH_LEQ"), (1, 0, 0, "LEAF"), (2, 0, 0, "LEAF")];
        for (k, (i, y, n, mode)) in stump.into_iter().enumerate() {
            let to = at + k;
            tree.insert(to, at);
            id.insert(to, i);
            yes.insert(to, y);
            no_id.insert(to, n);
            modes.insert(to, mode);
        }
        vote.splice(at..at, [(at, 1), (at, 2)]);
        weights.splice(at..at, [1.0, no]);
        let zeros = vec![0; tree.len()];
        let values: Vec<f32> = modes.iter().map(|m| f32::from(*m != "LEAF") / 2.0).collect();
        let of = |f: fn(&(usize, usize)) -> usize| vote.iter().map(f).collect::<Vec<_>>();
        format!(
            "y = ai.onnx.ml.TreeEnsembleRegressor(x: f32[N,1]) {{nodes_treeids={tree:?}, \
             nodes_nodeids={id:?}, nodes_featureids={zeros:?}, nodes_values={values:?}, \
             nodes_modes={modes:?}, nodes_truenodeids={yes:?}, nodes_falsenodeids={no_id:?}, \
             target_treeids={:?}, target_nodeids={:?}, target_ids={:?}, \
             target_weights={weights:?}{extra}}}\nreturn y",
            of(|v| v.0),
            of(|v| v.1),
            vec![0; vote.len()],
        )
    }

    #[test]
    fn units() {
        for (x, want) in [
            (1.0, 0),
            (0.75, -2),
            (-12.0, 2),
            (f64::from(0.1f32), -27),
            (f64::from(f32::from_bits(1)), -149),
            (f64::from_bits(1), -1074),
        ] {
            assert_eq!(unit(x), want, "{x}");
        }
    }

    #[test]
    fn constant_trees_go_to_the_base() {
        check(
            &ForestConstant,
            &forest(&[0.5], 2.0, &[0.25], ", base_values=[4.0]"),
            expect![[r#"
                x: f32[N,1]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {base_values=[4.75], n_targets=1,
                    nodes_falsenodeids=[2,0,0], nodes_featureids=[0,0,0],
                    nodes_missing_value_tracks_true=[0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                    "LEAF"], nodes_nodeids=[0,1,2], nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,
                    0], nodes_values=[0.5,0.0,0.0], target_ids=[0,0], target_nodeids=[1,2],
                    target_treeids=[0,0], target_weights=[1.0,2.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn the_last_tree_goes_where_nothing_is_behind_it() {
        check(
            &ForestConstant,
            &forest(&[], 0.1, &[0.3], ""),
            expect![[r#"
            x: f32[N,1]
            y = ai.onnx.ml.TreeEnsembleRegressor(x) {base_values=[0.3], n_targets=1,
                nodes_falsenodeids=[2,0,0], nodes_featureids=[0,0,0],
                nodes_missing_value_tracks_true=[0,0,0], nodes_modes=["BRANCH_LEQ","LEAF",
                "LEAF"], nodes_nodeids=[0,1,2], nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,
                0], nodes_values=[0.5,0.0,0.0], target_ids=[0,0], target_nodeids=[1,2],
                target_treeids=[0,0], target_weights=[1.0,0.1]}
            return y
        "#]],
        );
    }

    #[test]
    fn the_first_trees_are_one() {
        check(
            &ForestConstant,
            &forest(&[0.1, 0.7], 0.1, &[0.3], ", base_values=[0.3]"),
            expect![[r#"
                x: f32[N,1]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {base_values=[0.3], n_targets=1,
                    nodes_falsenodeids=[0,2,0,0,0], nodes_featureids=[0,0,0,0,0],
                    nodes_missing_value_tracks_true=[0,0,0,0,0], nodes_modes=["LEAF","BRANCH_LEQ",
                    "LEAF","LEAF","LEAF"], nodes_nodeids=[0,0,1,2,0], nodes_treeids=[0,1,1,1,2],
                    nodes_truenodeids=[0,1,0,0,0], nodes_values=[0.0,0.5,0.0,0.0,0.0],
                    target_ids=[0,0,0,0], target_nodeids=[0,1,2,0], target_treeids=[0,1,1,2],
                    target_weights=[0.8,1.0,0.1,0.3]}
                return y
                # forest_constant @ y: the scores would be rounded in another order
            "#]],
        );
    }

    #[test]
    fn keeps_the_order_of_sums() {
        check(
            &ForestConstant,
            &forest(&[], 0.1, &[0.3], ", base_values=[0.7]"),
            expect![[r#"
            (unchanged)
            # forest_constant @ y: the scores would be rounded in another order
        "#]],
        );
        let mean = ", aggregate_function=\"AVERAGE\"";
        check(
            &ForestConstant,
            &forest(&[], 1.0, &[0.5], mean),
            expect![[r#"
            (unchanged)
            # forest_constant @ y: the votes of the trees are not summed
        "#]],
        );
    }
}
