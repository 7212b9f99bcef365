//! Losses of classifiers: the negated log likelihood of the classes that are right.
//!
//! ```text
//! l = NegativeLogLikelihoodLoss(p: f32[N,C,D], target: i64[N,D], weight: f32[C])     l: f32[]
//! l, p = SoftmaxCrossEntropyLoss(x: f32[N,C,D], target: i64[N,D], weight: f32[C])    p: f32[N,C,D]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::numel;
use kiln_tensor::{DType, Datum};

use crate::eval::{optional, tensor};
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attr_enum,
    invalid,
};

attr_enum! {
    /// What is made of the losses of all targets.
    pub enum Reduction {
        /// Each is a result.
        None = "none",
        /// Their sum.
        Sum = "sum",
        /// Their sum over that of the weights.
        Mean = "mean",
    }
}

/// What is given for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// The logarithm of its probability.
    LogLikelihood,
    /// A score; the logarithms of probabilities are a second output.
    Score,
}

/// A loss; inputs `x target weight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// What is given for each class.
    pub kind: LossKind,
    /// What is made of all losses.
    pub reduction: Reduction,
    /// The target whose loss and weight are 0.
    pub ignore_index: Option<i64>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "NegativeLogLikelihoodLoss",
        since: 12,
        build: |b| build(b, LossKind::LogLikelihood),
    },
    Schema { name: "SoftmaxCrossEntropyLoss", since: 12, build: |b| build(b, LossKind::Score) },
];

fn build(b: &mut Build<'_>, kind: LossKind) -> Result<Built> {
    let reduction = b.take("reduction")?.unwrap_or(Reduction::Mean);
    Ok(Loss { kind, reduction, ignore_index: b.take("ignore_index")? }.into())
}

/// The logarithms of the probabilities that scores stand for; rows of classes, `inner` apart.
fn log_softmax<R: Real>(x: &[R], classes: usize, inner: usize) -> Vec<R> {
    let mut y = x.to_vec();
    for block in y.chunks_exact_mut((classes * inner).max(1)) {
        for i in 0..inner {
            let row = || (0..classes).map(|c| c * inner + i);
            let most = row().map(|k| block[k]).fold(R::LEAST, |a, b| if b > a { b } else { a });
            let sum = row().map(|k| (block[k] - most).exp().to_f64()).sum::<f64>();
            let shift = most + R::of(sum.ln());
            row().for_each(|k| block[k] = block[k] - shift);
        }
    }
    y
}

impl Loss {
    /// The loss of every target, and the sum of their weights.
    fn each<R: Real>(
        &self,
        cx: &Context,
        (x, shape): (&[R], &[usize]),
        target: &[i64],
        weight: Option<&[R]>,
    ) -> Result<(Vec<R>, f64)> {
        let (classes, inner) = (shape[1], numel(&shape[2..])?);
        let mut ticks = Ticks::new(cx);
        let mut losses = vec![R::ZERO; target.len()];
        let mut total = 0.0;
        for (i, (loss, &t)) in losses.iter_mut().zip(target).enumerate() {
            ticks.add(1)?;
            if Some(t) == self.ignore_index {
                continue;
            }
            let Some(class) = usize::try_from(t).ok().filter(|&c| c < classes) else {
                invalid!("a target is {t}, there are {classes} classes");
            };
            let weight = weight.map_or(R::ONE, |w| w[class]);
            *loss = -x[(i / inner * classes + class) * inner + i % inner] * weight;
            total += weight.to_f64();
        }
        Ok((losses, total))
    }

    fn run<R: Real>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, target) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let weight = optional(inputs, 2)?.map(widen::<R>).transpose()?;
        let mut own = x.shape().to_vec();
        if own.len() < 2 {
            invalid!("x has rank {}, it needs classes on axis 1", own.len());
        }
        let (classes, inner) = (own.remove(1), numel(&x.shape()[2..])?);
        if own != target.shape() || weight.as_ref().is_some_and(|w| w.len() != classes) {
            invalid!(
                "x of shape {:?} needs targets of shape {own:?} and {classes} weights",
                x.shape()
            );
        }
        let mut p = widen::<R>(x)?;
        if self.kind == LossKind::Score {
            p = log_softmax(&p, classes, inner).into();
        }
        let target = target.to_vec::<i64>()?;
        let (losses, total) = self.each(cx, (&p, x.shape()), &target, weight.as_deref())?;
        let sum = losses.iter().map(|l| l.to_f64()).sum::<f64>();
        let dtype = x.dtype();
        let loss = match self.reduction {
            Reduction::None => narrow(dtype, &own, losses)?,
            Reduction::Sum => narrow(dtype, &[], vec![R::of(sum)])?,
            Reduction::Mean => narrow(dtype, &[], vec![R::of(sum / total)])?,
        };
        let mut out: Vec<Datum> = vec![loss.into()];
        if self.kind == LossKind::Score {
            out.push(narrow(dtype, x.shape(), p.into_owned())?.into());
        }
        Ok(out)
    }
}

/// Checks that a length is what another one says.
fn expect(what: &str, got: &Dim, want: &Dim) -> Result<()> {
    match (got.as_const(), want.as_const()) {
        (Some(g), Some(w)) if g != w => invalid!("{what} has {g} where x has {w}"),
        _ => Ok(()),
    }
}

impl Operator for Loss {
    fn name(&self) -> &str {
        match self.kind {
            LossKind::LogLikelihood => "NegativeLogLikelihoodLoss",
            LossKind::Score => "SoftmaxCrossEntropyLoss",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
            .with("reduction", Some(self.reduction).filter(|r| *r != Reduction::Mean))
            .with("ignore_index", self.ignore_index)
    }

    fn traits(&self) -> Traits {
        match self.kind {
            LossKind::Score => Traits::optional(1),
            LossKind::LogLikelihood => Traits::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype([0, 2])?;
        cx.dtype_in(1, |d| matches!(d, DType::I32 | DType::I64))?;
        let x = cx.shape(0)?;
        let mut losses = cx.shape(1)?.map(<[_]>::to_vec);
        if let Some(x) = x {
            let [n, classes, rest @ ..] = x else {
                invalid!("x has rank {}, it needs classes on axis 1", x.len());
            };
            let own: Vec<Dim> = [n].into_iter().chain(rest).cloned().collect();
            if let Some(target) = losses.filter(|t| t.len() != own.len()) {
                invalid!("x has rank {}, the target {}", x.len(), target.len());
            }
            for (got, want) in cx.shape(1)?.into_iter().flatten().zip(&own) {
                expect("the target", got, want)?;
            }
            if cx.has(2)
                && let Some([w]) = cx.shape(2)?
            {
                expect("the weight", w, classes)?;
            }
            losses = Some(own);
        }
        let losses = if self.reduction == Reduction::None { losses } else { Some(vec![]) };
        let mut facts = vec![Fact::tensor(dtype, losses)];
        if self.kind == LossKind::Score {
            facts.push(Fact::tensor(dtype, x.map(<[_]>::to_vec)));
        }
        Ok(facts)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        match_real!(dtype, R => self.run::<R>(cx, inputs),
            else invalid!("{} takes no {dtype}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, run1, types};
    use kiln_tensor::Tensor;

    /// The example of the specification: two samples of three classes at two places.
    fn inputs(target: [i64; 4]) -> Vec<Tensor> {
        let x = vec![1f32, 2.0, 2.0, 2.0, 3.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 2.0];
        vec![
            Tensor::from_vec(&[2, 3, 2], x).expect("2x3x2"),
            Tensor::from_vec(&[2, 2], target.to_vec()).expect("2x2"),
            Tensor::vector(vec![0.25f32, 0.5, 0.125]),
        ]
    }

    fn loss(target: [i64; 4], weighted: bool, attrs: &str) -> Result<Vec<f32>> {
        let weight = if weighted { ", w: f32[3]" } else { "" };
        let text = format!(
            "l = NegativeLogLikelihoodLoss(x: f32[2,3,2], t: i64[2,2]{weight}) {{{attrs}}}\n\
             return l"
        );
        let inputs = &inputs(target)[..if weighted { 3 } else { 2 }];
        Ok(run1(&text, inputs)?.to_vec()?)
    }

    #[test]
    fn likelihoods_by_hand() {
        let target = [2, 1, 0, 2];
        let none = "reduction=\"none\"";
        assert_eq!(loss(target, false, none).expect("runs"), [-3.0, -2.0, 0.0, -2.0]);
        assert_eq!(loss(target, true, none).expect("runs"), [-0.375, -1.0, 0.0, -0.25]);
        assert_eq!(loss(target, true, "reduction=\"sum\"").expect("runs"), [-1.625]);
        assert_eq!(loss(target, true, "").expect("runs"), [-1.625]);
        assert_eq!(loss(target, false, "").expect("runs"), [-1.75]);
        let ignoring = loss([2, -9, 0, 2], false, "ignore_index=-9").expect("runs");
        assert_close(&ignoring, &[-5.0 / 3.0], 1e-6);
        assert!(loss([2, 3, 0, 2], false, "").is_err());
    }

    #[test]
    fn scores_become_probabilities() {
        let text = "l, p = SoftmaxCrossEntropyLoss(x: f32[1,2], t: i64[1])\nreturn l, p";
        let x = Tensor::from_vec(&[1, 2], vec![100f32, 100.0 + 3f32.ln()]).expect("1x2");
        let out = run(text, &[x, Tensor::vector(vec![1i64])]).expect("runs");
        let f = |i: usize| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("floats");
        assert_close(&f(0), &[(4f32 / 3.0).ln()], 1e-5);
        assert_close(&f(1), &[0.25f32.ln(), 0.75f32.ln()], 1e-5);
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("l, p = SoftmaxCrossEntropyLoss({op}\nreturn l, p"));
        let got = ty("x: f16[N,C,D], t: i32[N,D]) {reduction=\"none\"}").expect("types");
        assert_eq!(got, ["f16[N,D]", "f16[N,C,D]"]);
        assert_eq!(ty("x: f32[N,C], t: i64[N])").expect("types"), ["f32[]", "f32[N,C]"]);
        assert!(ty("x: f32[N,C,D], t: i64[N])").is_err());
        assert!(ty("x: f32[N,3], t: i64[N], w: f32[2])").is_err());
        assert!(ty("x: f32[N,3], t: f32[N])").is_err());
    }
}
