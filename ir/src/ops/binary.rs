//! Elementwise functions of two broadcast tensors: `y[i] = f(a[i], b[i])`.

use std::ops::RangeInclusive;

use kiln_tensor::{Datum, Element, Number, Tensor, match_number, shape};

use crate::eval::tensor;
use crate::{Attrs, Context, Error, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// A function of two elements of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`; integers wrap.
    Add,
    /// `a - b`; integers wrap.
    Sub,
    /// `a * b`; integers wrap.
    Mul,
    /// `a / b`; integers towards zero, by 0 an error.
    Div,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Add", since: 7, build: |_| Ok(Binary::Add.into()) },
    Schema { name: "Sub", since: 7, build: |_| Ok(Binary::Sub.into()) },
    Schema { name: "Mul", since: 7, build: |_| Ok(Binary::Mul.into()) },
    Schema { name: "Div", since: 7, build: |_| Ok(Binary::Div.into()) },
];

impl Binary {
    /// The value at `a` and `b`; `None` for an integer by 0.
    pub fn apply<T: Number>(self, a: T, b: T) -> Option<T> {
        match self {
            Binary::Add => Some(a.plus(b)),
            Binary::Sub => Some(a.minus(b)),
            Binary::Mul => Some(a.times(b)),
            Binary::Div => a.over(b),
        }
    }
}

impl Operator for Binary {
    fn name(&self) -> &str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn traits(&self) -> Traits {
        let commutative = matches!(self, Binary::Add | Binary::Mul);
        Traits { commutative, ..Traits::ELEMENTWISE }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.same_dtype(0..2)?;
        if !dtype.is_number() {
            invalid!("{} takes no {dtype}", self.name());
        }
        let shape = cx.broadcast(0..2)?;
        let dims = match (cx.dims(0), cx.dims(1)) {
            (Some(a), Some(b)) => dims(*self, &a, &b),
            _ => None,
        };
        Ok(vec![Fact::tensor(dtype, shape).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (a, b) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let y = match_number!(a.dtype(), T => zip(cx, a, b, |x: T, y: T| {
            self.apply(x, y).ok_or_else(|| Error::invalid("division of an integer by zero"))
        })?, else invalid!("{} takes no {}", self.name(), a.dtype()));
        Ok(vec![y.into()])
    }
}

/// The function on lengths, elementwise; `None` where it is no polynomial.
fn dims(op: Binary, a: &[crate::Dim], b: &[crate::Dim]) -> Option<Vec<crate::Dim>> {
    let n = if a.len() == 1 { b.len() } else { a.len() };
    if b.len() != n && b.len() != 1 {
        return None;
    }
    (0..n)
        .map(|i| {
            let (x, y) = (a[i.min(a.len() - 1)].clone(), b[i.min(b.len() - 1)].clone());
            match op {
                Binary::Add => Some(x + y),
                Binary::Sub => Some(x - y),
                Binary::Mul => Some(x * y),
                Binary::Div if y.as_const() == Some(0) => None,
                // Lengths are not negative, so towards zero is down.
                Binary::Div => Some(x.floor_div(&y)),
            }
        })
        .collect()
}

/// Applies `f` to every pair of elements of two broadcast tensors.
pub(crate) fn zip<T: Element, U: Element>(
    cx: &Context,
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> Result<U>,
) -> Result<Tensor> {
    let out = shape::broadcast(a.shape(), b.shape())?;
    cx.numel(U::DTYPE, &out)?;
    let (x, y) = (a.as_slice::<T>()?, b.as_slice::<T>()?);
    let data: Result<Vec<U>> = if a.shape() == b.shape() {
        x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect()
    } else {
        let at = |t: &Tensor| shape::offsets(&out, &shape::broadcast_strides(t.shape(), &out));
        at(a).zip(at(b)).map(|(i, j)| f(x[i], y[j])).collect()
    };
    Ok(Tensor::from_vec(&out, data?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn broadcasts() {
        let y = run1(
            "y = Sub(a: f32[2,1], b: f32[2])\nreturn y",
            &[
                Tensor::from_vec(&[2, 1], vec![1f32, 2.0]).expect("2x1"),
                Tensor::vector(vec![10f32, 20.0]),
            ],
        );
        let want = Tensor::from_vec(&[2, 2], vec![-9f32, -19.0, -8.0, -18.0]).expect("2x2");
        assert_eq!(y.expect("runs"), want);
    }

    #[test]
    fn integers_wrap_and_refuse_zero() {
        let div = |a: i32, b: i32| {
            run1("y = Div(a: i32[], b: i32[])\nreturn y", &[Tensor::scalar(a), Tensor::scalar(b)])
        };
        assert_eq!(div(-7, 2).expect("runs"), Tensor::scalar(-3));
        assert_eq!(div(i32::MIN, -1).expect("runs"), Tensor::scalar(i32::MIN));
        assert_eq!(div(1, 0).expect_err("by zero").message(), "division of an integer by zero");
    }

    #[test]
    fn shapes_with_symbols() {
        let t = types("y = Add(a: f32[N,1], b: f32[M,1,4])\nreturn y").expect("types");
        assert_eq!(t, ["f32[M,N,4]"]);
    }
}
