//! Lists of values: made, changed, asked, split from a tensor and joined into one.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, match_element, shape};

use super::control::{Stack, given, stack};
use crate::eval::{optional, tensor};
use crate::{Attrs, Context, Error, Fact, Infer, Operator, Result, Schema, Type, attrs, invalid};

/// An operator on lists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sequence {
    /// `SequenceConstruct`: the inputs as a list.
    Construct,
    /// `SequenceEmpty`: a list of no tensors of this type.
    Empty(DType),
    /// `SequenceInsert`: the list with input 1 before position input 2, by default at its end.
    Insert,
    /// `SequenceErase`: the list without the element at input 1, by default the last.
    Erase,
    /// `SequenceAt`: the element at input 1.
    At,
    /// `SequenceLength`.
    Length,
    /// `SplitToSequence`: pieces of a tensor.
    Split {
        /// The axis that is cut.
        axis: i64,
        /// Whether pieces of one step keep the axis; those of a given length do anyway.
        keep: bool,
    },
    /// `ConcatFromSequence`: the elements as one tensor.
    Concat {
        /// The axis that they are joined along.
        axis: i64,
        /// Whether the axis is a new one.
        new: bool,
    },
}

attrs! {
    /// The attributes of `SplitToSequence`.
    pub struct SplitAttrs {
        /// The axis that is cut.
        axis: i64 = 0,
        /// Whether pieces of one step keep the axis.
        keepdims: bool = true,
    }
}

attrs! {
    /// The attributes of `ConcatFromSequence`.
    pub struct ConcatAttrs {
        /// The axis that the elements are joined along.
        axis: i64,
        /// Whether the axis is a new one.
        new_axis: bool = false,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "SequenceConstruct", since: 11, build: |_| Ok(Sequence::Construct.into()) },
    Schema {
        name: "SequenceEmpty",
        since: 11,
        build: |b| Ok(Sequence::Empty(b.take("dtype")?.unwrap_or(DType::F32)).into()),
    },
    Schema { name: "SequenceInsert", since: 11, build: |_| Ok(Sequence::Insert.into()) },
    Schema { name: "SequenceErase", since: 11, build: |_| Ok(Sequence::Erase.into()) },
    Schema { name: "SequenceAt", since: 11, build: |_| Ok(Sequence::At.into()) },
    Schema { name: "SequenceLength", since: 11, build: |_| Ok(Sequence::Length.into()) },
    Schema {
        name: "SplitToSequence",
        since: 11,
        build: |b| {
            let a = SplitAttrs::read(&mut b.attrs)?;
            Ok(Sequence::Split { axis: a.axis, keep: a.keepdims }.into())
        },
    },
    Schema {
        name: "ConcatFromSequence",
        since: 11,
        build: |b| {
            let a = ConcatAttrs::read(&mut b.attrs)?;
            Ok(Sequence::Concat { axis: a.axis, new: a.new_axis }.into())
        },
    },
];

/// The type of the elements of the list at input `i`.
fn element<'a>(cx: &Infer<'a>, i: usize) -> Result<&'a Type> {
    match cx.ty(i)? {
        Type::Sequence(inner) => Ok(inner),
        other => invalid!("expected a sequence, found {other}"),
    }
}

/// The type of elements of either type, which must agree but for their shapes.
fn common(a: &Type, b: &Type) -> Result<Type> {
    match (a, b) {
        (Type::Tensor(x), Type::Tensor(y)) if x.dtype != y.dtype => {
            invalid!("a sequence of {a} does not take {b}")
        }
        _ => Ok(a.join(b)),
    }
}

/// The elements of the list at input `i`.
fn list<'a>(inputs: &[Option<&'a Datum>], i: usize) -> Result<&'a [Datum]> {
    Ok(given(inputs, i)?.as_sequence()?)
}

/// A position in `0..slots`, counted from the end where it is negative; `last` where none is given.
fn position(
    inputs: &[Option<&Datum>],
    i: usize,
    length: usize,
    slots: usize,
    last: usize,
) -> Result<usize> {
    let Some(t) = optional(inputs, i)? else { return Ok(last) };
    let p = t.to_scalar::<i64>()?;
    let at = if p < 0 { p.saturating_add(length as i64) } else { p };
    match usize::try_from(at) {
        Ok(at) if at < slots => Ok(at),
        _ => invalid!("position {p} is out of range for a sequence of {length}"),
    }
}

fn insert(inputs: &[Option<&Datum>]) -> Result<Datum> {
    let (old, new) = (list(inputs, 0)?, given(inputs, 1)?);
    if let (Some(Datum::Tensor(a)), Datum::Tensor(b)) = (old.first(), new)
        && a.dtype() != b.dtype()
    {
        invalid!("a sequence of {} does not take {}", a.dtype(), b.dtype());
    }
    let at = position(inputs, 2, old.len(), old.len() + 1, old.len())?;
    let mut out = Vec::with_capacity(old.len() + 1);
    out.extend_from_slice(&old[..at]);
    out.push(new.clone());
    out.extend_from_slice(&old[at..]);
    Ok(Datum::Sequence(out))
}

fn erase(inputs: &[Option<&Datum>]) -> Result<Datum> {
    let old = list(inputs, 0)?;
    let Some(last) = old.len().checked_sub(1) else {
        invalid!("there is nothing to erase from an empty sequence");
    };
    let at = position(inputs, 1, old.len(), old.len(), last)?;
    let mut out = old.to_vec();
    out.remove(at);
    Ok(Datum::Sequence(out))
}

/// How an axis is cut.
enum Cut {
    /// Into pieces of this length; the last may be shorter.
    Equal(usize),
    /// Into pieces of these lengths.
    Lengths(Vec<usize>),
}

impl Cut {
    /// Reads `split`; without it, single steps.
    fn read(split: Option<&Tensor>) -> Result<Self> {
        let Some(split) = split else { return Ok(Cut::Equal(1)) };
        let wanted = split.to_vec::<i64>()?;
        let lengths: Option<Vec<usize>> = wanted.iter().map(|&n| usize::try_from(n).ok()).collect();
        match lengths {
            Some(v) if split.rank() > 0 => Ok(Cut::Lengths(v)),
            Some(v) if v[0] > 0 => Ok(Cut::Equal(v[0])),
            _ => invalid!("pieces of the lengths {wanted:?} are not possible"),
        }
    }

    /// An error unless the pieces make up an axis of this length.
    fn check(&self, length: usize) -> Result<()> {
        match self {
            Cut::Lengths(v)
                if v.iter().try_fold(0usize, |s, &n| s.checked_add(n)) != Some(length) =>
            {
                invalid!("the lengths {v:?} do not sum up to {length}")
            }
            _ => Ok(()),
        }
    }

    fn count(&self, length: usize) -> usize {
        match self {
            Cut::Equal(n) => length.div_ceil(*n),
            Cut::Lengths(v) => v.len(),
        }
    }

    /// The length of piece `k`, which begins at `at`.
    fn piece(&self, k: usize, at: usize, length: usize) -> usize {
        match self {
            Cut::Equal(n) => (*n).min(length - at),
            Cut::Lengths(v) => v[k],
        }
    }

    /// The length of all pieces of an axis, where it is the same.
    fn common(&self, length: Option<usize>) -> Option<usize> {
        match self {
            Cut::Equal(1) => Some(1),
            Cut::Equal(n) => length.filter(|l| l.is_multiple_of(*n)).map(|_| *n),
            Cut::Lengths(v) => v.first().copied().filter(|f| v.iter().all(|n| n == f)),
        }
    }
}

/// The steps `from..from + n` of a tensor along an axis.
fn slice(x: &Tensor, axis: usize, from: usize, n: usize) -> Result<Tensor> {
    let mut out = x.shape().to_vec();
    let length = std::mem::replace(&mut out[axis], n);
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let outer: usize = x.shape()[..axis].iter().product();
    let indices = (0..outer).flat_map(|o| {
        let at = (o * length + from) * inner;
        at..at + n * inner
    });
    Ok(x.take(&out, indices)?)
}

fn split(cx: &Context, inputs: &[Option<&Datum>], axis: i64, keep: bool) -> Result<Datum> {
    let x = tensor(inputs, 0)?;
    let axis = shape::axis(axis, x.rank())?;
    let (length, cut) = (x.shape()[axis], Cut::read(optional(inputs, 1)?)?);
    cut.check(length)?;
    let single = optional(inputs, 1)?.is_none();
    // Pieces of no elements cost memory all the same.
    let count = cut.count(length);
    cx.numel(DType::C128, &[count, 8])?;
    let mut at = 0;
    let mut out = Vec::with_capacity(count);
    for k in 0..count {
        cx.cancel.poll()?;
        let n = cut.piece(k, at, length);
        let mut piece = slice(x, axis, at, n)?;
        if single && !keep {
            let mut shape = piece.shape().to_vec();
            shape.remove(axis);
            piece = piece.reshape(&shape)?;
        }
        at += n;
        out.push(piece.into());
    }
    Ok(Datum::Sequence(out))
}

/// Tensors of one type, alike but along `axis`, as one.
fn concat(cx: &Context, parts: &[&Tensor], axis: i64) -> Result<Tensor> {
    let first = parts[0];
    let axis = shape::axis(axis, first.rank())?;
    let mut out = first.shape().to_vec();
    out[axis] = 0;
    for p in parts {
        let fits = p.dtype() == first.dtype()
            && p.rank() == first.rank()
            && (0..out.len()).all(|i| i == axis || p.shape()[i] == out[i]);
        if !fits {
            invalid!(
                "{}{:?} and {}{:?} do not join along axis {axis}",
                first.dtype(),
                first.shape(),
                p.dtype(),
                p.shape()
            );
        }
        out[axis] = out[axis].saturating_add(p.shape()[axis]);
    }
    let n = cx.numel(first.dtype(), &out)?;
    let outer: usize = out[..axis].iter().product();
    let inner: usize = out[axis + 1..].iter().product();
    let runs = (0..outer).flat_map(|o| {
        parts.iter().map(move |p| {
            let run = p.shape()[axis] * inner;
            (p, o * run..(o + 1) * run)
        })
    });
    if first.dtype() == DType::String {
        let mut data = Vec::with_capacity(n);
        for (p, run) in runs {
            data.extend_from_slice(&p.strings()?[run]);
        }
        return Ok(Tensor::from_strings(&out, data)?);
    }
    match_element!(first.dtype(), T => {
        let mut data = Vec::with_capacity(n);
        for (p, run) in runs {
            data.extend_from_slice(&p.as_slice::<T>()?[run]);
        }
        Ok(Tensor::from_vec(&out, data)?)
    }, else invalid!("{} does not join", first.dtype()))
}

fn concat_list(cx: &Context, list: &[Datum], axis: i64, new: bool) -> Result<Tensor> {
    let parts: Vec<&Tensor> = list.iter().map(|d| Ok(d.as_tensor()?)).collect::<Result<_>>()?;
    if parts.is_empty() {
        invalid!("an empty sequence does not make a tensor");
    }
    if !new {
        return concat(cx, &parts, axis);
    }
    let mut pieces = Stack::default();
    for p in parts {
        pieces.push(p.clone().into())?;
    }
    stack(cx, pieces.tensors(), axis)
}

impl Sequence {
    fn split_type(cx: &Infer<'_>, axis: i64, keep: bool) -> Result<Type> {
        let t = cx.ty(0)?.as_tensor()?;
        let Some(mut s) = t.shape.clone() else { return Ok(Type::tensor(t.dtype, None)) };
        let axis = shape::axis(axis, s.len())?;
        let length = s[axis].as_len();
        let equal = match (cx.has(1), cx.constant(1)) {
            (true, None) => None,
            (_, split) => {
                let cut = Cut::read(split)?;
                length.map_or(Ok(()), |n| cut.check(n))?;
                cut.common(length)
            }
        };
        match equal {
            None => return Ok(Type::tensor(t.dtype, None)),
            Some(_) if !cx.has(1) && !keep => drop(s.remove(axis)),
            Some(n) => s[axis] = n.into(),
        }
        Ok(Type::tensor(t.dtype, Some(s)))
    }

    fn concat_type(cx: &mut Infer<'_>, axis: i64, new: bool) -> Result<Type> {
        let t = element(cx, 0)?.as_tensor()?;
        let Some(mut s) = t.shape.clone() else { return Ok(Type::tensor(t.dtype, None)) };
        let length = cx.fresh();
        if new {
            s.insert(shape::axis(axis, s.len() + 1)?, length);
        } else {
            let axis = shape::axis(axis, s.len())?;
            s[axis] = length;
        }
        Ok(Type::tensor(t.dtype, Some(s)))
    }

    fn check_position(cx: &Infer<'_>, i: usize) -> Result<()> {
        if cx.has(i) {
            cx.dtype_in(i, |d| matches!(d, DType::I32 | DType::I64))?;
        }
        Ok(())
    }
}

impl Operator for Sequence {
    fn name(&self) -> &str {
        match self {
            Sequence::Construct => "SequenceConstruct",
            Sequence::Empty(_) => "SequenceEmpty",
            Sequence::Insert => "SequenceInsert",
            Sequence::Erase => "SequenceErase",
            Sequence::At => "SequenceAt",
            Sequence::Length => "SequenceLength",
            Sequence::Split { .. } => "SplitToSequence",
            Sequence::Concat { .. } => "ConcatFromSequence",
        }
    }

    fn attrs(&self) -> Attrs {
        match *self {
            Sequence::Empty(DType::F32) => Attrs::default(),
            Sequence::Empty(dtype) => Attrs::default().with("dtype", dtype),
            Sequence::Split { axis, keep } => SplitAttrs { axis, keepdims: keep }.write(),
            Sequence::Concat { axis, new } => ConcatAttrs { axis, new_axis: new }.write(),
            _ => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Sequence::Construct => 1..=usize::MAX,
            Sequence::Empty(_) => 0..=0,
            Sequence::Insert => 2..=3,
            Sequence::Erase | Sequence::Split { .. } => 1..=2,
            Sequence::At => 2..=2,
            Sequence::Length | Sequence::Concat { .. } => 1..=1,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let of = |inner: Type| Type::Sequence(inner.into());
        let ty = match *self {
            Sequence::Construct => {
                let first = cx.ty(0)?.clone();
                of((1..cx.len()).try_fold(first, |all, i| common(&all, cx.ty(i)?))?)
            }
            Sequence::Empty(dtype) => of(Type::tensor(dtype, None)),
            Sequence::Insert => {
                Self::check_position(cx, 2)?;
                of(common(element(cx, 0)?, cx.ty(1)?)?)
            }
            Sequence::Erase => {
                Self::check_position(cx, 1)?;
                of(element(cx, 0)?.clone())
            }
            Sequence::At => {
                Self::check_position(cx, 1)?;
                element(cx, 0)?.clone()
            }
            Sequence::Length => {
                element(cx, 0)?;
                Type::tensor(DType::I64, Some(vec![]))
            }
            Sequence::Split { axis, keep } => {
                Self::check_position(cx, 1)?;
                of(Self::split_type(cx, axis, keep)?)
            }
            Sequence::Concat { axis, new } => Self::concat_type(cx, axis, new)?,
        };
        Ok(vec![ty.into()])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        Ok(vec![match *self {
            Sequence::Construct => {
                let all = (0..inputs.len()).map(|i| given(inputs, i).cloned());
                Datum::Sequence(all.collect::<Result<_>>()?)
            }
            Sequence::Empty(_) => Datum::Sequence(vec![]),
            Sequence::Insert => insert(inputs)?,
            Sequence::Erase => erase(inputs)?,
            Sequence::At => {
                let all = list(inputs, 0)?;
                let missing = || Error::invalid("input 1 is missing");
                inputs.get(1).copied().flatten().ok_or_else(missing)?;
                all[position(inputs, 1, all.len(), all.len(), 0)?].clone()
            }
            Sequence::Length => Tensor::scalar(list(inputs, 0)?.len() as i64).into(),
            Sequence::Split { axis, keep } => split(cx, inputs, axis, keep)?,
            Sequence::Concat { axis, new } => concat_list(cx, list(inputs, 0)?, axis, new)?.into(),
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run, run1, types};

    fn ints(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>() as i64;
        Tensor::from_vec(shape, (0..n).collect()).expect("as many")
    }

    /// Runs a text that makes a list and returns its elements.
    fn elements(t: &str, inputs: &[Tensor]) -> Vec<Tensor> {
        match run(t, inputs).expect("runs").remove(0) {
            Datum::Sequence(s) => s.iter().map(|d| d.as_tensor().expect("t").clone()).collect(),
            other => panic!("a {}", other.kind()),
        }
    }

    const THREE: &str =
        "a: i64[1]\nb: i64[1]\nc: i64[1]\ns = SequenceConstruct(a, b, c)\np: i64[]\n";

    fn three(rest: &str, p: i64) -> Result<Vec<Datum>> {
        let mut all: Vec<_> = (1..4).map(|i| Tensor::vector(vec![i64::from(i)])).collect();
        all.push(Tensor::scalar(p));
        run(&format!("{THREE}{rest}\nreturn y"), &all)
    }

    fn numbers(d: &Datum) -> Vec<i64> {
        let s = d.as_sequence().expect("a list").iter();
        s.map(|d| d.as_tensor().expect("t").to_scalar().expect("one")).collect()
    }

    #[test]
    fn inserting_erasing_and_asking() {
        let insert = |p| three("y = SequenceInsert(s, a, p)", p).map(|d| numbers(&d[0]));
        assert_eq!(insert(0).expect("runs"), [1, 1, 2, 3]);
        assert_eq!(insert(3).expect("runs"), [1, 2, 3, 1]);
        assert_eq!(insert(-1).expect("runs"), [1, 2, 1, 3]);
        assert!(insert(4).is_err() && insert(-4).is_err() && insert(i64::MIN).is_err());
        let erase = |p| three("y = SequenceErase(s, p)", p).map(|d| numbers(&d[0]));
        assert_eq!(erase(1).expect("runs"), [1, 3]);
        assert_eq!(erase(-1).expect("runs"), [1, 2]);
        assert!(erase(3).is_err());
        let at = |p| three("y = SequenceAt(s, p)", p).map(|d| d[0].as_tensor().cloned());
        assert_eq!(at(-3).expect("runs"), Ok(Tensor::vector(vec![1i64])));
        assert!(at(3).is_err());
        let last = three("z = SequenceErase(s)\nt = SequenceInsert(z, b)\ny = Identity(t)", 0);
        assert_eq!(numbers(&last.expect("runs")[0]), [1, 2, 2]);
        let n = three("y = SequenceLength(s)", 0).expect("runs");
        assert_eq!(n[0], Tensor::scalar(3i64).into());
    }

    #[test]
    fn empty_lists() {
        let t = "s = SequenceEmpty() {dtype=7}\nx: i64[2]\ny = SequenceInsert(s, x)\nreturn y";
        assert_eq!(elements(t, &[ints(&[2])]), [ints(&[2])]);
        assert_eq!(types(t).expect("types"), ["seq(i64[..])"]);
        assert!(types(&t.replace("x: i64", "x: f32")).is_err());
        assert!(run("s = SequenceEmpty()\ny = SequenceErase(s)\nreturn y", &[]).is_err());
        let concat = "s = SequenceEmpty()\ny = ConcatFromSequence(s) {axis=0}\nreturn y";
        assert!(run(concat, &[]).expect_err("empty").message().contains("empty"));
    }

    fn split(attrs: &str, by: Option<Tensor>) -> Result<Vec<Tensor>> {
        let mut inputs = vec![ints(&[2, 5])];
        let with = match by {
            Some(by) => {
                let ty = Type::of(&by.clone().into());
                inputs.push(by);
                format!(", n: {ty}")
            }
            None => String::new(),
        };
        let t = format!("y = SplitToSequence(x: i64[2,5]{with}) {{{attrs}}}\nreturn y");
        match run(&t, &inputs)?.remove(0) {
            Datum::Sequence(s) => s.iter().map(|d| Ok(d.as_tensor()?.clone())).collect(),
            other => invalid!("a {}", other.kind()),
        }
    }

    #[test]
    fn splitting() {
        let shapes = |s: Vec<Tensor>| s.iter().map(|t| t.shape().to_vec()).collect::<Vec<_>>();
        let single = split("axis=1", None).expect("runs");
        assert_eq!(shapes(single.clone()), vec![vec![2, 1]; 5]);
        assert_eq!(single[4].to_vec::<i64>(), Ok(vec![4, 9]));
        let flat = split("axis=0, keepdims=0", None).expect("runs");
        assert_eq!(shapes(flat), vec![vec![5]; 2]);
        let chunks = split("axis=-1, keepdims=0", Some(Tensor::scalar(2i32))).expect("runs");
        assert_eq!(chunks[2].to_vec::<i64>(), Ok(vec![4, 9]));
        assert_eq!(shapes(chunks), [[2, 2], [2, 2], [2, 1]]);
        let by = |v: Vec<i64>| split("axis=1", Some(Tensor::vector(v)));
        assert_eq!(shapes(by(vec![0, 4, 1]).expect("runs")), [[2, 0], [2, 4], [2, 1]]);
        assert!(by(vec![4, 2]).is_err() && by(vec![6, -1]).is_err());
        assert!(split("axis=1", Some(Tensor::scalar(0i64))).is_err());
        assert!(split("axis=2", None).is_err());
        let long = "n = i64[]{1}\ns = SplitToSequence(x: f32[4611686018427387904,0], n)\nreturn s";
        assert_eq!(types(long).expect("types"), ["seq(f32[1,0])"]);
        let x = Tensor::from_vec::<f32>(&[1 << 62, 0], vec![]).expect("empty");
        assert_eq!(run(long, &[x]).expect_err("too many").kind(), crate::Kind::Limit);
    }

    #[test]
    fn joining() {
        let x = ints(&[2, 3]);
        let back = |axis: i64, rest: &str| {
            run1(
                &format!(
                    "s = SplitToSequence(x: i64[2,3]) {{axis={axis}}}\n\
                     y = ConcatFromSequence(s) {{{rest}}}\nreturn y"
                ),
                std::slice::from_ref(&x),
            )
        };
        assert_eq!(back(1, "axis=1").expect("runs"), x);
        assert_eq!(back(0, "axis=-2").expect("runs"), x);
        let new = back(0, "axis=-1, new_axis=1").expect("runs");
        assert_eq!(new.shape(), [1, 3, 2]);
        assert_eq!(new.to_vec::<i64>(), Ok(vec![0, 3, 1, 4, 2, 5]));
        assert!(back(1, "axis=2").is_err());
        let uneven = "n = i64[2]{1, 2}\ns = SplitToSequence(x: i64[2,3], n) {axis=1}\n\
                      y = ConcatFromSequence(s) {axis=0}\nreturn y";
        assert!(run1(uneven, &[x]).is_err());
    }

    #[test]
    fn element_types() {
        let t = |text: &str| types(text).expect("types").remove(0);
        let made = "x: f32[N,3]\ny: f32[N,3]\ns = SequenceConstruct(x, y)\nreturn s";
        assert_eq!(t(made), "seq(f32[N,3])");
        assert_eq!(t(&made.replace("y: f32[N", "y: f32[M")), "seq(f32[..])");
        assert!(types(&made.replace("y: f32", "y: i32")).is_err());
        let joined = made.replace("return s", "z = ConcatFromSequence(s) {axis=0}\nreturn z");
        assert_eq!(t(&joined), "f32[?1,3]");
        let split = "s = SplitToSequence(x: f32[N,6], n) {axis=1}\nreturn s";
        assert_eq!(t(&format!("n = i64[]{{3}}\n{split}")), "seq(f32[N,3])");
        assert_eq!(t(&format!("n = i64[]{{4}}\n{split}")), "seq(f32[..])");
        assert_eq!(t(&split.replace(", n", "")), "seq(f32[N,1])");
    }
}
