//! The greatest or the least elements along an axis.
//!
//! ```text
//! values, indices = TopK(x: f32[N,C], k: i64[1]{5})      values: f32[N,5], indices: i64[N,5]
//! ```

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Number, Tensor, match_number, shape};

use super::binary::is_plain;
use super::layout::known_dims;
use super::real::Ticks;
use crate::eval::tensor;
use crate::{
    Attrs, Build, Built, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, attrs, invalid,
};

attrs! {
    /// The first `k` elements along an axis in falling or rising order, and their places.
    ///
    /// NaN is greater than every number; of equals the one with the lower place comes first.
    #[derive(Copy)]
    pub struct TopK {
        /// The axis.
        axis: i64 = -1,
        /// Whether the greatest elements are taken.
        largest: bool = true,
        /// Whether their order matters; they are in order in any case.
        sorted: bool = true,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "TopK", since: 10, build: |b| Ok(TopK::read(&mut b.attrs)?.into()) },
    Schema { name: "TopK", since: 1, build: counted },
];

/// Before opset 10, `k` is an attribute.
fn counted(b: &mut Build<'_>) -> Result<Built> {
    let k = b.require::<i64>("k")?;
    let k = b.constant(Tensor::vector(vec![k]));
    b.set_input(1, Some(k));
    Ok(TopK::read(&mut b.attrs)?.into())
}

/// The order of numbers, with NaN as the greatest.
pub(crate) fn order<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl TopK {
    fn pick<T: Number>(
        &self,
        cx: &Context,
        x: &[T],
        [n, inner, k]: [usize; 3],
    ) -> Result<(Vec<T>, Vec<i64>)> {
        let count = x.len() / (n * inner) * k * inner;
        let (mut values, mut places) = (cx.zeros::<T>(&[count])?, cx.zeros::<i64>(&[count])?);
        let mut ticks = Ticks::new(cx);
        let mut column: Vec<usize> = Vec::with_capacity(n);
        for (o, block) in x.chunks_exact(n * inner).enumerate() {
            for i in 0..inner {
                let before = |&a: &usize, &b: &usize| {
                    let order = order(block[a * inner + i], block[b * inner + i]);
                    if self.largest { order.reverse() } else { order }.then(a.cmp(&b))
                };
                column.clear();
                column.extend(0..n);
                if k < n {
                    column.select_nth_unstable_by(k, before);
                }
                column[..k].sort_unstable_by(before);
                for (j, &place) in column[..k].iter().enumerate() {
                    let to = (o * k + j) * inner + i;
                    (values[to], places[to]) = (block[place * inner + i], place as i64);
                }
                ticks.add(n)?;
            }
        }
        Ok((values, places))
    }
}

/// The number of elements wanted of `n`.
fn wanted(k: i64, n: Option<usize>) -> Result<usize> {
    match (usize::try_from(k), n) {
        (Ok(k), Some(n)) if k > n => invalid!("k is {k}, but the axis has {n} elements"),
        (Ok(k), _) => Ok(k),
        _ => invalid!("k is {k}; it must not be negative"),
    }
}

impl Operator for TopK {
    fn name(&self) -> &str {
        "TopK"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, is_plain)?;
        cx.dtype_in(1, |d| d == DType::I64)?;
        let k = known_dims(cx, 1).and_then(|d| d.into_iter().next());
        let mut shape = cx.shape(0)?.map(<[Dim]>::to_vec);
        if let Some(shape) = &mut shape {
            let axis = shape::axis(self.axis, shape.len())?;
            if let Some(k) = k.as_ref().and_then(Dim::as_const) {
                wanted(k, shape[axis].as_len())?;
            }
            shape[axis] = k.unwrap_or_else(|| cx.fresh());
        }
        Ok(vec![Fact::tensor(dtype, shape.clone()), Fact::tensor(DType::I64, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let axis = shape::axis(self.axis, x.rank())?;
        let mut out = x.shape().to_vec();
        let n = out[axis];
        let k = wanted(tensor(inputs, 1)?.to_scalar()?, Some(n))?;
        out[axis] = k;
        let inner: usize = if x.is_empty() { 0 } else { x.shape()[axis + 1..].iter().product() };
        match_number!(x.dtype(), T => {
            let (values, places) = match x.is_empty() || k == 0 {
                true => (vec![], vec![]),
                false => self.pick(cx, x.as_slice::<T>()?, [n, inner, k])?,
            };
            let values = Tensor::from_vec(&out, values)?;
            Ok(vec![values.into(), Tensor::from_vec(&out, places)?.into()])
        }, else Err(Error::invalid(format!("TopK takes no {}", x.dtype()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, types};
    use crate::schema::{NodeSpec, add};
    use crate::{Graph, Type};

    fn of(attrs: &str, k: i64, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let dims: Vec<String> = x.shape().iter().map(usize::to_string).collect();
        let text = format!(
            "v, i = TopK(x: {}[{}], k: i64[1]) {{{attrs}}}\nreturn v, i",
            x.dtype(),
            dims.join(",")
        );
        let out = run(&text, &[x.clone(), Tensor::vector(vec![k])])?;
        Ok((out[0].as_tensor()?.clone(), out[1].as_tensor()?.clone()))
    }

    #[test]
    fn both_ends_along_both_axes() {
        let x = Tensor::from_vec(&[2, 3], vec![1i32, 3, 3, 6, 5, 4]).expect("2x3");
        for (attrs, k, shape, values, places) in [
            ("", 2, [2, 2], vec![3, 3, 6, 5], vec![1i64, 2, 0, 1]),
            ("largest=0", 2, [2, 2], vec![1, 3, 4, 5], vec![0, 1, 2, 1]),
            ("axis=0", 1, [1, 3], vec![6, 5, 4], vec![1, 1, 1]),
            ("axis=-2, sorted=0", 2, [2, 3], vec![6, 5, 4, 1, 3, 3], vec![1, 1, 1, 0, 0, 0]),
            ("", 0, [2, 0], vec![], vec![]),
        ] {
            let (v, i) = of(attrs, k, &x).expect(attrs);
            assert_eq!(v, Tensor::from_vec(&shape, values).expect("lengths"), "{attrs}");
            assert_eq!(i, Tensor::from_vec(&shape, places).expect("lengths"), "{attrs}");
        }
        assert!(of("", 4, &x).is_err());
        assert!(of("", -1, &x).is_err());
    }

    #[test]
    fn nan_is_the_greatest() {
        let x = Tensor::vector(vec![1f32, f32::NAN, f32::INFINITY]);
        assert_eq!(of("", 3, &x).expect("runs").1, Tensor::vector(vec![1i64, 2, 0]));
        assert_eq!(of("largest=0", 3, &x).expect("runs").1, Tensor::vector(vec![0i64, 2, 1]));
    }

    #[test]
    fn types_and_old_forms() {
        let ty = |k: &str| types(&format!("v, i = TopK(x: f16[N,7], {k})\nreturn v, i"));
        assert!(ty("k: i64[1]").expect("types")[0].starts_with("f16[N,?"));
        assert_eq!(
            types("k = i64[1]{3}\nv, i = TopK(x: f16[N,7], k)\nreturn v, i").expect("types"),
            ["f16[N,3]", "i64[N,3]"]
        );
        assert!(types("k = i64[1]{8}\nv, i = TopK(x: f16[N,7], k)\nreturn v, i").is_err());
        let mut g = Graph::new();
        let x = g.input("x", Type::tensor(DType::F32, Some(vec![4i64.into()])));
        let attrs = Attrs::default().with("k", 2i64);
        let inputs = vec![Some(x)];
        let spec = NodeSpec { op: "TopK", opset: 1, name: "y", inputs, attrs, outputs: 2 };
        let y = add(&mut g, spec).expect("builds");
        assert_eq!(g.ty(y[1]).to_string(), "i64[2]");
    }
}
