//! Numbers about lists of times.

/// Times of equal work, in nanoseconds.
pub struct Times {
    sorted: Vec<u64>,
}

impl Times {
    /// Of at least one time; `None` where there is none.
    pub fn new(times: &[u64]) -> Option<Self> {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        (!sorted.is_empty()).then_some(Self { sorted })
    }

    /// The time that `share` of all do not exceed (nearest rank).
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (self.sorted.len() as f64 * share).ceil() as usize;
        self.sorted[rank.clamp(1, self.sorted.len()) - 1]
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.sorted.iter().map(|&t| t as f64).sum::<f64>() / self.sorted.len() as f64
    }

    /// Half the width of the 95 % confidence interval of the mean, relative to the mean, as if
    /// the times were normal; `None` for fewer than two.
    pub fn uncertainty(&self) -> Option<f64> {
        let (n, mean) = (self.sorted.len() as f64, self.mean());
        let squares = self.sorted.iter().map(|&t| (t as f64 - mean).powi(2)).sum::<f64>();
        (n >= 2.0 && mean > 0.0).then(|| 1.96 * (squares / (n - 1.0) / n).sqrt() / mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let t = Times::new(&[30, 10, 20, 40]).expect("four times");
        assert_eq!([0.0, 0.25, 0.5, 0.75, 0.99].map(|s| t.percentile(s)), [10, 10, 20, 30, 40]);
        assert_eq!(t.mean(), 25.0);
        // Standard deviation 12.91 of four times: 1.96 * 12.91 / 2 / 25.
        assert!((t.uncertainty().expect("four times") - 0.506).abs() < 1e-3);
        assert!(Times::new(&[]).is_none());
        assert!(Times::new(&[5]).expect("one time").uncertainty().is_none());
    }
}
