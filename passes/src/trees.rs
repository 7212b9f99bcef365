//! Forests as sums of trees, which can be put together.

use kiln_ir::ops::forest::{
    Aggregate, Forest, Kind, Lists, Next, Node, Pair, Test, TreeEnsemble, Vote,
};
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{Graph, Op, Value};

/// A sum of trees over a table, and of numbers that do not depend on it.
pub(crate) struct Trees {
    pub x: Value,
    pub forest: Forest,
    pub base: Vec<f64>,
}

impl Trees {
    /// The sum that `v` is: the scores of a regressor or of a classifier, as they are.
    pub fn of(g: &Graph, v: Value) -> Option<Self> {
        let Op::TreeEnsemble(e) = g.op(v.node) else { return None };
        let (x, e) = (g.input_of(v.node, 0)?, e.ensemble());
        let f = &e.forest;
        let (slot, opposed) = match &e.kind {
            Kind::Regressor => (0, None),
            Kind::Classifier { pair: Pair::Own | Pair::Second { .. }, .. } => (1, None),
            Kind::Classifier { pair: Pair::Opposed { positive }, .. } => (1, Some(*positive)),
            Kind::Scores => return None,
        };
        let raw = match e.post {
            PostTransform::None => true,
            PostTransform::Probit => false,
            _ => f.targets == 1,
        };
        let summed = e.aggregate == Aggregate::Sum || f.roots.len() == 1;
        let base = if e.base.is_empty() { vec![0.0; f.targets] } else { e.base.clone() };
        let trees = Self { x, forest: f.clone(), base };
        let trees = match opposed {
            Some(positive) => trees.opposed(positive),
            None => trees,
        };
        (slot == v.slot() && raw && summed).then_some(trees)
    }

    /// The scores of two classes of which the first got the votes for the second.
    fn opposed(mut self, positive: bool) -> Self {
        let mut leaves = Lists::default();
        for i in 0..self.forest.leaves.len() {
            let votes = self.forest.leaves.at(i).iter();
            leaves.push(votes.flat_map(|v| {
                [Vote { target: 0, weight: -v.weight }, Vote { target: 1, weight: v.weight }]
            }));
        }
        self.forest.leaves = leaves;
        let base = self.base[0];
        self.base = vec![if positive { 1.0 } else { 0.0 } - base, base];
        self
    }

    /// Adds other trees over the same table, with as many targets.
    pub fn join(&mut self, other: Trees) {
        let f = &mut self.forest;
        let (nodes, leaves, sets) = (f.nodes.len(), f.leaves.len(), f.sets.len());
        let place = |n: Next| match (n.as_node(), n.as_leaf()) {
            (Some(i), _) => Next::node(i + nodes),
            (_, leaf) => Next::leaf(leaf.unwrap_or(0) + leaves),
        };
        f.nodes.extend(other.forest.nodes.iter().map(|n| Node {
            yes: place(n.yes),
            no: place(n.no),
            test: match n.test {
                Test::Member(s) => Test::Member(s + sets as u32),
                test => test,
            },
            ..*n
        }));
        f.roots.extend(other.forest.roots.iter().copied().map(place));
        for i in 0..other.forest.leaves.len() {
            f.leaves.push(other.forest.leaves.at(i).iter().copied());
        }
        for i in 0..other.forest.sets.len() {
            f.sets.push(other.forest.sets.at(i).iter().copied());
        }
        f.wide |= other.forest.wide;
        self.base.iter_mut().zip(other.base).for_each(|(a, b)| *a += b);
    }

    /// Multiplies every score, rounded to the precision of the model.
    pub fn scale(&mut self, factor: f64) {
        let f = &mut self.forest;
        let wide = f.wide;
        let times = |x: f64| if wide { x * factor } else { f64::from((x * factor) as f32) };
        let mut leaves = Lists::default();
        for i in 0..f.leaves.len() {
            let votes = f.leaves.at(i).iter();
            leaves.push(votes.map(|v| Vote { weight: times(v.weight), ..*v }));
        }
        f.leaves = leaves;
        self.base.iter_mut().for_each(|b| *b = times(*b));
    }

    /// The regressor that gives the sum.
    pub fn regressor(self) -> Option<TreeEnsemble> {
        let Trees { mut base, forest, .. } = self;
        if !forest.wide {
            base.iter_mut().for_each(|b| *b = f64::from(*b as f32));
        }
        if base.iter().all(|b| *b == 0.0) {
            base.clear();
        }
        TreeEnsemble::regressor(forest, &base).ok()
    }
}
