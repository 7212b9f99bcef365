//! The place of the greatest or the least element along an axis.
//!
//! ```text
//! y = ArgMax(x: f32[N,C]) {axis=1, keepdims=0}      y: i64[N]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::axis;
use kiln_tensor::{DType, Datum, Number, Tensor, match_number};

use super::binary::is_plain;
use super::real::Ticks;
use crate::eval::tensor;
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, attrs, invalid,
};

attrs! {
    /// The attributes of ArgMax and ArgMin.
    #[derive(Copy)]
    pub struct ArgAttrs {
        /// The axis that is searched.
        axis: i64 = 0,
        /// Whether the axis stays, with length 1.
        keepdims: bool = true,
        /// Whether the last of equal elements is taken rather than the first.
        select_last_index: bool = false,
    }
}

/// A search along an axis; NaN is beyond every number, as in numpy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// For the greatest.
    Max(ArgAttrs),
    /// For the least.
    Min(ArgAttrs),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "ArgMax", since: 1, build: |b| build(b, Arg::Max) },
    Schema { name: "ArgMin", since: 1, build: |b| build(b, Arg::Min) },
];

fn build(b: &mut Build<'_>, op: fn(ArgAttrs) -> Arg) -> Result<Built> {
    Ok(op(ArgAttrs::read(&mut b.attrs)?).into())
}

impl Arg {
    /// The attributes.
    pub fn fields(&self) -> &ArgAttrs {
        match self {
            Arg::Max(a) | Arg::Min(a) => a,
        }
    }

    /// Whether `x` takes the place of an earlier `best`.
    fn beats<T: Number>(&self, x: T, best: T) -> bool {
        let further = match self {
            _ if best.is_nan() || x.is_nan() => x.is_nan() && !best.is_nan(),
            Arg::Max(_) => x > best,
            Arg::Min(_) => x < best,
        };
        let equal = x == best || (x.is_nan() && best.is_nan());
        further || (self.fields().select_last_index && equal)
    }

    fn places<T: Number>(&self, cx: &Context, x: &[T], n: usize, inner: usize) -> Result<Vec<i64>> {
        let block = n.saturating_mul(inner).max(1);
        let mut places = cx.zeros::<i64>(&[x.len() / n.max(1)])?;
        let mut ticks = Ticks::new(cx);
        for (x, places) in x.chunks_exact(block).zip(places.chunks_exact_mut(inner.max(1))) {
            let (first, rest) = x.split_at(inner);
            let mut best = first.to_vec();
            for (i, row) in rest.chunks_exact(inner.max(1)).enumerate() {
                for ((x, best), place) in row.iter().zip(&mut best).zip(&mut *places) {
                    if self.beats(*x, *best) {
                        (*best, *place) = (*x, i as i64 + 1);
                    }
                }
            }
            ticks.add(block)?;
        }
        Ok(places)
    }
}

impl Operator for Arg {
    fn name(&self) -> &str {
        match self {
            Arg::Max(_) => "ArgMax",
            Arg::Min(_) => "ArgMin",
        }
    }

    fn attrs(&self) -> Attrs {
        self.fields().write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_plain)?;
        let mut shape = cx.shape(0)?.map(<[Dim]>::to_vec);
        if let Some(shape) = &mut shape {
            let at = axis(self.fields().axis, shape.len())?;
            if shape[at].as_const() == Some(0) {
                invalid!("axis {at} is empty: it has no greatest and no least element");
            }
            match self.fields().keepdims {
                true => shape[at] = 1i64.into(),
                false => drop(shape.remove(at)),
            }
        }
        Ok(vec![Fact::tensor(DType::I64, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let at = axis(self.fields().axis, x.rank())?;
        let mut shape = x.shape().to_vec();
        let n = std::mem::replace(&mut shape[at], 1);
        if n == 0 {
            invalid!("axis {at} is empty: it has no greatest and no least element");
        }
        let inner = if x.is_empty() { 0 } else { shape[at..].iter().product() };
        let places = match_number!(x.dtype(), T => {
            self.places(cx, x.as_slice::<T>()?, n, inner)?
        }, else invalid!("{} takes no {}", self.name(), x.dtype()));
        if !self.fields().keepdims {
            shape.remove(at);
        }
        Ok(vec![Tensor::from_vec(&shape, places)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn of(op: &str, attrs: &str, x: &Tensor) -> Tensor {
        let dims: Vec<String> = x.shape().iter().map(usize::to_string).collect();
        let text = format!("y = {op}(x: {}[{}]) {{{attrs}}}\nreturn y", x.dtype(), dims.join(","));
        run1(&text, std::slice::from_ref(x)).expect("runs")
    }

    #[test]
    fn first_and_last_of_equals() {
        let x = Tensor::from_vec(&[2, 3], vec![2i32, 1, 2, 5, 5, 4]).expect("2x3");
        for (op, attrs, shape, want) in [
            ("ArgMax", "axis=1", vec![2, 1], vec![0i64, 0]),
            ("ArgMax", "axis=-1, select_last_index=1, keepdims=0", vec![2], vec![2, 1]),
            ("ArgMax", "", vec![1, 3], vec![1, 1, 1]),
            ("ArgMin", "axis=1, keepdims=0", vec![2], vec![1, 2]),
            ("ArgMin", "keepdims=0", vec![3], vec![0, 0, 0]),
        ] {
            let want = Tensor::from_vec(&shape, want).expect("lengths agree");
            assert_eq!(of(op, attrs, &x), want, "{op} {attrs}");
        }
    }

    #[test]
    fn nan_is_beyond_every_number() {
        let x = Tensor::vector(vec![1f32, f32::NAN, 3.0, f32::NAN]);
        for op in ["ArgMax", "ArgMin"] {
            assert_eq!(of(op, "", &x), Tensor::vector(vec![1i64]), "{op}");
            assert_eq!(of(op, "select_last_index=1", &x), Tensor::vector(vec![3i64]), "{op}");
        }
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |text: &str| types(&format!("y = {text}\nreturn y"));
        assert_eq!(ty("ArgMax(x: f32[N,C,3]) {axis=1}").expect("types"), ["i64[N,1,3]"]);
        assert_eq!(ty("ArgMin(x: u8[N,3]) {keepdims=0}").expect("types"), ["i64[3]"]);
        assert!(ty("ArgMax(x: f32[2]) {axis=1}").is_err());
        assert!(ty("ArgMax(x: f32[2,0]) {axis=1}").is_err());
        assert!(ty("ArgMax(x: bool[2])").is_err());
        let empty = Tensor::from_vec::<f32>(&[2, 0], vec![]).expect("empty");
        let y = of("ArgMax", "", &empty);
        assert_eq!(y, Tensor::from_vec::<i64>(&[1, 0], vec![]).expect("empty"));
    }
}
