//! Ensembles of trees: sums of votes bit by bit as the definition gives them, on every instruction
//! set and for any number of threads.
//!
//! ```text
//! splits   every node as `x <= threshold`            walk    steps side by side, no branches
//! sweep    rows in lanes, leaves as bits             bits    one question per level
//! engine   blocks, tiles, a tactic per tree          tally   votes in the order of trees
//! ending   scores and labels of many rows at a time
//! ```

mod bits;
mod ending;
mod engine;
mod splits;
mod sweep;
mod tally;
mod walk;

use kiln_ir::ops::forest::{Kind, TreeEnsemble, Votes};
use kiln_ir::{Graph, NodeId, Op, Result, Type};
use kiln_tensor::DType;

use self::ending::{Ended, Ends};
pub use self::engine::TreeTactic;
use self::engine::{BLOCK, Engine, Tiles};
use super::tabular::{self, Results, Rows};
use crate::kernel::{Args, Kernel, LABELS, Row};
use crate::simd::{Level, dispatch};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "forest",
    what: "TreeEnsemble operators: trees swept in lanes, by bits of levels, or walked side by side",
    graphs: GRAPHS,
    in_place: false,
    firsts: LABELS,
    prepare,
}];

const GRAPHS: &[&str] = &[
    "y = ai.onnx.ml.TreeEnsembleRegressor(x: f32[90,2]) {n_targets=1, \
     nodes_treeids=[0,0,0,1,1,1], nodes_nodeids=[0,1,2,0,1,2], nodes_featureids=[0,0,0,1,0,0], \
     nodes_values=[1.0,0.0,0.0,-1.0,0.0,0.0], nodes_truenodeids=[1,0,0,1,0,0], \
     nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\",\"BRANCH_GT\",\"LEAF\",\"LEAF\"], \
     nodes_falsenodeids=[2,0,0,2,0,0], target_treeids=[0,0,1,1], target_nodeids=[1,2,1,2], \
     target_ids=[0,0,0,0], target_weights=[0.25,0.5,-1.0,2.0]}\nreturn y",
    "y, z = ai.onnx.ml.TreeEnsembleClassifier(x: f64[5,2]) {nodes_treeids=[0,0,0,1,1,1], \
     nodes_nodeids=[0,1,2,0,1,2], nodes_featureids=[0,0,0,1,0,0], \
     nodes_values=[1.0,0.0,0.0,-1.0,0.0,0.0], nodes_truenodeids=[1,0,0,1,0,0], \
     nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\",\"BRANCH_GT\",\"LEAF\",\"LEAF\"], \
     nodes_falsenodeids=[2,0,0,2,0,0], class_treeids=[0,0,1,1], class_nodeids=[1,2,1,2], \
     class_ids=[0,1,2,1], class_weights=[0.25,0.5,-1.0,2.0], \
     classlabels_strings=[\"a\",\"b\",\"c\"]}\nreturn y, z",
];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::TreeEnsemble(op) = g.op(id) else { return None };
    let Type::Tensor(x) = g.ty(g.input_of(id, 0)?) else { return None };
    let e = op.ensemble();
    let scores = if e.kind == Kind::Scores { x.dtype } else { DType::F32 };
    let engine = match x.dtype {
        DType::F32 => {
            let engine = Engine::of(e, e.forest.wide)?;
            let tiles = engine.tiles(e, Level::best(), None);
            Trees::Narrow(engine, tiles)
        }
        DType::F64 | DType::I32 | DType::I64 => {
            Trees::Wide(Engine::of(e, e.forest.wide || x.dtype == DType::F64)?)
        }
        _ => return None,
    };
    let whole = match &engine {
        Trees::Narrow(engine, _) => engine.is_whole(e) && scores == DType::F32,
        Trees::Wide(_) => false,
    };
    let ends = whole.then(|| Ends::of(e)).flatten();
    matches!(scores, DType::F32 | DType::F64)
        .then(|| Box::new(ForestKernel { op: op.clone(), engine, ends }) as Box<dyn Kernel>)
}

/// A forest made ready for one tactic, so that tactics can be compared.
pub struct OneTactic {
    op: TreeEnsemble,
    engine: Engine<f32>,
    tiles: Tiles,
}

impl OneTactic {
    /// Makes an ensemble ready; trees that the tactic does not take are walked. `None` where a tree
    /// is too large.
    pub fn new(op: &TreeEnsemble, tactic: TreeTactic, level: Level) -> Option<Self> {
        let e = op.ensemble();
        let engine = Engine::of(e, e.forest.wide)?;
        let tiles = engine.tiles(e, level, Some(tactic));
        Some(Self { op: op.clone(), engine, tiles })
    }

    /// The scores of rows of `width` numbers, one row's after the other.
    pub fn run(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let e = self.op.ensemble();
        let k = e.forest.targets.max(1);
        let blocks = x.chunks(BLOCK * width).zip(out.chunks_mut(BLOCK * k));
        for (x, out) in blocks {
            let sums = self.engine.block(e, &self.tiles, x, width);
            self.engine.each(e, &sums, x.len() / width, |row, votes| {
                e.finish(votes);
                let out = out[row * k..].iter_mut().zip(&votes.scores);
                out.for_each(|(o, s)| *o = *s as f32);
            });
        }
    }
}

/// A forest for inputs of its precision.
enum Trees {
    Narrow(Engine<f32>, Tiles),
    /// Inputs that `f32` may not hold.
    Wide(Engine<f64>),
}

struct ForestKernel {
    op: TreeEnsemble,
    engine: Trees,
    /// `None`: rows end one by one.
    ends: Option<Ends>,
}

impl Kernel for ForestKernel {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let e = self.op.ensemble();
        let Rows { count, width, data } = tabular::rows(&args)?;
        e.check_columns(width)?;
        let classifier = matches!(e.kind, Kind::Classifier { .. });
        let results = Results::of(classifier, e.forest.targets, &mut args)?;
        let wide = match (&self.engine, args.optional(0).and_then(|o| o.other)) {
            (Trees::Wide(_), Some(x)) => x.to_vec::<f64>()?,
            _ => vec![],
        };
        results.blockwise(count, BLOCK, |rows, mut to| {
            args.cancel.poll()?;
            let range = rows.start * width..rows.end * width;
            let n = rows.len();
            let mut done = |row: usize, votes: &mut Votes| {
                let class = e.finish(votes);
                to.set(row, &votes.scores);
                if let (Kind::Classifier { labels, .. }, Some(class)) = (&e.kind, class) {
                    to.label(row, labels, &[class as u64]);
                }
            };
            match (&self.engine, &self.ends) {
                (Trees::Narrow(engine, tiles), Some(ends)) => {
                    let sums = &engine.block(e, tiles, &data[range], width);
                    dispatch(Ended { e, ends, sums, rows: n, to: &mut to });
                }
                (Trees::Narrow(engine, tiles), None) => {
                    engine.each(e, &engine.block(e, tiles, &data[range], width), n, done);
                }
                (Trees::Wide(engine), _) => {
                    engine.each(e, &engine.walked(e, &wide[range], width), n, &mut done);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::tally::Sums;
    use super::*;
    use fastrand::Rng;
    use kiln_ir::ops::forest::{Forest, Lists, Next, Node, Test, Vote};
    use kiln_ir::{Context, Operator};
    use kiln_tensor::{Datum, Tensor};

    const FEATURES: usize = 6;

    /// Numbers that thresholds and tables share, so that they are often equal.
    fn number(rng: &mut Rng) -> f64 {
        match rng.u8(0..20) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -0.0,
            _ => f64::from(rng.i8(-12..12)) / 4.0,
        }
    }

    struct Growing<'a> {
        rng: &'a mut Rng,
        forest: Forest,
        /// What leaves vote for.
        targets: std::ops::Range<u32>,
        all: bool,
        simple: bool,
    }

    impl Growing<'_> {
        fn leaf(&mut self) -> Next {
            let rng = &mut *self.rng;
            let targets = match self.all {
                true => self.targets.clone(),
                false => {
                    let t = rng.u32(self.targets.clone());
                    t..t + 1
                }
            };
            let votes = targets.map(|target| Vote { target, weight: f64::from(rng.f32() - 0.5) });
            self.forest.leaves.push(votes.collect::<Vec<_>>());
            Next::leaf(self.forest.leaves.len() - 1)
        }

        fn tree(&mut self, depth: u32) -> Next {
            if depth == 0 || self.rng.u8(0..8) == 0 {
                return self.leaf();
            }
            let (yes, no) = (self.tree(depth - 1), self.tree(depth - 1));
            let t = number(self.rng);
            let kinds = if self.simple { 1 } else { 7 };
            let test = match self.rng.u8(0..kinds) {
                0 => Test::Leq(t),
                1 => Test::Lt(t),
                2 => Test::Geq(t),
                3 => Test::Gt(t),
                4 => Test::Eq(t),
                5 => Test::Neq(t),
                _ => Test::Member(0),
            };
            let missing = !self.simple && self.rng.bool();
            let feature = self.rng.u32(0..FEATURES as u32);
            self.forest.nodes.push(Node { test, feature, yes, no, missing });
            Next::node(self.forest.nodes.len() - 1)
        }

        /// One question per level.
        fn even(&mut self, levels: &[(u32, f64)]) -> Next {
            let Some((&(feature, t), below)) = levels.split_first() else { return self.leaf() };
            let (yes, no) = (self.even(below), self.even(below));
            let node = Node { test: Test::Gt(t), feature, yes, no, missing: false };
            self.forest.nodes.push(node);
            Next::node(self.forest.nodes.len() - 1)
        }
    }

    /// A forest of trees of every shape.
    fn grown(rng: &mut Rng) -> Forest {
        let targets = rng.u32(1..4);
        let mut sets = Lists::default();
        sets.push([-1.5, -0.25, 0.0, 0.5, 0.75, 2.0]);
        let forest = Forest { targets: targets as usize, sets, ..Forest::default() };
        let (all, simple) = (rng.bool(), rng.bool());
        let mut g = Growing { rng, forest, targets: 0..targets, all, simple };
        for _ in 0..g.rng.usize(1..40) {
            // Trees for one target each, as boosting makes them, or for any.
            let t = g.rng.u32(0..targets);
            g.targets = if g.all { 0..targets } else { t..t + 1 };
            let root = match g.rng.u8(0..3) {
                0 => {
                    let levels: Vec<_> = (0..g.rng.usize(0..9))
                        .map(|_| (g.rng.u32(0..FEATURES as u32), number(g.rng)))
                        .collect();
                    g.even(&levels)
                }
                _ => {
                    let depth = g.rng.u32(0..11);
                    g.tree(depth)
                }
            };
            g.forest.roots.push(root);
        }
        g.forest
    }

    fn definition(op: &TreeEnsemble, x: &Tensor) -> Vec<u32> {
        let x = Datum::from(x.clone());
        let y = op.eval(&Context::default(), &[Some(&x)]).expect("the definition runs");
        let y = y[0].as_tensor().expect("scores").to_vec::<f32>().expect("f32");
        y.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_tactic_gives_the_bits_of_the_definition() {
        for seed in 0..120 {
            let rng = &mut Rng::with_seed(seed);
            let op = TreeEnsemble::regressor(grown(rng), &[]).expect("a forest");
            let e = op.ensemble();
            let rows = [1, 3, 15, 16, 33, 64, 130, 200][seed as usize % 8];
            let data: Vec<f32> = (0..rows * FEATURES).map(|_| number(rng) as f32).collect();
            let x = Tensor::from_vec(&[rows, FEATURES], data.clone()).expect("a table");
            let want = definition(&op, &x);
            let narrow = Engine::<f32>::of(e, e.forest.wide).expect("small trees");
            let scores = |sums: &Sums| {
                let mut got = vec![0; want.len()];
                narrow.each(e, sums, rows, |row, votes| {
                    e.finish(votes);
                    let k = votes.scores.len();
                    let of_row = &mut got[row * k..][..k];
                    let bits = votes.scores.iter().map(|s| (*s as f32).to_bits());
                    of_row.iter_mut().zip(bits).for_each(|(o, b)| *o = b);
                });
                got
            };
            assert_eq!(scores(&narrow.few(e, &data, FEATURES)), want, "{seed} few");
            assert_eq!(scores(&narrow.walked(e, &data, FEATURES)), want, "{seed} walked");
            use TreeTactic::{Bits, Sweep, Top, Walk};
            let tactics = [None, Some(Bits), Some(Sweep), Some(Top), Some(Walk)];
            for (&level, only) in Level::all().iter().flat_map(|l| tactics.map(|t| (l, t))) {
                let tiles = narrow.tiles(e, level, only);
                let got = scores(&narrow.block(e, &tiles, &data, FEATURES));
                assert_eq!(got, want, "{seed} {level:?} {only:?}");
            }
            let wide = Engine::<f64>::of(e, e.forest.wide).expect("small trees");
            let data: Vec<f64> = data.iter().map(|x| f64::from(*x)).collect();
            assert_eq!(scores(&wide.walked(e, &data, FEATURES)), want, "{seed} doubles");
        }
    }
}
