//! Local response normalization: each element by the squares of its neighbours in the channels.

use std::ops::RangeInclusive;

use kiln_tensor::Datum;
use kiln_tensor::shape::numel;

use crate::eval::tensor;
use crate::ops::real::{Real, is_real, match_real, narrow, widen};
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// `x / (bias + alpha / size * sum of squares)^beta`, over `size` channels around.
    #[derive(Copy)]
    pub struct Lrn {
        /// Factor of the sum.
        alpha: f32 = 0.0001,
        /// The exponent.
        beta: f32 = 0.75,
        /// What is added to the sum.
        bias: f32 = 1.0,
        /// How many channels are summed.
        size: i64,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] =
    &[Schema { name: "LRN", since: 1, build: |b| Ok(Lrn::read(&mut b.attrs)?.into()) }];

impl Lrn {
    fn run<R: Real>(&self, channels: usize, plane: usize, x: &[R]) -> Vec<R> {
        let mut y = x.to_vec();
        let of = |x: f32| R::of(x.into());
        let size = self.size as usize;
        let factor = of(self.alpha) / R::of(size as f64);
        // One more channel behind than before where the size is even.
        let (before, behind) = ((size - 1) / 2, size / 2);
        for (i, y) in y.iter_mut().enumerate() {
            let c = i / plane % channels;
            let (low, high) = (c.saturating_sub(before), (c + behind).min(channels - 1));
            let first = i - (c - low) * plane;
            let squares = x[first..].iter().step_by(plane).take(high - low + 1);
            let sum = squares.fold(R::ZERO, |sum, &x| sum + x * x);
            *y = *y / (of(self.bias) + factor * sum).powf(of(self.beta));
        }
        y
    }
}

impl Operator for Lrn {
    fn name(&self) -> &str {
        "LRN"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        if !(1..1 << 40).contains(&self.size) {
            invalid!("size is {}, which is no number of channels", self.size);
        }
        let shape = cx.shape(0)?;
        if shape.is_some_and(|x| x.len() < 2) {
            invalid!("x has no channels");
        }
        Ok(vec![Fact::tensor(dtype, shape.map(<[_]>::to_vec))])
    }

    fn eval(&self, _: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if x.rank() < 2 || self.size < 1 {
            invalid!("x has rank {}, and size is {}", x.rank(), self.size);
        }
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let plane = numel(&x.shape()[2..])?;
        let y = match_real!(x.dtype(), R => {
            narrow(x.dtype(), x.shape(), self.run(x.shape()[1], plane, &widen::<R>(x)?))?
        }, else invalid!("LRN takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::Tensor;

    use crate::ops::testing::{assert_close, run1};

    #[test]
    fn neighbours_within_the_channels() {
        let x = Tensor::from_vec(&[1, 3, 1], vec![1f32, 2.0, 3.0]).expect("1x3x1");
        let cases = [(3, [1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]), (2, [1.0 / 6.0, 2.0 / 14.0, 0.3])];
        for (size, want) in cases {
            let text = format!(
                "y = LRN(x: f32[1,3,1]) {{size={size}, alpha={size}.0, beta=1.0}}\nreturn y"
            );
            let y = run1(&text, std::slice::from_ref(&x)).expect("runs");
            assert_close(y.as_slice().expect("f32"), &want, 1e-6);
        }
    }
}
