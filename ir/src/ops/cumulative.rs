//! Running sums and products along an axis.
//!
//! ```text
//! y = CumSum(x: f32[N,C], axis: i64[])      y[i] = x[0] + ... + x[i]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor, shape};

use super::binary::is_plain;
use super::real::{Ticks, match_wide, narrow, widen};
use crate::eval::tensor;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// Where a running result begins.
    #[derive(Copy)]
    pub struct Running {
        /// Whether an element is left out of its own result.
        exclusive: bool = false,
        /// Whether the last element is the first.
        reverse: bool = false,
    }
}

/// A running result along the axis in input 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cumulative {
    /// The sum.
    Sum(Running),
    /// The product.
    Prod(Running),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "CumSum",
        since: 11,
        build: |b| Ok(Cumulative::Sum(Running::read(&mut b.attrs)?).into()),
    },
    Schema {
        name: "CumProd",
        since: 26,
        build: |b| Ok(Cumulative::Prod(Running::read(&mut b.attrs)?).into()),
    },
];

impl Cumulative {
    /// The attributes.
    pub fn running(&self) -> &Running {
        match self {
            Cumulative::Sum(r) | Cumulative::Prod(r) => r,
        }
    }

    fn run<T: Number>(&self, cx: &Context, x: &[T], n: usize, inner: usize) -> Result<Vec<T>> {
        let mut y = x.to_vec();
        let start = if matches!(self, Cumulative::Sum(_)) { T::ZERO } else { T::ONE };
        let mut ticks = Ticks::new(cx);
        for block in y.chunks_exact_mut(n * inner) {
            let mut so_far = vec![start; inner];
            match self.running().reverse {
                false => self.rows(block.chunks_exact_mut(inner), &mut so_far),
                true => self.rows(block.chunks_exact_mut(inner).rev(), &mut so_far),
            }
            ticks.add(n * inner)?;
        }
        Ok(y)
    }

    fn rows<'a, T: Number + 'a>(&self, rows: impl Iterator<Item = &'a mut [T]>, so_far: &mut [T]) {
        for row in rows {
            for (x, so_far) in row.iter_mut().zip(&mut *so_far) {
                let next = match self {
                    Cumulative::Sum(_) => so_far.plus(*x),
                    Cumulative::Prod(_) => so_far.times(*x),
                };
                *x = if self.running().exclusive { *so_far } else { next };
                *so_far = next;
            }
        }
    }
}

impl Operator for Cumulative {
    fn name(&self) -> &str {
        match self {
            Cumulative::Sum(_) => "CumSum",
            Cumulative::Prod(_) => "CumProd",
        }
    }

    fn attrs(&self) -> Attrs {
        self.running().write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_plain)?;
        cx.dtype_in(1, |d| matches!(d, DType::I32 | DType::I64))?;
        let shape = cx.shape(0)?.map(<[Dim]>::to_vec);
        if let (Some(shape), Some(axis)) = (&shape, cx.constant(1)) {
            shape::axis(axis.to_scalar()?, shape.len())?;
        }
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let axis = shape::axis(tensor(inputs, 1)?.to_scalar()?, x.rank())?;
        if x.is_empty() {
            return Ok(vec![x.clone().into()]);
        }
        let inner = x.shape()[axis + 1..].iter().product();
        let y: Tensor = match_wide!(x.dtype(), T => {
            narrow(x.dtype(), x.shape(), self.run(cx, &widen::<T>(x)?, x.shape()[axis], inner)?)?
        }, else invalid!("{} takes no {}", self.name(), x.dtype()));
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn of(op: &str, axis: i64, attrs: &str, x: &[i32]) -> Result<Vec<i32>> {
        let text = format!("a = i64[]{{{axis}}}\ny = {op}(x: i32[2,2], a) {{{attrs}}}\nreturn y");
        let x = Tensor::from_vec(&[2, 2], x.to_vec())?;
        Ok(run1(&text, &[x])?.to_vec()?)
    }

    #[test]
    fn directions_by_hand() {
        let x = [1, 2, 3, 4];
        for (op, axis, attrs, want) in [
            ("CumSum", 0, "", [1, 2, 4, 6]),
            ("CumSum", -1, "", [1, 3, 3, 7]),
            ("CumSum", 1, "exclusive=1", [0, 1, 0, 3]),
            ("CumSum", 0, "reverse=1", [4, 6, 3, 4]),
            ("CumSum", 1, "reverse=1, exclusive=1", [2, 0, 4, 0]),
            ("CumProd", 1, "", [1, 2, 3, 12]),
            ("CumProd", 0, "exclusive=1", [1, 1, 1, 2]),
        ] {
            assert_eq!(of(op, axis, attrs, &x).expect(op), want, "{op} {axis} {attrs}");
        }
        assert!(of("CumSum", 2, "", &x).is_err());
    }

    #[test]
    fn types_and_empties() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("CumSum(x: f16[N,C], a: i32[])").expect("types"), ["f16[N,C]"]);
        assert!(ty("CumSum(x: f16[N,C], a: f32[])").is_err());
        assert!(ty("CumProd(x: bool[N], a: i64[])").is_err());
        let empty = Tensor::from_vec::<f32>(&[0, 2], vec![]).expect("empty");
        let text = "y = CumSum(x: f32[0,2], a: i64[])\nreturn y";
        let y = run1(text, &[empty.clone(), Tensor::scalar(0i64)]);
        assert_eq!(y.expect("runs"), empty);
    }
}
