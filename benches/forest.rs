//! Every tactic for trees on every instruction set, by the shape of the trees.
//!
//! `benches/forest_table.py` runs it and writes `docs/forests.md`.

// The functions that criterion's macros make have no docs.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use kiln_cpu::simd::Level;
use kiln_cpu::{OneTactic, TreeTactic};
use kiln_ir::ops::forest::{Forest, Lists, Next, Node, Test, TreeEnsemble, Vote};

const FEATURES: usize = 28;
const TREES: usize = 100;

/// How a tree grows.
#[derive(Clone, Copy)]
enum Growth {
    /// Every branch as deep.
    Levels(u32),
    /// One question for each level.
    Even(u32),
    /// Some leaf splits, again and again, until there are so many.
    Leaves(usize),
}

const SHAPES: &[(&str, Growth)] = &[
    ("depth 3", Growth::Levels(3)),
    ("depth 4", Growth::Levels(4)),
    ("31 leaves", Growth::Leaves(31)),
    ("oblivious 6", Growth::Even(6)),
    ("depth 6", Growth::Levels(6)),
    ("63 leaves", Growth::Leaves(63)),
    ("255 leaves", Growth::Leaves(255)),
    ("depth 8", Growth::Levels(8)),
    ("2000 leaves", Growth::Leaves(2000)),
];

struct Growing {
    rng: Rng,
    nodes: Vec<Node>,
    leaves: Lists<Vote>,
}

impl Growing {
    fn leaf(&mut self) -> Next {
        self.leaves.push([Vote { target: 0, weight: f64::from(self.rng.f32()) }]);
        Next::leaf(self.leaves.len() - 1)
    }

    /// A split of which both sides are likely.
    fn question(&mut self) -> (u32, f64) {
        let threshold = 0.25 + 0.5 * self.rng.f32();
        (self.rng.u32(0..FEATURES as u32), f64::from(threshold))
    }

    fn split(&mut self, (feature, t): (u32, f64), yes: Next, no: Next) -> Next {
        self.nodes.push(Node { test: Test::Leq(t), feature, yes, no, missing: false });
        Next::node(self.nodes.len() - 1)
    }

    fn levels(&mut self, depth: u32) -> Next {
        if depth == 0 {
            return self.leaf();
        }
        let (yes, no) = (self.levels(depth - 1), self.levels(depth - 1));
        let question = self.question();
        self.split(question, yes, no)
    }

    fn even(&mut self, questions: &[(u32, f64)]) -> Next {
        let Some((&question, rest)) = questions.split_first() else { return self.leaf() };
        let (yes, no) = (self.even(rest), self.even(rest));
        self.split(question, yes, no)
    }

    fn grown(&mut self, leaves: usize) -> Next {
        if leaves == 1 {
            return self.leaf();
        }
        // Uneven, as trees are that grow where they gain most.
        let left = 1 + (self.rng.f32().powi(2) * (leaves - 1) as f32) as usize;
        let (yes, no) =
            (self.grown(left.min(leaves - 1)), self.grown(leaves - left.min(leaves - 1)));
        let question = self.question();
        self.split(question, yes, no)
    }
}

fn forest(growth: Growth) -> TreeEnsemble {
    let mut g = Growing { rng: Rng::with_seed(7), nodes: vec![], leaves: Lists::default() };
    let mut roots = vec![];
    for _ in 0..TREES {
        roots.push(match growth {
            Growth::Levels(depth) => g.levels(depth),
            Growth::Even(depth) => {
                let questions: Vec<_> = (0..depth).map(|_| g.question()).collect();
                g.even(&questions)
            }
            Growth::Leaves(n) => g.grown(n),
        });
    }
    let Growing { nodes, leaves, .. } = g;
    let forest = Forest { nodes, roots, leaves, targets: 1, ..Forest::default() };
    TreeEnsemble::regressor(forest, &[]).expect("a forest")
}

fn tactics(c: &mut Criterion) {
    let mut rng = Rng::with_seed(1);
    for &(shape, growth) in SHAPES {
        let op = forest(growth);
        for rows in [1, 4096] {
            let x: Vec<f32> = (0..rows * FEATURES).map(|_| rng.f32()).collect();
            let mut out = vec![0.0; rows];
            let mut group = c.benchmark_group(format!("{shape}, {rows} rows"));
            group.throughput(Throughput::Elements((rows * TREES) as u64));
            let all = [TreeTactic::Bits, TreeTactic::Sweep, TreeTactic::Top, TreeTactic::Walk];
            for &level in Level::all() {
                for tactic in all {
                    let takes = match (tactic, growth) {
                        (TreeTactic::Bits, Growth::Levels(d)) => d <= 3,
                        (TreeTactic::Bits, Growth::Leaves(_)) => false,
                        _ => true,
                    };
                    // Single rows walk, whatever the tactic and the instruction set.
                    let once = tactic == TreeTactic::Walk && level == Level::Scalar;
                    if !takes || rows == 1 && !once {
                        continue;
                    }
                    let run = OneTactic::new(&op, tactic, level).expect("small trees");
                    group.bench_function(
                        BenchmarkId::new(format!("{tactic:?}"), format!("{level:?}")),
                        |b| {
                            b.iter(|| run.run(black_box(&x), FEATURES, &mut out));
                        },
                    );
                }
            }
            group.finish();
        }
    }
}

criterion_group!(benches, tactics);
criterion_main!(benches);
