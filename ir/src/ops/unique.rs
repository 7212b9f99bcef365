//! Distinct elements, and the places of elements that are not zero.
//!
//! ```text
//! y, indices, inverse, counts = Unique(x: f32[N])      y: f32[U], inverse: i64[N]
//! places = NonZero(x: f32[N,M])                        places: i64[2,K]
//! ```

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, match_element, match_number, shape};

use super::layout::product;
use super::topk::order;
use crate::eval::tensor;
use crate::{Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attrs, invalid};

attrs! {
    /// The distinct slices of an axis or the distinct elements, the place of each one's first
    /// occurrence, for each slice the place of its like among the distinct ones, and counts.
    #[derive(Copy)]
    pub struct Unique {
        /// The axis; elements are compared where there is none.
        axis: Option<i64> = None,
        /// Whether they are in rising order rather than in that of their first occurrence.
        sorted: bool = true,
    }
}

/// The coordinates of all elements that are not zero, one column each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonZero;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Unique", since: 11, build: |b| Ok(Unique::read(&mut b.attrs)?.into()) },
    Schema { name: "NonZero", since: 9, build: |_| Ok(NonZero.into()) },
];

/// A number for each of `n` things that tells their order; equals have one number.
fn ranks(n: usize, order: impl Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..n).collect();
    sorted.sort_by(|&a, &b| order(a, b));
    let mut out = vec![0; n];
    for pair in sorted.windows(2) {
        let step = usize::from(order(pair[0], pair[1]) != Ordering::Equal);
        out[pair[1]] = out[pair[0]] + step;
    }
    out
}

/// The ranks of a tensor's elements; NaN is the greatest and equals itself.
fn element_ranks(x: &Tensor) -> Result<Vec<usize>> {
    let n = x.len();
    match x.dtype() {
        DType::String => {
            let x = x.strings()?;
            Ok(ranks(n, |a, b| x[a].cmp(&x[b])))
        }
        DType::Bool => Ok(x.to_vec::<u8>()?.into_iter().map(usize::from).collect()),
        DType::C64 => {
            let x = x.as_slice::<kiln_tensor::Complex<f32>>()?;
            Ok(ranks(n, |a, b| order(x[a].re, x[b].re).then(order(x[a].im, x[b].im))))
        }
        DType::C128 => {
            let x = x.as_slice::<kiln_tensor::Complex<f64>>()?;
            Ok(ranks(n, |a, b| order(x[a].re, x[b].re).then(order(x[a].im, x[b].im))))
        }
        d => match_number!(d, T => {
            let x = x.as_slice::<T>()?;
            Ok(ranks(n, |a, b| order(x[a], x[b])))
        }, else invalid!("Unique takes no {d}")),
    }
}

/// The ranks of the slices along an axis.
fn slice_ranks(x: &Tensor, axis: usize) -> Result<Vec<usize>> {
    let elements = element_ranks(x)?;
    let n = x.shape()[axis];
    if elements.is_empty() {
        return Ok(vec![0; n]);
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let rows = |i: usize| elements.chunks_exact(inner).skip(i).step_by(n);
    Ok(ranks(n, |a, b| rows(a).cmp(rows(b))))
}

impl Unique {
    fn run(&self, cx: &Context, x: &Tensor) -> Result<Vec<Tensor>> {
        cx.numel(DType::C128, x.shape())?;
        let flat = if self.axis.is_none() { x.reshape(&[x.len()])? } else { x.clone() };
        let axis = shape::axis(self.axis.unwrap_or(0), flat.rank())?;
        cx.numel(DType::I64, &[flat.shape()[axis]])?;
        let ranks = match self.axis {
            None => element_ranks(&flat)?,
            Some(_) => slice_ranks(&flat, axis)?,
        };
        let mut first: Vec<Option<usize>> = vec![None; ranks.iter().max().map_or(0, |m| m + 1)];
        for (i, &rank) in ranks.iter().enumerate() {
            first[rank].get_or_insert(i);
        }
        // Of booleans, one may not occur.
        let mut firsts: Vec<usize> = first.into_iter().flatten().collect();
        if !self.sorted {
            firsts.sort_unstable();
        }
        let mut place = vec![0; ranks.len() + 2];
        firsts.iter().enumerate().for_each(|(k, &i)| place[ranks[i]] = k);
        let inverse: Vec<i64> = ranks.iter().map(|&r| place[r] as i64).collect();
        let mut counts = vec![0i64; firsts.len()];
        inverse.iter().for_each(|&k| counts[k as usize] += 1);
        let indices = firsts.iter().map(|&i| i as i64).collect();
        Ok(vec![
            slices(&flat, axis, &firsts)?,
            Tensor::vector(indices),
            Tensor::vector(inverse),
            Tensor::vector(counts),
        ])
    }
}

/// The slices of an axis at some places.
fn slices(x: &Tensor, axis: usize, at: &[usize]) -> Result<Tensor> {
    let mut out = x.shape().to_vec();
    let n = std::mem::replace(&mut out[axis], at.len());
    if shape::numel(&out)? == 0 {
        return Ok(Tensor::zeros(x.dtype(), &out)?);
    }
    let inner: usize = out[axis + 1..].iter().product();
    let outer: usize = out[..axis].iter().product();
    let rows = (0..outer).flat_map(|o| at.iter().map(move |i| (o * n + i) * inner));
    Ok(x.take(&out, rows.flat_map(|start| start..start + inner))?)
}

impl Operator for Unique {
    fn name(&self) -> &str {
        "Unique"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn traits(&self) -> Traits {
        Traits::optional(3)
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype(0)?;
        let distinct = cx.fresh();
        let (mut shape, mut n) = (None, None);
        match (self.axis, cx.shape(0)?) {
            (None, x) => {
                shape = Some(vec![distinct.clone()]);
                n = x.map(product);
            }
            (Some(axis), Some(x)) => {
                let axis = shape::axis(axis, x.len())?;
                let mut x = x.to_vec();
                n = Some(std::mem::replace(&mut x[axis], distinct.clone()));
                shape = Some(x);
            }
            _ => {}
        }
        let n = n.unwrap_or_else(|| cx.fresh());
        let places = |n: &Dim| Fact::shaped(DType::I64, vec![n.clone()]);
        let y = Fact::tensor(dtype, shape);
        Ok(vec![y, places(&distinct), places(&n), places(&distinct)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let out = self.run(cx, tensor(inputs, 0)?)?;
        Ok(out.into_iter().map(Datum::from).collect())
    }
}

impl Operator for NonZero {
    fn name(&self) -> &str {
        "NonZero"
    }

    fn attrs(&self) -> Attrs {
        Attrs::default()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype(0)?;
        let rank = match cx.shape(0)? {
            Some(x) => x.len().into(),
            None => cx.fresh(),
        };
        Ok(vec![Fact::shaped(DType::I64, vec![rank, cx.fresh()])])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let found: Vec<usize> = match x.dtype() {
            DType::String => {
                let x = x.strings()?.iter().enumerate();
                x.filter(|(_, s)| !s.is_empty()).map(|(i, _)| i).collect()
            }
            d => match_element!(d, T => {
                let x = x.as_slice::<T>()?.iter().enumerate();
                x.filter(|(_, x)| **x != T::default()).map(|(i, _)| i).collect()
            }, else invalid!("NonZero takes no {d}")),
        };
        let shape = [x.rank(), found.len()];
        let mut y = Vec::with_capacity(cx.numel(DType::I64, &shape)?);
        for (stride, &n) in shape::strides(x.shape()).into_iter().zip(x.shape()) {
            y.extend(found.iter().map(|i| (i / stride % n) as i64));
        }
        Ok(vec![Tensor::from_vec(&shape, y)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, run1, types};

    fn unique(attrs: &str, x: &Tensor) -> Vec<Tensor> {
        let dims: Vec<String> = x.shape().iter().map(usize::to_string).collect();
        let text = format!(
            "y, i, v, c = Unique(x: {}[{}]) {{{attrs}}}\nreturn y, i, v, c",
            x.dtype(),
            dims.join(",")
        );
        let out = run(&text, std::slice::from_ref(x)).expect("runs");
        out.iter().map(|d| d.as_tensor().expect("a tensor").clone()).collect()
    }

    fn ints(v: &[i64]) -> Tensor {
        Tensor::vector(v.to_vec())
    }

    #[test]
    fn elements_in_both_orders() {
        let x = ints(&[2, 1, 1, 3, 4, 3]);
        let want: [&[i64]; 4] = [&[2, 1, 3, 4], &[0, 1, 3, 4], &[0, 1, 1, 2, 3, 2], &[1, 2, 2, 1]];
        assert_eq!(unique("sorted=0", &x), want.map(ints));
        let want: [&[i64]; 4] = [&[1, 2, 3, 4], &[1, 0, 3, 4], &[1, 0, 0, 2, 3, 2], &[2, 1, 2, 1]];
        assert_eq!(unique("", &x), want.map(ints));
    }

    #[test]
    fn slices_of_an_axis() {
        let x = Tensor::from_vec(&[2, 3], vec![5i32, 0, 5, 1, 7, 1]).expect("2x3");
        let out = unique("axis=1", &x);
        assert_eq!(out[0], Tensor::from_vec(&[2, 2], vec![0, 5, 7, 1]).expect("2x2"));
        assert_eq!(out[1..], [ints(&[1, 0]), ints(&[1, 0, 1]), ints(&[1, 2])]);
        let out = unique("axis=-2", &x);
        assert_eq!(out[0], Tensor::from_vec(&[2, 3], vec![1, 7, 1, 5, 0, 5]).expect("2x3"));
    }

    #[test]
    fn other_types() {
        let nan = Tensor::vector(vec![f32::NAN, 1.0, f32::NAN]);
        assert_eq!(unique("", &nan)[1..], [ints(&[1, 0]), ints(&[1, 0, 1]), ints(&[1, 2])]);
        let yes = Tensor::vector(vec![true, true]);
        assert_eq!(unique("", &yes)[1..], [ints(&[0]), ints(&[0, 0]), ints(&[2])]);
        let s = Tensor::from_strings(&[2], vec!["b".into(), "a".into()]).expect("two");
        assert_eq!(unique("", &s)[1], ints(&[1, 0]));
        let none = Tensor::from_vec::<f32>(&[0], vec![]).expect("empty");
        assert!(unique("", &none).iter().all(|t| t.shape() == [0]));
    }

    #[test]
    fn places_of_what_is_not_zero() {
        let x = Tensor::from_vec(&[2, 2], vec![1f32, -0.0, f32::NAN, 2.0]).expect("2x2");
        let y = run1("y = NonZero(x: f32[2,2])\nreturn y", &[x]);
        assert_eq!(
            y.expect("runs"),
            Tensor::from_vec(&[2, 3], vec![0i64, 1, 1, 0, 0, 1]).expect("2x3")
        );
        let y = run1("y = NonZero(x: bool[])\nreturn y", &[Tensor::scalar(true)]);
        assert_eq!(y.expect("runs").shape(), [0, 1]);
    }

    #[test]
    fn shapes_with_symbols() {
        let ty = |text: &str| types(text).expect("types");
        let out = ty("y, i, v, c = Unique(x: f32[N,M])\nreturn y, v");
        assert_eq!(out, ["f32[?1]", "i64[M*N]"]);
        let out = ty("y, i, v, c = Unique(x: f32[N,M]) {axis=1}\nreturn y, v");
        assert_eq!(out, ["f32[N,?1]", "i64[M]"]);
        assert_eq!(ty("y = NonZero(x: str[N,M,2])\nreturn y"), ["i64[3,?1]"]);
    }
}
