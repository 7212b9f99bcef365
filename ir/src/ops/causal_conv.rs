//! `CausalConvWithState`: each channel convolved with its own kernel over what came before.
//!
//! ```text
//! y, state = CausalConvWithState(x: f32[B,C,L], w: f32[C,1,k], bias: f32[C], past: f32[B,C,k-1])
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{Datum, Number, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Real, Ticks, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
};

attrs! {
    /// A causal convolution along the last axis; the second output is what comes before the next.
    #[derive(Copy)]
    pub struct CausalConv {
        /// What becomes of the sums.
        activation: ConvActivation = ConvActivation::None,
    }
}

attr_enum! {
    /// What becomes of the sums.
    pub enum ConvActivation {
        /// Nothing.
        None = "none",
        /// `x / (1 + exp(-x))`.
        Silu = "silu",
        /// The same.
        Swish = "swish",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "CausalConvWithState",
    since: 27,
    build: |b| Ok(CausalConv::read(&mut b.attrs)?.into()),
}];

/// The inputs, and their lengths.
struct Given<'a> {
    x: &'a Tensor,
    w: &'a Tensor,
    bias: Option<&'a Tensor>,
    past: Option<&'a Tensor>,
    batch: usize,
    channels: usize,
    length: usize,
    kernel: usize,
}

impl<'a> Given<'a> {
    fn new(inputs: &[Option<&'a Datum>]) -> Result<Self> {
        let (x, w) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let (bias, past) = (optional(inputs, 2)?, optional(inputs, 3)?);
        let ([batch, channels, length], [c, 1, kernel]) = (x.shape(), w.shape()) else {
            invalid!("expected [B,C,L] and [C,1,k], got {:?} and {:?}", x.shape(), w.shape());
        };
        let (batch, channels, length, kernel) = (*batch, *channels, *length, *kernel);
        let state = [batch, channels, kernel.wrapping_sub(1)];
        if *c != channels
            || kernel == 0
            || bias.is_some_and(|b| b.shape() != [channels])
            || past.is_some_and(|p| p.shape() != state)
        {
            invalid!("weights, bias and state do not fit {channels} channels and {batch} rows");
        }
        Ok(Self { x, w, bias, past, batch, channels, length, kernel })
    }
}

impl CausalConv {
    /// The sums, and the last elements of what was summed.
    fn run<R: Real>(cx: &Context, g: &Given<'_>) -> Result<(Vec<R>, Vec<R>)> {
        let (x, w) = (widen::<R>(g.x)?, widen::<R>(g.w)?);
        let bias = g.bias.map(widen::<R>).transpose()?;
        let past = g.past.map(widen::<R>).transpose()?;
        cx.numel(R::DTYPE, &[g.batch, g.channels])?;
        let before = g.kernel - 1;
        let mut y = Vec::with_capacity(cx.numel(R::DTYPE, g.x.shape())?);
        let mut state = Vec::with_capacity(cx.numel(R::DTYPE, &[g.batch, g.channels, before])?);
        let mut ticks = Ticks::new(cx);
        for row in 0..g.batch * g.channels {
            let c = row % g.channels;
            let mut all = match &past {
                Some(p) => p[row * before..][..before].to_vec(),
                None => vec![R::ZERO; before],
            };
            all.extend_from_slice(&x[row * g.length..][..g.length]);
            let kernel = &w[c * g.kernel..][..g.kernel];
            for part in all.windows(g.kernel) {
                ticks.add(g.kernel)?;
                let sum = bias.as_ref().map_or(R::ZERO, |b| b[c]);
                y.push(part.iter().zip(kernel).fold(sum, |sum, (&x, &w)| sum + x * w));
            }
            state.extend_from_slice(&all[g.length..]);
        }
        Ok((y, state))
    }
}

impl Operator for CausalConv {
    fn name(&self) -> &str {
        "CausalConvWithState"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype(0..4)?;
        let (x, w) = (cx.shape(0)?, cx.shape(1)?);
        if x.is_some_and(|x| x.len() != 3) || w.is_some_and(|w| w.len() != 3) {
            invalid!("the input and the weights must have rank 3");
        }
        let state =
            x.zip(w).map(|(x, w)| vec![x[0].clone(), x[1].clone(), w[2].clone() - Dim::from(1i64)]);
        let y = Fact::tensor(dtype, x.map(<[_]>::to_vec));
        Ok(vec![y, Fact::tensor(dtype, state)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let g = Given::new(inputs)?;
        let dtype = g.x.dtype();
        match_real!(dtype, R => {
            let (y, state) = Self::run::<R>(cx, &g)?;
            let mut y = narrow(dtype, g.x.shape(), y)?;
            if self.activation != ConvActivation::None {
                // The sums are rounded before.
                let sums = widen::<R>(&y)?;
                let silu = |&x: &R| x / (R::ONE + (-x).exp());
                y = narrow(dtype, g.x.shape(), sums.iter().map(silu).collect())?;
            }
            let state = narrow(dtype, &[g.batch, g.channels, g.kernel - 1], state)?;
            Ok(vec![y.into(), state.into()])
        }, else invalid!("CausalConvWithState takes no {dtype}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};

    fn conv(attrs: &str, more: &str, rest: &[Tensor]) -> [Vec<f32>; 2] {
        let text = format!(
            "y, s = CausalConvWithState(x: f32[1,2,2], w: f32[2,1,2]{more}) {{{attrs}}}\n\
             return y, s"
        );
        let mut inputs = vec![t(&[1, 2, 2], &[1., 2., 3., 4.]), t(&[2, 1, 2], &[10., 1., 1., 0.])];
        inputs.extend_from_slice(rest);
        let out = run(&text, &inputs).expect("runs");
        [0, 1].map(|i| out[i].as_tensor().expect("tensor").to_vec::<f32>().expect("f32"))
    }

    #[test]
    fn sums_by_hand() {
        assert_eq!(conv("", "", &[]), [vec![1., 12., 0., 3.], vec![2., 4.]]);
        let rest = [t(&[2], &[0.5, 0.]), t(&[1, 2, 1], &[1., 9.])];
        let out = conv("", ", b: f32[2], p: f32[1,2,1]", &rest);
        assert_eq!(out, [vec![11.5, 12.5, 9., 3.], vec![2., 4.]]);
        let [y, _] = conv("activation=\"silu\"", "", &[]);
        assert_close(&y, &[0.731_058_6, 11.999_926, 0., 2.857_722_4], 1e-5);
    }

    #[test]
    fn lengths() {
        let text = "y, s = CausalConvWithState(x: f16[B,C,L], w: f16[C,1,4])\nreturn y, s";
        assert_eq!(types(text).expect("types"), ["f16[B,C,L]", "f16[B,C,3]"]);
        assert!(types(&text.replace("B,C,L", "B,C")).is_err());
        // Shorter than the state.
        let text = "y, s = CausalConvWithState(x: f32[1,1,1], w: f32[1,1,3])\nreturn s";
        let out = run(text, &[t(&[1, 1, 1], &[5.]), t(&[1, 1, 3], &[1.; 3])]).expect("runs");
        assert_eq!(out[0].as_tensor().expect("tensor"), &t(&[1, 1, 2], &[0., 5.]));
    }
}
