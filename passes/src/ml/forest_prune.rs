//! Takes away what no row can tell apart: branches that the nodes above rule out, and nodes whose
//! leaves vote alike.
//!
//! ```text
//! n0: x[1] <= 2 ? n1 : c
//! n1: x[1] <= 5 ? a : b        =>   n0: x[1] <= 2 ? a : c
//! ```
//!
//! Saves a comparison for each row that would have come by, and makes trees smaller, which the
//! caches feel. NaN is followed, too. Exact.

use std::cell::RefCell;
use std::collections::HashMap;

use kiln_ir::ops::forest::{Ensemble, Forest, Next, Node, Test, TreeEnsemble};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};

/// See the module.
#[derive(Default)]
pub struct ForestPrune {
    /// Forests in which nothing is to be found; kept, so that no other one takes their place.
    done: RefCell<HashMap<*const Ensemble, TreeEnsemble>>,
}

impl Rewrite for ForestPrune {
    fn name(&self) -> &'static str {
        "forest_prune"
    }

    fn begin(&self) {
        self.done.borrow_mut().clear();
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let e = trees.ensemble();
        if self.done.borrow().contains_key(&std::ptr::from_ref(e)) {
            return Ok(None);
        }
        let Some(forest) = pruned(&e.forest) else {
            self.done.borrow_mut().insert(std::ptr::from_ref(e), trees.clone());
            return Ok(None);
        };
        let trees = trees.with_forest(forest, &e.base).map_err(|_| {
            Decline::new("a vote that no row gets decides what the scores of others mean")
        })?;
        let mut edit = Edit::default();
        let y = edit.node(trees, &[Some(Source::from(x))]);
        g.outputs_of(root).for_each(|v| edit.replace(v, y.slot(v.slot())));
        Ok(Some(edit))
    }
}

/// Where branches meet, a node may have to be looked at again this often.
const ROUNDS: usize = 8;

/// The forest without what rows cannot tell apart; `None` where that is all of it.
pub(super) fn pruned(f: &Forest) -> Option<Forest> {
    let mut walk = Walk::new(f);
    for &root in &f.roots {
        walk.tree(root);
    }
    let mut new = f.clone();
    let mut to = |n| end(&mut walk.redirect, n);
    new.nodes.iter_mut().for_each(|n| (n.yes, n.no) = (to(n.yes), to(n.no)));
    new.roots.iter_mut().for_each(|r| *r = to(*r));
    join_leaves(&mut new);
    let new = Forest::new(new).ok()?;
    (new.nodes.len() < f.nodes.len()).then_some(new)
}

/// Where rows that come to a place go. Every node on the way is led there at once, so that a
/// long way is walked but once.
fn end(redirect: &mut [Option<Next>], place: Next) -> Next {
    let mut last = place;
    while let Some(to) = last.as_node().and_then(|i| redirect[i]) {
        last = to;
    }
    let mut next = place;
    while let Some((i, to)) = next.as_node().and_then(|i| Some((i, redirect[i]?))) {
        redirect[i] = Some(last);
        next = to;
    }
    last
}

/// Leads past nodes whose two leaves vote alike.
fn join_leaves(f: &mut Forest) {
    let mut alike: Vec<Option<Next>> = vec![None; f.nodes.len()];
    // From the leaves up: nodes come before what they lead to, but where branches meet again.
    for _ in 0..ROUNDS {
        let mut found = false;
        for i in (0..f.nodes.len()).rev() {
            let (yes, no) = (end(&mut alike, f.nodes[i].yes), end(&mut alike, f.nodes[i].no));
            (f.nodes[i].yes, f.nodes[i].no) = (yes, no);
            let votes = |n: Next| n.as_leaf().map(|i| f.leaves.at(i));
            if alike[i].is_none()
                && (yes == no || yes.as_leaf().is_some() && votes(yes) == votes(no))
            {
                alike[i] = Some(yes);
                found = true;
            }
        }
        if !found {
            break;
        }
    }
    f.roots.iter_mut().for_each(|r| *r = end(&mut alike, *r));
}

/// What a feature may still be: a number from `.low` to `.high`, but for some, or NaN.
#[derive(Clone)]
struct Left {
    low: f64,
    high: f64,
    nan: bool,
    /// Numbers between that it is not; not all of them are known.
    not: Vec<f64>,
}

/// How many numbers are kept that a feature is not.
const KEPT: usize = 8;

const ALL: Left = Left { low: f64::NEG_INFINITY, high: f64::INFINITY, nan: true, not: vec![] };
const NONE: Left = Left { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: false, not: vec![] };

impl Left {
    fn is_none(&self) -> bool {
        self.low > self.high && !self.nan
    }

    /// Whether it may be a number.
    fn has(&self, x: f64) -> bool {
        self.low <= x && x <= self.high && !self.not.contains(&x)
    }

    fn up_to(&self, t: f64) -> Left {
        Left { high: self.high.min(t), ..self.clone() }
    }

    fn from(&self, t: f64) -> Left {
        Left { low: self.low.max(t), ..self.clone() }
    }

    // Nothing is below the least number, and nothing above the greatest.
    fn below(&self, t: f64) -> Left {
        if t == f64::NEG_INFINITY { NONE } else { self.up_to(t.next_down()) }
    }

    fn above(&self, t: f64) -> Left {
        if t == f64::INFINITY { NONE } else { self.from(t.next_up()) }
    }

    /// What is left of it where it is a number, and where it is not.
    fn equal(&self, t: f64) -> [Left; 2] {
        if !self.has(t) {
            return [NONE, self.clone()];
        }
        let mut other = match t {
            _ if t == self.low => self.above(t),
            _ if t == self.high => self.below(t),
            _ => self.clone(),
        };
        if other.has(t) && other.not.len() < KEPT {
            other.not.push(t);
        }
        [Left { low: t, high: t, nan: false, not: vec![] }, other]
    }

    /// The same where it is one of a set of numbers, and where it is none.
    fn among(&self, set: &[f64]) -> [Left; 2] {
        let one = self.low == self.high;
        match set.iter().any(|t| self.has(*t)) {
            false => [NONE, self.clone()],
            true if one => [self.clone(), NONE],
            true => [self.clone(), self.clone()],
        }
    }

    /// What is left of it where a node says yes, and where it says no.
    fn split(&self, f: &Forest, n: &Node) -> [Left; 2] {
        let [mut yes, mut no] = match n.test {
            // Nothing is in an order with NaN.
            Test::Leq(t) | Test::Lt(t) | Test::Geq(t) | Test::Gt(t) if t.is_nan() => {
                [NONE, self.clone()]
            }
            Test::Leq(t) => [self.up_to(t), self.above(t)],
            Test::Lt(t) => [self.below(t), self.from(t)],
            Test::Geq(t) => [self.from(t), self.below(t)],
            Test::Gt(t) => [self.above(t), self.up_to(t)],
            Test::Eq(t) => self.equal(t),
            Test::Neq(t) => {
                let [same, other] = self.equal(t);
                [other, same]
            }
            Test::Member(s) => self.among(f.sets.at(s as usize)),
        };
        let nan_says_yes = n.missing || matches!(n.test, Test::Neq(_));
        yes.nan = self.nan && nan_says_yes;
        no.nan = self.nan && !nan_says_yes;
        [yes, no]
    }
}

/// A depth-first walk that knows what the nodes above leave of each feature.
struct Walk<'a> {
    forest: &'a Forest,
    /// By feature; `None` where nothing is known.
    left: Vec<Option<Left>>,
    /// Where a node's rows all go, by node.
    redirect: Vec<Option<Next>>,
    /// Whether branches meet at a node: whatever leads there, it stays.
    meets: Vec<bool>,
    seen: Vec<bool>,
}

/// What is to be done.
enum Step {
    /// Goes to a place, where this is left of a feature.
    Enter(Next, u32, Left),
    /// Comes back to a node above the place.
    Leave(u32, Left),
    /// Comes back from a place where branches meet.
    LeaveAll(Vec<Option<Left>>),
}

impl<'a> Walk<'a> {
    fn new(forest: &'a Forest) -> Self {
        let n = forest.nodes.len();
        let (mut ways, mut meets) = (vec![false; n], vec![false; n]);
        let branches = forest.nodes.iter().flat_map(|n| [n.yes, n.no]);
        for i in branches.chain(forest.roots.iter().copied()).filter_map(Next::as_node) {
            meets[i] |= std::mem::replace(&mut ways[i], true);
        }
        let left = vec![None; forest.features];
        Self { forest, left, redirect: vec![None; n], meets, seen: vec![false; n] }
    }

    fn tree(&mut self, root: Next) {
        self.left.fill(None);
        let mut steps = vec![];
        self.enter(root, &mut steps);
        while let Some(step) = steps.pop() {
            match step {
                Step::Leave(feature, left) => {
                    self.left[feature as usize] = Some(left);
                }
                Step::LeaveAll(left) => self.left = left,
                Step::Enter(next, feature, left) => {
                    self.left[feature as usize] = Some(left);
                    self.enter(next, &mut steps);
                }
            }
        }
    }

    fn enter(&mut self, next: Next, steps: &mut Vec<Step>) {
        let Some(i) = next.as_node() else { return };
        if std::mem::replace(&mut self.seen[i], true) {
            return;
        }
        if self.meets[i] {
            let none = vec![None; self.left.len()];
            steps.push(Step::LeaveAll(std::mem::replace(&mut self.left, none)));
        }
        let node = &self.forest.nodes[i];
        let left = self.left[node.feature as usize].clone().unwrap_or(ALL);
        let [yes, no] = left.split(self.forest, node);
        if yes.is_none() || no.is_none() {
            let next = if yes.is_none() { node.no } else { node.yes };
            self.redirect[i] = Some(next);
            steps.push(Step::Enter(next, node.feature, left));
            return;
        }
        steps.push(Step::Leave(node.feature, left));
        steps.push(Step::Enter(node.no, node.feature, no));
        steps.push(Step::Enter(node.yes, node.feature, yes));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use kiln_ir::ops::forest::Vote;

    use super::*;
    use crate::testing::check;

    /// A tree whose leaf `i` votes `leaves[i]`.
    fn forest(nodes: &[(Test, u32, Next, Next, bool)], leaves: &[f64]) -> Forest {
        let mut f = Forest { targets: 1, roots: vec![Next::node(0)], ..Forest::default() };
        let node =
            |&(test, feature, yes, no, missing): &_| Node { test, feature, yes, no, missing };
        f.nodes = nodes.iter().map(node).collect();
        leaves.iter().for_each(|&weight| f.leaves.push([Vote { target: 0, weight }]));
        Forest::new(f).expect("valid")
    }

    const N: fn(usize) -> Next = Next::node;
    const L: fn(usize) -> Next = Next::leaf;

    fn votes(f: &Forest, x: f64, y: f64) -> Vec<Vote> {
        f.leaves.at(f.leaf_of(f.roots[0], &[x, y])).to_vec()
    }

    #[test]
    fn what_is_left_is_followed() {
        use Test::*;
        let inf = f64::INFINITY;
        let two = |outer, inner, missing: [bool; 2]| {
            let nodes = [(outer, 0, N(1), L(2), missing[0]), (inner, 0, L(0), L(1), missing[1])];
            forest(&nodes, &[1.0, 2.0, 3.0])
        };
        for (f, nodes) in [
            (two(Leq(2.0), Leq(5.0), [false; 2]), 1),
            (two(Leq(2.0), Leq(1.0), [false; 2]), 2),
            (two(Leq(2.0), Lt(2.0), [false; 2]), 2),
            (two(Lt(2.0), Geq(2.0), [false; 2]), 1),
            (two(Gt(2.0), Gt(2.0), [false; 2]), 1),
            (two(Geq(2.0), Gt(2.0), [false; 2]), 2),
            // NaN goes on to the inner node, which tells it from numbers.
            (two(Leq(2.0), Leq(5.0), [true, false]), 2),
            (two(Leq(2.0), Leq(5.0), [true, true]), 1),
            (two(Neq(2.0), Leq(inf), [false; 2]), 2),
            (two(Leq(2.0), Leq(inf), [false; 2]), 1),
            (two(Leq(2.0), Lt(f64::NAN), [false; 2]), 1),
            (two(Leq(2.0), Eq(9.0), [false; 2]), 1),
            (two(Eq(2.0), Leq(5.0), [false; 2]), 1),
            (two(Eq(2.0), Eq(3.0), [false; 2]), 1),
            (two(Eq(2.0), Neq(2.0), [true, false]), 2),
            (two(Neq(2.0), Eq(2.0), [false; 2]), 1),
            (two(Neq(2.0), Eq(2.0), [false, true]), 2),
            (two(Neq(2.0), Eq(3.0), [false; 2]), 2),
            (two(Geq(2.0), Neq(2.0), [false; 2]), 2),
            (two(Neq(9.0), Leq(9.0), [false; 2]), 2),
            (two(Lt(-inf), Leq(0.0), [false; 2]), 0),
        ] {
            let new = pruned(&f).unwrap_or(f.clone());
            assert_eq!(new.nodes.len(), nodes, "{f:?}");
            for x in [0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 9.0, f64::NAN, inf, -inf] {
                assert_eq!(votes(&new, x, 0.0), votes(&f, x, 0.0), "{x}: {f:?}");
            }
        }
    }

    #[test]
    fn other_features_and_branches_that_meet_are_left_alone() {
        use Test::Leq;
        let nodes = [
            (Leq(2.0), 0, N(1), N(2), false),
            (Leq(5.0), 1, N(3), L(0), false),
            (Leq(7.0), 1, N(3), L(1), false),
            (Leq(1.0), 0, L(2), L(3), false),
        ];
        assert_eq!(pruned(&forest(&nodes, &[1.0, 2.0, 3.0, 4.0])), None);
        // Where one way leads there no more, the other is all that counts.
        let new = pruned(&forest(&nodes, &[1.0, 2.0, 3.0, 3.0])).expect("equal leaves");
        assert_eq!(new.nodes.len(), 3);
    }

    #[test]
    fn leaves_that_vote_alike_are_one() {
        let text = |weights: &str| {
            format!(
                "y = ai.onnx.ml.TreeEnsembleRegressor(x: f32[N,2]) {{nodes_treeids=[0,0,0,0,0], \
                 nodes_nodeids=[0,1,2,3,4], nodes_featureids=[0,1,0,0,0], \
                 nodes_values=[0.5,2.0,0.0,0.0,0.0], \
                 nodes_modes=[\"BRANCH_LEQ\",\"BRANCH_LT\",\"LEAF\",\"LEAF\",\"LEAF\"], \
                 nodes_truenodeids=[1,3,0,0,0], nodes_falsenodeids=[2,4,0,0,0], \
                 target_treeids=[0,0,0], target_nodeids=[2,3,4], target_ids=[0,0,0], \
                 target_weights={weights}}}\nreturn y"
            )
        };
        check(
            &ForestPrune::default(),
            &text("[1.0,2.0,2.0]"),
            expect![[r#"
                x: f32[N,2]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {n_targets=1, nodes_falsenodeids=[2,0,0],
                    nodes_featureids=[0,0,0], nodes_missing_value_tracks_true=[0,0,0],
                    nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2],
                    nodes_treeids=[0,0,0], nodes_truenodeids=[1,0,0], nodes_values=[0.5,0.0,0.0],
                    target_ids=[0,0], target_nodeids=[1,2], target_treeids=[0,0],
                    target_weights=[2.0,1.0]}
                return y
            "#]],
        );
        check(
            &ForestPrune::default(),
            &text("[2.0,2.0,2.0]"),
            expect![[r#"
                x: f32[N,2]
                y = ai.onnx.ml.TreeEnsembleRegressor(x) {n_targets=1, nodes_falsenodeids=[0],
                    nodes_featureids=[0], nodes_missing_value_tracks_true=[0], nodes_modes=["LEAF"],
                    nodes_nodeids=[0], nodes_treeids=[0], nodes_truenodeids=[0], nodes_values=[0.0],
                    target_ids=[0], target_nodeids=[0], target_treeids=[0], target_weights=[2.0]}
                return y
            "#]],
        );
        check(
            &ForestPrune::default(),
            &text("[1.0,2.0,3.0]"),
            expect![[r#"
            (unchanged)
        "#]],
        );
    }

    #[test]
    fn a_vote_that_decides_how_scores_are_read_stays() {
        check(
            &ForestPrune::default(),
            "l, y = ai.onnx.ml.TreeEnsembleClassifier(x: f32[N,1]) {classlabels_int64s=[0,1], \
             nodes_treeids=[0,0,0,0,0], nodes_nodeids=[0,1,2,3,4], nodes_featureids=[0,0,0,0,0], \
             nodes_values=[0.5,2.0,0.0,0.0,0.0], \
             nodes_modes=[\"BRANCH_LEQ\",\"BRANCH_LT\",\"LEAF\",\"LEAF\",\"LEAF\"], \
             nodes_truenodeids=[1,3,0,0,0], nodes_falsenodeids=[2,4,0,0,0], \
             class_treeids=[0,0,0], class_nodeids=[2,3,4], class_ids=[1,1,1], \
             class_weights=[1.0,2.0,-1.0]}\nreturn l, y",
            expect![[r#"
                (unchanged)
                # forest_prune @ l: a vote that no row gets decides what the scores of others mean
            "#]],
        );
    }
}
