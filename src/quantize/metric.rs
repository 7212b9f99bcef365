//! How much outputs lose.

use std::str::FromStr;

use kiln_ir::{Error, Result};
use kiln_tensor::{Datum, Tensor};

/// What is called a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Metric {
    /// 1 - the cosine of the angle between all outputs of both.
    #[default]
    Cosine,
    /// The mean square of the differences.
    Mse,
    /// The share of rows that lose the label they should have.
    Top1,
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cosine" => Ok(Self::Cosine),
            "mse" => Ok(Self::Mse),
            "top1" => Ok(Self::Top1),
            _ => Err(Error::invalid(format!("`{text}` is no metric: top1, mse or cosine"))),
        }
    }
}

/// What was compared until now.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    dot: f64,
    squares: [f64; 2],
    gaps: f64,
    numbers: u64,
    /// Rows that had the right label before, and have it still.
    right: [u64; 2],
    rows: u64,
}

impl Losses {
    /// Compares the outputs of one run. `labels` are those of its rows; without them, those
    /// that the model gave before are right.
    pub(super) fn add(&mut self, want: &[Datum], got: &[Datum], labels: Option<&[i64]>) {
        let floats = |d: &Datum| {
            let t = d.as_tensor().ok().filter(|t| t.dtype().is_float())?;
            t.to_vec::<f64>().ok()
        };
        for (a, b) in want.iter().zip(got) {
            let (Some(a), Some(b)) = (floats(a), floats(b)) else { continue };
            for (a, b) in a.iter().zip(&b) {
                self.dot += a * b;
                self.squares[0] += a * a;
                self.squares[1] += b * b;
                self.gaps += (a - b) * (a - b);
                self.numbers += 1;
            }
        }
        let (want, got) = (winners(want), winners(got));
        for (i, (want, got)) in want.iter().zip(&got).enumerate() {
            let label = labels.map_or(Some(*want), |l| l.get(i).copied());
            let Some(label) = label else { continue };
            self.rows += 1;
            self.right[0] += u64::from(*want == label);
            self.right[1] += u64::from(*got == label);
        }
    }

    /// How many rows were compared.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The loss; not-a-number where an output is.
    pub(super) fn of(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Cosine => match self.squares {
                [0.0, 0.0] => 0.0,
                [a, b] => 1.0 - self.dot / (a.sqrt() * b.sqrt()),
            },
            Metric::Mse => self.gaps / self.numbers.max(1) as f64,
            Metric::Top1 => (self.right[0] as f64 - self.right[1] as f64) / self.rows.max(1) as f64,
        }
    }
}

/// The place of the greatest score of each row of the first output of scores.
fn winners(outputs: &[Datum]) -> Vec<i64> {
    let scores = |d: &Datum| d.as_tensor().ok().filter(|t| t.dtype().is_float()).cloned();
    let Some(t) = outputs.iter().find_map(scores) else { return vec![] };
    let (Some(&n), Ok(all)) = (t.shape().last(), Tensor::to_vec::<f64>(&t)) else {
        return vec![];
    };
    let winner = |row: &[f64]| {
        let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
        (0..row.len()).fold(0, better) as i64
    };
    all.chunks(n.max(1)).map(winner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(data: &[f32]) -> Vec<Datum> {
        let shape = [data.len() / 2, 2];
        vec![Tensor::from_vec(&shape, data.to_vec()).expect("rows of two").into()]
    }

    #[test]
    fn losses_by_hand() {
        let mut l = Losses::default();
        l.add(&rows(&[3.0, 0.0, 0.0, 4.0]), &rows(&[3.0, 4.0, 0.0, 0.0]), None);
        assert!((l.of(Metric::Cosine) - (1.0 - 9.0 / 25.0)).abs() < 1e-12);
        assert_eq!(l.of(Metric::Mse), 8.0);
        // Both rows change their winner: the second ties, and the first of a tie wins.
        assert_eq!((l.of(Metric::Top1), l.rows()), (1.0, 2));
    }

    #[test]
    fn labels_say_what_is_right() {
        let (want, got) = (rows(&[1.0, 0.0, 0.0, 1.0]), rows(&[1.0, 0.0, 1.0, 0.0]));
        let loss = |labels: &[i64]| {
            let mut l = Losses::default();
            l.add(&want, &got, Some(labels));
            l.of(Metric::Top1)
        };
        assert_eq!([loss(&[0, 1]), loss(&[0, 0]), loss(&[1, 5])], [0.5, -0.5, 0.0]);
    }

    #[test]
    fn equal_zeros_lose_nothing() {
        let mut l = Losses::default();
        l.add(&rows(&[0.0, 0.0]), &rows(&[0.0, 0.0]), None);
        assert_eq!([l.of(Metric::Cosine), l.of(Metric::Mse), l.of(Metric::Top1)], [0.0; 3]);
    }
}
