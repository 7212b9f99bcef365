//! What the classical classifiers and regressors share: class labels and what becomes of scores.

use kiln_tensor::{DType, Scalar, Tensor, match_scalar};

use crate::{Attr, Attrs, Dim, Infer, Result, attr_enum, invalid};

/// The labels of classes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Labels {
    /// Integers.
    Ints(Vec<i64>),
    /// Strings.
    Strings(Vec<String>),
}

impl Labels {
    /// Reads the labels from whichever of two attributes holds some; strings come first.
    /// Without either there are no labels.
    pub fn read(attrs: &Attrs, ints: &str, strings: &str) -> Result<Self> {
        let labels = match (attrs.get(strings), attrs.get(ints)) {
            (Some(Attr::Strings(s)), _) if !s.is_empty() => Labels::Strings(s.clone()),
            (_, Some(Attr::Ints(i))) => Labels::Ints(i.clone()),
            (_, None) => Labels::Ints(vec![]),
            _ => invalid!("`{ints}` must hold integers"),
        };
        Ok(labels)
    }

    /// The labels `0..n` where there are none; an error where there are not `n`.
    pub fn or_count(self, n: usize) -> Result<Self> {
        match self.len() {
            0 => Ok(Labels::Ints((0..n as i64).collect())),
            k if k == n => Ok(self),
            k => invalid!("there are {k} class labels for {n} classes"),
        }
    }

    /// Writes the labels to one of the two attributes.
    #[must_use]
    pub fn write(&self, attrs: Attrs, ints: &str, strings: &str) -> Attrs {
        match self {
            Labels::Ints(v) if v.is_empty() => attrs,
            Labels::Ints(v) => attrs.with(ints, v.clone()),
            Labels::Strings(v) => attrs.with(strings, v.clone()),
        }
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        match self {
            Labels::Ints(v) => v.len(),
            Labels::Strings(v) => v.len(),
        }
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type of a tensor of labels.
    pub fn dtype(&self) -> DType {
        match self {
            Labels::Ints(_) => DType::I64,
            Labels::Strings(_) => DType::String,
        }
    }

    /// The labels of classes, as a vector; an error where there is no such class.
    pub fn of(&self, classes: &[usize]) -> Result<Tensor> {
        if let Some(c) = classes.iter().find(|&&c| c >= self.len()) {
            invalid!("class {c} has no label: there are {}", self.len());
        }
        Ok(match self {
            Labels::Ints(v) => Tensor::vector(classes.iter().map(|&c| v[c]).collect()),
            Labels::Strings(v) => {
                let data = classes.iter().map(|&c| v[c].clone()).collect();
                Tensor::from_strings(&[classes.len()], data)?
            }
        })
    }
}

/// The numbers of rows and columns of input `i`; a vector is one row. Other ranks are errors.
pub fn table(cx: &mut Infer<'_>, i: usize) -> Result<(Dim, Option<Dim>)> {
    match cx.shape(i)? {
        None => Ok((cx.fresh(), None)),
        Some([columns]) => Ok((1i64.into(), Some(columns.clone()))),
        Some([rows, columns]) => Ok((rows.clone(), Some(columns.clone()))),
        Some(s) => invalid!("input {i} has rank {}, expected rows of features", s.len()),
    }
}

/// The number of rows of input `i`, of a type that classical models take; an error where the
/// number of columns is known and `fits` does not hold of it.
pub fn checked_rows(
    cx: &mut Infer<'_>,
    i: usize,
    fits: impl FnOnce(usize) -> Result<()>,
) -> Result<Dim> {
    cx.dtype_in(i, |d| matches!(d, DType::F32 | DType::F64 | DType::I64 | DType::I32))?;
    let (rows, columns) = table(cx, i)?;
    columns.and_then(|c| c.as_len()).map_or(Ok(()), fits)?;
    Ok(rows)
}

/// The numbers of rows and columns of a tensor; a vector is one row.
pub fn rows_and_columns(x: &Tensor) -> Result<(usize, usize)> {
    match *x.shape() {
        [columns] => Ok((1, columns)),
        [rows, columns] => Ok((rows, columns)),
        _ => invalid!("the input has shape {:?}, expected rows of features", x.shape()),
    }
}

/// Reads the leading columns of a row that begins at element `at`.
pub fn read_row(x: &Tensor, at: usize, out: &mut [f64]) -> Result<()> {
    match_scalar!(x.dtype(), T => {
        let row = x.as_slice::<T>()?.iter().skip(at);
        out.iter_mut().zip(row).for_each(|(o, v)| *o = v.to_f64());
    }, else invalid!("classical models take no {}", x.dtype()));
    Ok(())
}

/// The place of the greatest score, the first where several are; NaN is never greater.
pub fn argmax(scores: impl IntoIterator<Item = f64>) -> usize {
    let mut best = (0, f64::NAN);
    for (i, s) in scores.into_iter().enumerate() {
        if s > best.1 || (best.1.is_nan() && !s.is_nan()) {
            best = (i, s);
        }
    }
    best.0
}

attr_enum! {
    /// What becomes of the scores of one row.
    pub enum PostTransform {
        /// Nothing.
        None = "NONE",
        /// Exponentials that sum to 1.
        Softmax = "SOFTMAX",
        /// `1 / (1 + exp(-s))` each.
        Logistic = "LOGISTIC",
        /// As softmax; scores that are zero stay zero.
        SoftmaxZero = "SOFTMAX_ZERO",
        /// `sqrt(2) * erfinv(2 s - 1)` each.
        Probit = "PROBIT",
    }
}

impl PostTransform {
    /// The transform that a number in an attribute stands for.
    pub fn from_code(code: i64) -> Result<Self> {
        Ok(match code {
            0 => Self::None,
            1 => Self::Softmax,
            2 => Self::Logistic,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            _ => invalid!("post_transform {code} is none of 0 to 4"),
        })
    }

    /// Transforms the scores of one row.
    pub fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores, |_| true),
            Self::SoftmaxZero => softmax(scores, |s| s.abs() > 1e-7),
            Self::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s)),
            Self::Probit => scores.iter_mut().for_each(|s| *s = probit(*s)),
        }
    }
}

/// Softmax over the scores that `counts` holds of; the others become 0.
fn softmax(scores: &mut [f64], counts: impl Fn(f64) -> bool) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for s in scores.iter_mut() {
        *s = if counts(*s) { (*s - max).exp() } else { 0.0 };
        sum += *s;
    }
    if sum > 0.0 {
        scores.iter_mut().for_each(|s| *s /= sum);
    }
}

/// The scores of two classes of which the second has score `s`: the first has `1 - s` if
/// `complement`, else `-s`. The logistic transform looks at `-s` whatever `complement` says.
pub fn opposed(s: f64, complement: bool, post: PostTransform) -> [f64; 2] {
    match post {
        PostTransform::Logistic => [logistic(-s), logistic(s)],
        PostTransform::Probit => [1.0 - probit(s), probit(s)],
        _ if complement => [1.0 - s, s],
        _ => [-s, s],
    }
}

/// `1 / (1 + exp(-x))`, without overflow.
pub fn logistic(x: f64) -> f64 {
    let small = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - small } else { small }
}

/// The quantile of the normal distribution, by Winitzki's approximation of the inverse of erf
/// (relative error 2e-3): other runtimes give these values, so the exact ones would differ.
pub fn probit(p: f64) -> f64 {
    const A: f64 = 0.147;
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let half = 2.0 / (std::f64::consts::PI * A) + log / 2.0;
    let erfinv = ((half * half - log / A).sqrt() - half).sqrt();
    std::f64::consts::SQRT_2 * if x < 0.0 { -erfinv } else { erfinv }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(t: PostTransform, scores: &[f64]) -> Vec<f64> {
        let mut s = scores.to_vec();
        t.apply(&mut s);
        s.iter().map(|x| (x * 1e4).round() / 1e4).collect()
    }

    #[test]
    fn transforms_by_hand() {
        use PostTransform::*;
        assert_eq!(apply(None, &[1.0, -2.0]), [1.0, -2.0]);
        assert_eq!(apply(Softmax, &[0.0, 3f64.ln()]), [0.25, 0.75]);
        assert_eq!(apply(SoftmaxZero, &[1.0, 0.0, 1.0]), [0.5, 0.0, 0.5]);
        assert_eq!(apply(SoftmaxZero, &[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(apply(Logistic, &[0.0, -1000.0, 1000.0]), [0.5, 0.0, 1.0]);
        assert_eq!(opposed(0.25, true, None), [0.75, 0.25]);
        assert_eq!(opposed(0.25, false, None), [-0.25, 0.25]);
        assert_eq!(opposed(0.0, true, Logistic), [0.5, 0.5]);
        // By the approximation; the exact value at 0.3 is -0.5244.
        assert_eq!(apply(Probit, &[0.3, 0.5]), [-0.5244, 0.0]);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(argmax([1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax([f64::NAN, -1.0, f64::NAN]), 1);
        assert_eq!(argmax([]), 0);
    }

    #[test]
    fn labels() {
        let a = Attrs::default().with("s", vec!["a".to_owned(), "b".to_owned()]);
        let l = Labels::read(&a, "i", "s").expect("strings");
        assert_eq!(l.of(&[1]).expect("in range").strings().expect("strings"), ["b"]);
        assert!(l.of(&[2]).is_err());
        assert!(l.clone().or_count(3).is_err());
        assert_eq!(l.write(Attrs::default(), "i", "s"), a);
        let none = Labels::read(&Attrs::default(), "i", "s").expect("none");
        assert_eq!(none.or_count(2).expect("counted"), Labels::Ints(vec![0, 1]));
    }
}
