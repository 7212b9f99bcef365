//! Normalization of the trailing axes: by mean and deviation, or by the root mean square.
//!
//! ```text
//! y, mean, inv = LayerNormalization(x: f32[N,D], scale: f32[D], b: f32[D])   mean: f32[N,1]
//! y = RMSNormalization(x: f32[N,D], scale: f32[D])
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::{axis, numel};
use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Real, is_real, match_real, moments, narrow, widen};
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attrs, invalid};

attrs! {
    /// The attributes of a normalization of trailing axes.
    #[derive(Copy)]
    pub struct Trailing {
        /// The first axis that is normalized.
        axis: i64 = -1,
        /// What is added to the variance or to the mean square.
        epsilon: f32 = 1e-5,
        /// The type of the statistics that are outputs.
        stash_type: DType = DType::F32,
    }
}

/// A normalization of trailing axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerNorm {
    /// By mean and deviation; outputs the mean and the inverse deviation, too.
    Layer(Trailing),
    /// By the root mean square.
    Rms(Trailing),
    /// As `Rms`; outputs the inverse root mean square, too.
    Simplified(Trailing),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "LayerNormalization",
        since: 1,
        build: |b| Ok(LayerNorm::Layer(Trailing::read(&mut b.attrs)?).into()),
    },
    Schema {
        name: "RMSNormalization",
        since: 23,
        build: |b| Ok(LayerNorm::Rms(Trailing::read(&mut b.attrs)?).into()),
    },
    Schema {
        name: "SimplifiedLayerNormalization",
        since: 1,
        build: |b| {
            let t = Trailing::read(&mut b.attrs)?;
            Ok(if b.outputs > 1 { LayerNorm::Simplified(t) } else { LayerNorm::Rms(t) }.into())
        },
    },
];

impl LayerNorm {
    /// The attributes.
    pub fn trailing(&self) -> &Trailing {
        match self {
            LayerNorm::Layer(t) | LayerNorm::Rms(t) | LayerNorm::Simplified(t) => t,
        }
    }

    /// Whether the mean is taken away.
    fn is_centered(&self) -> bool {
        matches!(self, LayerNorm::Layer(_))
    }

    fn run<R: Real>(
        &self,
        x: &[R],
        (rows, n): (usize, usize),
        scale: &[R],
        bias: &[R],
    ) -> Statistics<R> {
        let mut out = Statistics { y: x.to_vec(), mean: vec![], inverse: vec![] };
        let epsilon = f64::from(self.trailing().epsilon);
        for (i, y) in out.y.chunks_exact_mut(n.max(1)).enumerate() {
            let (mean, inverse) = match self.is_centered() {
                true => {
                    let (mean, variance) = moments(y.iter().copied());
                    (mean, 1.0 / (variance + epsilon).sqrt())
                }
                false => {
                    let square = y.iter().map(|x| x.to_f64().powi(2)).sum::<f64>();
                    (0.0, 1.0 / (square / n as f64 + epsilon).sqrt())
                }
            };
            let (mean, inverse) = (R::of(mean), R::of(inverse));
            for (k, y) in y.iter_mut().enumerate() {
                let at = i * n + k;
                let scaled = (*y - mean) * inverse * scale[at % scale.len()];
                *y = if bias.is_empty() { scaled } else { scaled + bias[at % bias.len()] };
            }
            out.mean.push(mean);
            out.inverse.push(inverse);
        }
        // Rows of nothing have statistics, too.
        out.mean.resize(rows, R::ZERO);
        out.inverse.resize(rows, R::ZERO);
        out
    }
}

struct Statistics<R> {
    y: Vec<R>,
    mean: Vec<R>,
    inverse: Vec<R>,
}

/// A scale or a bias, repeated as often as it must be to be read in a circle.
fn repeated(p: &Tensor, shape: &[usize], first: usize) -> Result<Tensor> {
    let normalized = &shape[first..];
    Ok(if p.rank() <= normalized.len() {
        p.broadcast_to(normalized)?
    } else {
        p.broadcast_to(shape)?
    })
}

/// Checks that a scale or a bias broadcasts to `x`.
fn fits(name: &str, p: &[Dim], x: &[Dim]) -> Result<()> {
    let clash =
        p.iter().rev().zip(x.iter().rev()).any(|(p, x)| match (p.as_const(), x.as_const()) {
            (Some(p), Some(x)) => p != 1 && p != x,
            _ => false,
        });
    if clash || p.len() > x.len() {
        invalid!("{name} does not broadcast to x");
    }
    Ok(())
}

impl Operator for LayerNorm {
    fn name(&self) -> &str {
        match self {
            LayerNorm::Layer(_) => "LayerNormalization",
            LayerNorm::Rms(_) => "RMSNormalization",
            LayerNorm::Simplified(_) => "SimplifiedLayerNormalization",
        }
    }

    fn attrs(&self) -> Attrs {
        self.trailing().write()
    }

    fn traits(&self) -> Traits {
        match self {
            LayerNorm::Rms(_) => Traits::default(),
            _ => Traits::optional(2),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        if self.is_centered() { 2..=3 } else { 2..=2 }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let scale = cx.dtype_in(1, is_real)?;
        let dtype = if self.is_centered() { cx.same_dtype(0..3)? } else { scale };
        let stash = self.trailing().stash_type;
        if !is_real(stash) {
            invalid!("stash_type is {stash}, no float type");
        }
        let x = cx.shape(0)?;
        let mut shapes = (None, None);
        if let Some(x) = x {
            let first = axis(self.trailing().axis, x.len())?;
            for (i, name) in [(1, "the scale"), (2, "the bias")] {
                if cx.has(i)
                    && let Some(p) = cx.shape(i)?
                {
                    fits(name, p, x)?;
                }
            }
            let mut reduced = x.to_vec();
            reduced[first..].fill(1i64.into());
            shapes = (Some(x.to_vec()), Some(reduced));
        }
        let statistic = Fact::tensor(stash, shapes.1);
        let y = Fact::tensor(dtype, shapes.0);
        Ok(match self {
            LayerNorm::Layer(_) => vec![y, statistic.clone(), statistic],
            LayerNorm::Rms(_) => vec![y],
            LayerNorm::Simplified(_) => vec![y, statistic],
        })
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, scale) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let first = axis(self.trailing().axis, x.rank())?;
        let n = numel(&x.shape()[first..])?;
        let mut reduced = x.shape().to_vec();
        reduced[first..].fill(1);
        let dtype = scale.dtype();
        let scale = repeated(scale, x.shape(), first)?;
        let bias = match optional(inputs, 2)? {
            Some(b) => repeated(b, x.shape(), first)?,
            None => Tensor::zeros(dtype, &[0])?,
        };
        // A wide type on either side makes the calculation wide.
        let wide = if dtype == DType::F64 { dtype } else { x.dtype() };
        match_real!(wide, R => {
            let (scale, bias) = (widen::<R>(&scale)?, widen::<R>(&bias)?);
            let out = self.run(&widen::<R>(x)?, (numel(&reduced)?, n), &scale, &bias);
            let y = stash(dtype, x.shape(), out.y)?.into();
            let statistic = |v| stash(self.trailing().stash_type, &reduced, v).map(Datum::from);
            Ok(match self {
                LayerNorm::Layer(_) => vec![y, statistic(out.mean)?, statistic(out.inverse)?],
                LayerNorm::Rms(_) => vec![y],
                LayerNorm::Simplified(_) => vec![y, statistic(out.inverse)?],
            })
        }, else invalid!("{} takes no {wide}", self.name()))
    }
}

/// A tensor in any float type, whatever it was calculated in.
fn stash<R: Real>(dtype: DType, shape: &[usize], v: Vec<R>) -> Result<Tensor> {
    match_real!(dtype, S => {
        narrow(dtype, shape, v.iter().map(|x| S::of(x.to_f64())).collect())
    }, else invalid!("{dtype} is no type to store floats in"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, run1, t, types};

    #[test]
    fn rows_are_normalized() {
        let text = "y, m, i = LayerNormalization(x: f32[2,2], s: f32[2], b: f32[2]) \
                    {epsilon=0.0}\nreturn y, m, i";
        let x = t(&[2, 2], &[1.0, 3.0, 0.0, 8.0]);
        let out = run(text, &[x, t(&[2], &[1.0, 2.0]), t(&[2], &[0.0, 0.5])]).expect("runs");
        let f = |i: usize| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("f32");
        assert_close(&f(0), &[-1.0, 2.5, -1.0, 2.5], 1e-6);
        assert_close(&f(1), &[2.0, 4.0], 1e-6);
        assert_close(&f(2), &[1.0, 0.25], 1e-6);
        assert_eq!(types(text).expect("types"), ["f32[2,2]", "f32[2,1]", "f32[2,1]"]);
    }

    #[test]
    fn rows_of_nothing_have_statistics() {
        let text = "y, m, i = LayerNormalization(x: f32[3,0], s: f32[0])\nreturn y, m, i";
        let out = run(text, &[t(&[3, 0], &[]), t(&[0], &[])]).expect("runs");
        let shape = |i: usize| out[i].as_tensor().expect("tensor").shape().to_vec();
        assert_eq!((shape(0), shape(1), shape(2)), (vec![3, 0], vec![3, 1], vec![3, 1]));
    }

    #[test]
    fn root_mean_square() {
        let text = "y = RMSNormalization(x: f16[1,2], s: f32[2]) {epsilon=0.0}\nreturn y";
        let h = |x: f32| kiln_tensor::f16::from_f32(x);
        let x = Tensor::from_vec(&[1, 2], vec![h(1.0), h(7.0)]).expect("1x2");
        let y = run1(text, &[x, t(&[2], &[1.0, 10.0])]).expect("runs");
        assert_close(y.as_slice::<f32>().expect("f32"), &[0.2, 14.0], 1e-6);
        let two = "y, i = SimplifiedLayerNormalization(x: f32[1,2], s: f32[2])\nreturn y, i";
        assert_eq!(types(two).expect("types"), ["f32[1,2]", "f32[1,1]"]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        assert!(ty("LayerNormalization(x: f32[2,3], s: f32[2])").is_err());
        assert!(ty("LayerNormalization(x: f32[2,3], s: f32[3]) {axis=2}").is_err());
        assert!(ty("LayerNormalization(x: f32[], s: f32[1])").is_err());
        assert!(ty("LayerNormalization(x: f32[B,S,D], s: f32[B,1,D])").is_ok());
    }
}
