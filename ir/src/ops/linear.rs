//! Linear models of rows: `s[k] = sum over f of x[f] c[k, f] + b[k]`, and labels from scores.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use super::scores::{
    Labels, PostTransform, argmax, checked_rows, opposed, read_row, rows_and_columns,
};
use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// The numbers of a linear model.
    pub struct Weights {
        /// One row of coefficients per score.
        coefficients: Vec<f32> = vec![],
        /// One per score; none is all zeros.
        intercepts: Vec<f32> = vec![],
        /// What becomes of the scores of a row.
        post "post_transform": PostTransform = PostTransform::None,
    }
}

/// A linear model.
#[derive(Clone, Debug, PartialEq)]
pub enum Linear {
    /// Labels and scores. One row of coefficients for two classes is the score of the second.
    Classifier(Arc<Weights>, Labels),
    /// Scores for this many targets.
    Regressor(Arc<Weights>, usize),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.LinearClassifier",
        since: 1,
        build: |b| Ok(classifier(&mut b.attrs)?.into()),
    },
    Schema {
        name: "ai.onnx.ml.LinearRegressor",
        since: 1,
        build: |b| {
            let targets = match usize::try_from(b.take::<i64>("targets")?.unwrap_or(1)) {
                Ok(n) if n > 0 => n,
                _ => invalid!("`targets` is less than 1"),
            };
            let weights = Weights::read(&mut b.attrs)?;
            match weights.intercepts.len() {
                n if n != 0 && n < targets => invalid!("{n} intercepts for {targets} targets"),
                _ => Ok(Linear::Regressor(weights.into(), targets).into()),
            }
        },
    },
];

fn classifier(attrs: &mut Attrs) -> Result<Linear> {
    let labels = Labels::read(attrs, "classlabels_ints", "classlabels_strings")?;
    attrs.take::<Vec<String>>("classlabels_strings")?;
    attrs.take::<Vec<i64>>("classlabels_ints")?;
    // The scores of a row say as much: both forms of `multi_class` are computed alike.
    attrs.take::<i64>("multi_class")?;
    let weights = Weights::read(attrs)?;
    let classes = match (weights.intercepts.len(), labels.len()) {
        (0, 0) => invalid!("a LinearClassifier needs intercepts or class labels"),
        (0, n) => n,
        (1, 0) => 2,
        (1, n) => n.min(2),
        (n, _) => n,
    };
    Ok(Linear::Classifier(weights.into(), labels.or_count(classes)?))
}

impl Weights {
    /// How many scores a row gets from the coefficients; an error where they do not fit.
    fn scores(&self, columns: usize, classes: usize) -> Result<usize> {
        let one = self.intercepts.len() == 1 || classes == 1;
        let alone = self.intercepts.is_empty() && self.coefficients.len() == columns;
        let scores = if classes <= 2 && (one || alone) { 1 } else { classes };
        // Coefficients beyond what is read are let pass, as other runtimes do.
        match scores.checked_mul(columns) {
            Some(n) if n <= self.coefficients.len() => Ok(scores),
            _ => invalid!(
                "{} coefficients are too few for {scores} scores of {columns} columns",
                self.coefficients.len()
            ),
        }
    }

    fn score(&self, row: &[f64], k: usize) -> f64 {
        let c = self.coefficients[k * row.len()..][..row.len()].iter();
        let product: f64 = c.zip(row).map(|(&c, x)| f64::from(c) * x).sum();
        product + self.intercepts.get(k).map_or(0.0, |&b| f64::from(b))
    }
}

impl Linear {
    /// The numbers of the model, and of its classes or targets.
    pub fn parts(&self) -> (&Weights, usize) {
        match self {
            Linear::Classifier(w, labels) => (w, labels.len()),
            Linear::Regressor(w, targets) => (w, *targets),
        }
    }

    /// How many scores a row of this many columns gets; a regressor's single target is never read
    /// as two.
    pub fn count(&self, columns: usize) -> Result<usize> {
        let (w, width) = self.parts();
        match self {
            Linear::Classifier(..) => w.scores(columns, width),
            Linear::Regressor(..) if width.checked_mul(columns) > Some(w.coefficients.len()) => {
                invalid!(
                    "{} coefficients are too few for {width} targets of {columns} columns",
                    w.coefficients.len()
                )
            }
            Linear::Regressor(..) => Ok(width),
        }
    }

    /// Transforms the scores of a row, writes them and returns its class.
    pub fn finish(&self, scores: &mut [f64], out: &mut [f32]) -> usize {
        let post = self.parts().0.post;
        let class = match *scores {
            [score] => usize::from(score > 0.0),
            _ => argmax(scores.iter().copied()),
        };
        if let ([score], [first, second]) = (&*scores, &mut *out) {
            [*first, *second] = opposed(*score, true, post).map(|s| s as f32);
            return class;
        }
        if scores.len() != 1 || post == PostTransform::Probit {
            post.apply(scores);
        }
        out.iter_mut().zip(scores).for_each(|(o, s)| *o = *s as f32);
        class.min(out.len().saturating_sub(1))
    }
}

impl Operator for Linear {
    fn name(&self) -> &str {
        match self {
            Linear::Classifier(..) => "ai.onnx.ml.LinearClassifier",
            Linear::Regressor(..) => "ai.onnx.ml.LinearRegressor",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Linear::Classifier(w, labels) => {
                labels.write(w.write(), "classlabels_ints", "classlabels_strings")
            }
            Linear::Regressor(w, 1) => w.write(),
            Linear::Regressor(w, targets) => w.write().with("targets", *targets as i64),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let rows = checked_rows(cx, 0, |columns| self.count(columns).map(|_| ()))?;
        let width = self.parts().1;
        let scores = Fact::shaped(DType::F32, vec![rows.clone(), width.into()]);
        Ok(match self {
            Linear::Classifier(_, labels) => {
                vec![Fact::shaped(labels.dtype(), vec![rows]), scores]
            }
            Linear::Regressor(..) => vec![scores],
        })
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let (rows, columns) = rows_and_columns(x)?;
        let (weights, width) = self.parts();
        let count = self.count(columns)?;
        let mut y = cx.zeros::<f32>(&[rows, width])?;
        let mut row = cx.zeros::<f64>(&[columns])?;
        let mut scores = cx.zeros::<f64>(&[count])?;
        let mut classes = Vec::new();
        for (i, out) in y.chunks_exact_mut(width).enumerate() {
            cx.cancel.poll()?;
            read_row(x, i * columns, &mut row)?;
            (0..count).for_each(|k| scores[k] = weights.score(&row, k));
            classes.push(self.finish(&mut scores, out));
        }
        let y = Tensor::from_vec(&[rows, width], y)?;
        Ok(match self {
            Linear::Classifier(_, labels) => vec![labels.of(&classes)?.into(), y.into()],
            Linear::Regressor(..) => vec![y.into()],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, types};

    fn rows() -> Tensor {
        Tensor::from_vec(&[3, 2], vec![1f32, 0.0, 0.0, 1.0, -1.0, 0.5]).expect("3x2")
    }

    fn classify(attrs: &str) -> (Vec<i64>, Vec<f32>) {
        let t = format!("y, z = ai.onnx.ml.LinearClassifier(x: f32[N,2]) {{{attrs}}}\nreturn y, z");
        let y = run(&t, &[rows()]).expect("runs");
        let of = |i: usize| y[i].as_tensor().expect("tensor");
        (of(0).to_vec().expect("labels"), of(1).to_vec().expect("scores"))
    }

    #[test]
    fn one_score_for_two_classes() {
        let model = "coefficients=[0.2,-0.3], intercepts=[0.1], classlabels_ints=[10,20]";
        let (label, score) = classify(model);
        assert_eq!(label, [20, 10, 10]);
        assert_close(&score, &[0.7, 0.3, 1.2, -0.2, 1.25, -0.25], 1e-6);
        let (_, score) = classify(&format!("{model}, post_transform=\"LOGISTIC\""));
        let want = [0.425_557, 0.574_443, 0.549_834, 0.450_166, 0.562_177, 0.437_823];
        assert_close(&score, &want, 1e-6);
        let bare = classify("coefficients=[0.2,-0.3], classlabels_ints=[10,20]");
        assert_close(&bare.1, &[0.8, 0.2, 1.3, -0.3, 1.35, -0.35], 1e-6);
    }

    #[test]
    fn a_score_per_class() {
        let model = "coefficients=[1.0,2.0,-1.0,0.5,0.3,0.2], intercepts=[0.1,0.2,0.3], \
                     classlabels_ints=[10,20,30]";
        let (label, score) = classify(model);
        assert_eq!(label, [10, 10, 20]);
        assert_close(&score, &[1.1, -0.8, 0.6, 2.1, 0.7, 0.5, 0.1, 1.45, 0.1], 1e-6);
        let (_, score) = classify(&format!("{model}, post_transform=\"SOFTMAX\""));
        assert_close(&score[..3], &[0.569_444, 0.085_171, 0.345_385], 1e-6);
        let two = "coefficients=[1.0,2.0,-1.0,0.5], intercepts=[0.1,0.7]";
        let (label, score) = classify(two);
        assert_eq!(label, [0, 0, 1]);
        assert_close(&score, &[1.1, -0.3, 2.1, 1.2, 0.1, 1.95], 1e-6);
    }

    fn regress(attrs: &str) -> Vec<f32> {
        let t = format!("y = ai.onnx.ml.LinearRegressor(x: f32[N,2]) {{{attrs}}}\nreturn y");
        run(&t, &[rows()]).expect("runs")[0].as_tensor().expect("t").to_vec().expect("f32")
    }

    #[test]
    fn regressors() {
        let one = "coefficients=[0.2,0.3], intercepts=[0.1]";
        assert_close(&regress(one), &[0.3, 0.4, 0.05], 1e-6);
        let raw = regress(&format!("{one}, post_transform=\"LOGISTIC\""));
        assert_close(&raw, &[0.3, 0.4, 0.05], 1e-6);
        let two = "coefficients=[0.2,0.3,0.1,-0.4], intercepts=[0.1,0.2], targets=2";
        assert_close(&regress(two), &[0.3, 0.3, 0.4, -0.2, 0.05, -0.1], 1e-6);
        let soft = regress(&format!("{two}, post_transform=\"SOFTMAX\""));
        assert_close(&soft[..4], &[0.5, 0.5, 0.645_656, 0.354_344], 1e-6);
    }

    #[test]
    fn types_and_errors() {
        let c = |x: &str, attrs: &str| {
            types(&format!("y, z = ai.onnx.ml.LinearClassifier(x: {x}) {{{attrs}}}\nreturn y, z"))
        };
        let two = "coefficients=[1.0,1.0], intercepts=[0.0], classlabels_strings=[\"a\",\"b\"]";
        assert_eq!(c("i64[N,2]", two).expect("types"), ["str[N]", "f32[N,2]"]);
        assert_eq!(c("f64[2]", two).expect("types"), ["str[1]", "f32[1,2]"]);
        assert!(c("f32[N,3]", two).expect_err("wide").message().contains("too few"));
        assert!(c("f32[2,2,2]", two).is_err());
        assert!(c("f32[N,2]", "coefficients=[1.0]").is_err());
        assert!(
            c("f32[N,1]", "coefficients=[1.0], intercepts=[0.0,0.0,0.0], classlabels_ints=[1,2]")
                .is_err()
        );
        let r = |attrs: &str| {
            types(&format!("y = ai.onnx.ml.LinearRegressor(x: f32[N,2]) {{{attrs}}}\nreturn y"))
        };
        assert!(r("coefficients=[1.0,1.0], targets=2").is_err());
        assert!(r("coefficients=[1.0,1.0], targets=0").is_err());
        assert!(r("coefficients=[1.0,1.0], targets=4611686018427387904").is_err());
    }
}
