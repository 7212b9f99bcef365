//! Normalization of groups of channels of each element of the batch; of each channel alone
//! for `InstanceNormalization`.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum};

use crate::eval::tensor;
use crate::ops::real::{Real, is_real, match_real, moments, narrow, widen};
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// `(x - mean) / sqrt(variance + epsilon) * scale + b`, with the statistics of each group.
///
/// Scale and bias have one element for each channel or, as once was the rule, for each group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// How many groups the channels fall into; `None` is as many as there are channels.
    pub groups: Option<i64>,
    /// What is added to the variance.
    pub epsilon: f32,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "InstanceNormalization",
        since: 1,
        build: |b| {
            let epsilon = b.take("epsilon")?.unwrap_or(EPSILON);
            Ok(GroupNorm { groups: None, epsilon }.into())
        },
    },
    Schema {
        name: "GroupNormalization",
        since: 18,
        build: |b| {
            // Halves are calculated in f32 whatever the type to stash says.
            b.take::<DType>("stash_type")?;
            let epsilon = b.take("epsilon")?.unwrap_or(EPSILON);
            Ok(GroupNorm { groups: Some(b.require("num_groups")?), epsilon }.into())
        },
    },
];

const EPSILON: f32 = 1e-5;

impl GroupNorm {
    /// The number of groups; an error where the channels do not fall into them.
    fn groups(&self, channels: usize) -> Result<usize> {
        match self.groups.map(usize::try_from) {
            None => Ok(channels),
            Some(Ok(g)) if g > 0 && channels.is_multiple_of(g) => Ok(g),
            _ => invalid!("{channels} channels do not fall into {:?} groups", self.groups),
        }
    }

    fn run<R: Real>(&self, shape: &[usize], x: &[R], scale: &[R], bias: &[R]) -> Result<Vec<R>> {
        let (channels, mut y) = (shape[1], x.to_vec());
        let groups = self.groups(channels)?;
        if scale.len() != bias.len() || ![channels, groups].contains(&scale.len()) {
            invalid!("{channels} channels need as many scales and biases");
        }
        if y.is_empty() {
            return Ok(y);
        }
        let size = y.len() / (shape[0] * groups);
        let plane = y.len() / (shape[0] * channels);
        for (i, y) in y.chunks_exact_mut(size).enumerate() {
            let (mean, variance) = moments(y.iter().copied());
            let (mean, epsilon) = (R::of(mean), f64::from(self.epsilon));
            let inverse = R::of(1.0 / (variance + epsilon).sqrt());
            let first = i % groups * (channels / groups);
            for (k, y) in y.chunks_exact_mut(plane).enumerate() {
                let at = if scale.len() == channels { first + k } else { i % groups };
                y.iter_mut().for_each(|y| *y = (*y - mean) * inverse * scale[at] + bias[at]);
            }
        }
        Ok(y)
    }
}

impl Operator for GroupNorm {
    fn name(&self) -> &str {
        if self.groups.is_some() { "GroupNormalization" } else { "InstanceNormalization" }
    }

    fn attrs(&self) -> Attrs {
        let epsilon = (self.epsilon.to_bits() != EPSILON.to_bits()).then_some(self.epsilon);
        Attrs::default().with("num_groups", self.groups).with("epsilon", epsilon)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..3)?;
        let shape = cx.shape(0)?;
        if let Some(x) = shape {
            if x.len() < 2 {
                invalid!("x has rank {}, 2 at least", x.len());
            }
            if let Some(c) = x[1].as_len() {
                let groups = self.groups(c)?;
                for i in 1..3 {
                    match cx.shape(i)? {
                        Some([n]) if n.as_len().is_some_and(|n| n != c && n != groups) => {
                            invalid!("input {i} has {n} elements for {c} channels")
                        }
                        Some([_]) | None => {}
                        Some(p) => invalid!("input {i} has rank {}, not 1", p.len()),
                    }
                }
            }
        }
        Ok(vec![Fact::tensor(dtype, shape.map(<[_]>::to_vec))])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if x.rank() < 2 {
            invalid!("x has rank {}, 2 at least", x.rank());
        }
        let y = match_real!(x.dtype(), R => {
            let (scale, bias) = (widen::<R>(tensor(inputs, 1)?)?, widen::<R>(tensor(inputs, 2)?)?);
            narrow(x.dtype(), x.shape(), self.run(x.shape(), &widen::<R>(x)?, &scale, &bias)?)?
        }, else invalid!("{} takes no {}", self.name(), x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{assert_close, run1, t, types};

    #[test]
    fn channels_and_groups() {
        let x = t(&[1, 2, 2], &[1.0, 3.0, 5.0, 7.0]);
        let (s, b) = (t(&[2], &[1.0, 2.0]), t(&[2], &[0.0, 1.0]));
        let args = "(x: f32[1,2,2], s: f32[2], b: f32[2])";
        let text = format!("y = InstanceNormalization{args} {{epsilon=0.0}}\nreturn y");
        let y = run1(&text, &[x.clone(), s.clone(), b.clone()]).expect("runs");
        assert_close(y.as_slice().expect("f32"), &[-1.0, 1.0, -1.0, 3.0], 1e-6);
        let text = format!("y = GroupNormalization{args} {{num_groups=1, epsilon=4.0}}\nreturn y");
        let y = run1(&text, &[x.clone(), s, b]).expect("runs");
        assert_close(y.as_slice().expect("f32"), &[-1.0, -1.0 / 3.0, 5.0 / 3.0, 3.0], 1e-6);
        let one = "y = GroupNormalization(x: f32[1,2,2], s: f32[1], b: f32[1]) \
                   {num_groups=1, epsilon=4.0}\nreturn y";
        let y = run1(one, &[x, t(&[1], &[3.0]), t(&[1], &[0.0])]).expect("runs");
        assert_close(y.as_slice().expect("f32"), &[-3.0, -1.0, 1.0, 3.0], 1e-6);
    }

    #[test]
    fn errors() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        assert!(ty("GroupNormalization(x: f32[N,4,H], s: f32[4], b: f32[4])").is_err());
        let three = "GroupNormalization(x: f32[N,4,H], s: f32[4], b: f32[4]) {num_groups=3}";
        assert!(ty(three).is_err());
        assert!(ty("InstanceNormalization(x: f32[N,4,H], s: f32[3], b: f32[4])").is_err());
    }
}
