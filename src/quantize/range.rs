//! From what was seen of a value to the range that its integers cover.

use std::str::FromStr;

use kiln_ir::{Error, Result};
use kiln_passes::Range;

/// How a range is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// All that was seen.
    #[default]
    MinMax,
    /// What leaves out so little that this share of the numbers, in percent, is inside.
    Percentile(f64),
    /// What keeps the most information: the least divergence (Kullback and Leibler) between
    /// what was seen and its integers.
    Entropy,
    /// What makes the least mean square error.
    Mse,
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "minmax" => Ok(Self::MinMax),
            "percentile" => Ok(Self::Percentile(99.99)),
            "entropy" => Ok(Self::Entropy),
            "mse" => Ok(Self::Mse),
            _ => Err(Error::invalid(format!(
                "`{text}` is no method: minmax, entropy, percentile or mse"
            ))),
        }
    }
}

/// How many bins a histogram has.
const BINS: usize = 2048;

/// How many integers there are.
const LEVELS: usize = 256;

/// How many windows are tried on each side of 0.
const STEPS: usize = 64;

/// The least and the greatest finite number seen, and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extremes {
    low: f32,
    high: f32,
}

impl Extremes {
    pub(super) fn add(&mut self, numbers: &[f32]) {
        for &x in numbers.iter().filter(|x| x.is_finite()) {
            self.low = self.low.min(x);
            self.high = self.high.max(x);
        }
    }

    pub(super) fn range(self) -> Range {
        Range { low: self.low, high: self.high }
    }
}

/// How often numbers were seen, by their size. The order in which they are added does not matter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    low: f64,
    width: f64,
    counts: Vec<u64>,
    /// Zeros are exact under every range.
    zeros: u64,
}

impl Histogram {
    /// An empty histogram of numbers within these extremes.
    pub(super) fn new(extremes: Extremes) -> Self {
        let (low, high) = (f64::from(extremes.low), f64::from(extremes.high));
        Self { low, width: (high - low) / BINS as f64, counts: vec![0; BINS], zeros: 0 }
    }

    pub(super) fn add(&mut self, numbers: &[f32]) {
        for &x in numbers.iter().filter(|x| x.is_finite()) {
            if x == 0.0 {
                self.zeros += 1;
                continue;
            }
            let bin = (f64::from(x) - self.low) / self.width;
            self.counts[(bin as usize).min(BINS - 1)] += 1;
        }
    }

    /// The range that a method chooses.
    pub(super) fn range(&self, method: Method) -> Range {
        let whole = (self.low, self.edge(BINS));
        let (low, high) = match method {
            _ if self.width <= 0.0 => whole,
            Method::MinMax => whole,
            Method::Percentile(share) => self.percentile(share),
            Method::Entropy => best(whole, false, &|window| self.divergence(window)),
            Method::Mse => best(whole, true, &|window| self.error(window)),
        };
        Range { low: low as f32, high: high as f32 }
    }

    /// Where a bin begins.
    fn edge(&self, bin: usize) -> f64 {
        self.low + self.width * bin as f64
    }

    /// The bins' middles, and how often numbers lay in them.
    fn bins(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let middle = |i| self.edge(i) + self.width / 2.0;
        self.counts.iter().enumerate().map(move |(i, &n)| (middle(i), n as f64))
    }

    fn percentile(&self, share: f64) -> (f64, f64) {
        let all = self.counts.iter().sum::<u64>() + self.zeros;
        let outside = all as f64 * (100.0 - share).clamp(0.0, 100.0) / 200.0;
        let cut = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0;
            let before = counts.take_while(|&&n| {
                seen += n;
                seen as f64 <= outside
            });
            before.count()
        };
        let low = self.edge(cut(&mut self.counts.iter()));
        let high = self.edge(BINS - cut(&mut self.counts.iter().rev()));
        (low.min(0.0), high.max(0.0))
    }

    /// The sum of the square errors under a window.
    fn error(&self, (low, high): (f64, f64)) -> f64 {
        let step = (high - low) / (LEVELS - 1) as f64;
        let inside = step * step / 12.0;
        let error = |(x, n): (f64, f64)| {
            let beyond = x - x.clamp(low, high);
            n * if beyond == 0.0 { inside } else { beyond * beyond }
        };
        self.bins().map(error).sum()
    }

    /// The divergence of the integers under a window from what was seen.
    fn divergence(&self, (low, high): (f64, f64)) -> f64 {
        let bin = |x: f64| ((x - self.low) / self.width).round().max(0.0) as usize;
        let (first, last) = (bin(low).min(BINS - 1), bin(high).clamp(1, BINS));
        let Some(inside) = self.counts.get(first..last).filter(|bins| !bins.is_empty()) else {
            return f64::INFINITY;
        };
        // What is outside becomes the outermost integers.
        let mut seen: Vec<f64> = inside.iter().map(|&n| n as f64).collect();
        let ends = seen.len() - 1;
        seen[0] += self.counts[..first].iter().sum::<u64>() as f64;
        seen[ends] += self.counts[last..].iter().sum::<u64>() as f64;
        let kept = spread(inside);
        let (all, whole) = (seen.iter().sum::<f64>(), kept.iter().sum::<f64>());
        let term = |(&p, &q): (&f64, &f64)| match p > 0.0 {
            true => p / all * ((p / all) / (q / whole).max(1e-9)).ln(),
            false => 0.0,
        };
        seen.iter().zip(&kept).map(term).sum()
    }
}

/// What integers make of a histogram: bins that share one cannot be told apart.
fn spread(bins: &[u64]) -> Vec<f64> {
    let mut all = Vec::with_capacity(bins.len());
    for level in 0..LEVELS {
        let edge = |level| level * bins.len() / LEVELS;
        let group = &bins[edge(level)..edge(level + 1)];
        let filled = group.iter().filter(|&&n| n > 0).count().max(1);
        let mean = group.iter().sum::<u64>() as f64 / filled as f64;
        all.extend(group.iter().map(|&n| if n > 0 { mean } else { 0.0 }));
    }
    all
}

/// The window of the least loss, the largest of those; `apart` tries both sides by themselves.
fn best((low, high): (f64, f64), apart: bool, loss: &dyn Fn((f64, f64)) -> f64) -> (f64, f64) {
    let part = |x: f64, i: usize| x * (STEPS - i) as f64 / STEPS as f64;
    let mut found = (low, high);
    let mut least = loss(found);
    for i in 0..STEPS {
        let others = if apart { 0..STEPS } else { i..i + 1 };
        for j in others {
            let window = (part(low, i), part(high, j));
            let loss = loss(window);
            if loss < least {
                (found, least) = (window, loss);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(numbers: &[f32]) -> Histogram {
        let mut extremes = Extremes::default();
        extremes.add(numbers);
        let mut h = Histogram::new(extremes);
        h.add(numbers);
        h
    }

    /// 10,000 numbers between 0 and 1, most of them small, and one outlier.
    fn skewed() -> Vec<f32> {
        let mut all: Vec<f32> = (0..10_000).map(|i| (i as f32 / 10_000.0).powi(4)).collect();
        all.push(20.48);
        all
    }

    #[test]
    fn extremes_hold_zero_and_what_is_finite() {
        let mut e = Extremes::default();
        e.add(&[2.0, f32::NAN, f32::INFINITY, 3.0]);
        assert_eq!(e.range(), Range { low: 0.0, high: 3.0 });
        e.add(&[-1.0]);
        assert_eq!(e.range(), Range { low: -1.0, high: 3.0 });
    }

    #[test]
    fn order_does_not_matter() {
        let numbers = skewed();
        let mut back = numbers.clone();
        back.reverse();
        assert_eq!(histogram(&numbers), histogram(&back));
    }

    #[test]
    fn methods_cut_outliers_or_not() {
        let h = histogram(&skewed());
        assert_eq!(h.range(Method::MinMax), Range { low: 0.0, high: 20.48 });
        // Half of 2 % of 10,001 numbers is 100: those from 0.99^4 = 0.961 on go, by bins of 0.01.
        let p = h.range(Method::Percentile(98.0));
        assert!(p.low == 0.0 && (p.high - 0.961).abs() < 0.02, "{p:?}");
        // Up to 256 bins, an integer each: the outlier alone is lost.
        let high = |m| h.range(m).high;
        assert!((high(Method::Entropy) - 2.56).abs() < 0.01, "{}", high(Method::Entropy));
        let error = |high| h.error((0.0, high));
        assert!(error(f64::from(high(Method::Mse))) <= error(20.48));
    }

    #[test]
    fn square_errors_by_hand() {
        // Bins of 0.01: the outlier's middle is 20.475, 10 away from a window up to 10.475.
        let h = histogram(&[20.48]);
        assert!((h.error((0.0, 10.475)) - 100.0).abs() < 1e-3);
        let step = 20.48 / 255.0;
        assert!((h.error((0.0, 20.48)) - step * step / 12.0).abs() < 1e-9);
    }

    #[test]
    fn integers_share_what_lies_in_them() {
        let mut bins = vec![0u64; 2 * LEVELS];
        (bins[0], bins[1], bins[3]) = (2, 4, 5);
        assert_eq!(spread(&bins)[..5], [3.0, 3.0, 0.0, 5.0, 0.0]);
    }

    #[test]
    fn what_is_always_the_same_has_a_range() {
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Entropy, Method::Mse] {
            assert_eq!(histogram(&[0.0, 0.0]).range(method), Range { low: 0.0, high: 0.0 });
            let one = histogram(&[3.0, 3.0]).range(method);
            assert!(one.low == 0.0 && one.high >= 2.9, "{method:?}: {one:?}");
        }
    }
}
