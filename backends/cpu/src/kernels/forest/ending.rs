//! The scores of rows out of the sums of their votes, many rows at a time.

use kiln_ir::ops::forest::{Aggregate, Ensemble, Kind, Pair};

use super::tally::Sums;
use crate::kernels::endings::{Ending, Endings, GROUP, Pick, Scores};
use crate::kernels::tabular::Results;
use crate::simd::{Isa, Work};

/// How the rows of an ensemble end.
#[derive(Debug)]
pub(super) struct Ends {
    ending: Ending,
    pick: Pick,
}

impl Ends {
    /// Those of an ensemble whose trees vote for all targets together; `None` where rows have to
    /// end one by one.
    pub fn of(e: &Ensemble) -> Option<Self> {
        let targets = e.forest.targets;
        let bound = |positive: bool| if positive { 0.5 } else { 0.0 };
        let (ending, pick) = match &e.kind {
            Kind::Classifier { pair: Pair::Opposed { positive }, .. } => {
                let ending = Ending::opposed(e.post, *positive)?;
                (ending, Pick::Above(0, bound(*positive)))
            }
            Kind::Classifier { pair: Pair::Second { positive }, .. } => {
                (Ending::of(e.post, targets)?, Pick::Above(1, bound(*positive)))
            }
            _ => (Ending::of(e.post, targets)?, Pick::Greatest),
        };
        Some(Self { ending, pick })
    }
}

/// Rows whose votes are summed.
pub(super) struct Ended<'a, 'b> {
    pub e: &'a Ensemble,
    pub ends: &'a Ends,
    pub sums: &'a Sums,
    pub rows: usize,
    pub to: &'a mut Results<'b>,
}

impl Work for Ended<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let Self { e, ends, sums, rows, to } = self;
        let labels = match &e.kind {
            Kind::Classifier { labels, .. } => Some(labels),
            _ => None,
        };
        let how = Endings { ending: ends.ending, pick: ends.pick, labels };
        // One score that stands for two is the first one.
        let count = match ends.ending {
            Ending::Opposed { .. } => 1,
            _ => e.forest.targets,
        };
        let step = rows.min(GROUP).next_multiple_of(S::LANES);
        let mut data = vec![0.0; step * count.next_multiple_of(S::LANES)];
        let mut room = vec![];
        for from in (0..rows).step_by(GROUP) {
            let n = GROUP.min(rows - from);
            for (t, scores) in data.chunks_exact_mut(step).take(count).enumerate() {
                read(sums, e.forest.targets, t, from, &mut scores[..n]);
                finish(e, t, scores);
            }
            let mut scores = Scores { data: &mut data, count, n, step, from };
            scores.end(isa, how, &mut room, to);
        }
    }
}

/// The sums of some rows for a target.
#[inline(always)]
fn read(sums: &Sums, targets: usize, t: usize, from: usize, out: &mut [f64]) {
    match sums {
        Sums::ByTarget { rows, sums } => {
            let sums = &sums[t * rows + from..];
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = f64::from(*s));
        }
        Sums::ByRow(sums) => {
            let sums = sums[from * targets + t..].iter().step_by(targets);
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = f64::from(*s));
        }
        Sums::Votes(rows) => {
            out.iter_mut().zip(&rows[from..]).for_each(|(o, v)| *o = v.scores[t]);
        }
    }
}

/// Means, and what is added to them, in single precision as the definition has them.
#[inline(always)]
fn finish(e: &Ensemble, t: usize, scores: &mut [f64]) {
    let trees = e.forest.roots.len();
    if e.aggregate == Aggregate::Average && trees > 0 {
        scores.iter_mut().for_each(|s| *s = f64::from((*s / trees as f64) as f32));
    }
    if let Some(base) = e.base.get(t) {
        scores.iter_mut().for_each(|s| *s = f64::from((*s + base) as f32));
    }
}
