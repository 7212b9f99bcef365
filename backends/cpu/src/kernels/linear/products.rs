//! Products of rows and coefficients, added in double precision.
//!
//! ```text
//! narrow   rows in lanes: 32 columns at a time are added in their order, and these sums in theirs
//! wide     columns in lanes: eight sums side by side, column `c` in sum `c mod 8`
//! ```
//! The form depends on the model alone: a row gets the same bits in every company. In double
//! precision, where products of `f32` are exact, all instructions give the same bits. The sums over
//! 32 columns are in `f32` where there are many scores.

use std::ops::Range;

use crate::lanes::turn;
use crate::simd::{Doubles, Floats, Isa};

/// Columns from which on rows are read as they lie.
const WIDE: usize = 96;
/// Sums of a wide row side by side.
const LANES: usize = 8;
/// Columns of a narrow row whose products are added before they join the rest.
const SPAN: usize = 32;
/// Fewer narrow rows than this are not worth turning into lanes.
const FEW: usize = 6;

/// Scores from which on 32 columns are added in `f32`.
const MANY: usize = 3;

/// A number for each sum.
type Lanes = [f64; LANES];

/// Coefficients made ready.
pub(super) struct Products {
    pub columns: usize,
    /// Scores of a row.
    pub count: usize,
    /// Of each column a coefficient for each score; of wide rows, of each score `padded` ones.
    weights: Vec<f64>,
    /// The same of narrow rows of many scores, as they were.
    floats: Vec<f32>,
    intercepts: Vec<f64>,
    /// The columns of wide rows, filled up to whole eights; 0 of narrow ones.
    padded: usize,
}

impl Products {
    /// Those of `count` lines of `columns` coefficients; intercepts that are missing are 0.
    pub fn of(coefficients: &[f32], columns: usize, count: usize, intercepts: &[f32]) -> Self {
        let padded = if columns < WIDE { 0 } else { columns.next_multiple_of(LANES) };
        let of = |c: usize, k: usize| f64::from(coefficients[k * columns + c]);
        let floats: Vec<f32> = match padded == 0 && count >= MANY {
            true => (0..columns * count)
                .map(|i| coefficients[i % count * columns + i / count])
                .collect(),
            false => vec![],
        };
        let weights = match padded {
            0 if !floats.is_empty() => vec![],
            0 => (0..columns * count).map(|i| of(i / count, i % count)).collect(),
            _ => (0..padded * count)
                .map(|i| if i % padded < columns { of(i % padded, i / padded) } else { 0.0 })
                .collect(),
        };
        let intercept = |k: usize| intercepts.get(k).map_or(0.0, |b| f64::from(*b));
        let intercepts = (0..count).map(intercept).collect();
        Self { columns, count, weights, floats, intercepts, padded }
    }

    /// The scores of some rows, score by score, `step` apart; there is room for whole vectors of
    /// rows. `room` is memory to work in.
    #[inline(always)]
    pub fn run<S: Isa>(
        &self,
        isa: S,
        x: &[f32],
        scores: &mut [f64],
        step: usize,
        room: &mut Vec<f32>,
    ) {
        let rows = x.len() / self.columns;
        if self.padded > 0 {
            return x.chunks_exact(self.columns).enumerate().for_each(|(r, x)| {
                self.wide::<S>(x, &mut scores[r..], step);
            });
        }
        if rows < FEW {
            return self.few::<S>(x, scores, step);
        }
        room.resize(self.columns.next_multiple_of(S::LANES) * step, 0.0);
        turn(isa, x, self.columns, room, step);
        let mut r = 0;
        while r < rows {
            let (x, scores) = (&room[r..], &mut scores[r..]);
            r += match rows - r {
                left if left > 3 * S::LANES => self.narrow::<S, 4>(isa, x, scores, step),
                _ => self.narrow::<S, 1>(isa, x, scores, step),
            };
        }
    }

    /// The scores of narrow rows, one after the other.
    #[inline(always)]
    fn few<S: Isa>(&self, x: &[f32], scores: &mut [f64], step: usize) {
        for (r, x) in x.chunks_exact(self.columns).enumerate() {
            for k in 0..self.count {
                let mut total = 0.0;
                for first in (0..self.columns).step_by(SPAN) {
                    let x = &x[first..self.columns.min(first + SPAN)];
                    let from = first * self.count + k;
                    total += match self.floats.is_empty() {
                        true => span::<S>(x, &self.weights[from..], self.count),
                        false => span_of_floats::<S>(x, &self.floats[from..], self.count),
                    };
                }
                scores[k * step + r] = total + self.intercepts[k];
            }
        }
    }

    /// The scores of `V` vectors of narrow rows, from columns `step` apart; gives their number.
    #[inline(always)]
    fn narrow<S: Isa, const V: usize>(
        &self,
        isa: S,
        x: &[f32],
        scores: &mut [f64],
        step: usize,
    ) -> usize {
        let mut k = 0;
        while k < self.count {
            let scores = &mut scores[k * step..];
            let place = (k, step);
            k += match (self.count >= MANY, self.count - k) {
                (true, 12..) if S::REGISTERS >= 32 => {
                    self.halves::<S, V, 12>(isa, x, scores, place)
                }
                (true, 10..) if S::REGISTERS >= 32 => {
                    self.halves::<S, V, 10>(isa, x, scores, place)
                }
                (true, 6..) => self.halves::<S, V, 6>(isa, x, scores, place),
                (true, 3..) => self.halves::<S, V, 3>(isa, x, scores, place),
                (true, _) => self.halves::<S, V, 1>(isa, x, scores, place),
                (false, 2) => self.in_lanes::<S, V, 2>(isa, x, scores, place),
                (false, _) => self.in_lanes::<S, V, 1>(isa, x, scores, place),
            };
        }
        V * S::LANES
    }

    /// `K` scores of `V` vectors of rows, half of them at a time where that fits registers better.
    #[inline(always)]
    fn halves<S: Isa, const V: usize, const K: usize>(
        &self,
        isa: S,
        x: &[f32],
        scores: &mut [f64],
        place: (usize, usize),
    ) -> usize {
        if V == 1 {
            return self.in_floats::<S, 1, K>(isa, x, scores, place);
        }
        let each = if S::REGISTERS >= 32 { 2 } else { 1 };
        for v in (0..V).step_by(each) {
            let (x, scores) = (&x[v * S::LANES..], &mut scores[v * S::LANES..]);
            match each {
                2 => self.in_floats::<S, 2, K>(isa, x, scores, place),
                _ => self.in_floats::<S, 1, K>(isa, x, scores, place),
            };
        }
        K
    }

    /// `K` scores of `V` vectors of rows, from score `k` on: the sums over 32 columns in `f32`.
    #[inline(always)]
    fn in_floats<S: Isa, const V: usize, const K: usize>(
        &self,
        isa: S,
        x: &[f32],
        scores: &mut [f64],
        (k, step): (usize, usize),
    ) -> usize {
        for first in (0..self.columns).step_by(SPAN) {
            let end = self.columns.min(first + SPAN);
            let mut sums = [[isa.splat(0.0); K]; V];
            let columns = x[first * step..].chunks(step).take(end - first);
            let weights = self.floats[first * self.count..].chunks_exact(self.count);
            for (x, w) in columns.zip(weights) {
                let w = &w[k..k + K];
                let mut of = [isa.splat(0.0); V];
                for (v, of) in of.iter_mut().enumerate() {
                    *of = isa.load(&x[v * S::LANES..]);
                }
                for (i, w) in w.iter().enumerate() {
                    let w = isa.splat(*w);
                    for v in 0..V {
                        sums[v][i] = of[v].mul_add(w, sums[v][i]);
                    }
                }
            }
            let mut wide = [[S::D::splat(isa, 0.0); K]; V];
            for (wide, sums) in wide.iter_mut().zip(&sums) {
                for (wide, sum) in wide.iter_mut().zip(sums) {
                    *wide = S::D::widen(*sum);
                }
            }
            self.keep::<S, V, K>(isa, &wide, scores, (k, step), first..end);
        }
        K
    }

    /// Adds sums over some columns to the scores, and the intercepts behind the last column.
    #[inline(always)]
    fn keep<S: Isa, const V: usize, const K: usize>(
        &self,
        isa: S,
        sums: &[[S::D; K]; V],
        scores: &mut [f64],
        (k, step): (usize, usize),
        columns: Range<usize>,
    ) {
        for (v, sums) in sums.iter().enumerate() {
            for (i, &sum) in sums.iter().enumerate() {
                let scores = &mut scores[i * step + v * S::LANES..];
                let before = match columns.start {
                    0 => S::D::splat(isa, 0.0),
                    _ => S::D::load(isa, scores),
                };
                let mut s = before + sum;
                if columns.end == self.columns {
                    s = s + S::D::splat(isa, self.intercepts[k + i]);
                }
                s.store(scores);
            }
        }
    }

    /// `K` scores of `V` vectors of rows, from score `k` on.
    #[inline(always)]
    fn in_lanes<S: Isa, const V: usize, const K: usize>(
        &self,
        isa: S,
        x: &[f32],
        scores: &mut [f64],
        (k, step): (usize, usize),
    ) -> usize {
        for first in (0..self.columns).step_by(SPAN) {
            let end = self.columns.min(first + SPAN);
            let mut sums = [[S::D::splat(isa, 0.0); K]; V];
            let columns = x[first * step..].chunks(step).take(end - first);
            let weights = self.weights[first * self.count..].chunks_exact(self.count);
            for (x, w) in columns.zip(weights) {
                let w = &w[k..k + K];
                for (v, sums) in sums.iter_mut().enumerate() {
                    let x = S::D::widen(isa.load(&x[v * S::LANES..]));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = x.mul_add(S::D::splat(isa, *w), *sum);
                    }
                }
            }
            self.keep::<S, V, K>(isa, &sums, scores, (k, step), first..end);
        }
        K
    }

    /// The scores of one wide row.
    #[inline(always)]
    fn wide<S: Isa>(&self, x: &[f32], scores: &mut [f64], step: usize) {
        let (x, rest) = x.as_chunks();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let mut k = 0;
        while k < self.count {
            k += match self.count - k {
                4.. => self.side_by_side::<S, 4>(x, &last, k, scores, step),
                // Some twice over, which is quicker than a few by themselves.
                _ if self.count > 4 => {
                    k = self.count - 4;
                    self.side_by_side::<S, 4>(x, &last, k, scores, step)
                }
                2.. => self.side_by_side::<S, 2>(x, &last, k, scores, step),
                _ => self.side_by_side::<S, 1>(x, &last, k, scores, step),
            };
        }
    }

    /// `K` scores of a wide row, from score `k` on: of whole eights of columns, and of the last
    /// ones, filled up with zeros.
    #[inline(always)]
    fn side_by_side<S: Isa, const K: usize>(
        &self,
        x: &[[f32; LANES]],
        last: &[f32; LANES],
        k: usize,
        scores: &mut [f64],
        step: usize,
    ) -> usize {
        let mut lines: [&[Lanes]; K] = [&[]; K];
        let mut ends: [&[Lanes]; K] = [&[]; K];
        for i in 0..K {
            let line = &self.weights[(k + i) * self.padded..][..self.padded];
            (lines[i], ends[i]) = line.as_chunks().0.split_at(x.len());
        }
        let mut sums = [[0.0; LANES]; K];
        for (i, x) in x.iter().enumerate() {
            for j in 0..K {
                add_products::<S>(&mut sums[j], x, &lines[j][i]);
            }
        }
        if self.columns > x.len() * LANES {
            for j in 0..K {
                add_products::<S>(&mut sums[j], last, &ends[j][0]);
            }
        }
        for (i, (s, b)) in sums.iter().zip(&self.intercepts[k..]).enumerate() {
            let total = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
            scores[(k + i) * step] = total + b;
        }
        K
    }
}

/// `sum + a * b`, where the product of two `f32` is exact: rounded once either way.
#[inline(always)]
fn add_product<S: Isa>(sum: f64, a: f64, b: f64) -> f64 {
    if S::FUSED { a.mul_add(b, sum) } else { sum + a * b }
}

/// The sum over some columns, whose coefficients are `step` apart.
#[inline(always)]
fn span<S: Isa>(x: &[f32], w: &[f64], step: usize) -> f64 {
    let mut sum = 0.0;
    for (x, w) in x.iter().zip(w.iter().step_by(step)) {
        sum = add_product::<S>(sum, f64::from(*x), *w);
    }
    sum
}

/// The same in `f32`.
#[inline(always)]
fn span_of_floats<S: Isa>(x: &[f32], w: &[f32], step: usize) -> f64 {
    let mut sum = 0.0;
    for (x, w) in x.iter().zip(w.iter().step_by(step)) {
        sum = if S::FUSED { x.mul_add(*w, sum) } else { sum + x * w };
    }
    f64::from(sum)
}

#[inline(always)]
fn add_products<S: Isa>(sums: &mut Lanes, x: &[f32; LANES], w: &Lanes) {
    for j in 0..LANES {
        sums[j] = add_product::<S>(sums[j], f64::from(x[j]), w[j]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, Work};

    struct Scores<'a>(&'a Products, &'a [f32]);

    impl Work for Scores<'_> {
        type Out = Vec<u64>;

        #[inline(always)]
        fn run<S: Isa>(self, isa: S) -> Vec<u64> {
            let rows = self.1.len() / self.0.columns;
            let step = rows.next_multiple_of(S::LANES);
            let mut scores = vec![0.0; step * self.0.count];
            self.0.run(isa, self.1, &mut scores, step, &mut vec![]);
            let of_row = |r: usize| scores.iter().skip(r).step_by(step).map(|s: &f64| s.to_bits());
            (0..rows).flat_map(of_row).collect()
        }
    }

    #[test]
    fn bits_depend_on_no_neighbour_and_in_double_precision_on_no_instruction() {
        for (columns, count) in [(5, 1), (28, 2), (50, 15), (16, 3), (100, 5), (600, 7), (70, 31)] {
            let w: Vec<f32> = (0..columns * count).map(|i| (i as f32 * 1.7).sin()).collect();
            let products = Products::of(&w, columns, count, &[0.25]);
            let x: Vec<f32> = (0..83 * columns).map(|i| (i as f32 * 0.37).cos()).collect();
            let want = Level::Scalar.run(Scores(&products, &x));
            let row = x[columns..2 * columns].iter().zip(&w);
            let exact = row.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() + 0.25;
            let bound = if products.floats.is_empty() { 1e-12 } else { 2e-6 };
            assert!((f64::from_bits(want[count]) - exact).abs() < bound, "{columns} columns");
            for &level in Level::all() {
                let all = level.run(Scores(&products, &x));
                if products.floats.is_empty() {
                    assert_eq!(all, want, "{columns} columns, {level:?}");
                }
                let alone: Vec<u64> =
                    x.chunks(columns).flat_map(|x| level.run(Scores(&products, x))).collect();
                assert_eq!(alone, all, "{columns} columns, {level:?}, row by row");
            }
        }
    }
}
