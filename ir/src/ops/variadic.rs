//! Elementwise functions of any number of broadcast tensors.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Float, Number, Tensor, match_float, match_number};

use super::binary::{is_plain, zip};
use super::cast::{RoundMode, convert};
use super::layout::known_dims;
use crate::eval::tensor;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// A function of the elements at one place of all inputs; halves are rounded once, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variadic {
    /// The greatest; NaN where there is one.
    Max,
    /// The least; NaN where there is one.
    Min,
    /// The sum, from the first to the last.
    Sum,
    /// The sum divided by the number of inputs.
    Mean,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Max", since: 1, build: |b| build(b, Variadic::Max) },
    Schema { name: "Min", since: 1, build: |b| build(b, Variadic::Min) },
    Schema { name: "Sum", since: 1, build: |b| build(b, Variadic::Sum) },
    Schema { name: "Mean", since: 1, build: |b| build(b, Variadic::Mean) },
];

fn build(b: &mut crate::Build<'_>, op: Variadic) -> Result<crate::Built> {
    b.take::<Vec<i64>>("consumed_inputs")?;
    Ok(op.into())
}

impl Variadic {
    /// The step from the result so far and the next element.
    pub fn step<T: Number>(self, a: T, b: T) -> T {
        let greater = |a: T, b: T| if b > a || b.is_nan() { b } else { a };
        let less = |a: T, b: T| if b < a || b.is_nan() { b } else { a };
        match self {
            _ if a.is_nan() => a,
            Variadic::Max => greater(a, b),
            Variadic::Min => less(a, b),
            Variadic::Sum | Variadic::Mean => a.plus(b),
        }
    }

    fn takes(self, d: DType) -> bool {
        match self {
            Variadic::Mean => match_float!(d, T => true, else false),
            _ => is_plain(d),
        }
    }

    fn length(self, a: &Dim, b: &Dim) -> Option<Dim> {
        match self {
            Variadic::Max => Some(a.larger(b)),
            Variadic::Min => Some(a.clone() + b.clone() - a.larger(b)),
            Variadic::Sum => Some(a.clone() + b.clone()),
            Variadic::Mean => None,
        }
    }
}

impl Operator for Variadic {
    fn name(&self) -> &str {
        match self {
            Variadic::Max => "Max",
            Variadic::Min => "Min",
            Variadic::Sum => "Sum",
            Variadic::Mean => "Mean",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn traits(&self) -> Traits {
        Traits { commutative: true, ..Traits::ELEMENTWISE }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.same_dtype(0..cx.len())?;
        if !self.takes(dtype) {
            invalid!("{} takes no {dtype}", self.name());
        }
        let shape = cx.broadcast(0..cx.len())?;
        let mut dims = known_dims(cx, 0);
        for i in 1..cx.len() {
            dims = match (dims, known_dims(cx, i)) {
                (Some(a), Some(b)) => pairs(&a, &b, |x, y| self.length(x, y)),
                _ => None,
            };
        }
        Ok(vec![Fact::tensor(dtype, shape).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        let wide = |t: &Tensor| match t.dtype() {
            DType::F16 | DType::BF16 => convert(t, DType::F32, true, RoundMode::Up),
            _ => Ok(t.clone()),
        };
        let mut y = wide(tensor(inputs, 0)?)?;
        for i in 1..inputs.len() {
            let x = tensor(inputs, i)?;
            if x.dtype() != dtype {
                invalid!("input 0 is {dtype} and input {i} is {}", x.dtype());
            }
            y = match_number!(y.dtype(), T => {
                zip(cx, &y, &wide(x)?, |a: T, b: T| Ok(self.step(a, b)))?
            }, else invalid!("{} takes no {dtype}", self.name()));
        }
        if *self == Variadic::Mean {
            let n = inputs.len() as f64;
            y = match_float!(y.dtype(), T => {
                let data = y.as_slice::<T>()?.iter();
                let data = data.map(|x| x.map(|v| v / n, |v| v / n as f32)).collect();
                Tensor::from_vec(y.shape(), data)?
            }, else invalid!("Mean takes no {dtype}"));
        }
        let y = if y.dtype() == dtype { y } else { convert(&y, dtype, true, RoundMode::Up)? };
        Ok(vec![y.into()])
    }
}

/// `f` of two broadcast vectors of lengths; `None` where they do not fit.
pub(crate) fn pairs(
    a: &[Dim],
    b: &[Dim],
    f: impl Fn(&Dim, &Dim) -> Option<Dim>,
) -> Option<Vec<Dim>> {
    match (a, b) {
        ([a], b) => b.iter().map(|b| f(a, b)).collect(),
        (a, [b]) => a.iter().map(|a| f(a, b)).collect(),
        (a, b) if a.len() == b.len() => a.iter().zip(b).map(|(a, b)| f(a, b)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kiln_tensor::f16;

    use super::*;
    use crate::ops::testing::{run1, types};

    fn of(op: &str, inputs: &[Tensor]) -> Result<Tensor> {
        let names: Vec<String> = (inputs.iter().enumerate())
            .map(|(i, t)| format!("x{i}: {}[{}]", t.dtype(), t.len()))
            .collect();
        run1(&format!("y = {op}({})\nreturn y", names.join(", ")), inputs)
    }

    #[test]
    fn three_inputs() {
        let x = [vec![1f32, 2.0, 3.0], vec![4.0, 0.0, 3.0], vec![1.0]].map(Tensor::vector);
        for (op, want) in [
            ("Max", [4f32, 2.0, 3.0]),
            ("Min", [1.0, 0.0, 1.0]),
            ("Sum", [6.0, 3.0, 7.0]),
            ("Mean", [2.0, 1.0, 7.0 / 3.0]),
        ] {
            assert_eq!(of(op, &x).expect(op), Tensor::vector(want.to_vec()), "{op}");
        }
        let y = of("Max", &[Tensor::vector(vec![u64::MAX, 1]), Tensor::vector(vec![2u64])]);
        assert_eq!(y.expect("integers"), Tensor::vector(vec![u64::MAX, 2]));
    }

    #[test]
    fn nan_wins_from_either_side() {
        let x = [Tensor::vector(vec![f32::NAN, 1.0]), Tensor::vector(vec![1.0, f32::NAN])];
        for op in ["Max", "Min"] {
            let y = of(op, &x).expect("runs");
            assert!(y.as_slice::<f32>().expect("f32").iter().all(|v| v.is_nan()), "{op}");
        }
    }

    #[test]
    fn halves_are_rounded_once() {
        // Rounded after each step, 2048 + 1 + 1 would stay 2048.
        let x = [2048.0, 1.0, 1.0].map(|v| Tensor::vector(vec![f16::from_f32(v)]));
        let y = of("Sum", &x).expect("runs");
        assert_eq!(y, Tensor::vector(vec![f16::from_f32(2050.0)]));
    }

    #[test]
    fn types_and_lengths() {
        let text = "s = Shape(x: f32[N,4])\nk = i64[1]{3}\nm = Max(s, k)\n\
            y = ConstantOfShape(m)\nz = Mean(x, b: f32[1,4], c: f32[..])\nreturn y, z";
        assert_eq!(types(text).expect("types"), ["f32[max(3,N),4]", "f32[..]"]);
        assert!(types("y = Mean(x: i32[2])\nreturn y").is_err());
        assert!(types("y = Sum(a: f32[2], b: f64[2])\nreturn y").is_err());
    }
}
