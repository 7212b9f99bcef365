//! Tensors put together along an axis, and taken apart.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, match_element, shape};

use super::layout::{known_dims, lengths, vector_len};
use crate::eval::{optional, tensor};
use crate::{Attrs, Build, Context, Dim, Fact, Infer, Operator, Result, Schema, invalid};

/// A join, or its inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Concat {
    /// The inputs one after the other along `axis`.
    Join {
        /// The axis along which lengths may differ.
        axis: i64,
    },
    /// Parts of the lengths that input 1 gives; without it, equal parts, the last ones shorter.
    Split {
        /// The axis that is cut.
        axis: i64,
        /// How many parts there are.
        parts: u32,
    },
}

/// The most parts of a Split.
const MOST: i64 = 1 << 16;

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Concat",
        since: 1,
        build: |b| Ok(Concat::Join { axis: b.take("axis")?.unwrap_or(1) }.into()),
    },
    Schema {
        name: "Concat",
        since: 4,
        build: |b| Ok(Concat::Join { axis: b.require("axis")? }.into()),
    },
    Schema {
        name: "Split",
        since: 1,
        build: |b| {
            b.ints_to_input("split", 1)?;
            split(b)
        },
    },
    Schema { name: "Split", since: 13, build: split },
];

fn split(b: &mut Build<'_>) -> Result<crate::Built> {
    let axis = b.take("axis")?.unwrap_or(0);
    let parts = b.take("num_outputs")?.unwrap_or(b.outputs as i64);
    match u32::try_from(parts) {
        Ok(n) if n > 0 && parts <= MOST => Ok(Concat::Split { axis, parts: n }.into()),
        _ => invalid!("a Split into {parts} parts; between 1 and {MOST} are possible"),
    }
}

impl Operator for Concat {
    fn name(&self) -> &str {
        match self {
            Concat::Join { .. } => "Concat",
            Concat::Split { .. } => "Split",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default();
        match *self {
            Concat::Join { axis } => a.with("axis", axis),
            Concat::Split { axis, parts } => {
                a.with("axis", Some(axis).filter(|&x| x != 0)).with("num_outputs", i64::from(parts))
            }
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Concat::Join { .. } => 1..=usize::MAX,
            Concat::Split { .. } => 1..=2,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        match *self {
            Concat::Join { axis } => infer_join(cx, axis),
            Concat::Split { axis, parts } => infer_split(cx, axis, parts as usize),
        }
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        match *self {
            Concat::Join { axis } => {
                let parts: Vec<_> =
                    (0..inputs.len()).map(|i| tensor(inputs, i)).collect::<Result<_>>()?;
                Ok(vec![join(cx, &parts, axis)?.into()])
            }
            Concat::Split { axis, parts } => {
                let x = tensor(inputs, 0)?;
                let axis = shape::axis(axis, x.rank())?;
                let n = x.shape()[axis];
                let cuts = match optional(inputs, 1)? {
                    Some(t) => lengths(t)?,
                    None => equal_parts(n, parts as usize),
                };
                if cuts.len() != parts as usize || cuts.iter().try_fold(0, add) != Some(n) {
                    invalid!("{parts} parts of lengths {cuts:?} do not make {n}");
                }
                cut(x, axis, &cuts).map(|v| v.into_iter().map(Datum::from).collect())
            }
        }
    }
}

fn add(sum: usize, n: &usize) -> Option<usize> {
    sum.checked_add(*n)
}

fn equal_parts(n: usize, parts: usize) -> Vec<usize> {
    let each = n.div_ceil(parts);
    (0..parts).map(|i| each.min(n.saturating_sub(i * each))).collect()
}

fn infer_join(cx: &mut Infer<'_>, axis: i64) -> Result<Vec<Fact>> {
    let dtype = cx.same_dtype(0..cx.len())?;
    let mut out: Option<Vec<Dim>> = None;
    let mut known = true;
    for i in 0..cx.len() {
        match (out.as_mut(), cx.shape(i)?) {
            (_, None) => known = false,
            (None, Some(x)) => {
                shape::axis(axis, x.len())?;
                out = Some(x.to_vec());
            }
            (Some(out), Some(x)) => extend(out, x, axis, i)?,
        }
    }
    if !known {
        // The rank and the other lengths are those of the known inputs.
        if let Some(out) = out.as_mut() {
            let axis = shape::axis(axis, out.len())?;
            out[axis] = cx.fresh();
        }
    }
    let dims = (0..cx.len()).map(|i| known_dims(cx, i)).collect::<Option<Vec<_>>>();
    let vector = known && out.as_ref().is_some_and(|s| s.len() == 1);
    let dims = dims.map(|d| d.concat()).filter(|_| vector);
    Ok(vec![Fact::tensor(dtype, out).with_dims(dims)])
}

/// Lets the shape of input `i` follow `out` along `axis`.
fn extend(out: &mut [Dim], x: &[Dim], axis: i64, i: usize) -> Result<()> {
    if x.len() != out.len() {
        invalid!("input {i} has {} axes, those before it {}", x.len(), out.len());
    }
    let axis = shape::axis(axis, out.len())?;
    for (k, (a, b)) in out.iter_mut().zip(x).enumerate() {
        match (a.as_const(), b.as_const()) {
            _ if k == axis => *a = std::mem::take(a) + b.clone(),
            (Some(m), Some(n)) if m != n => {
                invalid!("axis {k} of input {i} has length {n}, those before it have {m}")
            }
            (None, Some(_)) => *a = b.clone(),
            _ => {}
        }
    }
    Ok(())
}

fn infer_split(cx: &mut Infer<'_>, axis: i64, parts: usize) -> Result<Vec<Fact>> {
    let dtype = cx.dtype(0)?;
    let Some(x) = cx.shape(0)? else { return Ok(vec![Fact::tensor(dtype, None); parts]) };
    let axis = shape::axis(axis, x.len())?;
    let cuts =
        if cx.has(1) { given_parts(cx, &x[axis], parts)? } else { even(cx, &x[axis], parts) };
    let dims = known_dims(cx, 0).filter(|_| x.len() == 1);
    let mut from = Some(0);
    let part = |cut: Dim| {
        let to = from.zip(cut.as_len()).map(|(f, n): (usize, usize)| f.saturating_add(n));
        let dims = dims.as_ref().and_then(|d| Some(d.get(from?..to?)?.to_vec()));
        from = to;
        let mut out = x.to_vec();
        out[axis] = cut;
        Fact::shaped(dtype, out).with_dims(dims)
    };
    Ok(cuts.into_iter().map(part).collect())
}

fn given_parts(cx: &mut Infer<'_>, n: &Dim, parts: usize) -> Result<Vec<Dim>> {
    let Some(cuts) = cx.dims(1) else {
        if vector_len(cx, 1)?.is_some_and(|k| k != parts) {
            invalid!("the node has {parts} outputs, but another number of lengths");
        }
        return Ok(cx.fresh_shape(parts));
    };
    let sum = cuts.iter().cloned().fold(Dim::from(0i64), |a, b| a + b);
    let differs = matches!((sum.as_const(), n.as_const()), (Some(a), Some(b)) if a != b);
    if cuts.len() != parts || differs || cuts.iter().any(|c| c.as_const().is_some_and(|c| c < 0)) {
        invalid!("{parts} parts of {} lengths, in sum {sum}, do not make {n}", cuts.len());
    }
    Ok(cuts)
}

/// Equal parts of a length.
fn even(cx: &mut Infer<'_>, n: &Dim, parts: usize) -> Vec<Dim> {
    if let Some(n) = n.as_len() {
        return equal_parts(n, parts).into_iter().map(Dim::from).collect();
    }
    if let Some(each) = n.exact_div(&Dim::from(parts)) {
        return vec![each; parts];
    }
    let first = n.ceil_div(parts as i64);
    let second = n.clone() - first.clone();
    match parts {
        2 => vec![first, second],
        _ => [vec![first], cx.fresh_shape(parts - 1)].concat(),
    }
}

/// The tensors one after the other along `axis`.
pub(crate) fn join(cx: &Context, parts: &[&Tensor], axis: i64) -> Result<Tensor> {
    let Some(first) = parts.first() else { invalid!("nothing to put together") };
    let axis = shape::axis(axis, first.rank())?;
    let mut out = first.shape().to_vec();
    out[axis] = 0;
    for (i, t) in parts.iter().enumerate() {
        let same = |k: usize| k == axis || t.shape()[k] == out[k];
        if t.rank() != out.len() || !(0..out.len()).all(same) || t.dtype() != first.dtype() {
            let (want, got) = (first.shape(), t.shape());
            invalid!("input {i} is {}{got:?}, which does not follow {want:?}", t.dtype());
        }
        out[axis] = add(out[axis], &t.shape()[axis]).unwrap_or(usize::MAX);
    }
    let n = cx.numel(first.dtype(), &out)?;
    let outer = shape::numel(&out[..axis])?;
    let rows: Vec<usize> =
        parts.iter().map(|t| shape::numel(&t.shape()[axis..])).collect::<Result<_, _>>()?;
    if first.dtype() == DType::String {
        let data = parts.iter().map(|t| t.strings()).collect::<Result<Vec<_>, _>>()?;
        return Ok(Tensor::from_strings(&out, interleave(&data, &rows, outer, n))?);
    }
    match_element!(first.dtype(), T => {
        let data = parts.iter().map(|t| t.as_slice::<T>()).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::from_vec(&out, interleave(&data, &rows, outer, n))?)
    }, else invalid!("no join of {}", first.dtype()))
}

/// In turn, a row of each part.
fn interleave<T: Clone>(parts: &[&[T]], rows: &[usize], outer: usize, n: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(n);
    // An empty part has no rows, whatever its other lengths say.
    let outer = if n == 0 { 0 } else { outer };
    for o in 0..outer {
        for (part, row) in parts.iter().zip(rows) {
            out.extend_from_slice(&part[o * row..(o + 1) * row]);
        }
    }
    out
}

/// The parts of `x` of these lengths along `axis`; their sum is the axis.
fn cut(x: &Tensor, axis: usize, cuts: &[usize]) -> Result<Vec<Tensor>> {
    let (lead, behind) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
    let (n, mut from) = (x.shape()[axis], 0);
    let mut parts = Vec::with_capacity(cuts.len());
    for &len in cuts {
        let out = [lead, &[len], behind].concat();
        let outer = if shape::numel(&out)? == 0 { 0 } else { shape::numel(lead)? };
        let inner = if outer == 0 { 0 } else { shape::numel(behind)? };
        let rows = (0..outer).map(|o| (o * n + from) * inner);
        parts.push(x.take(&out, rows.flat_map(|start| start..start + len * inner))?);
        from += len;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, run1, types};

    fn i(shape: &[usize], data: &[i32]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("integers")
    }

    #[test]
    fn joining() {
        let y = run1(
            "y = Concat(a: i32[2,1], b: i32[2,2]) {axis=-1}\nreturn y",
            &[i(&[2, 1], &[1, 4]), i(&[2, 2], &[2, 3, 5, 6])],
        );
        assert_eq!(y.expect("runs"), i(&[2, 3], &[1, 2, 3, 4, 5, 6]));
        let y = run1(
            "y = Concat(a: i32[2,0], b: i32[2,0]) {axis=1}\nreturn y",
            &[i(&[2, 0], &[]), i(&[2, 0], &[])],
        );
        assert_eq!(y.expect("empty"), i(&[2, 0], &[]));
        assert!(types("y = Concat(a: i32[2], b: i32[2,2]) {axis=0}\nreturn y").is_err());
        assert!(types("y = Concat(a: i32[2,2], b: i32[2,3]) {axis=0}\nreturn y").is_err());
        assert!(types("y = Concat(a: i32[2], b: i64[2]) {axis=0}\nreturn y").is_err());
    }

    #[test]
    fn splitting() {
        let x = || i(&[2, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let parts = |text: &str| -> Vec<Tensor> {
            let out = run(text, &[x()]).expect("runs");
            out.iter().map(|d| d.as_tensor().expect("a tensor").clone()).collect()
        };
        let got = parts("a, b = Split(x: i32[2,5]) {axis=1}\nreturn a, b");
        assert_eq!(got, [i(&[2, 3], &[0, 1, 2, 5, 6, 7]), i(&[2, 2], &[3, 4, 8, 9])]);
        let got = parts("s = i64[2]{0,2}\na, b = Split(x: i32[2,5], s)\nreturn a, b");
        assert_eq!((got[0].shape(), &got[1]), (&[0, 5][..], &x()));
        assert!(types("s = i64[2]{1,2}\na, b = Split(x: i32[2,5], s)\nreturn a, b").is_err());
        assert!(types("a, b = Split(x: i32[2,5]) {num_outputs=99999999999}\nreturn a, b").is_err());
    }

    #[test]
    fn lengths_flow() {
        let text = "s = Shape(x: f32[N,C,4])
            a, b = Split(s) {num_outputs=2}
            k = i64[1]{7}
            c = Concat(b, k, a) {axis=0}
            y = ConstantOfShape(c)
            p, q = Split(x)
            r, t, u = Split(x) {axis=1}
            j = Concat(x, z: f32[M,C,4]) {axis=0}
            return y, p, q, r, t, j";
        let want = [
            "f32[4,7,N,C]",
            "f32[floor(N+1,2),C,4]",
            "f32[N-floor(N+1,2),C,4]",
            "f32[N,floor(C+2,3),4]",
            "f32[N,?1,4]",
            "f32[M+N,C,4]",
        ];
        let got = types(text).expect("types");
        assert_eq!(got[0], want[0]);
        assert_eq!(got[1], want[1]);
        assert_eq!(got[3..5], want[3..5]);
    }

    #[test]
    fn uneven_parts() {
        assert_eq!(equal_parts(7, 3), [3, 3, 1]);
        assert_eq!(equal_parts(5, 4), [2, 2, 1, 0]);
        assert_eq!(equal_parts(0, 2), [0, 0]);
    }
}
