//! Tensors made longer: padded at both ends of their axes, or repeated.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor, match_element, shape};

use super::cast::{Cast, RoundMode, convert};
use super::compare::Compare;
use super::layout::{lengths, target_shape, vector_len};
use super::select::Select;
use super::slice::Cross;
use crate::eval::{optional, tensor};
use crate::{
    Attrs, Build, Context, Dim, Error, Fact, Infer, Operator, Result, Schema, attr_enum, invalid,
    unsupported,
};

attr_enum! {
    /// What lies beyond the ends of an axis.
    pub enum PadMode {
        /// One value, 0 by default.
        Constant = "constant",
        /// The axis mirrored at its last element.
        Reflect = "reflect",
        /// The last element.
        Edge = "edge",
        /// The axis again.
        Wrap = "wrap",
    }
}

/// A way to make a tensor longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pad {
    /// `pads` elements more at the start and at the end of each axis; negative pads cut.
    ///
    /// Inputs: data, pads, and optionally the constant and the axes.
    Ends(PadMode),
    /// Each axis as often as `repeats` says.
    Tile,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "Pad", since: 1, build: |b| old_pad(b, "paddings") },
    Schema { name: "Pad", since: 2, build: |b| old_pad(b, "pads") },
    Schema { name: "Pad", since: 11, build: |b| Ok(Pad::Ends(mode(b)?).into()) },
    Schema { name: "Tile", since: 1, build: old_tile },
    Schema { name: "Tile", since: 6, build: |_| Ok(Pad::Tile.into()) },
];

fn mode(b: &mut Build<'_>) -> Result<PadMode> {
    Ok(b.take("mode")?.unwrap_or(PadMode::Constant))
}

/// Pads and their value were attributes.
fn old_pad(b: &mut Build<'_>, pads: &str) -> Result<crate::Built> {
    let op = Pad::Ends(mode(b)?);
    let value = b.take::<f32>("value")?.unwrap_or(0.0);
    b.ints_to_input(pads, 1)?;
    if value != 0.0 {
        let value = convert(&Tensor::scalar(value), b.dtype(0)?, true, RoundMode::Up)?;
        let value = b.constant(value);
        b.set_input(2, Some(value));
    }
    Ok(op.into())
}

/// One axis was repeated, both as scalars.
fn old_tile(b: &mut Build<'_>) -> Result<crate::Built> {
    let Some(rank) = b.rank(0)? else {
        unsupported!("a Tile of opset 1 needs an input of known rank; use opset 6 or later");
    };
    let one = |i: usize| b.constant_input(i).map(Tensor::to_scalar::<i64>).transpose();
    let repeats = if let (Some(tiles), Some(axis)) = (one(1)?, one(2)?) {
        let mut repeats = vec![1; rank];
        repeats[shape::axis(axis, rank)?] = tiles;
        b.constant(Tensor::vector(repeats))
    } else {
        let tiles = b.node(Cast::to(DType::I64), &[b.input(1)?])?;
        let axis = b.node(Cast::to(DType::I64), &[b.input(2)?])?;
        let axes = b.constant(Tensor::vector((0..rank as i64).collect()));
        let here = b.node(Compare::Equal, &[axes, axis])?;
        let once = b.constant(Tensor::vector(vec![1i64]));
        b.node(Select::Where, &[here, tiles, once])?
    };
    b.inputs.truncate(1);
    b.set_input(1, Some(repeats));
    Ok(Pad::Tile.into())
}

impl Operator for Pad {
    fn name(&self) -> &str {
        match self {
            Pad::Ends(_) => "Pad",
            Pad::Tile => "Tile",
        }
    }

    fn attrs(&self) -> Attrs {
        match self {
            Pad::Ends(mode) => {
                Attrs::default().with("mode", Some(*mode).filter(|m| *m != PadMode::Constant))
            }
            Pad::Tile => Attrs::default(),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Pad::Ends(_) => 2..=4,
            Pad::Tile => 2..=2,
        }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype(0)?;
        cx.dtype_in(1, |d| d == DType::I64)?;
        let shape = match self {
            Pad::Ends(_) => infer_pad(cx)?,
            Pad::Tile => infer_tile(cx)?,
        };
        Ok(vec![Fact::tensor(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, arg) = (tensor(inputs, 0)?, tensor(inputs, 1)?);
        let y = match *self {
            Pad::Ends(mode) => {
                let (value, axes) = (optional(inputs, 2)?, optional(inputs, 3)?);
                pad(cx, x, &arg.to_vec::<i64>()?, value, axes, mode)?
            }
            Pad::Tile => tile(cx, x, &lengths(arg)?)?,
        };
        Ok(vec![y.into()])
    }
}

fn infer_tile(cx: &mut Infer<'_>) -> Result<Option<Vec<Dim>>> {
    let Some(repeats) = target_shape(cx, 1)? else {
        return Ok(cx.shape(0)?.map(|x| cx.fresh_shape(x.len())));
    };
    let Some(x) = cx.shape(0)? else { return Ok(Some(cx.fresh_shape(repeats.len()))) };
    check_repeats(x.len(), repeats.len())?;
    Ok(Some(x.iter().cloned().zip(repeats).map(|(n, r)| n * r).collect()))
}

fn check_repeats(rank: usize, repeats: usize) -> Result<()> {
    if rank != repeats {
        invalid!("{repeats} repeats of {rank} axes: there must be one for each");
    }
    Ok(())
}

fn infer_pad(cx: &mut Infer<'_>) -> Result<Option<Vec<Dim>>> {
    if cx.has(2) {
        cx.same_dtype([0, 2])?;
    }
    let Some(x) = cx.shape(0)? else { return Ok(None) };
    let axes = match (cx.has(3), cx.ints(3)?) {
        (true, None) => return Ok(Some(cx.fresh_shape(x.len()))),
        (_, axes) => pad_axes(axes.as_deref(), x.len())?,
    };
    let Some(pads) = cx.dims(1) else {
        if vector_len(cx, 1)?.is_some_and(|n| n != 2 * axes.len()) {
            invalid!("the pads of {} axes are twice as many", axes.len());
        }
        let mut out = x.to_vec();
        axes.into_iter().for_each(|a| out[a] = cx.fresh());
        return Ok(Some(out));
    };
    check_pads(pads.len(), axes.len())?;
    let mut out = x.to_vec();
    for (k, &a) in axes.iter().enumerate() {
        let n = out[a].clone() + pads[k].clone() + pads[k + axes.len()].clone();
        if n.as_const().is_some_and(|n| n < 0) {
            invalid!("the pads cut more off axis {a} than it has");
        }
        out[a] = n;
    }
    Ok(Some(out))
}

fn check_pads(pads: usize, axes: usize) -> Result<()> {
    if pads != 2 * axes {
        invalid!("{pads} pads of {axes} axes: there must be two for each");
    }
    Ok(())
}

fn pad_axes(axes: Option<&[i64]>, rank: usize) -> Result<Vec<usize>> {
    match axes {
        Some(axes) => axes.iter().map(|&a| Ok(shape::axis(a, rank)?)).collect(),
        None => Ok((0..rank).collect()),
    }
}

/// One axis: cut to `from..to`, then padded with `before` and `behind`.
#[derive(Clone, Copy)]
struct Ends {
    from: usize,
    to: usize,
    before: usize,
    behind: usize,
}

impl Ends {
    fn of(n: usize, before: i64, behind: i64) -> Result<Self> {
        let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let add = |pad: i64| usize::try_from(pad.max(0)).unwrap_or(usize::MAX);
        match (cut(before), n.checked_sub(cut(behind))) {
            (from, Some(to)) if from <= to => {
                Ok(Self { from, to, before: add(before), behind: add(behind) })
            }
            _ => invalid!("pads {before} and {behind} cut more than the {n} elements there are"),
        }
    }

    fn len(self) -> Result<usize> {
        let sum = (self.to - self.from).checked_add(self.before);
        let sum = sum.and_then(|n| n.checked_add(self.behind));
        sum.ok_or_else(|| Error::limit("tensor-bytes", "the pads are too long"))
    }

    /// The element that stands at each place; `None` for the constant.
    fn places(self, mode: PadMode) -> impl Iterator<Item = Option<usize>> {
        let n = (self.to - self.from) as i64;
        (0..self.before + (self.to - self.from) + self.behind).map(move |i| {
            let at = i as i64 - self.before as i64;
            let place = match mode {
                PadMode::Constant if (0..n).contains(&at) => at,
                PadMode::Constant => return None,
                PadMode::Edge => at.clamp(0, n - 1),
                PadMode::Wrap => at.rem_euclid(n),
                PadMode::Reflect if n == 1 => 0,
                PadMode::Reflect => {
                    let turn = at.rem_euclid(2 * (n - 1));
                    turn.min(2 * (n - 1) - turn)
                }
            };
            Some(self.from + place as usize)
        })
    }
}

fn pad(
    cx: &Context,
    x: &Tensor,
    pads: &[i64],
    value: Option<&Tensor>,
    axes: Option<&Tensor>,
    mode: PadMode,
) -> Result<Tensor> {
    let axes = axes.map(Tensor::to_vec::<i64>).transpose()?;
    let axes = pad_axes(axes.as_deref(), x.rank())?;
    check_pads(pads.len(), axes.len())?;
    let whole = |&n: &usize| Ends { from: 0, to: n, before: 0, behind: 0 };
    let mut ends: Vec<Ends> = x.shape().iter().map(whole).collect();
    for (k, &a) in axes.iter().enumerate() {
        ends[a] = Ends::of(x.shape()[a], pads[k], pads[k + axes.len()])?;
    }
    let out = ends.iter().map(|e| e.len()).collect::<Result<Vec<_>>>()?;
    if cx.numel(x.dtype(), &out)? == 0 {
        return Ok(Tensor::zeros(x.dtype(), &out)?);
    }
    if mode != PadMode::Constant && ends.iter().any(|e| e.from == e.to) {
        invalid!("an empty axis has nothing to pad with");
    }
    let strides = shape::strides(x.shape());
    let offsets: Vec<Vec<usize>> = (ends.iter().zip(strides))
        .map(|(e, s)| e.places(mode).map(|p| p.map_or(usize::MAX, |p| p * s)).collect())
        .collect();
    let source = with_filler(x, value)?;
    Ok(source.take(&out, Cross::new(&offsets).map(|p| p.min(x.len())))?)
}

/// The elements of `x` as a vector with `value` (0 by default) behind them.
pub(crate) fn with_filler(x: &Tensor, value: Option<&Tensor>) -> Result<Tensor> {
    let zero = Tensor::zeros(x.dtype(), &[1])?;
    let value = value.unwrap_or(&zero);
    if value.len() != 1 || value.dtype() != x.dtype() {
        invalid!("the constant is {value:?}, it must be one {}", x.dtype());
    }
    let shape = [x.len() + 1];
    if x.dtype() == DType::String {
        let data = [x.strings()?, value.strings()?].concat();
        return Ok(Tensor::from_strings(&shape, data)?);
    }
    match_element!(x.dtype(), T => {
        let data = [x.as_slice::<T>()?, value.as_slice::<T>()?].concat();
        Ok(Tensor::from_vec(&shape, data)?)
    }, else Err(Error::bug("an element type without elements")))
}

fn tile(cx: &Context, x: &Tensor, repeats: &[usize]) -> Result<Tensor> {
    check_repeats(x.rank(), repeats.len())?;
    let out: Vec<usize> =
        x.shape().iter().zip(repeats).map(|(n, r)| n.saturating_mul(*r)).collect();
    if cx.numel(x.dtype(), &out)? == 0 {
        return Ok(Tensor::zeros(x.dtype(), &out)?);
    }
    let strides = shape::strides(x.shape());
    let offsets: Vec<Vec<usize>> = (0..x.rank())
        .map(|a| (0..out[a]).map(|i| i % x.shape()[a] * strides[a]).collect())
        .collect();
    Ok(x.take(&out, Cross::new(&offsets))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::testing::{run1, types};
    use crate::schema::{NodeSpec, add};

    fn padded(mode: &str, n: usize, pads: [i64; 2]) -> Vec<i32> {
        let text = format!("y = Pad(x: i32[{n}], p: i64[2]) {{mode=\"{mode}\"}}\nreturn y");
        let x = Tensor::vector((1..=n as i32).collect());
        let y = run1(&text, &[x, Tensor::vector(pads.to_vec())]).expect("runs");
        y.as_slice::<i32>().expect("i32").to_vec()
    }

    #[test]
    fn every_mode() {
        assert_eq!(padded("constant", 3, [1, 2]), [0, 1, 2, 3, 0, 0]);
        assert_eq!(padded("reflect", 3, [2, 3]), [3, 2, 1, 2, 3, 2, 1, 2]);
        assert_eq!(padded("reflect", 1, [1, 1]), [1, 1, 1]);
        assert_eq!(padded("edge", 3, [2, 1]), [1, 1, 1, 2, 3, 3]);
        assert_eq!(padded("wrap", 3, [4, 2]), [3, 1, 2, 3, 1, 2, 3, 1, 2]);
        assert_eq!(padded("edge", 3, [-1, 2]), [2, 3, 3, 3]);
        assert_eq!(padded("constant", 3, [-1, -2]), [0i32; 0]);
    }

    #[test]
    fn some_axes_and_a_value() {
        let text = "p = i64[2]{1,0}\na = i64[1]{-1}\nc = str[]{\"-\"}\n\
            y = Pad(x: str[2,1], p, c, a)\nreturn y";
        let s = |shape: &[usize], w: &[&str]| {
            Tensor::from_strings(shape, w.iter().map(|&s| s.to_owned()).collect()).expect("text")
        };
        let y = run1(text, &[s(&[2, 1], &["a", "b"])]).expect("runs");
        assert_eq!(y, s(&[2, 2], &["-", "a", "-", "b"]));
    }

    #[test]
    fn hostile_pads_are_errors() {
        let run = |mode: &str, n: usize, pads: [i64; 2]| {
            let text = format!("y = Pad(x: i32[{n}], p: i64[2]) {{mode=\"{mode}\"}}\nreturn y");
            run1(&text, &[Tensor::vector(vec![7i32; n]), Tensor::vector(pads.to_vec())])
        };
        assert!(run("constant", 3, [i64::MIN, 0]).is_err());
        assert!(run("constant", 3, [i64::MAX, i64::MAX]).is_err());
        assert!(run("constant", 3, [-2, -2]).is_err());
        assert!(run("edge", 0, [1, 0]).is_err());
        assert!(types("p = i64[2]{-2,-2}\ny = Pad(x: i32[3], p)\nreturn y").is_err());
    }

    #[test]
    fn tiles() {
        let x = Tensor::from_vec(&[2, 2], vec![1i32, 2, 3, 4]).expect("2x2");
        let run = |r: Vec<i64>| {
            run1("y = Tile(x: i32[2,2], r: i64[R])\nreturn y", &[x.clone(), Tensor::vector(r)])
        };
        let want = Tensor::from_vec(&[2, 4], vec![1, 2, 1, 2, 3, 4, 3, 4]).expect("2x4");
        assert_eq!(run(vec![1, 2]).expect("runs"), want);
        assert_eq!(run(vec![0, i64::MAX]).expect("empty").len(), 0);
        assert!(run(vec![i64::MAX, 1]).is_err());
        assert!(run(vec![1]).is_err());
        assert!(run(vec![1, -1]).is_err());
    }

    #[test]
    fn lengths_with_symbols() {
        let text = "p = i64[4]{0,1,0,2}\ny = Pad(x: f32[N,C], p)\nr = i64[2]{1,3}\n\
            z = Tile(x, r)\nq = Pad(x, d: i64[2], _, a)\nreturn y, z";
        assert!(types(text).is_err());
        let text = "p = i64[4]{0,1,0,2}\ny = Pad(x: f32[N,C], p)\nr = i64[2]{1,3}\n\
            z = Tile(x, r)\na = i64[1]{1}\nq = Pad(x, d: i64[2], _, a)\nreturn y, z, q";
        assert_eq!(types(text).expect("types"), ["f32[N,C+3]", "f32[N,3*C]", "f32[N,?1]"]);
    }

    #[test]
    fn old_forms() {
        let old = |op: &str, opset: i64, attrs: Attrs, more: &[i64]| {
            let mut g = Graph::new();
            let ty = crate::Type::tensor(DType::F32, Some(vec![2i64.into(), 3i64.into()]));
            let mut inputs = vec![Some(g.input("x", ty))];
            inputs.extend(more.iter().map(|&k| Some(g.constant("k", Tensor::scalar(k as f32)))));
            let y = add(&mut g, NodeSpec { op, opset, name: "y", inputs, attrs, outputs: 1 });
            y.map(|y| g.ty(y[0]).to_string())
        };
        let pads =
            |name: &str| Attrs::default().with(name, vec![0i64, 1, 0, 1]).with("value", 1f32);
        assert_eq!(old("Pad", 1, pads("paddings"), &[]).expect("1"), "f32[2,5]");
        assert_eq!(old("Pad", 2, pads("pads"), &[]).expect("2"), "f32[2,5]");
        assert_eq!(old("Tile", 1, Attrs::default(), &[4, 1]).expect("tiles"), "f32[2,12]");
    }

    #[test]
    fn an_old_tile_of_inputs_keeps_the_rank() {
        let mut g = Graph::new();
        let lengths = [vec![2i64.into(), 3i64.into()], vec![], vec![]];
        let inputs = lengths.map(|d| Some(g.input("x", crate::Type::tensor(DType::F32, Some(d)))));
        let (inputs, attrs) = (inputs.to_vec(), Attrs::default());
        let spec = NodeSpec { op: "Tile", opset: 1, name: "y", inputs, attrs, outputs: 1 };
        let y = add(&mut g, spec).expect("builds")[0];
        assert_eq!(g.ty(y).rank(), Some(2));
    }
}
