//! Convolutions of quantized tensors: sums of integers, scaled at the end.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::conv::{Shapes, add_bias, check_bias, correlate, infer_dims, write};
use crate::ops::quantized::{center, saturate, spread};
use crate::ops::window::Window;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, invalid};

/// A convolution of tensors less their zero points, in `i32`; inputs `x w x_zero_point
/// w_zero_point`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvInteger {
    /// The geometry.
    pub window: Box<Window>,
    /// How many groups the channels fall into.
    pub group: i64,
}

/// A convolution of quantized tensors, quantized again; inputs `x x_scale x_zero_point w w_scale
/// w_zero_point y_scale y_zero_point b`. The bias is in steps of `x_scale * w_scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QLinearConv {
    /// The geometry.
    pub window: Box<Window>,
    /// How many groups the channels fall into.
    pub group: i64,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ConvInteger",
        since: 10,
        build: |b| {
            let group = b.take("group")?.unwrap_or(1);
            Ok(ConvInteger { window: Box::new(Window::take(&mut b.attrs)?), group }.into())
        },
    },
    Schema {
        name: "QLinearConv",
        since: 10,
        build: |b| {
            let group = b.take("group")?.unwrap_or(1);
            Ok(QLinearConv { window: Box::new(Window::take(&mut b.attrs)?), group }.into())
        },
    },
];

/// The shape and the sums of a convolution of tensors less their zero points. Padding counts
/// as the zero point.
fn sums(
    cx: &Context,
    (window, group): (&Window, i64),
    (x, x_zero): (&Tensor, Option<&Tensor>),
    (w, w_zero): (&Tensor, Option<&Tensor>),
) -> Result<(Vec<usize>, Vec<i32>)> {
    let s = Shapes::of(window, group, x.shape(), w.shape())?;
    if x_zero.is_some_and(|z| z.len() != 1) {
        invalid!("x has one zero point, not {}", x_zero.map_or(0, Tensor::len));
    }
    let y = correlate(cx, &s, &center::<i32>(x, x_zero, 1)?, &center::<i32>(w, w_zero, 0)?)?;
    Ok((s.shape, y))
}

fn is_byte(d: DType) -> bool {
    matches!(d, DType::I8 | DType::U8)
}

impl Operator for ConvInteger {
    fn name(&self) -> &str {
        "ConvInteger"
    }

    fn attrs(&self) -> Attrs {
        write(&self.window, self.group)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        for i in 0..2 {
            cx.dtype_in(i, is_byte)?;
            cx.same_dtype([i, i + 2])?;
        }
        Ok(vec![Fact::tensor(DType::I32, infer_dims(&self.window, self.group, cx, 1)?)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = (tensor(inputs, 0)?, optional(inputs, 2)?);
        let w = (tensor(inputs, 1)?, optional(inputs, 3)?);
        let (shape, y) = sums(cx, (&self.window, self.group), x, w)?;
        Ok(vec![Tensor::from_vec(&shape, y)?.into()])
    }
}

impl Operator for QLinearConv {
    fn name(&self) -> &str {
        "QLinearConv"
    }

    fn attrs(&self) -> Attrs {
        write(&self.window, self.group)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        8..=9
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        for i in [0, 3] {
            cx.dtype_in(i, is_byte)?;
            cx.same_dtype([i, i + 2])?;
        }
        let dtype = cx.dtype_in(7, is_byte)?;
        let shape = infer_dims(&self.window, self.group, cx, 3)?;
        if cx.has(8) {
            cx.dtype_in(8, |d| d == DType::I32)?;
            if let (Some(b), Some(y)) = (cx.shape(8)?, &shape) {
                check_bias(b, &y[1])?;
            }
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, x_scale) = (tensor(inputs, 0)?, tensor(inputs, 1)?.to_scalar::<f32>()?);
        let (w, w_scale) = (tensor(inputs, 3)?, tensor(inputs, 4)?);
        let (y_scale, y_zero) = (tensor(inputs, 6)?.to_scalar::<f32>()?, tensor(inputs, 7)?);
        let x = (x, Some(tensor(inputs, 2)?));
        let w = (w, Some(tensor(inputs, 5)?));
        let (shape, mut y) = sums(cx, (&self.window, self.group), x, w)?;
        if let Some(b) = optional(inputs, 8)? {
            add_bias(&mut y, &shape, b.as_slice::<i32>()?)?;
        }
        let scale = spread(w_scale, 1, &shape)?;
        let values = y.iter().zip(scale).map(|(&y, w)| y as f32 * (x_scale * w / y_scale));
        let zero = std::iter::repeat(y_zero.to_scalar::<f32>()?);
        Ok(vec![saturate(y_zero.dtype(), &shape, values, zero)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn padding_is_the_zero_point() {
        let text = "y = ConvInteger(x: u8[1,1,2], w: i8[1,1,3], z: u8[]) {pads=[1,1]}\nreturn y";
        let inputs = [
            Tensor::from_vec(&[1, 1, 2], vec![11u8, 12]).expect("1x1x2"),
            Tensor::from_vec(&[1, 1, 3], vec![1i8, 10, 100]).expect("1x1x3"),
            Tensor::scalar(10u8),
        ];
        let want = Tensor::from_vec(&[1, 1, 2], vec![210i32, 21]).expect("1x1x2");
        assert_eq!(run1(text, &inputs).expect("runs"), want);
    }

    #[test]
    fn scales_per_channel_and_bias() {
        let text = "y = QLinearConv(x: u8[1,1,1], s: f32[], z: u8[], w: i8[2,1,1], t: f32[2], \
                    v: i8[2], u: f32[], q: u8[], b: i32[2])\nreturn y";
        let inputs = [
            Tensor::from_vec(&[1, 1, 1], vec![14u8]).expect("1x1x1"),
            Tensor::scalar(0.5f32),
            Tensor::scalar(4u8),
            Tensor::from_vec(&[2, 1, 1], vec![3i8, -2]).expect("2x1x1"),
            Tensor::vector(vec![1f32, 2.0]),
            Tensor::vector(vec![1i8, 0]),
            Tensor::scalar(1f32),
            Tensor::scalar(7u8),
            Tensor::vector(vec![4i32, 0]),
        ];
        // 10 * 2 + 4 = 24 times 0.5, and 10 * -2 times 1, which saturates at 0.
        let want = Tensor::from_vec(&[1, 2, 1], vec![19u8, 0]).expect("1x2x1");
        assert_eq!(run1(text, &inputs).expect("runs"), want);
    }

    #[test]
    fn types_are_checked() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        assert_eq!(ty("ConvInteger(x: u8[N,3,H], w: i8[8,3,1])").expect("types"), ["i32[N,8,H]"]);
        assert!(ty("ConvInteger(x: f32[N,3,H], w: f32[8,3,1])").is_err());
    }
}
