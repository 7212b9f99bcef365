//! Support vector machines over rows: sums of kernels between a row and the support vectors.
//!
//! ```text
//! k(x, s) = x.s | (g x.s + c)^d | exp(-g |x - s|^2) | tanh(g x.s + c)
//! pair i < j of classes: d = sum over SVs of i of a[j-1] k + sum over SVs of j of a[i] k + rho
//!                        a vote for i if d > 0, else for j
//! ```
//! Without support vectors the model is linear, its coefficients one row per class.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Tensor};

use super::scores::{checked_rows, read_row, rows_and_columns};
use crate::eval::tensor;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

mod classes;
mod kernel;

pub use classes::{Classes, Classifier, Scratch, pairs};
pub use kernel::{Kernel, KernelType};

/// A support vector machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Svm {
    /// Labels and scores.
    Classifier(Arc<Classifier>),
    /// One score.
    Regressor(Arc<Regressor>),
}

/// A regressor, or a detector of what is unlike anything seen.
#[derive(Debug, PartialEq)]
pub struct Regressor {
    /// Kernel, support vectors and coefficients.
    pub kernel: Kernel,
    /// The number of support vectors; with none the model is linear.
    pub count: usize,
    /// Whether the output is 1 for a positive score, else -1.
    pub one_class: bool,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.SVMClassifier",
        since: 1,
        build: |b| Ok(Svm::Classifier(Classifier::read(&mut b.attrs)?.into()).into()),
    },
    Schema {
        name: "ai.onnx.ml.SVMRegressor",
        since: 1,
        build: |b| Ok(Svm::Regressor(Regressor::read(&mut b.attrs)?.into()).into()),
    },
];

impl Regressor {
    fn read(attrs: &mut Attrs) -> Result<Self> {
        let count = attrs.take::<i64>("n_supports")?.unwrap_or(0);
        let Ok(count) = usize::try_from(count) else { invalid!("n_supports is {count}") };
        let one_class = attrs.take("one_class")?.unwrap_or(false);
        // The scores of regressors are left as they are, whatever this says.
        attrs.take::<String>("post_transform")?;
        let kernel = Kernel::read(attrs)?;
        if kernel.rho.is_empty() {
            invalid!("an SVMRegressor needs `rho`");
        }
        kernel.check(count, 1)?;
        Ok(Self { kernel, count, one_class })
    }

    fn columns(&self) -> usize {
        match self.count {
            0 => self.kernel.coefficients.len(),
            n => self.kernel.support_vectors.len() / n,
        }
    }

    fn score(&self, row: &[f64]) -> f64 {
        let k = &self.kernel;
        let sum: f64 = match self.count {
            0 => k.coefficients.iter().zip(row).map(|(&c, x)| f64::from(c) * x).sum(),
            n => (0..n).map(|i| f64::from(k.coefficients[i]) * k.apply(row, i)).sum(),
        };
        self.finish(sum)
    }

    /// The output for a sum over support vectors or coefficients.
    pub fn finish(&self, sum: f64) -> f64 {
        let score = sum + f64::from(self.kernel.rho[0]);
        match self.one_class {
            true if score > 0.0 => 1.0,
            true => -1.0,
            false => score,
        }
    }
}

impl Svm {
    /// An error unless a table has as many columns as the model.
    pub fn check_columns(&self, have: usize) -> Result<()> {
        let want = match self {
            Svm::Classifier(c) => c.columns(),
            Svm::Regressor(r) => r.columns(),
        };
        if have != want {
            invalid!("the model is of {want} columns, the input has {have}");
        }
        Ok(())
    }
}

impl Operator for Svm {
    fn name(&self) -> &str {
        match self {
            Svm::Classifier(_) => "ai.onnx.ml.SVMClassifier",
            Svm::Regressor(_) => "ai.onnx.ml.SVMRegressor",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Svm::Classifier(c) => c.attrs(),
            Svm::Regressor(r) => (r.kernel.write())
                .with("n_supports", (r.count > 0).then_some(r.count as i64))
                .with("one_class", r.one_class.then_some(true)),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let rows = checked_rows(cx, 0, |columns| self.check_columns(columns))?;
        Ok(match self {
            Svm::Classifier(c) => vec![
                Fact::shaped(c.labels.dtype(), vec![rows.clone()]),
                Fact::shaped(DType::F32, vec![rows, c.width().into()]),
            ],
            Svm::Regressor(_) => vec![Fact::shaped(DType::F32, vec![rows, 1i64.into()])],
        })
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let (rows, columns) = rows_and_columns(x)?;
        self.check_columns(columns)?;
        let width = if let Svm::Classifier(c) = self { c.width() } else { 1 };
        let mut y = cx.zeros::<f32>(&[rows, width])?;
        let mut row = cx.zeros::<f64>(&[columns])?;
        let mut classes = Vec::new();
        for (i, out) in y.chunks_exact_mut(width).enumerate() {
            cx.cancel.poll()?;
            read_row(x, i * columns, &mut row)?;
            match self {
                Svm::Classifier(c) => classes.push(c.row(&mut row, out)),
                Svm::Regressor(r) => out[0] = r.score(&row) as f32,
            }
        }
        let y = Tensor::from_vec(&[rows, width], y)?;
        Ok(match self {
            Svm::Classifier(c) => vec![c.labels.of(&classes)?.into(), y.into()],
            Svm::Regressor(_) => vec![y.into()],
        })
    }
}
