//! Products of quantized matrices: sums of integers, scaled at the end.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::matmul::{product, product_dims};
use crate::ops::quantized::{center, is_quantized, saturate, spread};
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, Type, invalid};

/// `(a - a_zero_point) * (b - b_zero_point)` in `i32`; inputs `a b a_zero_point b_zero_point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMulInteger;

/// A product of quantized matrices, quantized again; inputs `a a_scale a_zero_point b b_scale
/// b_zero_point y_scale y_zero_point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QLinearMatMul;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "MatMulInteger", since: 10, build: |_| Ok(MatMulInteger.into()) },
    Schema { name: "QLinearMatMul", since: 10, build: |_| Ok(QLinearMatMul.into()) },
];

/// The fact about a product of inputs `a` and `b`.
pub(crate) fn product_fact(cx: &Infer<'_>, dtype: DType, a: usize, b: usize) -> Result<Fact> {
    let shape = match (cx.shape(a)?, cx.shape(b)?) {
        (Some(a), Some(b)) => Some(product_dims(a, b)?),
        _ => None,
    };
    Ok(Fact::from(Type::tensor(dtype, shape)))
}

/// The product of two tensors less their zero points: rows of `a`, columns of `b`.
fn centered_product<T: Number>(
    cx: &Context,
    (a, a_zero): (&Tensor, Option<&Tensor>),
    (b, b_zero): (&Tensor, Option<&Tensor>),
) -> Result<(Vec<usize>, Vec<T>)> {
    let x = center::<T>(a, a_zero, a.rank().saturating_sub(2))?;
    let y = center::<T>(b, b_zero, b.rank().saturating_sub(1))?;
    product(cx, (a.shape(), &x), (b.shape(), &y))
}

impl Operator for MatMulInteger {
    fn name(&self) -> &str {
        "MatMulInteger"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=4
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        for i in 0..2 {
            cx.dtype_in(i, |d| matches!(d, DType::I8 | DType::U8))?;
            cx.same_dtype([i, i + 2])?;
        }
        Ok(vec![product_fact(cx, DType::I32, 0, 1)?])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let a = (tensor(inputs, 0)?, optional(inputs, 2)?);
        let b = (tensor(inputs, 1)?, optional(inputs, 3)?);
        let (shape, sum) = centered_product::<i32>(cx, a, b)?;
        Ok(vec![Tensor::from_vec(&shape, sum)?.into()])
    }
}

impl QLinearMatMul {
    fn run<T: Number>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Tensor> {
        let (a, a_scale) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let (b, b_scale) = (tensor(inputs, 3)?, tensor(inputs, 4)?);
        let (y_scale, y_zero) = (tensor(inputs, 6)?, tensor(inputs, 7)?);
        let a = (a, Some(tensor(inputs, 2)?));
        let b = (b, Some(tensor(inputs, 5)?));
        let (shape, sum) = centered_product::<T>(cx, a, b)?;
        let (row, column) = (shape.len().saturating_sub(2), shape.len().saturating_sub(1));
        let scales = spread(a_scale, row, &shape)?;
        let b_scale = spread(b_scale, column, &shape)?;
        let y_scale = spread(y_scale, row, &shape)?;
        let values = sum.iter().zip(scales).zip(b_scale).zip(y_scale);
        let values = values.map(|(((s, a), b), y)| s.to_f64() as f32 * (a * b / y));
        let zero = spread(y_zero, row, &shape)?;
        saturate(y_zero.dtype(), &shape, values, zero.into_iter())
    }
}

impl Operator for QLinearMatMul {
    fn name(&self) -> &str {
        "QLinearMatMul"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        8..=8
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        for i in [0, 3] {
            cx.dtype_in(i, is_quantized)?;
            cx.same_dtype([i, i + 2])?;
        }
        cx.same_dtype([1, 4, 6])?;
        let dtype = cx.dtype_in(7, is_quantized)?;
        Ok(vec![product_fact(cx, dtype, 0, 3)?])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        let y = match dtype {
            DType::I8 | DType::U8 => self.run::<i32>(cx, inputs)?,
            d if is_quantized(d) => self.run::<f32>(cx, inputs)?,
            d => invalid!("QLinearMatMul takes no {d}"),
        };
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn zero_points_per_row_and_column() {
        let a = Tensor::from_vec(&[2, 2], vec![1u8, 2, 3, 4]).expect("2x2");
        let b = Tensor::from_vec(&[2, 2], vec![1i8, -1, 0, 2]).expect("2x2");
        let text = "y = MatMulInteger(a: u8[2,2], b: i8[2,2], p: u8[2], q: i8[2])\nreturn y";
        let (p, q) = (Tensor::vector(vec![1u8, 3]), Tensor::vector(vec![0i8, 1]));
        // a becomes [[0, 1], [0, 1]], b becomes [[1, -2], [0, 1]].
        let want = Tensor::from_vec(&[2, 2], vec![0i32, 1, 0, 1]).expect("2x2");
        assert_eq!(run1(text, &[a, b, p, q]).expect("runs"), want);
    }

    #[test]
    fn results_round_to_even_and_saturate() {
        let text = "y = QLinearMatMul(a: u8[1,1], s: f32[], z: u8[], b: i8[1,3], t: f32[], \
                    w: i8[], u: f32[], v: i8[])\nreturn y";
        let s = Tensor::scalar(1f32);
        let inputs = [
            Tensor::from_vec(&[1, 1], vec![5u8]).expect("1x1"),
            s.clone(),
            Tensor::scalar(0u8),
            Tensor::from_vec(&[1, 3], vec![1i8, 3, 100]).expect("1x3"),
            s,
            Tensor::scalar(0i8),
            Tensor::scalar(2f32),
            Tensor::scalar(1i8),
        ];
        // 2.5, 7.5 and 250 are rounded, then the zero point is added.
        let want = Tensor::from_vec(&[1, 3], vec![3i8, 9, 127]).expect("1x3");
        assert_eq!(run1(text, &inputs).expect("runs"), want);
    }

    #[test]
    fn types_are_checked() {
        let ty = |op: &str| types(&format!("y = {op}\nreturn y"));
        assert_eq!(ty("MatMulInteger(a: u8[M,3], b: i8[3,N])").expect("types"), ["i32[M,N]"]);
        assert!(ty("MatMulInteger(a: u8[M,3], b: i8[3,N], z: i8[])").is_err());
        assert!(ty("MatMulInteger(a: i32[M,3], b: i8[3,N])").is_err());
    }
}
