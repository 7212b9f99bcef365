//! Operators that move, relabel or describe elements and calculate nothing.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, shape};

use crate::eval::{optional, tensor};
use crate::infer::broadcast;
use crate::{
    Attrs, Build, Built, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, invalid,
};

/// A change of shape, or a question about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// `x` itself, of any type.
    Identity,
    /// `x` under the shape that input 1 gives.
    Reshape {
        /// Whether a 0 is a length and not "as in the input".
        allow_zero: bool,
    },
    /// A matrix of the axes before and from `axis`.
    Flatten {
        /// The first axis of the columns.
        axis: i64,
    },
    /// Without the axes of length 1 that input 1 names; without it, all of them.
    Squeeze,
    /// With axes of length 1 where input 1 names them.
    Unsqueeze,
    /// Axis `i` of the result is axis `perm[i]`; without it, the axes are reversed.
    Transpose {
        /// The order of the axes.
        perm: Option<Vec<i64>>,
    },
    /// The lengths of the axes `start..end`.
    Shape {
        /// The first axis.
        start: i64,
        /// The axis after the last.
        end: Option<i64>,
    },
    /// The number of elements.
    Size,
    /// `x` broadcast both ways with the shape that input 1 gives.
    Expand,
    /// One value everywhere in the shape that input 0 gives.
    ConstantOfShape(Box<Tensor>),
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Identity", since: 1, build: |_| Ok(Layout::Identity.into()) },
    Schema {
        name: "Reshape",
        since: 1,
        build: |b| {
            b.take::<Vec<i64>>("consumed_inputs")?;
            b.ints_to_input("shape", 1)?;
            Ok(Layout::Reshape { allow_zero: false }.into())
        },
    },
    Schema {
        name: "Reshape",
        since: 5,
        build: |b| {
            let allow_zero = b.take("allowzero")?.unwrap_or(false);
            Ok(Layout::Reshape { allow_zero }.into())
        },
    },
    Schema {
        name: "Flatten",
        since: 1,
        build: |b| Ok(Layout::Flatten { axis: b.take("axis")?.unwrap_or(1) }.into()),
    },
    Schema {
        name: "Squeeze",
        since: 1,
        build: |b| {
            b.ints_to_input("axes", 1)?;
            Ok(Layout::Squeeze.into())
        },
    },
    Schema { name: "Squeeze", since: 13, build: |_| Ok(Layout::Squeeze.into()) },
    Schema {
        name: "Unsqueeze",
        since: 1,
        build: |b| {
            b.ints_to_input("axes", 1)?;
            Ok(Layout::Unsqueeze.into())
        },
    },
    Schema { name: "Unsqueeze", since: 13, build: |_| Ok(Layout::Unsqueeze.into()) },
    Schema { name: "com.microsoft.ExpandDims", since: 1, build: expand_dims },
    Schema {
        name: "Transpose",
        since: 1,
        build: |b| Ok(Layout::Transpose { perm: b.take("perm")? }.into()),
    },
    Schema {
        name: "Shape",
        since: 1,
        build: |b| {
            let start = b.take("start")?.unwrap_or(0);
            Ok(Layout::Shape { start, end: b.take("end")? }.into())
        },
    },
    Schema { name: "Size", since: 1, build: |_| Ok(Layout::Size.into()) },
    Schema { name: "Expand", since: 8, build: |_| Ok(Layout::Expand.into()) },
    Schema {
        name: "ConstantOfShape",
        since: 9,
        build: |b| {
            let value = b.take("value")?.unwrap_or_else(|| Tensor::vector(vec![0f32]));
            if value.len() != 1 {
                invalid!("attribute `value` has {} elements, it must have one", value.len());
            }
            Ok(Layout::ConstantOfShape(Box::new(value.reshape(&[1])?)).into())
        },
    },
];

/// One new axis, given as a scalar.
fn expand_dims(b: &mut Build<'_>) -> Result<Built> {
    let axis = Some(b.input(1)?);
    let one = b.constant(Tensor::vector(vec![1i64]));
    let wide = b.call("Cast", &[axis], Attrs::default().with("to", DType::I64), 1)?[0];
    let axes = b.call("Reshape", &[Some(wide), Some(one)], Attrs::default(), 1)?[0];
    b.set_input(1, Some(axes));
    Ok(Layout::Unsqueeze.into())
}

impl Operator for Layout {
    fn name(&self) -> &str {
        match self {
            Layout::Identity => "Identity",
            Layout::Reshape { .. } => "Reshape",
            Layout::Flatten { .. } => "Flatten",
            Layout::Squeeze => "Squeeze",
            Layout::Unsqueeze => "Unsqueeze",
            Layout::Transpose { .. } => "Transpose",
            Layout::Shape { .. } => "Shape",
            Layout::Size => "Size",
            Layout::Expand => "Expand",
            Layout::ConstantOfShape(_) => "ConstantOfShape",
        }
    }

    fn attrs(&self) -> Attrs {
        let a = Attrs::default();
        match self {
            Layout::Reshape { allow_zero } => a.with("allowzero", allow_zero.then_some(true)),
            Layout::Flatten { axis } => a.with("axis", (*axis != 1).then_some(*axis)),
            Layout::Transpose { perm } => a.with("perm", perm.clone()),
            Layout::Shape { start, end } => {
                a.with("start", (*start != 0).then_some(*start)).with("end", *end)
            }
            Layout::ConstantOfShape(v) if **v != Tensor::vector(vec![0f32]) => {
                a.with("value", (**v).clone())
            }
            _ => a,
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Layout::Reshape { .. } | Layout::Unsqueeze | Layout::Expand => 2..=2,
            Layout::Squeeze => 1..=2,
            _ => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dims = known_dims(cx, 0);
        let fact = match self {
            Layout::Identity => Fact { dims: None, ..cx.fact(0)?.clone() }.with_dims(dims),
            Layout::Shape { start, end } => infer_shape(cx, *start, *end)?,
            Layout::Size => {
                let len = cx.shape(0)?.map(|s| vec![product(s)]);
                Fact::shaped(DType::I64, vec![]).with_dims(len)
            }
            Layout::ConstantOfShape(value) => infer_constant(cx, value)?,
            _ => {
                let shape = self.infer_moved(cx)?;
                let vector = shape.as_ref().is_some_and(|s| s.len() < 2);
                let fits = |d: &Vec<Dim>| vector && same_count(d.len(), shape.as_deref());
                let dims = dims.filter(fits);
                Fact::tensor(cx.dtype(0)?, shape).with_dims(dims)
            }
        };
        Ok(vec![fact])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        if *self == Layout::Identity {
            let x = inputs.first().copied().flatten();
            return Ok(vec![x.cloned().ok_or_else(|| Error::invalid("input 0 is missing"))?]);
        }
        let x = tensor(inputs, 0)?;
        let y = match self {
            Layout::Shape { start, end } => {
                let lengths = x.shape().iter().map(|&n| n as i64);
                let (from, to) = slice(*start, *end, x.rank());
                Tensor::vector(lengths.take(to).skip(from).collect())
            }
            Layout::Size => Tensor::scalar(x.len() as i64),
            Layout::Transpose { perm } => transpose(x, &permutation(perm.as_deref(), x.rank())?)?,
            Layout::Expand => {
                let out = shape::broadcast(x.shape(), &lengths(tensor(inputs, 1)?)?)?;
                cx.numel(x.dtype(), &out)?;
                x.broadcast_to(&out)?
            }
            Layout::ConstantOfShape(value) => {
                let out = lengths(x)?;
                cx.numel(value.dtype(), &out)?;
                value.reshape(&[])?.broadcast_to(&out)?
            }
            _ => x.reshape(&self.relabelled(x.shape(), optional(inputs, 1)?)?)?,
        };
        Ok(vec![y.into()])
    }
}

impl Layout {
    /// The shape of the operators that only relabel, on shapes that are known.
    fn relabelled(&self, x: &[usize], arg: Option<&Tensor>) -> Result<Vec<usize>> {
        let ints = || match arg {
            Some(t) => Ok(t.to_vec::<i64>()?),
            None => Err(Error::invalid("input 1 is missing")),
        };
        let shape: Vec<Dim> = x.iter().map(|&n| n.into()).collect();
        let out = match self {
            Layout::Reshape { allow_zero } => {
                let target: Vec<Dim> = ints()?.into_iter().map(Dim::from).collect();
                reshape(Some(&shape), &target, *allow_zero, || Dim::from(0i64))?
            }
            Layout::Flatten { axis } => flatten(&shape, *axis)?,
            Layout::Squeeze if arg.is_none() => squeeze_all(&shape).unwrap_or_default(),
            Layout::Squeeze => squeeze(&shape, &ints()?)?,
            Layout::Unsqueeze => unsqueeze(&shape, &ints()?)?,
            _ => return Err(Error::bug(format!("{} does not only relabel", self.name()))),
        };
        let known = out.iter().map(Dim::as_len).collect::<Option<Vec<_>>>();
        known.ok_or_else(|| Error::invalid(format!("{} gives a negative length", self.name())))
    }

    /// The shape of the operators that keep every element.
    fn infer_moved(&self, cx: &mut Infer<'_>) -> Result<Option<Vec<Dim>>> {
        let x = cx.shape(0)?;
        match self {
            Layout::Reshape { allow_zero } => match cx.dims(1) {
                Some(target) => reshape(x, &target, *allow_zero, || cx.fresh()).map(Some),
                None => Ok(vector_len(cx, 1)?.map(|rank| cx.fresh_shape(rank))),
            },
            Layout::Flatten { axis } => match x {
                Some(x) => flatten(x, *axis).map(Some),
                None => Ok(Some(cx.fresh_shape(2))),
            },
            Layout::Squeeze if !cx.has(1) => Ok(x.and_then(squeeze_all)),
            Layout::Squeeze | Layout::Unsqueeze => {
                let out = match *self {
                    Layout::Squeeze => squeeze,
                    _ => unsqueeze,
                };
                match (x, cx.ints(1)?) {
                    (Some(x), Some(axes)) => out(x, &axes).map(Some),
                    _ => Ok(None),
                }
            }
            Layout::Transpose { perm } => match (x, perm) {
                (Some(x), _) => {
                    let perm = permutation(perm.as_deref(), x.len())?;
                    Ok(Some(perm.into_iter().map(|p| x[p].clone()).collect()))
                }
                (None, perm) => Ok(perm.as_ref().map(|p| cx.fresh_shape(p.len()))),
            },
            _ => match (x, target_shape(cx, 1)?) {
                (Some(x), Some(target)) => broadcast(x, &target).map(Some),
                _ => Ok(None),
            },
        }
    }
}

/// What is known of the elements of input `i`, where they can be lengths.
pub(crate) fn known_dims(cx: &Infer<'_>, i: usize) -> Option<Vec<Dim>> {
    let dtype = cx.dtype(i).ok()?;
    cx.dims(i).filter(|_| matches!(dtype, DType::I64 | DType::I32))
}

/// The shape that the vector at input `i` describes; an error where a length is negative.
pub(crate) fn target_shape(cx: &mut Infer<'_>, i: usize) -> Result<Option<Vec<Dim>>> {
    let Some(dims) = cx.dims(i) else {
        return Ok(vector_len(cx, i)?.map(|rank| cx.fresh_shape(rank)));
    };
    match dims.iter().filter_map(Dim::as_const).find(|&n| n < 0) {
        Some(n) => invalid!("input {i} holds the length {n}; lengths are not negative"),
        None => Ok(Some(dims)),
    }
}

/// The length of the vector at input `i`, where it is known.
pub(crate) fn vector_len(cx: &Infer<'_>, i: usize) -> Result<Option<usize>> {
    match cx.shape(i)? {
        Some([n]) => Ok(n.as_len()),
        Some([]) | None => Ok(None),
        Some(more) => invalid!("input {i} must be a vector, it has {} axes", more.len()),
    }
}

/// The lengths that a vector holds; an error where one is negative.
pub(crate) fn lengths(t: &Tensor) -> Result<Vec<usize>> {
    let length = |n: i64| {
        usize::try_from(n).map_err(|_| Error::invalid(format!("{n} is no length of an axis")))
    };
    t.to_vec::<i64>()?.into_iter().map(length).collect()
}

/// The number of elements.
pub(crate) fn product(dims: &[Dim]) -> Dim {
    dims.iter().cloned().fold(Dim::from(1i64), |a, b| a * b)
}

fn same_count(n: usize, shape: Option<&[Dim]>) -> bool {
    shape.is_some_and(|s| product(s).as_len() == Some(n))
}

/// The axes `from..to` that Shape's attributes mean.
fn slice(start: i64, end: Option<i64>, rank: usize) -> (usize, usize) {
    let n = rank as i64;
    let clamp = |k: i64| if k < 0 { k.saturating_add(n) } else { k }.clamp(0, n) as usize;
    (clamp(start), clamp(end.unwrap_or(n)))
}

fn infer_shape(cx: &mut Infer<'_>, start: i64, end: Option<i64>) -> Result<Fact> {
    let Some(x) = cx.shape(0)? else {
        let n = cx.fresh();
        return Ok(Fact::shaped(DType::I64, vec![n]));
    };
    let (from, to) = slice(start, end, x.len());
    let part: Vec<Dim> = x.iter().take(to).skip(from).cloned().collect();
    Ok(Fact::shaped(DType::I64, vec![part.len().into()]).with_dims(Some(part)))
}

fn infer_constant(cx: &mut Infer<'_>, value: &Tensor) -> Result<Fact> {
    const LONGEST: usize = 64;
    let shape = target_shape(cx, 0)?;
    let count = match shape.as_deref() {
        Some([]) => Some(1),
        Some([n]) => n.as_len().filter(|&n| n <= LONGEST),
        _ => None,
    };
    let dims = match (value.dtype(), count) {
        (DType::I64, Some(n)) => Some(vec![Dim::from(value.to_scalar::<i64>()?); n]),
        _ => None,
    };
    Ok(Fact::tensor(value.dtype(), shape).with_dims(dims))
}

/// The shape of a Reshape; `fresh` makes a length that cannot be known.
fn reshape(
    x: Option<&[Dim]>,
    target: &[Dim],
    allow_zero: bool,
    mut fresh: impl FnMut() -> Dim,
) -> Result<Vec<Dim>> {
    let mut out = Vec::with_capacity(target.len());
    let mut hole = None;
    for (i, d) in target.iter().enumerate() {
        match (d.as_const(), x) {
            (Some(-1), _) if hole.is_some() => invalid!("the new shape holds -1 twice"),
            (Some(-1), _) => {
                hole = Some(i);
                out.push(Dim::from(1i64));
            }
            (Some(0), Some(x)) if !allow_zero => match x.get(i) {
                Some(d) => out.push(d.clone()),
                None => invalid!("length {i} of the new shape is 0, but the input has no axis {i}"),
            },
            (Some(0), None) if !allow_zero => out.push(fresh()),
            (Some(n), _) if n < 0 => invalid!("{n} is no length; only -1 may be left open"),
            _ => out.push(d.clone()),
        }
    }
    let Some(hole) = hole else {
        check_counts(x, &out)?;
        return Ok(out);
    };
    if allow_zero && target.contains(&Dim::from(0i64)) {
        invalid!("the new shape holds 0 and -1; with allowzero the -1 is not defined");
    }
    let rest: Vec<Dim> = out.iter().enumerate().filter(|&(i, _)| i != hole).map(at).collect();
    out[hole] = match x {
        Some(x) => open_length(x, rest)?,
        None => fresh(),
    };
    Ok(out)
}

fn at((_, d): (usize, &Dim)) -> Dim {
    d.clone()
}

fn check_counts(x: Option<&[Dim]>, out: &[Dim]) -> Result<()> {
    let Some(x) = x else { return Ok(()) };
    match (product(x).as_const(), product(out).as_const()) {
        (Some(a), Some(b)) if a != b => {
            invalid!("{a} elements do not fit a shape of {b}")
        }
        _ => Ok(()),
    }
}

/// The length that makes `rest` hold as many elements as `x`.
fn open_length(x: &[Dim], rest: Vec<Dim>) -> Result<Dim> {
    let mut over = x.to_vec();
    let mut under = Vec::new();
    let zero = Dim::from(0i64);
    for d in rest {
        match over.iter().position(|o| *o == d) {
            Some(i) if d != zero => drop(over.swap_remove(i)),
            _ => under.push(d),
        }
    }
    let (over, under) = (product(&over), product(&under));
    match (over.as_const(), under.as_const()) {
        (_, Some(0)) => invalid!("beside a length of 0, -1 is not defined"),
        (Some(a), Some(b)) if a % b != 0 => {
            invalid!("{a} elements do not divide by {b}, so -1 has no value")
        }
        _ => Ok(over.floor_div(&under)),
    }
}

fn flatten(x: &[Dim], axis: i64) -> Result<Vec<Dim>> {
    // Unlike other axes, this one may stand behind the last.
    let at = if axis == x.len() as i64 { x.len() } else { shape::axis(axis, x.len())? };
    Ok(vec![product(&x[..at]), product(&x[at..])])
}

/// Without every 1; `None` where a length may be 1 or not.
fn squeeze_all(x: &[Dim]) -> Option<Vec<Dim>> {
    let known = x.iter().all(|d| d.as_const().is_some());
    known.then(|| x.iter().filter(|d| d.as_const() != Some(1)).cloned().collect())
}

fn squeeze(x: &[Dim], axes: &[i64]) -> Result<Vec<Dim>> {
    let mut gone = vec![false; x.len()];
    for &a in axes {
        let a = shape::axis(a, x.len())?;
        match x[a].as_const() {
            Some(n) if n != 1 => invalid!("axis {a} has length {n}, only 1 can be squeezed"),
            _ => gone[a] = true,
        }
    }
    Ok(x.iter().zip(gone).filter(|(_, gone)| !gone).map(|(d, _)| d.clone()).collect())
}

fn unsqueeze(x: &[Dim], axes: &[i64]) -> Result<Vec<Dim>> {
    let rank = x.len() + axes.len();
    let mut new = vec![false; rank];
    for &a in axes {
        if std::mem::replace(&mut new[shape::axis(a, rank)?], true) {
            invalid!("axis {a} is named twice");
        }
    }
    let mut old = x.iter();
    let pick = |new| if new { Some(Dim::from(1i64)) } else { old.next().cloned() };
    Ok(new.into_iter().filter_map(pick).collect())
}

/// The permutation that `perm` means for a rank; an error where it is none.
pub(crate) fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let axes = perm.iter().map(|&p| Ok(shape::axis(p, rank)?)).collect::<Result<Vec<_>>>()?;
    let mut seen = vec![false; rank];
    axes.iter().for_each(|&a| seen[a] = true);
    if axes.len() != rank || seen.contains(&false) {
        invalid!("{perm:?} is no permutation of {rank} axes");
    }
    Ok(axes)
}

/// `x` with axis `perm[i]` in place `i`; `perm` is a permutation.
pub(crate) fn transpose(x: &Tensor, perm: &[usize]) -> Result<Tensor> {
    let own = shape::strides(x.shape());
    let lengths: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let strides: Vec<usize> = perm.iter().map(|&p| own[p]).collect();
    Ok(x.take(&lengths, shape::offsets(&lengths, &strides))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn x23() -> Tensor {
        Tensor::from_vec(&[2, 3], (0..6).collect::<Vec<i32>>()).expect("2x3")
    }

    fn shape_of(op: &str) -> Vec<usize> {
        run1(&format!("{op}\nreturn y"), &[x23()]).expect("runs").shape().to_vec()
    }

    #[test]
    fn relabelling() {
        let cases: &[(&str, &[usize])] = &[
            ("s = i64[2]{3,-1}\ny = Reshape(x: i32[2,3], s)", &[3, 2]),
            ("s = i64[3]{0,1,-1}\ny = Reshape(x: i32[2,3], s)", &[2, 1, 3]),
            ("y = Flatten(x: i32[2,3]) {axis=2}", &[6, 1]),
            ("y = Flatten(x: i32[2,3]) {axis=0}", &[1, 6]),
            ("y = Flatten(x: i32[2,3]) {axis=-1}", &[2, 3]),
            ("a = i64[2]{-1,0}\ny = Unsqueeze(x: i32[2,3], a)", &[1, 2, 3, 1]),
            ("a = i64[1]{1}\nu = Unsqueeze(x: i32[2,3], a)\ny = Squeeze(u)", &[2, 3]),
            ("a = i64[1]{1}\nu = Unsqueeze(x: i32[2,3], a)\ny = Squeeze(u, a)", &[2, 3]),
        ];
        for (op, want) in cases {
            assert_eq!(shape_of(op), *want, "{op}");
        }
    }

    #[test]
    fn transposing_moves_elements() {
        let y = run1("y = Transpose(x: i32[2,3])\nreturn y", &[x23()]).expect("runs");
        assert_eq!(y, Tensor::from_vec(&[3, 2], vec![0, 3, 1, 4, 2, 5]).expect("3x2"));
        assert!(types("y = Transpose(x: i32[2,3]) {perm=[0,0]}\nreturn y").is_err());
    }

    #[test]
    fn lengths_flow_through_shape_arithmetic() {
        let text = "s = Shape(x: f32[N,4,H]) {start=1}
            one = i64[1]{-1}
            r = Reshape(x, one)
            z = Size(x)
            f = Reshape(x, s2)
            return f";
        let err = types(text).expect_err("s2 is not defined");
        assert!(err.message().contains("s2"));
        let text = "s = Shape(x: f32[N,4,H])
            i = Identity(s)
            k = i64[3]{4,0,-1}
            y = Reshape(x, k)
            e = Expand(v: f32[1], i)
            c = ConstantOfShape(i)
            n = Size(x)
            u = ConstantOfShape(n1: i64[2])
            return y, e, c, n, u";
        let want = ["f32[4,4,floor(H*N,4)]", "f32[N,4,H]", "f32[N,4,H]", "i64[]", "f32[?1,?2]"];
        assert_eq!(types(text).expect("types"), want);
    }

    #[test]
    fn open_lengths_cancel() {
        let text = "k = i64[3]{0,-1,8}\ny = Reshape(x: f32[N,S,16], k)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[N,2*S,8]"]);
        let text = "k = i64[2]{-1,8}\ny = Reshape(x: f32[..], k)\nreturn y";
        assert_eq!(types(text).expect("types"), ["f32[?1,8]"]);
        let zero = "k = i64[2]{0,3}\ny = Reshape(x: f32[0,5], k) {allowzero=1}\nreturn y";
        assert_eq!(types(zero).expect("types"), ["f32[0,3]"]);
    }

    #[test]
    fn shapes_and_sizes() {
        let shape =
            |attrs: &str| run1(&format!("y = Shape(x: i32[2,3]) {{{attrs}}}\nreturn y"), &[x23()]);
        assert_eq!(shape("").expect("all"), Tensor::vector(vec![2i64, 3]));
        assert_eq!(shape("start=-1").expect("last"), Tensor::vector(vec![3i64]));
        assert_eq!(shape("start=-9,end=-1").expect("first"), Tensor::vector(vec![2i64]));
        assert_eq!(shape("start=2,end=1").expect("none"), Tensor::vector(Vec::<i64>::new()));
        let size = run1("y = Size(x: i32[2,3])\nreturn y", &[x23()]).expect("runs");
        assert_eq!(size, Tensor::scalar(6i64));
    }

    #[test]
    fn expansion() {
        let run = |k: Vec<i64>| {
            run1(
                "y = Expand(x: i64[2,1], k: i64[K])\nreturn y",
                &[Tensor::from_vec(&[2, 1], vec![1i64, 2]).expect("2x1"), Tensor::vector(k)],
            )
        };
        let want = Tensor::from_vec(&[2, 3], vec![1i64, 1, 1, 2, 2, 2]).expect("2x3");
        assert_eq!(run(vec![3]).expect("runs"), want);
        assert_eq!(run(vec![2, 1]).expect("runs").shape(), [2, 1]);
        assert!(run(vec![3, 1]).is_err());
        assert!(run(vec![-1]).is_err());
        assert!(run(vec![i64::MAX, i64::MAX, 2, 1]).is_err());
    }

    #[test]
    fn constants_of_a_shape() {
        let y = run1(
            "y = ConstantOfShape(s: i64[S]) {value=i64[1]{7}}\nreturn y",
            &[Tensor::vector(vec![2i64])],
        );
        assert_eq!(y.expect("runs"), Tensor::vector(vec![7i64, 7]));
        let huge = run1(
            "y = ConstantOfShape(s: i64[S])\nreturn y",
            &[Tensor::vector(vec![1i64 << 40, 1 << 40])],
        );
        assert_eq!(huge.expect_err("too large").kind(), crate::Kind::Limit);
    }

    #[test]
    fn expand_dims_takes_a_scalar() {
        let graph = "a = i32[]{-1}\ny = com.microsoft.ExpandDims(x: i32[2,3], a)\nreturn y";
        assert_eq!(run1(graph, &[x23()]).expect("runs").shape(), [2, 3, 1]);
        let wrong = "a = i32[2]{0, 1}\ny = com.microsoft.ExpandDims(x: i32[2,3], a)\nreturn y";
        assert!(run1(wrong, &[x23()]).is_err());
    }

    #[test]
    fn wrong_shapes_are_errors() {
        for text in [
            "k = i64[2]{4,2}\ny = Reshape(x: f32[2,3], k)\nreturn y",
            "k = i64[2]{4,-1}\ny = Reshape(x: f32[2,3], k)\nreturn y",
            "k = i64[2]{-1,-1}\ny = Reshape(x: f32[2,3], k)\nreturn y",
            "k = i64[3]{2,3,0}\ny = Reshape(x: f32[2,3], k)\nreturn y",
            "k = i64[1]{0}\ny = Squeeze(x: f32[2,3], k)\nreturn y",
            "k = i64[2]{0,0}\ny = Unsqueeze(x: f32[2,3], k)\nreturn y",
            "y = Flatten(x: f32[2,3]) {axis=3}\nreturn y",
        ] {
            assert!(types(text).is_err(), "{text}");
        }
    }
}
