//! Forests over ranks: every threshold is its place among those of its column.
//!
//! ```text
//! x <= t[k]  where  t[0] < t[1] < ..   =   rank(x) <= k  where  rank(x) = how many t are < x
//!
//! y = ai.kiln.RankForest(x: f32[N,F]) {operator="ai.onnx.ml.TreeEnsembleRegressor", ..}
//!   => y = ai.onnx.ml.TreeEnsembleRegressor(x)
//! ```
//!
//! A row is ranked once, by a search in each column, and then walks down all trees by integers
//! of 16 bits. The answers are the same, so the scores are, to the bit.

use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::Datum;

use super::{Forest, Next, Test, TreeEnsemble, canonical};
use crate::{Attrs, Context, Fact, Graph, Infer, Operator, Result, Schema, Type, invalid};

/// A forest that asks for ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct RankForest {
    trees: TreeEnsemble,
    ranks: Arc<Ranks>,
}

pub(super) const SCHEMA: Schema = Schema {
    name: "ai.kiln.RankForest",
    since: 1,
    build: |b| {
        let mut attrs = std::mem::take(&mut b.attrs);
        let operator = attrs.require::<String>("operator")?;
        Ok(RankForest::new(&TreeEnsemble::named(&operator, attrs)?)?.into())
    },
};

impl RankForest {
    /// The forest with ranks for thresholds.
    ///
    /// An error where it asks for equality, for a threshold that is not-a-number, or for more
    /// than [`MOST`] thresholds of a column.
    pub fn new(trees: &TreeEnsemble) -> Result<Self> {
        let ranks = Ranks::new(&trees.ensemble().forest)?;
        Ok(Self { trees: trees.clone(), ranks: ranks.into() })
    }

    /// The forest with its thresholds.
    pub fn trees(&self) -> &TreeEnsemble {
        &self.trees
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// The same in standard operators, for operands of these types.
    pub(crate) fn expansion(&self, operands: &[Option<&Type>]) -> Result<Graph> {
        let Some(Some(ty)) = operands.first() else { invalid!("input 0 is missing") };
        let mut body = Graph::new();
        let x = body.input("x", (*ty).clone());
        let id = body.add("y", self.trees.clone(), &[Some(x)])?;
        let outputs = body.outputs_of(id).map(|v| (format!("y{}", v.slot()).into(), v)).collect();
        body.set_outputs(outputs);
        Ok(body)
    }
}

impl Operator for RankForest {
    fn name(&self) -> &str {
        "ai.kiln.RankForest"
    }

    fn attrs(&self) -> Attrs {
        self.trees.attrs().with("operator", self.trees.name().to_owned())
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        self.trees.infer(cx)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        self.trees.eval_with(cx, inputs, Some(&self.ranks))
    }
}

/// The most thresholds of a column.
pub const MOST: usize = u16::MAX as usize;

/// A forest whose nodes ask for ranks.
#[derive(Debug, PartialEq)]
pub struct Ranks {
    /// The thresholds of each column, in order.
    columns: Vec<Vec<Edge>>,
    nodes: Vec<Node>,
}

/// Where the rank of a column changes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Edge {
    at: f64,
    /// Whether `at` itself lies below, with what is less.
    closed: bool,
}

impl Edge {
    /// The edge that a test asks for, and whether the answer is yes above it.
    fn of(test: Test) -> Result<(Self, bool)> {
        let (at, closed, above) = match test {
            Test::Leq(t) => (t, true, false),
            Test::Gt(t) => (t, true, true),
            Test::Lt(t) => (t, false, false),
            Test::Geq(t) => (t, false, true),
            Test::Eq(_) | Test::Neq(_) | Test::Member(_) => {
                invalid!("ranks do not tell equal numbers")
            }
        };
        if at.is_nan() {
            invalid!("a threshold is not-a-number");
        }
        Ok((Self { at, closed }, above))
    }

    fn order(&self, other: &Self) -> Ordering {
        // By value: 0 and -0 are one threshold.
        let order = self.at.partial_cmp(&other.at).unwrap_or(Ordering::Equal);
        order.then(self.closed.cmp(&other.closed))
    }

    fn is_below(self, x: f64) -> bool {
        if self.closed { self.at < x } else { self.at <= x }
    }
}

/// `rank(x[feature]) <= rank ? yes : no`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    feature: u32,
    yes: Next,
    no: Next,
    rank: u16,
    /// Whether what is not-a-number leads to `yes`.
    missing: bool,
}

impl Ranks {
    fn new(f: &Forest) -> Result<Self> {
        let mut columns = vec![Vec::new(); f.features];
        for n in &f.nodes {
            columns[n.feature as usize].push(Edge::of(n.test)?.0);
        }
        for c in &mut columns {
            c.sort_by(Edge::order);
            c.dedup();
            if c.len() > MOST {
                invalid!("a column has {} thresholds, more than {MOST}", c.len());
            }
        }
        let node = |n: &canonical::Node| {
            let (edge, above) = Edge::of(n.test)?;
            let rank = columns[n.feature as usize].partition_point(|e| e.order(&edge).is_lt());
            let (yes, no) = if above { (n.no, n.yes) } else { (n.yes, n.no) };
            // At most MOST thresholds: the greatest place is one less.
            let rank = u16::try_from(rank).unwrap_or(u16::MAX);
            Ok(Node { feature: n.feature, yes, no, rank, missing: n.missing != above })
        };
        let nodes = f.nodes.iter().map(node).collect::<Result<_>>()?;
        Ok(Self { columns, nodes })
    }

    /// Steps of search that a row takes to be ranked.
    pub fn steps(&self) -> usize {
        self.columns.iter().map(|c| (c.len() + 1).next_power_of_two().ilog2() as usize).sum()
    }

    /// The ranks of a row, and whether one is of what is not-a-number; `None` is no rank.
    pub(super) fn rank(&self, row: &[f64], ranks: &mut [Option<u16>]) {
        for ((edges, &x), rank) in self.columns.iter().zip(row).zip(ranks) {
            let below = || edges.partition_point(|e| e.is_below(x)) as u16;
            *rank = (!x.is_nan()).then(below);
        }
    }

    /// The leaf that a row reaches in the tree that begins at `root`.
    pub(super) fn leaf_of(&self, root: Next, ranks: &[Option<u16>]) -> usize {
        let mut at = root;
        loop {
            match (at.as_leaf(), at.as_node()) {
                (None, Some(i)) => {
                    let node = &self.nodes[i];
                    let yes = match ranks[node.feature as usize] {
                        Some(rank) => rank <= node.rank,
                        None => node.missing,
                    };
                    at = if yes { node.yes } else { node.no };
                }
                (leaf, _) => return leaf.unwrap_or(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Lists, Vote};
    use super::*;

    /// One tree per test of column 0, with a threshold of 1 or 2: yes is leaf 2i, no leaf 2i + 1.
    fn forest(tests: &[(Test, bool)]) -> Forest {
        let mut leaves = Lists::default();
        (0..2 * tests.len()).for_each(|_| leaves.push([Vote { target: 0, weight: 1.0 }]));
        let node = |(i, &(test, missing)): (usize, &(Test, bool))| canonical::Node {
            test,
            feature: 0,
            yes: Next::leaf(2 * i),
            no: Next::leaf(2 * i + 1),
            missing,
        };
        let nodes = tests.iter().enumerate().map(node).collect();
        let roots = (0..tests.len()).map(Next::node).collect();
        Forest::new(Forest { nodes, roots, leaves, targets: 1, ..Forest::default() })
            .expect("a forest")
    }

    #[test]
    fn ranks_give_the_answers_of_thresholds() {
        let tests = [1.0, 2.0, -0.0, 0.0, f64::INFINITY].into_iter().flat_map(|t| {
            let tests = [Test::Leq(t), Test::Lt(t), Test::Geq(t), Test::Gt(t)];
            tests.into_iter().flat_map(|test| [(test, true), (test, false)])
        });
        let f = forest(&tests.collect::<Vec<_>>());
        let ranks = Ranks::new(&f).expect("thresholds");
        // Below and at each of four numbers.
        assert_eq!(ranks.columns[0].len(), 8);
        let numbers =
            [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, f64::INFINITY, f64::NAN];
        for x in numbers {
            let mut row = [None];
            ranks.rank(&[x], &mut row);
            for &root in &f.roots {
                assert_eq!(ranks.leaf_of(root, &row), f.leaf_of(root, &[x]), "{x} {root:?}");
            }
        }
    }

    #[test]
    fn ranks_by_hand() {
        let f = forest(&[(Test::Leq(1.0), false), (Test::Leq(5.0), false), (Test::Gt(3.0), false)]);
        let ranks = Ranks::new(&f).expect("thresholds");
        let places: Vec<u16> = ranks.nodes.iter().map(|n| n.rank).collect();
        assert_eq!((places, ranks.steps()), (vec![0, 2, 1], 2));
        let of = |x: f64| {
            let mut row = [None];
            ranks.rank(&[x], &mut row);
            row[0]
        };
        let got = [0.0, 1.0, 1.5, 3.0, 4.0, 9.0, f64::NAN].map(of);
        assert_eq!(got, [Some(0), Some(0), Some(1), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn what_has_no_order_has_no_ranks() {
        for test in [Test::Eq(1.0), Test::Neq(1.0), Test::Leq(f64::NAN)] {
            assert!(Ranks::new(&forest(&[(test, false)])).is_err(), "{test:?}");
        }
    }

    const TEXT: &str = "y = ai.kiln.RankForest(x: f32[N,2]) {nodes_treeids=[0,0,0], \
        nodes_nodeids=[0,1,2], nodes_featureids=[1,0,0], nodes_values=[1.0,0.0,0.0], \
        nodes_modes=[\"BRANCH_LT\",\"LEAF\",\"LEAF\"], nodes_truenodeids=[1,0,0], \
        nodes_falsenodeids=[2,0,0], target_treeids=[0,0], target_nodeids=[1,2], \
        target_ids=[0,0], target_weights=[0.25,0.5], \
        operator=\"ai.onnx.ml.TreeEnsembleRegressor\"}\nreturn y";

    #[test]
    fn the_operator_reads_back_and_expands() {
        use crate::ops::testing::run1;
        use kiln_tensor::Tensor;

        let x = Tensor::from_vec(&[3, 2], vec![9f32, 0.5, 0.0, 1.0, 9.0, f32::NAN]).expect("3x2");
        let y = run1(TEXT, &[x]).expect("runs");
        assert_eq!(y.to_vec::<f32>().expect("f32"), [0.25, 0.5, 0.5]);
        let g = crate::text::parse(TEXT).expect("parses");
        let printed = crate::text::print_full(&g);
        let again = crate::text::parse(&printed).expect("its own text");
        assert_eq!(printed, crate::text::print_full(&again));
        let id = g.outputs()[0].1.node;
        let operands: Vec<_> = g.inputs().map(|v| Some(g.ty(v))).collect();
        let body = g.op(id).expansion(&operands).expect("fused");
        let plain = body.nodes().find(|&n| body.op(n).name().contains("Regressor"));
        assert!(plain.is_some_and(|n| Operator::attrs(body.op(n)).get("operator").is_none()));
        let other = TEXT.replace("TreeEnsembleRegressor", "Scaler");
        assert!(crate::text::parse(&other).is_err());
    }
}
