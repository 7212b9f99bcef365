//! One axis of a resize: where each result lies in the input, and what it is made of there.

use kiln_tensor::shape::numel;

use super::{Coordinate, Mode, NearestMode, Sampling};
use crate::Result;
use crate::ops::real::{Real, Ticks, axpy};

/// An axis to be resized.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub axis: usize,
    /// The length of the input.
    pub n: usize,
    /// The length of the output.
    pub out: usize,
    /// The length of the output over that of the input, before the former was rounded.
    pub scale: f64,
    /// Whether the scale is given, as a number of single precision.
    pub given: bool,
    /// Start and end of the region that is resized, the input being 0 to 1.
    pub roi: (f64, f64),
}

/// What a result is made of: indices and their weights; `None` where it lies outside.
pub(super) type Taps<R> = Option<Vec<(usize, R)>>;

impl Axis {
    /// Whether the axis stays as it is.
    pub fn is_same(&self, op: &Sampling) -> bool {
        let region = op.coordinate != Coordinate::TfCropAndResize || self.roi == (0.0, 1.0);
        self.n == self.out && self.scale == 1.0 && region
    }

    /// The place in the input of result `i`; `round` rounds each step of the calculation.
    fn place(&self, op: &Sampling, i: usize, round: fn(f64) -> f64) -> f64 {
        let (x, n, scale) = (i as f64, self.n as f64, round(self.scale));
        let length = round(self.scale * n);
        let center = || round(round(x + 0.5) / scale);
        match op.coordinate {
            Coordinate::HalfPixel => round(center() - 0.5),
            Coordinate::HalfPixelSymmetric => {
                let offset = n / 2.0 * (1.0 - self.out as f64 / length);
                round(round(offset + center()) - 0.5)
            }
            Coordinate::PytorchHalfPixel if self.out <= 1 => 0.0,
            Coordinate::PytorchHalfPixel => round(center() - 0.5),
            Coordinate::AlignCorners if self.out <= 1 || length == 1.0 => 0.0,
            Coordinate::AlignCorners => round(round(x * (n - 1.0)) / (length - 1.0)),
            Coordinate::Asymmetric => round(x / scale),
            Coordinate::TfHalfPixelForNn => center(),
            Coordinate::TfCropAndResize => {
                let (start, end) = self.roi;
                if self.out <= 1 || length == 1.0 {
                    return round(0.5 * (start + end) * (n - 1.0));
                }
                let step = round(round((end - start) * (n - 1.0)) / (length - 1.0));
                round(round(start * (n - 1.0)) + round(x * step))
            }
        }
    }

    /// Whether the place lies beside an input that is cropped.
    fn is_outside(&self, op: &Sampling, x: f64) -> bool {
        let inside = x >= 0.0 && x <= self.n as f64 - 1.0;
        op.coordinate == Coordinate::TfCropAndResize && !inside
    }

    /// The index of each result; `None` where it lies outside. The input must not be empty.
    pub fn nearest(&self, op: &Sampling) -> Vec<Option<usize>> {
        let last = self.n.saturating_sub(1);
        let index = |i| {
            // Given scales are rounded: in single precision they give the places that were meant.
            let round: fn(f64) -> f64 = if self.given { |x| f64::from(x as f32) } else { |x| x };
            let x = self.place(op, i, round);
            let near = match op.nearest_mode {
                NearestMode::RoundPreferFloor => (x - 0.5).ceil(),
                NearestMode::RoundPreferCeil => (x + 0.5).floor(),
                NearestMode::Floor => x.floor(),
                NearestMode::Ceil => x.ceil(),
            };
            (!self.is_outside(op, x)).then_some((near.max(0.0) as usize).min(last))
        };
        (0..self.out).map(index).collect()
    }

    /// The taps of each result. The input must not be empty.
    pub fn taps<R: Real>(&self, op: &Sampling) -> Vec<Taps<R>> {
        let stretch = if op.antialias { self.scale.min(1.0) } else { 1.0 };
        let support = if op.mode == Mode::Cubic { 2.0 } else { 1.0 };
        let reach = (support / stretch).ceil() as i64;
        (0..self.out)
            .map(|i| {
                let x = self.place(op, i, |x| x);
                (!self.is_outside(op, x)).then(|| self.around(op, x, stretch, reach))
            })
            .collect()
    }

    /// The taps around place `x`; those beside the input count as its first or last element.
    fn around<R: Real>(&self, op: &Sampling, x: f64, stretch: f64, reach: i64) -> Vec<(usize, R)> {
        const FAR: f64 = (1u64 << 52) as f64;
        let last = self.n as i64 - 1;
        let x = x.clamp(-FAR, FAR);
        // An element at x itself is the last one that is not above it.
        let below = x.ceil() as i64 - 1;
        let mut taps: Vec<(usize, f64)> = Vec::new();
        for i in below + 1 - reach..=below + reach {
            let inside = (0..=last).contains(&i);
            let mut weight = op.kernel((i as f64 - x) * stretch);
            if op.exclude_outside && !inside {
                weight = 0.0;
            }
            let at = i.clamp(0, last) as usize;
            match taps.last_mut() {
                Some((same, sum)) if *same == at => *sum += weight,
                _ => taps.push((at, weight)),
            }
        }
        let sum: f64 = taps.iter().map(|(_, w)| w).sum();
        let sum = if sum == 0.0 || !(op.antialias || op.exclude_outside) { 1.0 } else { sum };
        taps.iter().map(|&(i, w)| (i, R::of(w / sum))).collect()
    }
}

impl Sampling {
    /// The weight of an element at a distance.
    fn kernel(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), f64::from(self.cubic_coeff_a));
        match self.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }
}

/// Copies the nearest elements along an axis; `fill` is what lies outside.
pub(crate) fn copy<T: Clone>(
    x: &[T],
    shape: &[usize],
    axis: usize,
    indices: &[Option<usize>],
    fill: &T,
) -> Result<Vec<T>> {
    let (n, inner) = (shape[axis], numel(&shape[axis + 1..])?);
    let mut y = Vec::new();
    if n == 0 || inner == 0 {
        return Ok(y);
    }
    for block in x.chunks_exact(n * inner) {
        for index in indices {
            match index {
                Some(i) => y.extend_from_slice(&block[i * inner..(i + 1) * inner]),
                None => y.resize(y.len() + inner, fill.clone()),
            }
        }
    }
    Ok(y)
}

/// Sums the taps along an axis into `y`; `fill` is what lies outside.
pub(super) fn blend<R: Real>(
    ticks: &mut Ticks<'_>,
    (x, y): (&[R], &mut [R]),
    (n, inner): (usize, usize),
    taps: &[Taps<R>],
    fill: R,
) -> Result<()> {
    let blocks = x.chunks_exact((n * inner).max(1));
    for (x, y) in blocks.zip(y.chunks_exact_mut((taps.len() * inner).max(1))) {
        for (taps, y) in taps.iter().zip(y.chunks_exact_mut(inner.max(1))) {
            let Some(taps) = taps else {
                y.fill(fill);
                continue;
            };
            for &(i, weight) in taps {
                axpy(weight, &x[i * inner..(i + 1) * inner], y);
            }
            ticks.add(taps.len().saturating_mul(inner))?;
        }
    }
    Ok(())
}
