//! Elementwise questions about two broadcast tensors: `y[i] = a[i] ? b[i]`, a bool.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, match_number, shape};

use super::binary::{is_plain, legacy, zip};
use super::layout::known_dims;
use super::variadic::pairs;
use crate::eval::tensor;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, invalid};

/// A question about two elements of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// `a == b`, of numbers, bools and strings.
    Equal,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
    /// Both, of bools.
    And,
    /// Either, of bools.
    Or,
    /// One of the two, of bools.
    Xor,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Equal", since: 1, build: |b| legacy(b, Compare::Equal) },
    Schema { name: "Less", since: 1, build: |b| legacy(b, Compare::Less) },
    Schema { name: "Greater", since: 1, build: |b| legacy(b, Compare::Greater) },
    Schema { name: "And", since: 1, build: |b| legacy(b, Compare::And) },
    Schema { name: "Or", since: 1, build: |b| legacy(b, Compare::Or) },
    Schema { name: "Xor", since: 1, build: |b| legacy(b, Compare::Xor) },
    Schema { name: "Equal", since: 7, build: |_| Ok(Compare::Equal.into()) },
    Schema { name: "Less", since: 7, build: |_| Ok(Compare::Less.into()) },
    Schema { name: "Greater", since: 7, build: |_| Ok(Compare::Greater.into()) },
    Schema { name: "And", since: 7, build: |_| Ok(Compare::And.into()) },
    Schema { name: "Or", since: 7, build: |_| Ok(Compare::Or.into()) },
    Schema { name: "Xor", since: 7, build: |_| Ok(Compare::Xor.into()) },
    Schema { name: "LessOrEqual", since: 12, build: |_| Ok(Compare::LessOrEqual.into()) },
    Schema { name: "GreaterOrEqual", since: 12, build: |_| Ok(Compare::GreaterOrEqual.into()) },
];

impl Compare {
    /// The answer for two elements in this order; NaN is in no order with anything.
    pub fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Compare::Equal => order == Some(Ordering::Equal),
            Compare::Less => order == Some(Ordering::Less),
            Compare::LessOrEqual => order.is_some_and(Ordering::is_le),
            Compare::Greater => order == Some(Ordering::Greater),
            Compare::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
            Compare::And | Compare::Or | Compare::Xor => false,
        }
    }

    /// The answer for two bools.
    pub fn logic(self, a: bool, b: bool) -> bool {
        match self {
            Compare::And => a && b,
            Compare::Or => a || b,
            Compare::Xor => a != b,
            order => order.holds(Some(a.cmp(&b))),
        }
    }

    fn takes(self, d: DType) -> bool {
        match self {
            Compare::And | Compare::Or | Compare::Xor => d == DType::Bool,
            Compare::Equal => is_plain(d) || matches!(d, DType::Bool | DType::String),
            _ => is_plain(d),
        }
    }

    /// The answer for two lengths as 0 or 1, where it does not depend on symbols.
    fn length(self, a: &Dim, b: &Dim) -> Option<Dim> {
        let negative = |d: &Dim| d.as_const().is_some_and(|n| n < 0);
        let order = match (a.clone() - b.clone()).as_const() {
            Some(n) => n.cmp(&0),
            None if a.is_natural() && negative(b) => Ordering::Greater,
            None if b.is_natural() && negative(a) => Ordering::Less,
            None => return None,
        };
        Some(i64::from(self.holds(Some(order))).into())
    }
}

impl Operator for Compare {
    fn name(&self) -> &str {
        match self {
            Compare::Equal => "Equal",
            Compare::Less => "Less",
            Compare::LessOrEqual => "LessOrEqual",
            Compare::Greater => "Greater",
            Compare::GreaterOrEqual => "GreaterOrEqual",
            Compare::And => "And",
            Compare::Or => "Or",
            Compare::Xor => "Xor",
        }
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn traits(&self) -> Traits {
        use Compare::{And, Equal, Or, Xor};
        let commutative = matches!(self, Equal | And | Or | Xor);
        Traits { commutative, ..Traits::ELEMENTWISE }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.same_dtype(0..2)?;
        if !self.takes(dtype) {
            invalid!("{} takes no {dtype}", self.name());
        }
        let shape = cx.broadcast(0..2)?;
        let dims = match (known_dims(cx, 0), known_dims(cx, 1)) {
            (Some(a), Some(b)) => pairs(&a, &b, |a, b| self.length(a, b)),
            _ => None,
        };
        Ok(vec![Fact::tensor(DType::Bool, shape).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (a, b) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        if !self.takes(a.dtype()) {
            invalid!("{} takes no {}", self.name(), a.dtype());
        }
        let y = match a.dtype() {
            DType::Bool => zip(cx, a, b, |x: bool, y: bool| Ok(self.logic(x, y)))?,
            DType::String => self.strings(cx, a, b)?,
            d => match_number!(d, T => {
                zip(cx, a, b, |x: T, y: T| Ok(self.holds(x.partial_cmp(&y))))?
            }, else invalid!("{} takes no {d}", self.name())),
        };
        Ok(vec![y.into()])
    }
}

impl Compare {
    fn strings(self, cx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let out = shape::broadcast(a.shape(), b.shape())?;
        cx.numel(DType::Bool, &out)?;
        let (x, y) = (a.strings()?, b.strings()?);
        let at = |t: &Tensor| shape::offsets(&out, &shape::broadcast_strides(t.shape(), &out));
        let data = at(a).zip(at(b)).map(|(i, j)| self.holds(Some(x[i].cmp(&y[j])))).collect();
        Ok(Tensor::from_vec::<bool>(&out, data)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn of(op: &str, a: Tensor, b: Tensor) -> Vec<bool> {
        let ty = |t: &Tensor| format!("{}[{}]", t.dtype(), t.len());
        let text = format!("y = {op}(a: {}, b: {})\nreturn y", ty(&a), ty(&b));
        run1(&text, &[a, b]).expect("runs").as_slice::<bool>().expect("bools").to_vec()
    }

    #[test]
    fn orders() {
        let a = || Tensor::vector(vec![1f32, 2.0, 3.0, f32::NAN]);
        let b = || Tensor::vector(vec![2f32, 2.0, 2.0, f32::NAN]);
        for (op, want) in [
            ("Equal", [false, true, false, false]),
            ("Less", [true, false, false, false]),
            ("LessOrEqual", [true, true, false, false]),
            ("Greater", [false, false, true, false]),
            ("GreaterOrEqual", [false, true, true, false]),
        ] {
            assert_eq!(of(op, a(), b()), want, "{op}");
        }
        let big = of("Less", Tensor::vector(vec![i64::MAX - 1]), Tensor::vector(vec![i64::MAX]));
        assert_eq!(big, [true]);
    }

    #[test]
    fn logic() {
        let a = || Tensor::vector(vec![false, false, true, true]);
        let b = || Tensor::vector(vec![false, true, false, true]);
        for (op, want) in [
            ("And", [false, false, false, true]),
            ("Or", [false, true, true, true]),
            ("Xor", [false, true, true, false]),
            ("Equal", [true, false, false, true]),
        ] {
            assert_eq!(of(op, a(), b()), want, "{op}");
        }
    }

    #[test]
    fn strings() {
        let s = |v: &[&str]| {
            Tensor::from_strings(&[v.len()], v.iter().map(|&s| s.to_owned()).collect())
        };
        let (a, b) = (s(&["a", "b"]).expect("two"), s(&["a"]).expect("one"));
        assert_eq!(of("Equal", a, b), [true, false]);
        assert!(types("y = Less(a: str[1], b: str[1])\nreturn y").is_err());
        assert!(types("y = And(a: i32[1], b: i32[1])\nreturn y").is_err());
    }

    #[test]
    fn lengths_decide_where_symbols_do_not() {
        let text = "n = Shape(x: f32[N,3])\nk = i64[1]{1}\ns = Add(n, k)\n\
            m = i64[1]{-1}\nt = i64[2]{8,9}\nc = Equal(s, m)\nw = Where(c, t, s)\n\
            y = ConstantOfShape(w)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[N+1,4]"]);
    }
}
