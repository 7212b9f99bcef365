//! What becomes of the scores of rows: probabilities, and a label for each row.
//!
//! ```text
//! scores [score, row] in double precision ─ending▶ [row, score]
//! ```

use kiln_ir::ops::scores::{Labels, PostTransform};

use super::tabular::Results;
use crate::lanes::unturn;
use crate::simd::Isa;

/// Rows whose scores are transformed together.
pub(super) const GROUP: usize = 64;

/// How scores end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ending {
    /// They stay.
    Plain,
    Logistic,
    Softmax,
    /// One score stands for two: that of the first class is `1 - s` if `complement`, else `-s`; or
    /// both are logistic.
    Opposed {
        complement: bool,
        logistic: bool,
    },
}

impl Ending {
    /// That of `count` scores each by itself; `None` for transforms that no loop here knows.
    pub fn of(post: PostTransform, count: usize) -> Option<Self> {
        match post {
            PostTransform::Probit | PostTransform::SoftmaxZero => None,
            _ if count == 1 => Some(Ending::Plain),
            PostTransform::None => Some(Ending::Plain),
            PostTransform::Logistic => Some(Ending::Logistic),
            PostTransform::Softmax => Some(Ending::Softmax),
        }
    }

    /// That of one score that stands for two.
    pub fn opposed(post: PostTransform, complement: bool) -> Option<Self> {
        let logistic = post == PostTransform::Logistic;
        (post != PostTransform::Probit).then_some(Ending::Opposed { complement, logistic })
    }
}

/// Which class a row has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pick {
    /// That of the first of the greatest scores.
    Greatest,
    /// The second where this score is above this bound, else the first.
    Above(usize, f64),
}

/// How rows end.
#[derive(Clone, Copy)]
pub(super) struct Endings<'a> {
    pub ending: Ending,
    pub pick: Pick,
    /// Those of a classifier.
    pub labels: Option<&'a Labels>,
}

/// The scores of `n` rows from row `from` on, score by score and `step` apart, with room for whole
/// vectors of scores.
pub(super) struct Scores<'a> {
    pub data: &'a mut [f64],
    pub count: usize,
    pub n: usize,
    pub step: usize,
    pub from: usize,
}

impl Scores<'_> {
    /// Writes what becomes of them. `room` is memory to work in.
    #[inline(always)]
    pub fn end<S: Isa>(
        &mut self,
        isa: S,
        how: Endings<'_>,
        room: &mut Vec<f32>,
        to: &mut Results<'_>,
    ) {
        if let Some(labels) = how.labels.filter(|_| to.has_labels()) {
            let classes = match how.pick {
                Pick::Greatest => self.best().1,
                Pick::Above(k, bound) => {
                    let mut classes = [0; GROUP];
                    for (class, s) in classes.iter_mut().zip(&self.data[k * self.step..]) {
                        *class = u64::from(*s > bound);
                    }
                    classes
                }
            };
            to.label(self.from, labels, &classes[..self.n]);
        }
        let scores = &mut self.data[..self.step * self.count];
        match how.ending {
            Ending::Plain => {}
            Ending::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s).1),
            Ending::Softmax => self.softmax(),
            Ending::Opposed { complement, logistic } => {
                return self.opposed(complement, logistic, to);
            }
        }
        if let Some(out) = to.scores(self.from, self.n) {
            room.clear();
            room.extend(self.data.iter().map(|s| *s as f32));
            unturn(isa, room, self.step, out, self.count);
        }
    }

    /// Writes two scores for each.
    #[inline(always)]
    fn opposed(&self, complement: bool, logistics: bool, to: &mut Results<'_>) {
        let mut both = [[0.0; 2]; GROUP];
        let one = if complement { 1.0 } else { 0.0 };
        for (both, &s) in both.iter_mut().zip(&*self.data) {
            let (first, second) = if logistics { logistic(s) } else { (one - s, s) };
            *both = [first as f32, second as f32];
        }
        if let Some(out) = to.scores(self.from, self.n) {
            out.copy_from_slice(&both.as_flattened()[..2 * self.n]);
        }
    }

    /// The greatest score of each row and the first place of it; NaN is never greater.
    #[inline(always)]
    fn best(&self) -> ([f64; GROUP], [u64; GROUP]) {
        let mut best = [f64::NEG_INFINITY; GROUP];
        let mut class = [0; GROUP];
        for (k, scores) in (0..).zip(self.of_scores()) {
            for ((best, class), &s) in best.iter_mut().zip(&mut class).zip(scores) {
                *class = if s > *best { k } else { *class };
                *best = if s > *best { s } else { *best };
            }
        }
        (best, class)
    }

    /// The rows' numbers of each score.
    #[inline(always)]
    fn of_scores(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks_exact(self.step).take(self.count)
    }

    /// Softmax of each row.
    #[inline(always)]
    fn softmax(&mut self) {
        let best = self.best().0;
        let mut sums = [0.0; GROUP];
        for scores in self.data.chunks_exact_mut(self.step).take(self.count) {
            for ((s, best), sum) in scores.iter_mut().zip(&best).zip(&mut sums) {
                *s = exp(*s - best);
                *sum += *s;
            }
        }
        for sum in &mut sums {
            *sum = 1.0 / if *sum > 0.0 { *sum } else { 1.0 };
        }
        for scores in self.data.chunks_exact_mut(self.step).take(self.count) {
            for (s, sum) in scores.iter_mut().zip(&sums) {
                *s *= sum;
            }
        }
    }
}

/// `1 / (1 + e^x)` and `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic(x: f64) -> (f64, f64) {
    let small = 1.0 / (1.0 + exp(-x.abs()));
    let great = 1.0 - small;
    (if x > 0.0 { great } else { small }, if x < 0.0 { great } else { small })
}

/// `e^x` within `1e-9` of it, relatively; never less than `e^-700`.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding this rounds to a whole number, which the lowest bits then hold.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    const LN2: f64 = 0.693_147_180_369_123_8;
    const REST: f64 = 1.908_214_929_270_587_7e-10;
    let bounded = if x < -700.0 { -700.0 } else { x };
    let bounded = if bounded > 700.0 { 700.0 } else { bounded };
    let k = bounded * std::f64::consts::LOG2_E + WHOLE;
    let whole = k - WHOLE;
    let r = (bounded - whole * LN2) - whole * REST;
    let mut p = 1.0 / 40320.0;
    for c in [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    let y = f64::from_bits(p.to_bits().wrapping_add(k.to_bits() << 52));
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials() {
        for x in [-700.0, -20.5, -1e-9, 0.0, 0.3, 1.0, 300.25] {
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-9, "{x}");
        }
        assert!(exp(f64::NAN).is_nan());
        assert!(exp(f64::NEG_INFINITY) < 1e-300);
        assert_eq!(logistic(0.0), (0.5, 0.5));
        assert_eq!(logistic(f64::INFINITY), (0.0, 1.0));
        assert_eq!(logistic(f64::NEG_INFINITY), (1.0, 0.0));
    }
}
