//! Normalization of each channel by given statistics, or by those of the batch.
//!
//! ```text
//! y = BatchNormalization(x: f32[N,C,H,W], scale: f32[C], b: f32[C], mean: f32[C], var: f32[C])
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::numel;
use kiln_tensor::{Datum, Tensor};

use crate::eval::tensor;
use crate::ops::real::{Real, is_real, match_real, moments, narrow, widen};
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attrs,
    invalid,
};

attrs! {
    /// `(x - mean) / sqrt(var + epsilon) * scale + b` for each channel.
    ///
    /// When training, mean and variance are those of the batch, and a second and third output
    /// are the given ones, moved towards them.
    #[derive(Copy)]
    pub struct BatchNorm {
        /// What is added to the variance.
        epsilon: f32 = 1e-5,
        /// The share of the given statistics in the new ones.
        momentum: f32 = 0.9,
        /// Whether the statistics are those of the batch.
        training "training_mode": bool = false,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "BatchNormalization",
        since: 14,
        build: |b| Ok(BatchNorm::read(&mut b.attrs)?.into()),
    },
    Schema { name: "BatchNormalization", since: 1, build: old },
];

/// The forms that train where more than one output is asked for, by channel or by element.
fn old(b: &mut Build<'_>) -> Result<Built> {
    let by_channel = b.take("spatial")?.unwrap_or(true);
    let mut norm = BatchNorm::read(&mut b.attrs)?;
    norm.training = b.outputs > 1 && !b.take("is_test")?.unwrap_or(false);
    let x = b.input(0)?;
    if !by_channel {
        flatten(b)?;
    }
    let inputs = b.inputs.clone();
    let name = b.name.clone();
    let node = b.graph.add(&name, norm, &inputs)?;
    let mut outputs: Vec<_> = b.graph.outputs_of(node).collect();
    if norm.training {
        // The fourth and fifth output are the statistics of the batch alone.
        let batch = b.graph.add(&name, BatchNorm { momentum: 0.0, ..norm }, &inputs)?;
        outputs.extend([batch.out(1), batch.out(2)]);
    }
    if !by_channel {
        let shape = b.call("Shape", &[Some(x)], Attrs::default(), 1)?[0];
        let y = b.call("Reshape", &[Some(outputs[0]), Some(shape)], Attrs::default(), 1)?;
        outputs[0] = y[0];
    }
    Ok(Built::Values(outputs))
}

/// Makes every element of the batch a vector, so that each of its elements is a channel.
fn flatten(b: &mut Build<'_>) -> Result<()> {
    let rest = b.constant(Tensor::vector(vec![-1i64]));
    for i in 0..5 {
        let v = Some(b.input(i)?);
        let flat = match i {
            0 => b.call("Flatten", &[v], Attrs::default().with("axis", 1i64), 1)?,
            _ => b.call("Reshape", &[v, Some(rest)], Attrs::default(), 1)?,
        };
        b.set_input(i, Some(flat[0]));
    }
    Ok(())
}

impl BatchNorm {
    /// The normalized elements, and the statistics that they were normalized with.
    fn run<R: Real>(&self, shape: &[usize], x: &[R], of: [&[R]; 4]) -> Result<Normalized<R>> {
        let channels = shape.get(1).copied().unwrap_or(1);
        let plane = if shape.len() > 1 { numel(&shape[2..])? } else { numel(shape)? };
        let [scale, bias, mean, var] = of;
        if of.iter().any(|p| p.len() != channels) {
            invalid!("{channels} channels need as many scales, biases, means and variances");
        }
        let (mut mean, mut var) = (mean.to_vec(), var.to_vec());
        if self.training {
            for c in 0..channels {
                let planes = x.chunks_exact(plane.max(1)).skip(c).step_by(channels);
                let (m, v) = moments(planes.flatten().copied());
                (mean[c], var[c]) = (R::of(m), R::of(v));
            }
        }
        let mut y = x.to_vec();
        for (i, y) in y.chunks_exact_mut(plane.max(1)).enumerate() {
            let c = i % channels;
            let deviation = (var[c] + R::of(self.epsilon.into())).sqrt();
            y.iter_mut().for_each(|y| *y = (*y - mean[c]) / deviation * scale[c] + bias[c]);
        }
        Ok(Normalized { y, mean, var })
    }
}

struct Normalized<R> {
    y: Vec<R>,
    mean: Vec<R>,
    var: Vec<R>,
}

impl Operator for BatchNorm {
    fn name(&self) -> &str {
        "BatchNormalization"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn traits(&self) -> Traits {
        Traits::optional(2)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        5..=5
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        cx.same_dtype([1, 2])?;
        let statistic = cx.same_dtype([3, 4])?;
        cx.dtype_in(1, is_real)?;
        cx.dtype_in(3, is_real)?;
        let channels = match cx.shape(0)? {
            Some([]) => invalid!("x is a scalar, it has no channels"),
            Some([_]) => Some(Dim::from(1i64)),
            Some(x) => Some(x[1].clone()),
            None => None,
        };
        for i in 1..5 {
            let known = (cx.shape(i)?, channels.as_ref().and_then(Dim::as_const));
            match known {
                (Some([n]), Some(c)) if n.as_const().is_some_and(|n| n != c) => {
                    invalid!("input {i} has {n} elements for {c} channels")
                }
                (Some(p), _) if p.len() != 1 => invalid!("input {i} has rank {}, not 1", p.len()),
                _ => {}
            }
        }
        let mut facts = vec![Fact::tensor(dtype, cx.shape(0)?.map(<[_]>::to_vec))];
        if self.training {
            let channels = channels.unwrap_or_else(|| cx.fresh());
            facts.extend([(); 2].map(|()| Fact::shaped(statistic, vec![channels.clone()])));
        }
        Ok(facts)
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let t = |i: usize| tensor(inputs, i);
        match_real!(x.dtype(), R => {
            let (mean, var) = (widen::<R>(t(3)?)?, widen::<R>(t(4)?)?);
            let of = [&*widen::<R>(t(1)?)?, &widen::<R>(t(2)?)?, &mean, &var];
            let new = self.run(x.shape(), &widen::<R>(x)?, of)?;
            let mut out: Vec<Datum> = vec![narrow(x.dtype(), x.shape(), new.y)?.into()];
            if self.training {
                let keep = R::of(self.momentum.into());
                for (old, new) in [(&mean, new.mean), (&var, new.var)] {
                    let mix = |(&old, &new): (&R, &R)| old * keep + new * (R::of(1.0) - keep);
                    let moved: Vec<R> = old.iter().zip(&new).map(mix).collect();
                    out.push(narrow_any(t(3)?.dtype(), moved)?.into());
                }
            }
            Ok(out)
        }, else invalid!("BatchNormalization takes no {}", x.dtype()))
    }
}

/// A vector in any float type, whatever it was calculated in.
fn narrow_any<R: Real>(dtype: kiln_tensor::DType, v: Vec<R>) -> Result<Tensor> {
    match_real!(dtype, S => {
        narrow(dtype, &[v.len()], v.iter().map(|x| S::of(x.to_f64())).collect())
    }, else invalid!("statistics are not stored as {dtype}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};
    use crate::schema::{NodeSpec, add};
    use crate::{Graph, Type};
    use kiln_tensor::DType;

    fn inputs() -> Vec<Tensor> {
        let v = |a: f32, b: f32| t(&[2], &[a, b]);
        let x = t(&[1, 2, 2], &[1.0, 3.0, 10.0, 20.0]);
        vec![x, v(1.0, 2.0), v(0.5, 0.0), v(1.0, 10.0), v(4.0, 25.0)]
    }

    const ARGS: &str = "(x: f32[1,2,2], s: f32[2], b: f32[2], m: f32[2], v: f32[2])";

    #[test]
    fn given_statistics() {
        let text = format!("y = BatchNormalization{ARGS} {{epsilon=0.0}}\nreturn y");
        let y = run(&text, &inputs()).expect("runs");
        let y = y[0].as_tensor().expect("tensor");
        assert_eq!(y.as_slice::<f32>().expect("f32"), [0.5, 1.5, 0.0, 4.0]);
    }

    #[test]
    fn statistics_of_the_batch() {
        let text = format!(
            "y, n, w = BatchNormalization{ARGS} {{epsilon=0.0, momentum=0.5, training_mode=1}}\n\
             return y, n, w"
        );
        let out = run(&text, &inputs()).expect("runs");
        let f = |i: usize| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("f32");
        assert_close(&f(0), &[-0.5, 1.5, -2.0, 2.0], 1e-6);
        assert_close(&f(1), &[1.5, 12.5], 1e-6);
        assert_close(&f(2), &[2.5, 25.0], 1e-6);
        assert_eq!(types(&text).expect("types"), ["f32[1,2,2]", "f32[2]", "f32[2]"]);
    }

    #[test]
    fn old_forms() {
        let mut g = Graph::new();
        let vector = |g: &mut Graph, name: &str, n: usize| {
            Some(g.input(name, Type::tensor(DType::F32, Some(vec![n.into()]))))
        };
        let x = g.input("x", Type::tensor(DType::F32, Some(vec![2usize.into(), 2usize.into()])));
        let mut inputs = vec![Some(x)];
        inputs.extend(["s", "b", "m", "v"].map(|n| vector(&mut g, n, 2)));
        let attrs = Attrs::default().with("spatial", false);
        let spec = |op, outputs, attrs| NodeSpec {
            op,
            opset: 7,
            name: "y",
            inputs: inputs.clone(),
            attrs,
            outputs,
        };
        let one = add(&mut g, spec("BatchNormalization", 1, attrs)).expect("by element");
        assert_eq!(g.ty(one[0]).as_tensor().expect("tensor").shape.as_ref().map(Vec::len), Some(2));
        let five = add(&mut g, spec("BatchNormalization", 5, Attrs::default()));
        assert_eq!(five.expect("trains").len(), 5);
    }
}
