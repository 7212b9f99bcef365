//! The partial inverse of `MaxPool`: elements go back to where their indices say.

use std::ops::RangeInclusive;

use kiln_tensor::shape::{numel, strides};
use kiln_tensor::{DType, Datum, Tensor, match_float};

use crate::eval::{optional, tensor};
use crate::ops::pool::spatial;
use crate::ops::real::is_real;
use crate::ops::window::Window;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// Puts `x` to the flat places `indices` of a tensor of zeros.
///
/// The indices are those of the smallest tensor that gives `x` when pooled; where a third
/// input asks for a larger shape, that tensor is its first corner.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxUnpool {
    /// The geometry of the pool.
    pub window: Box<Window>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "MaxUnpool",
    since: 9,
    build: |b| {
        let window = Box::new(Window::take(&mut b.attrs)?);
        if window.kernel_shape.is_empty() {
            invalid!("attribute `kernel_shape` is missing");
        }
        Ok(MaxUnpool { window }.into())
    },
}];

impl MaxUnpool {
    /// The smallest shape that is pooled to `x`.
    fn dims(&self, x: &[Dim]) -> Result<Vec<Dim>> {
        let axes = self.window.axes(spatial(x.len())?, &self.window.kernel_shape)?;
        let lengths = axes.iter().zip(&x[2..]).map(|(a, n)| {
            let steps = (n.clone() - Dim::from(1i64)) * Dim::from(a.stride);
            steps + Dim::from(a.kernel - a.begin - a.end)
        });
        Ok(x[..2].iter().cloned().chain(lengths).collect())
    }
}

impl Operator for MaxUnpool {
    fn name(&self) -> &str {
        "MaxUnpool"
    }

    fn attrs(&self) -> Attrs {
        self.window.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_real)?;
        cx.dtype_in(1, |d| d == DType::I64)?;
        let shape = match cx.shape(0)? {
            _ if cx.has(2) => cx.dims(2),
            Some(x) => Some(self.dims(x)?),
            None => None,
        };
        if let (None, Some(x)) = (&shape, cx.shape(0)?) {
            let rank = x.len();
            return Ok(vec![Fact::shaped(dtype, cx.fresh_shape(rank))]);
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, at) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let dims: Vec<Dim> = x.shape().iter().map(|&d| Dim::from(d)).collect();
        let Some(inner) = self.dims(&dims)?.iter().map(Dim::as_len).collect::<Option<Vec<_>>>()
        else {
            invalid!("the pads are larger than what is pooled");
        };
        let shape = match optional(inputs, 2)? {
            Some(s) => lengths(s)?,
            None => inner.clone(),
        };
        if shape.len() != inner.len() || shape.iter().zip(&inner).any(|(s, i)| s < i) {
            invalid!("output_shape {shape:?} does not hold {inner:?}");
        }
        let places = at.as_slice::<i64>()?;
        if at.shape() != x.shape() {
            invalid!("x has shape {:?}, its indices {:?}", x.shape(), at.shape());
        }
        let (own, outer, n) = (strides(&inner), strides(&shape), numel(&inner)?);
        let y = match_float!(x.dtype(), T => {
            let mut y = cx.zeros::<T>(&shape)?;
            for (&x, &at) in x.as_slice::<T>()?.iter().zip(places) {
                let Some(at) = usize::try_from(at).ok().filter(|&at| at < n) else {
                    invalid!("index {at} lies outside of {inner:?}");
                };
                let place: usize =
                    (0..own.len()).map(|i| at / own[i] % inner[i] * outer[i]).sum();
                y[place] = x;
            }
            Tensor::from_vec(&shape, y)?
        }, else invalid!("MaxUnpool takes no {}", x.dtype()));
        Ok(vec![y.into()])
    }
}

/// The elements of a shape tensor.
fn lengths(t: &Tensor) -> Result<Vec<usize>> {
    let length = |&n: &i64| match usize::try_from(n) {
        Ok(n) => Ok(n),
        Err(_) => invalid!("{n} is no length"),
    };
    t.as_slice::<i64>()?.iter().map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn elements_go_back() {
        let x = Tensor::from_vec(&[1, 1, 2], vec![5f32, 6.0]).expect("1x1x2");
        let at = Tensor::from_vec(&[1, 1, 2], vec![1i64, 2]).expect("1x1x2");
        let op = "MaxUnpool(x: f32[1,1,2], i: i64[1,1,2]) {kernel_shape=[2], strides=[2]}";
        let y = run1(&format!("y = {op}\nreturn y"), &[x.clone(), at]).expect("runs");
        assert_eq!(y, Tensor::from_vec(&[1, 1, 4], vec![0f32, 5.0, 6.0, 0.0]).expect("1x1x4"));
        let far = Tensor::from_vec(&[1, 1, 2], vec![1i64, 4]).expect("1x1x2");
        assert!(run1(&format!("y = {op}\nreturn y"), &[x, far]).is_err());
    }

    #[test]
    fn a_larger_shape_has_the_smaller_in_its_corner() {
        let x = Tensor::from_vec(&[1, 1, 1, 1], vec![5f32]).expect("1");
        let at = Tensor::from_vec(&[1, 1, 1, 1], vec![3i64]).expect("1");
        let text = "s = i64[4]{1,1,3,3}\ny = MaxUnpool(x: f32[1,1,1,1], i: i64[1,1,1,1], s) \
                    {kernel_shape=[2,2]}\nreturn y";
        let y = run1(text, &[x, at]).expect("runs");
        assert_eq!(y.to_vec::<f32>().expect("f32"), [0., 0., 0., 0., 5., 0., 0., 0., 0.]);
        assert_eq!(types(text).expect("types"), ["f32[1,1,3,3]"]);
    }
}
