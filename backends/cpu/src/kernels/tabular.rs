//! What the models of rows share: a block of rows at a time, scores and labels for each.

use std::ops::Range;

use kiln_ir::ops::scores::Labels;
use kiln_ir::{Result, invalid};

use crate::kernel::{Args, Integers};
use crate::team;

/// A table of `f32`, or one row.
pub(super) struct Rows<'a> {
    pub count: usize,
    pub width: usize,
    pub data: &'a [f32],
}

/// The rows of operand 0; `data` is empty where they are no `f32`.
pub(super) fn rows<'a>(args: &Args<'a>) -> Result<Rows<'a>> {
    let Some(input) = args.optional(0) else { invalid!("input 0 is missing") };
    let (count, width) = match *input.shape {
        [width] => (1, width),
        [rows, width] => (rows, width),
        _ => invalid!("the input has shape {:?}, expected rows of features", input.shape),
    };
    Ok(Rows { count, width, data: input.data })
}

/// Where the results of some rows go.
pub(super) struct Results<'a> {
    labels: Option<Integers<'a>>,
    scores: Scores<'a>,
    /// Scores of a row.
    each: usize,
}

enum Scores<'a> {
    Narrow(&'a mut [f32]),
    Wide(&'a mut [f64]),
    Unread,
}

impl<'a> Results<'a> {
    /// The results of a run: of a classifier labels, then scores, `each` per row.
    pub fn of(classifier: bool, each: usize, args: &mut Args<'a>) -> Result<Self> {
        let out = std::mem::take(&mut args.out);
        let (labels, scores) = match (classifier, args.integers.take()) {
            (true, labels) => match args.more.first_mut().and_then(Option::take) {
                Some((_, scores)) => (labels, Scores::Narrow(scores)),
                None => (labels, Scores::Unread),
            },
            (_, Some(Integers::F64(scores))) => (None, Scores::Wide(scores)),
            (_, None) => (None, Scores::Narrow(out)),
            _ => invalid!("a model of rows gives numbers of the wrong type"),
        };
        Ok(Self { labels, scores, each })
    }

    /// The results of `rows` rows at a time.
    fn blocks(self, rows: usize) -> Vec<Results<'a>> {
        let size = (rows * self.each).max(1);
        let scores: Vec<Scores<'a>> = match self.scores {
            Scores::Narrow(s) => s.chunks_mut(size).map(Scores::Narrow).collect(),
            Scores::Wide(s) => s.chunks_mut(size).map(Scores::Wide).collect(),
            Scores::Unread => vec![],
        };
        let labels: Vec<Integers<'a>> = match self.labels {
            Some(Integers::I64(l)) => l.chunks_mut(rows).map(Integers::I64).collect(),
            Some(Integers::Strings(l)) => l.chunks_mut(rows).map(Integers::Strings).collect(),
            _ => vec![],
        };
        let (mut scores, mut labels) = (scores.into_iter(), labels.into_iter());
        let next = || {
            let (scores, labels) = (scores.next(), labels.next());
            let any = scores.is_some() || labels.is_some();
            let scores = scores.unwrap_or(Scores::Unread);
            any.then_some(Results { labels, scores, each: self.each })
        };
        std::iter::from_fn(next).collect()
    }

    /// Does `count` rows, at most `most` at a time and as many for each thread: `block` gets some
    /// rows and their results.
    pub fn blockwise(
        self,
        count: usize,
        most: usize,
        block: impl Fn(Range<usize>, Results<'_>) -> Result<()> + Send + Sync,
    ) -> Result<()> {
        let share = count.div_ceil(team::threads()).next_multiple_of(64);
        let rows = share.min(most);
        if count <= rows {
            return block(0..count, self);
        }
        let jobs = self.blocks(rows).into_iter().enumerate();
        team::try_each(jobs, |(i, to)| block(i * rows..count.min((i + 1) * rows), to))
    }

    /// Whether labels are read.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// Sets the scores of a row.
    pub fn set(&mut self, row: usize, scores: &[f64]) {
        let range = row * self.each..(row + 1) * self.each;
        match &mut self.scores {
            Scores::Narrow(s) => {
                s[range].iter_mut().zip(scores).for_each(|(o, s)| *o = *s as f32);
            }
            Scores::Wide(s) => s[range].copy_from_slice(scores),
            Scores::Unread => {}
        }
    }

    /// The scores of `n` rows, where they are `f32` and read.
    pub fn scores(&mut self, row: usize, n: usize) -> Option<&mut [f32]> {
        match &mut self.scores {
            Scores::Narrow(s) => Some(&mut s[row * self.each..][..n * self.each]),
            _ => None,
        }
    }

    /// Sets the labels of some rows; a class beyond the last one is that.
    pub fn label(&mut self, row: usize, labels: &Labels, classes: &[u64]) {
        match (&mut self.labels, labels) {
            (Some(Integers::I64(out)), Labels::Ints(l)) if !l.is_empty() => {
                for (out, class) in out[row..].iter_mut().zip(classes) {
                    *out = l[(*class as usize).min(l.len() - 1)];
                }
            }
            (Some(Integers::Strings(out)), Labels::Strings(l)) if !l.is_empty() => {
                for (out, class) in out[row..].iter_mut().zip(classes) {
                    out.clone_from(&l[(*class as usize).min(l.len() - 1)]);
                }
            }
            _ => {}
        }
    }
}
