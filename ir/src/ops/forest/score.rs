//! The scores of rows.

use kiln_tensor::{DType, Tensor};

use super::canonical::{Next, Vote};
use super::{Aggregate, Ensemble, Kind, Pair, Ranks};
use crate::ops::scores::{PostTransform, argmax, opposed, read_row, rows_and_columns};
use crate::{Context, Result, invalid};

/// What an ensemble makes of a table.
pub(super) struct Scored {
    pub rows: usize,
    /// The scores of each row in turn, transformed.
    pub scores: Vec<f64>,
    /// The class of each row; empty but for classifiers.
    pub classes: Vec<usize>,
}

/// The running scores of one row.
#[derive(Clone, Debug)]
pub struct Votes {
    /// A score per target.
    pub scores: Vec<f64>,
    /// Which targets were voted for.
    pub seen: Vec<bool>,
    /// Whether sums are kept in double precision.
    wide: bool,
}

impl Votes {
    /// No votes yet for any of some targets.
    pub fn new(targets: usize, wide: bool) -> Self {
        Self { scores: vec![0.0; targets], seen: vec![false; targets], wide }
    }

    /// Forgets all votes.
    pub fn reset(&mut self) {
        self.scores.fill(0.0);
        self.seen.fill(false);
    }

    /// The sum in the precision of the model: of two singles, the double rounds to the single.
    fn sum(&self, a: f64, b: f64) -> f64 {
        if self.wide { a + b } else { f64::from((a + b) as f32) }
    }

    /// Counts a vote.
    pub fn add(&mut self, how: Aggregate, v: Vote) {
        let t = v.target as usize;
        let old = self.scores[t];
        self.scores[t] = match how {
            Aggregate::Sum | Aggregate::Average => self.sum(old, v.weight),
            Aggregate::Min if self.seen[t] => old.min(v.weight),
            Aggregate::Max if self.seen[t] => old.max(v.weight),
            Aggregate::Min | Aggregate::Max => v.weight,
        };
        self.seen[t] = true;
    }

    fn finish(&mut self, how: Aggregate, trees: usize, base: &[f64]) {
        if how == Aggregate::Average && trees > 0 {
            let wide = self.wide;
            let mean = |s: f64| if wide { s } else { f64::from(s as f32) };
            self.scores.iter_mut().for_each(|s| *s = mean(*s / trees as f64));
        }
        for (t, &b) in base.iter().enumerate() {
            self.scores[t] = self.sum(self.scores[t], b);
            self.seen[t] = true;
        }
    }
}

impl Ensemble {
    /// An error unless a table has as many columns as the trees read.
    pub fn check_columns(&self, have: usize) -> Result<()> {
        if have < self.forest.features {
            invalid!("the trees read {} columns, the input has {have}", self.forest.features);
        }
        Ok(())
    }

    /// The scores of all rows, which walk by ranks where they are given.
    pub(super) fn score(&self, cx: &Context, x: &Tensor, ranks: Option<&Ranks>) -> Result<Scored> {
        let (rows, columns) = rows_and_columns(x)?;
        self.check_columns(columns)?;
        let f = &self.forest;
        let mut scores = cx.zeros::<f64>(&[rows, f.targets])?;
        let classifier = matches!(self.kind, Kind::Classifier { .. });
        let mut classes = Vec::with_capacity(if classifier { rows } else { 0 });
        let wide = f.wide || x.dtype() == DType::F64;
        let mut row =
            Votes { scores: cx.zeros(&[f.targets])?, seen: cx.zeros(&[f.targets])?, wide };
        let mut features = cx.zeros::<f64>(&[f.features])?;
        let mut ranked = vec![None; ranks.map_or(0, |_| f.features)];
        for (i, out) in scores.chunks_exact_mut(f.targets).enumerate() {
            cx.cancel.poll()?;
            read_row(x, i * columns, &mut features)?;
            match ranks {
                None => self.score_row(&mut row, |root| f.leaf_of(root, &features)),
                Some(ranks) => {
                    ranks.rank(&features, &mut ranked);
                    self.score_row(&mut row, |root| ranks.leaf_of(root, &ranked));
                }
            }
            classes.extend(self.finish(&mut row));
            out.copy_from_slice(&row.scores);
        }
        Ok(Scored { rows, scores, classes })
    }

    fn score_row(&self, row: &mut Votes, leaf_of: impl Fn(Next) -> usize) {
        row.reset();
        let f = &self.forest;
        for &root in &f.roots {
            f.leaves.at(leaf_of(root)).iter().for_each(|&v| row.add(self.aggregate, v));
        }
    }

    /// Makes the scores of a row of the votes of all trees, and its class if this is a classifier.
    pub fn finish(&self, row: &mut Votes) -> Option<usize> {
        row.finish(self.aggregate, self.forest.roots.len(), &self.base);
        let class = match &self.kind {
            Kind::Classifier { pair: Pair::Opposed { positive }, .. } => {
                let s = row.scores[0];
                row.scores.copy_from_slice(&opposed(s, *positive, self.post));
                return Some(second_wins(s, *positive));
            }
            Kind::Classifier { pair: Pair::Second { positive }, .. } => {
                Some(second_wins(row.scores[1], *positive))
            }
            Kind::Classifier { .. } => Some(best_seen(row)),
            _ => None,
        };
        // Other runtimes leave the score of a single target as it is, but for PROBIT.
        if row.scores.len() > 1 || self.post == PostTransform::Probit {
            self.post.apply(&mut row.scores);
        }
        class
    }
}

fn second_wins(s: f64, positive: bool) -> usize {
    usize::from(s > if positive { 0.5 } else { 0.0 })
}

/// The class of the greatest score among those that were voted for.
fn best_seen(row: &Votes) -> usize {
    let seen = row.scores.iter().zip(&row.seen);
    argmax(seen.map(|(&s, &seen)| if seen { s } else { f64::NAN }))
}
