//! Operators that pick elements of a tensor by indices or by a mask.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, shape};

use super::compare::Compare;
use super::layout::{known_dims, product};
use super::select::Select;
use crate::eval::tensor;
use crate::{Attrs, Build, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, invalid};

/// A way to pick elements; indices count from the end where they are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gather {
    /// Slices along an axis: `y[a.., i.., b..] = x[a.., index[i..], b..]`.
    Slices {
        /// The axis that the indices are of.
        axis: i64,
    },
    /// Elements along an axis: `y[.., i, ..] = x[.., index[.., i, ..], ..]`.
    Elements {
        /// The axis that the indices are of.
        axis: i64,
    },
    /// Slices by tuples of indices, which the last axis of the indices holds.
    Tuples {
        /// How many leading axes data and indices share.
        batch_dims: i64,
    },
    /// The slices of an axis, or the flat elements, where a mask is true.
    Compress {
        /// The axis of the mask.
        axis: Option<i64>,
    },
    /// A new axis that holds `values[1]` at each index and `values[0]` elsewhere.
    OneHot {
        /// Where the new axis is.
        axis: i64,
    },
    /// Columns of a matrix; a vector is a matrix of one row.
    Features,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "Gather",
        since: 1,
        build: |b| Ok(Gather::Slices { axis: b.take("axis")?.unwrap_or(0) }.into()),
    },
    Schema {
        name: "GatherElements",
        since: 11,
        build: |b| Ok(Gather::Elements { axis: b.take("axis")?.unwrap_or(0) }.into()),
    },
    Schema {
        name: "GatherND",
        since: 11,
        build: |b| Ok(Gather::Tuples { batch_dims: b.take("batch_dims")?.unwrap_or(0) }.into()),
    },
    Schema {
        name: "Compress",
        since: 9,
        build: |b| Ok(Gather::Compress { axis: b.take("axis")? }.into()),
    },
    Schema {
        name: "OneHot",
        since: 9,
        build: |b| {
            drop_negative(b)?;
            one_hot(b)
        },
    },
    Schema { name: "OneHot", since: 11, build: one_hot },
    Schema {
        name: "ai.onnx.ml.ArrayFeatureExtractor",
        since: 1,
        build: |_| Ok(Gather::Features.into()),
    },
];

fn one_hot(b: &mut Build<'_>) -> Result<crate::Built> {
    Ok(Gather::OneHot { axis: b.take("axis")?.unwrap_or(-1) }.into())
}

/// Before opset 11, negative indices of OneHot mean no place at all.
fn drop_negative(b: &mut Build<'_>) -> Result<()> {
    let dtype = b.dtype(0)?;
    if dtype.is_float() || dtype.is_signed() {
        let zero = b.constant(Tensor::zeros(dtype, &[])?);
        let one = super::layout::Layout::Reshape { allow_zero: false };
        let scalar = b.constant(Tensor::vector(Vec::<i64>::new()));
        let depth = b.node(one, &[b.input(1)?, scalar])?;
        let depth = b.node(super::cast::Cast::to(dtype), &[depth])?;
        let negative = b.node(Compare::Less, &[b.input(0)?, zero])?;
        let indices = b.node(Select::Where, &[negative, depth, b.input(0)?])?;
        b.set_input(0, Some(indices));
    }
    Ok(())
}

/// The place that an index means on an axis of length `n`.
pub(crate) fn place(index: i64, n: usize) -> Result<usize> {
    let at = if index < 0 { index.saturating_add(n as i64) } else { index };
    match usize::try_from(at) {
        Ok(at) if at < n => Ok(at),
        _ => invalid!("index {index} is out of range for length {n}"),
    }
}

fn index_type(d: DType) -> bool {
    matches!(d, DType::I64 | DType::I32)
}

impl Operator for Gather {
    fn name(&self) -> &str {
        match self {
            Gather::Slices { .. } => "Gather",
            Gather::Elements { .. } => "GatherElements",
            Gather::Tuples { .. } => "GatherND",
            Gather::Compress { .. } => "Compress",
            Gather::OneHot { .. } => "OneHot",
            Gather::Features => "ai.onnx.ml.ArrayFeatureExtractor",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default();
        match *self {
            Gather::Slices { axis } | Gather::Elements { axis } => {
                a.with("axis", Some(axis).filter(|&x| x != 0))
            }
            Gather::Tuples { batch_dims } => {
                a.with("batch_dims", Some(batch_dims).filter(|&x| x != 0))
            }
            Gather::Compress { axis } => a.with("axis", axis),
            Gather::OneHot { axis } => a.with("axis", Some(axis).filter(|&x| x != -1)),
            Gather::Features => a,
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Gather::OneHot { .. } => 3..=3,
            _ => 2..=2,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let (x, i) = (cx.shape(0)?, cx.shape(1)?);
        let dtype = match self {
            Gather::OneHot { .. } => cx.dtype(2)?,
            _ => cx.dtype(0)?,
        };
        match self {
            Gather::Compress { .. } => drop(cx.dtype_in(1, |d| d == DType::Bool)?),
            Gather::OneHot { .. } => {}
            _ => drop(cx.dtype_in(1, index_type)?),
        }
        let mut dims = None;
        let shape = match *self {
            Gather::Slices { axis } => {
                dims = gather_dims(cx);
                slices_shape(x, i, axis)?
            }
            Gather::Elements { axis } => {
                if let (Some(x), Some(i)) = (x, i) {
                    check_ranks(x.len(), i.len())?;
                    shape::axis(axis, x.len())?;
                }
                i.map(<[_]>::to_vec)
            }
            Gather::Tuples { batch_dims } => tuples_shape(x, i, batch_dims)?,
            Gather::Compress { axis } => compress_shape(cx, x, axis)?,
            Gather::OneHot { axis } => {
                let depth = depth(cx)?;
                x.map(|x| with_axis(x, axis, depth)).transpose()?
            }
            Gather::Features => x.zip(i).map(|(x, i)| {
                let rows = if x.len() < 2 { &[][..] } else { &x[..x.len() - 1] };
                let mut out = if x.len() < 2 { vec![Dim::from(1i64)] } else { rows.to_vec() };
                out.push(product(i));
                out
            }),
        };
        Ok(vec![Fact::tensor(dtype, shape).with_dims(dims)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, i) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let y = match *self {
            Gather::Slices { axis } => slices(cx, x, i, axis)?,
            Gather::Elements { axis } => elements(cx, x, i, axis)?,
            Gather::Tuples { batch_dims } => tuples(cx, x, i, batch_dims)?,
            Gather::Compress { axis } => compress(x, i, axis)?,
            Gather::OneHot { axis } => hot(cx, x, i, tensor(inputs, 2)?, axis)?,
            Gather::Features => features(cx, x, i)?,
        };
        Ok(vec![y.into()])
    }
}

/// The lengths that constant indices pick.
fn gather_dims(cx: &Infer<'_>) -> Option<Vec<Dim>> {
    let (x, indices) = (known_dims(cx, 0)?, known_dims(cx, 1)?);
    let pick = |i: Dim| place(i.as_const()?, x.len()).ok().map(|i| x[i].clone());
    indices.into_iter().map(pick).collect()
}

fn check_ranks(x: usize, i: usize) -> Result<()> {
    if x != i || x == 0 {
        invalid!("data has {x} axes and the indices have {i}: they must have equally many");
    }
    Ok(())
}

fn slices_shape(x: Option<&[Dim]>, i: Option<&[Dim]>, axis: i64) -> Result<Option<Vec<Dim>>> {
    let (Some(x), Some(i)) = (x, i) else { return Ok(None) };
    let axis = shape::axis(axis, x.len())?;
    Ok(Some(x[..axis].iter().chain(i).chain(&x[axis + 1..]).cloned().collect()))
}

fn tuples_shape(x: Option<&[Dim]>, i: Option<&[Dim]>, batch: i64) -> Result<Option<Vec<Dim>>> {
    let (Some(x), Some(i)) = (x, i) else { return Ok(None) };
    let batch = batch_axes(batch, x.len(), i.len())?;
    let Some(tuple) = i[i.len() - 1].as_len() else { return Ok(None) };
    if tuple > x.len() - batch {
        invalid!("tuples of {tuple} indices into {} axes", x.len() - batch);
    }
    Ok(Some(i[..i.len() - 1].iter().chain(&x[batch + tuple..]).cloned().collect()))
}

fn batch_axes(batch: i64, x: usize, i: usize) -> Result<usize> {
    match usize::try_from(batch) {
        Ok(b) if b < x.min(i) => Ok(b),
        _ => invalid!("{batch} batch axes of {x} data axes and {i} axes of indices"),
    }
}

fn compress_shape(
    cx: &mut Infer<'_>,
    x: Option<&[Dim]>,
    axis: Option<i64>,
) -> Result<Option<Vec<Dim>>> {
    let n = match cx.constant(1) {
        Some(mask) => mask.as_slice::<bool>()?.iter().filter(|&&m| m).count().into(),
        None => cx.fresh(),
    };
    match (x, axis) {
        (_, None) => Ok(Some(vec![n])),
        (None, _) => Ok(None),
        (Some(x), Some(axis)) => {
            let mut out = x.to_vec();
            out[shape::axis(axis, x.len())?] = n;
            Ok(Some(out))
        }
    }
}

/// The length of a OneHot's new axis.
fn depth(cx: &mut Infer<'_>) -> Result<Dim> {
    let known = match cx.constant(1) {
        Some(t) => Some(depth_of(t)?.into()),
        None => known_dims(cx, 1).and_then(|d| d.into_iter().next()),
    };
    Ok(known.unwrap_or_else(|| cx.fresh()))
}

fn depth_of(t: &Tensor) -> Result<usize> {
    let n = t.to_scalar::<i64>()?;
    usize::try_from(n).map_err(|_| Error::invalid(format!("the depth {n} is negative")))
}

fn with_axis<T: Clone>(x: &[T], axis: i64, n: T) -> Result<Vec<T>> {
    let mut out = x.to_vec();
    out.insert(shape::axis(axis, x.len() + 1)?, n);
    Ok(out)
}

fn slices(cx: &Context, x: &Tensor, indices: &Tensor, axis: i64) -> Result<Tensor> {
    let axis = shape::axis(axis, x.rank())?;
    let n = x.shape()[axis];
    let at =
        indices.to_vec::<i64>()?.into_iter().map(|i| place(i, n)).collect::<Result<Vec<_>>>()?;
    let (before, behind) = (&x.shape()[..axis], &x.shape()[axis + 1..]);
    let out = [before, indices.shape(), behind].concat();
    cx.numel(x.dtype(), &out)?;
    let (outer, inner) = (shape::numel(before)?, shape::numel(behind)?);
    let rows = (0..outer).flat_map(|o| at.iter().map(move |i| (o * n + i) * inner));
    Ok(x.take(&out, rows.flat_map(|start| start..start + inner))?)
}

/// The offset of every position of `of` in a tensor of shape `x`, with 0 along `axis`; an
/// error where a position has no place there.
pub(crate) fn offsets_along(x: &[usize], of: &[usize], axis: usize) -> Result<shape::Offsets> {
    check_ranks(x.len(), of.len())?;
    let fits = |i: usize| i == axis || of[i] <= x[i];
    if !(0..x.len()).all(fits) && !of.contains(&0) {
        invalid!("indices of shape {of:?} reach beyond data of shape {x:?}");
    }
    let mut strides = shape::strides(x);
    strides[axis] = 0;
    Ok(shape::offsets(of, &strides))
}

fn elements(cx: &Context, x: &Tensor, indices: &Tensor, axis: i64) -> Result<Tensor> {
    let axis = shape::axis(axis, x.rank())?;
    cx.numel(x.dtype(), indices.shape())?;
    let (n, step) = (x.shape()[axis], shape::strides(x.shape())[axis]);
    let at = offsets_along(x.shape(), indices.shape(), axis)?
        .zip(indices.to_vec::<i64>()?)
        .map(|(offset, i)| Ok(offset + place(i, n)? * step))
        .collect::<Result<Vec<_>>>()?;
    Ok(x.take(indices.shape(), at.into_iter())?)
}

/// The offsets that tuples of indices mean under the leading axes of `x`.
pub(crate) fn tuple_offsets(x: &[usize], tuples: &[i64], len: usize) -> Result<Vec<usize>> {
    let strides = shape::strides(x);
    let one = |tuple: &[i64]| {
        tuple.iter().enumerate().try_fold(0, |sum, (k, &i)| Ok(sum + place(i, x[k])? * strides[k]))
    };
    match len {
        0 => Err(Error::invalid("tuples of no indices")),
        _ => tuples.chunks_exact(len).map(one).collect(),
    }
}

fn tuples(cx: &Context, x: &Tensor, indices: &Tensor, batch: i64) -> Result<Tensor> {
    let batch = batch_axes(batch, x.rank(), indices.rank())?;
    let (i, last) = (indices.shape(), indices.rank() - 1);
    if i[..batch] != x.shape()[..batch] {
        invalid!("the batch axes of data {:?} and indices {i:?} differ", x.shape());
    }
    let tuple = i[last];
    if tuple > x.rank() - batch {
        invalid!("tuples of {tuple} indices into {} axes", x.rank() - batch);
    }
    let behind = &x.shape()[batch + tuple..];
    let out = [&i[..last], behind].concat();
    cx.numel(x.dtype(), &out)?;
    let inner = shape::numel(behind)?;
    let per_batch = shape::numel(&x.shape()[batch..])?;
    let places = tuple_offsets(&x.shape()[batch..], &indices.to_vec::<i64>()?, tuple)?;
    let tuples_each = shape::numel(&i[batch..last])?.max(1);
    let starts = places.iter().enumerate().map(|(k, p)| (k / tuples_each) * per_batch + p);
    Ok(x.take(&out, starts.flat_map(|start| start..start + inner))?)
}

fn compress(x: &Tensor, mask: &Tensor, axis: Option<i64>) -> Result<Tensor> {
    let x = match axis {
        Some(_) => x.clone(),
        None => x.reshape(&[x.len()])?,
    };
    let axis = shape::axis(axis.unwrap_or(0), x.rank())?;
    let n = x.shape()[axis];
    let mask = mask.as_slice::<bool>()?;
    let at: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
    if let Some(i) = at.last().filter(|&&i| i >= n) {
        invalid!("the mask picks {i} of an axis of length {n}");
    }
    let mut out = x.shape().to_vec();
    out[axis] = at.len();
    let (outer, inner) = (shape::numel(&x.shape()[..axis])?, shape::numel(&x.shape()[axis + 1..])?);
    let rows = (0..outer).flat_map(|o| at.iter().map(move |i| (o * n + i) * inner));
    Ok(x.take(&out, rows.flat_map(|start| start..start + inner))?)
}

fn hot(
    cx: &Context,
    indices: &Tensor,
    depth: &Tensor,
    values: &Tensor,
    axis: i64,
) -> Result<Tensor> {
    if values.len() != 2 {
        invalid!("the values of a OneHot are off and on, got {} of them", values.len());
    }
    let n = depth_of(depth)?;
    let out = with_axis(indices.shape(), axis, n)?;
    cx.numel(values.dtype(), &out)?;
    let axis = shape::axis(axis, out.len())?;
    let inner = shape::numel(&out[axis + 1..])?;
    // What lies outside of the axis lights up nothing.
    let at: Vec<usize> =
        indices.to_vec::<i64>()?.into_iter().map(|i| place(i, n).unwrap_or(usize::MAX)).collect();
    let lit = at
        .chunks(inner.max(1))
        .flat_map(|row| (0..n).flat_map(move |k| row.iter().map(move |&i| usize::from(i == k))));
    Ok(values.take(&out, lit)?)
}

fn features(cx: &Context, x: &Tensor, columns: &Tensor) -> Result<Tensor> {
    let Some((&n, rows)) = x.shape().split_last() else {
        invalid!("a scalar has no columns");
    };
    let wanted = columns.to_vec::<i64>()?;
    let at = wanted.into_iter().map(|i| place(i, n)).collect::<Result<Vec<_>>>()?;
    let mut out = if rows.is_empty() { vec![1] } else { rows.to_vec() };
    out.push(at.len());
    cx.numel(x.dtype(), &out)?;
    let outer = shape::numel(rows)?;
    Ok(x.take(&out, (0..outer).flat_map(|o| at.iter().map(move |i| o * n + i)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn grid(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>() as i32;
        Tensor::from_vec(shape, (0..n).collect()).expect("a grid")
    }

    fn indices(shape: &[usize], data: &[i64]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("indices")
    }

    /// `op` of a grid and indices.
    fn pick(op: &str, attrs: &str, x: &Tensor, i: &Tensor) -> Result<Tensor> {
        let ty = |t: &Tensor| crate::Type::of(&t.clone().into()).to_string();
        let text = format!("y = {op}(x: {}, i: {}) {{{attrs}}}\nreturn y", ty(x), ty(i));
        run1(&text, &[x.clone(), i.clone()])
    }

    fn want(shape: &[usize], data: &[i32]) -> Tensor {
        Tensor::from_vec(shape, data.to_vec()).expect("wanted")
    }

    #[test]
    fn slices_and_elements() {
        let x = grid(&[2, 3]);
        let y = pick("Gather", "axis=1", &x, &indices(&[2], &[2, -3])).expect("slices");
        assert_eq!(y, want(&[2, 2], &[2, 0, 5, 3]));
        let y = pick("Gather", "", &x, &indices(&[], &[1])).expect("one slice");
        assert_eq!(y, want(&[3], &[3, 4, 5]));
        let y = pick("GatherElements", "axis=1", &x, &indices(&[1, 2], &[2, 0])).expect("elements");
        assert_eq!(y, want(&[1, 2], &[2, 0]));
        assert!(pick("Gather", "", &x, &indices(&[1], &[2])).is_err());
        assert!(pick("GatherElements", "axis=1", &x, &indices(&[3, 1], &[0, 0, 0])).is_err());
        assert!(pick("GatherElements", "", &x, &indices(&[1, 1], &[i64::MIN])).is_err());
    }

    #[test]
    fn by_tuples() {
        let x = grid(&[2, 2, 2]);
        let y = pick("GatherND", "", &x, &indices(&[2, 2], &[0, 1, 1, 0])).expect("slices");
        assert_eq!(y, want(&[2, 2], &[2, 3, 4, 5]));
        let batch = pick("GatherND", "batch_dims=1", &x, &indices(&[2, 1], &[1, 0]));
        assert_eq!(batch.expect("batches"), want(&[2, 2], &[2, 3, 4, 5]));
        let y = pick("GatherND", "", &x, &indices(&[1, 3], &[1, -1, 0])).expect("elements");
        assert_eq!(y, want(&[1], &[6]));
        assert!(pick("GatherND", "", &x, &indices(&[1, 4], &[0; 4])).is_err());
        assert!(pick("GatherND", "batch_dims=1", &x, &indices(&[1, 1], &[0])).is_err());
    }

    #[test]
    fn by_a_mask() {
        let x = grid(&[3, 2]);
        let mask = |m: &[bool]| Tensor::vector(m.to_vec());
        let y = pick("Compress", "axis=0", &x, &mask(&[false, true, true])).expect("rows");
        assert_eq!(y, want(&[2, 2], &[2, 3, 4, 5]));
        let y = pick("Compress", "", &x, &mask(&[true, false, true])).expect("flat");
        assert_eq!(y, want(&[2], &[0, 2]));
        assert!(pick("Compress", "axis=1", &x, &mask(&[false, false, true])).is_err());
    }

    #[test]
    fn one_hot_axes() {
        let run = |axis: i64, depth: i64| {
            run1(
                &format!("y = OneHot(i: i64[3], d: i64[], v: i32[2]) {{axis={axis}}}\nreturn y"),
                &[indices(&[3], &[0, -1, 9]), Tensor::scalar(depth), Tensor::vector(vec![5i32, 7])],
            )
        };
        assert_eq!(run(-1, 2).expect("last"), want(&[3, 2], &[7, 5, 5, 7, 5, 5]));
        assert_eq!(run(0, 2).expect("first"), want(&[2, 3], &[7, 5, 5, 5, 7, 5]));
        assert!(run(-1, -1).is_err());
        assert_eq!(run(-1, 1 << 60).expect_err("huge").kind(), crate::Kind::Limit);
    }

    #[test]
    fn columns() {
        let y = pick("ai.onnx.ml.ArrayFeatureExtractor", "", &grid(&[3]), &indices(&[2], &[2, 0]));
        assert_eq!(y.expect("a vector"), want(&[1, 2], &[2, 0]));
        let y = pick("ai.onnx.ml.ArrayFeatureExtractor", "", &grid(&[3]), &indices(&[1], &[-1]));
        assert_eq!(y.expect("the last"), want(&[1, 1], &[2]));
    }

    #[test]
    fn shapes_and_lengths() {
        let text = "s = Shape(x: f32[N,C,H])
            k = i64[2]{2,0}
            g = Gather(s, k)
            y = ConstantOfShape(g)
            e = GatherND(x, t: i64[5,2])
            c = Compress(x, m: bool[M]) {axis=1}
            o = OneHot(i: i32[N], d: i64[], v: f32[2])
            return y, e, c, o";
        let want = ["f32[H,N]", "f32[5,H]", "f32[N,?1,H]", "f32[N,?2]"];
        assert_eq!(types(text).expect("types"), want);
        assert!(types("y = Gather(x: f32[2], i: f32[1])\nreturn y").is_err());
        assert!(types("y = Gather(x: f32[2], i: i64[1]) {axis=1}\nreturn y").is_err());
    }
}
