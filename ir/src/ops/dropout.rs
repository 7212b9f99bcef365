//! Dropout: the identity, unless the model trains.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Scalar, Tensor, match_scalar};

use super::mersenne::Mersenne;
use crate::eval::{optional, tensor};
use crate::{Attrs, Build, Built, Context, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// `y, mask = Dropout(x, ratio, training)`: when training, each element is 0 with probability
/// `ratio`, and what is left is scaled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// Where random numbers begin; the run's seed where there is none.
    pub seed: Option<i64>,
    /// Whether the third input may ask for training; else this is the identity and a mask of
    /// ones.
    pub may_train: bool,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Dropout",
        since: 12,
        build: |b| {
            let seed = b.take("seed")?;
            let known = b.constant_input(2).map(|t| t.to_scalar::<bool>()).transpose()?;
            let given = b.inputs.get(2).is_some_and(Option::is_some);
            Ok(Dropout { seed, may_train: given && known != Some(false) }.into())
        },
    },
    Schema {
        name: "Dropout",
        since: 10,
        build: |_| Ok(Dropout { seed: None, may_train: false }.into()),
    },
    Schema { name: "Dropout", since: 1, build: old },
];

/// The forms whose mask has the type of the data.
fn old(b: &mut Build<'_>) -> Result<Built> {
    let x = b.input(0)?;
    let node = b.nodes(Dropout { seed: None, may_train: false }, &[x])?;
    let mut outputs = vec![node.first()];
    if b.outputs > 1 {
        let attrs = Attrs::default().with("to", b.dtype(0)?);
        outputs.extend(b.call("Cast", &[Some(node.out(1))], attrs, 1)?);
    }
    Ok(Built::Values(outputs))
}

impl Operator for Dropout {
    fn name(&self) -> &str {
        "Dropout"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default().with("seed", self.seed)
    }

    fn traits(&self) -> Traits {
        let traits = if self.may_train { Traits::RANDOM } else { Traits::ELEMENTWISE };
        Traits { optional_outputs: 1, ..traits }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, DType::is_float)?;
        let shape = cx.shape(0)?.map(<[_]>::to_vec);
        Ok(vec![Fact::tensor(dtype, shape.clone()), Fact::tensor(DType::Bool, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let ratio = optional(inputs, 1)?.map(|t| t.to_scalar::<f64>()).transpose()?.unwrap_or(0.5);
        let train = optional(inputs, 2)?.map(|t| t.to_scalar::<bool>()).transpose()?;
        if !(0.0..1.0).contains(&ratio) {
            invalid!("the ratio is {ratio}, not in 0 to 1");
        }
        cx.numel(DType::Bool, x.shape())?;
        if !(self.may_train && train == Some(true)) || ratio == 0.0 {
            let mask = Tensor::from_vec(x.shape(), vec![true; x.len()])?;
            return Ok(vec![x.clone().into(), mask.into()]);
        }
        let mut random = Mersenne::new(self.seed.map_or(cx.seed, |s| s as u64));
        let mask: Vec<bool> = (0..x.len()).map(|_| random.uniform() >= ratio).collect();
        let y = match_scalar!(x.dtype(), T => {
            let kept = x.as_slice::<T>()?.iter().zip(&mask);
            let scaled = kept.map(|(x, &keep)| {
                T::from_f64(if keep { x.to_f64() / (1.0 - ratio) } else { 0.0 })
            });
            Tensor::from_vec(x.shape(), scaled.collect())?
        }, else invalid!("Dropout takes no {}", x.dtype()));
        Ok(vec![y.into(), Tensor::from_vec(x.shape(), mask)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    fn ones(n: usize) -> Tensor {
        Tensor::vector(vec![1f32; n])
    }

    #[test]
    fn the_identity_unless_it_trains() {
        let out = run("y, m = Dropout(x: f32[3])\nreturn y, m", &[ones(3)]).expect("runs");
        assert_eq!(out[0].as_tensor().expect("tensor"), &ones(3));
        assert_eq!(out[1].as_tensor().expect("tensor"), &Tensor::vector(vec![true; 3]));
    }

    #[test]
    fn training_drops_a_share_and_scales_the_rest() {
        let text = "r = f32[]{0.75}\nt = bool[]{1}\n\
                    y, m = Dropout(x: f32[4000], r, t) {seed=7}\nreturn y, m";
        let out = run(text, &[ones(4000)]).expect("runs");
        let y = out[0].as_tensor().expect("tensor").to_vec::<f32>().expect("f32");
        let kept = y.iter().filter(|&&y| y == 4.0).count();
        assert!((900..1100).contains(&kept), "{kept}");
        assert_eq!(y.iter().filter(|&&y| y == 0.0).count(), 4000 - kept);
        assert_eq!(run(text, &[ones(4000)]).expect("runs")[0], out[0]);
    }
}
