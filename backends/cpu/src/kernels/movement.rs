//! Elements of `f32`, or bytes, put in another order: Transpose, DepthToSpace, SpaceToDepth, Slice,
//! Expand, Split, Concat and Gather, by runs that are copied whole.
//!
//! ```text
//! y[i, j, ..] = x[base + i * s0 + j * s1 + ..]      a last stride of 1: a run
//! ```

use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::gather::Gather;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::rearrange::{BlockMode, Rearrange};
use kiln_ir::ops::slice;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Type, Value, invalid};
use kiln_tensor::{DType, shape};

use super::matmul_integer::{bytes, is_byte};
use super::{all_f32, is_f32};
use crate::kernel::{Args, BYTES, FLOATS, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "transpose_f32_u8",
        what: "Transpose: runs where the last axis stays, else blocks of two axes",
        graphs: &[
            "y = Transpose(x: f32[2,3,4,5]) {perm=[0,2,1,3]}\nreturn y",
            "y = Transpose(x: f32[70,45])\nreturn y",
            "y = Transpose(x: f32[2,33,5,40]) {perm=[0,2,3,1]}\nreturn y",
            "y = Transpose(x: f32[3,40,1,35,2]) {perm=[3,1,4,2,0]}\nreturn y",
            "y = Transpose(x: f32[3,0]) {perm=[1,0]}\nreturn y",
            "y = Transpose(x: u8[70,3,5]) {perm=[2,0,1]}\nz = Transpose(v: i8[5,2])\nreturn y, z",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_transpose,
    },
    Row {
        name: "blocks_f32_u8",
        what: "DepthToSpace and SpaceToDepth: as a Transpose of six axes",
        graphs: &[
            "y = DepthToSpace(x: f32[2,8,3,5]) {blocksize=2}\nreturn y",
            "y = DepthToSpace(x: f32[2,18,3,5]) {blocksize=3, mode=\"CRD\"}\nreturn y",
            "y = SpaceToDepth(x: f32[2,3,8,40]) {blocksize=2}\nreturn y",
            "y = SpaceToDepth(x: u8[2,3,6,0]) {blocksize=2}\nreturn y",
            "y = SpaceToDepth(x: i8[1,3,6,9]) {blocksize=3}\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_blocks,
    },
    Row {
        name: "slice_f32_u8",
        what: "Slice and Expand: strided copies",
        graphs: &[
            "s = i64[2]{1,-1}\ne = i64[2]{3,-9}\na = i64[2]{0,2}\nt = i64[2]{1,-2}\n\
             y = Slice(x: f32[4,3,6], s, e, a, t)\nreturn y",
            "s = i64[1]{1}\ne = i64[1]{9}\ny = Slice(x: i8[4,3], s, e)\nreturn y",
            "s = i64[2]{3,50}\ny = Expand(x: f32[2,3,1], s)\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_slice,
    },
    Row {
        name: "concat_f32_u8",
        what: "Concat and Split: copies of runs",
        graphs: &[
            "y = Concat(x: f32[2,3,4], z: f32[2,1,4], v: f32[2,0,4]) {axis=1}\nreturn y",
            "y = Concat(x: f32[3,4], z: f32[1,4]) {axis=0}\nreturn y",
            "y = Concat(x: u8[3,4], z: u8[3,1]) {axis=1}\nreturn y",
            "a, b = Split(x: f32[4,7]) {axis=1, num_outputs=2}\nc = Neg(a)\nreturn c, b",
            "s = i64[3]{1,0,2}\na, b, c = Split(x: f32[3,5], s) {axis=0}\nd = Neg(c)\nreturn a, d",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_concat,
    },
    Row {
        name: "gather_f32",
        what: "Gather of slices: copies of runs",
        graphs: &[
            "y = Gather(x: f32[4,5], i: i64[2,3])\nreturn y",
            "i = i64[3]{-1,0,2}\ny = Gather(x: f32[2,3,5], i) {axis=1}\nreturn y",
            "i = i64[]{2}\ny = Gather(x: f32[2,3,5], i) {axis=-1}\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_gather,
    },
];

/// An axis of the result: its length, and the way to the next element in the operand.
type Side = (usize, isize);

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 14;
/// Rows and columns of a block of two axes.
const BLOCK: usize = 32;

/// Merges neighbours that are one axis, and drops those of length 1.
fn merged(sides: impl Iterator<Item = Side>) -> Vec<Side> {
    let mut out: Vec<Side> = Vec::new();
    for (n, s) in sides.filter(|(n, _)| *n != 1) {
        match out.last_mut() {
            Some((m, t)) if *t == s * n as isize => (*m, *t) = (*m * n, s),
            _ => out.push((n, s)),
        }
    }
    out
}

/// Copies the elements of `x` that the sides lead to, from `base` on.
fn copy<T: Copy + Send + Sync>(
    sides: impl Iterator<Item = Side>,
    base: usize,
    x: &[T],
    y: &mut [T],
) {
    let sides = merged(sides);
    if y.is_empty() {
        return;
    }
    let Some((&(first, stride), inner)) = sides.split_first() else {
        return y[0] = x[base];
    };
    let step = y.len() / first;
    // Rows of the first axis that go to one thread: enough for a block, or for a job.
    let rows = if stride == 1 { BLOCK } else { (JOB / step).max(1) };
    team::each(y.chunks_mut(rows * step).enumerate(), |(i, y)| {
        let base = base as isize + (i * rows) as isize * stride;
        let sides: Vec<Side> =
            std::iter::once((y.len() / step, stride)).chain(inner.iter().copied()).collect();
        part(&sides, base, x, y);
    });
}

/// The same for one thread.
fn part<T: Copy>(sides: &[Side], base: isize, x: &[T], y: &mut [T]) {
    let [outer @ .., (n, last)] = sides else { return };
    let along = outer.iter().position(|&(_, s)| s == 1);
    match (*last, along) {
        (1, _) | (_, None) => each(outer, base, 0, *n, &mut |from, to| {
            run(&mut y[to..][..*n], x, from, *last);
        }),
        (last, Some(a)) => {
            // The axis that lies side by side in the operand, and the last one of the result.
            let step: usize = sides[a + 1..].iter().map(|(n, _)| n).product();
            let places = |sides: &[Side], scale: usize| -> Vec<(isize, usize)> {
                let mut all = Vec::new();
                each(sides, 0, 0, scale, &mut |from, to| all.push((from, to)));
                all
            };
            let inner: usize = outer[a + 1..].iter().map(|(n, _)| n).product();
            let before = places(&outer[..a], step * outer[a].0);
            let behind = places(&outer[a + 1..], *n);
            debug_assert_eq!(behind.len(), inner);
            for &(f, t) in &before {
                for &(g, u) in &behind {
                    let block = Block { rows: outer[a].0, columns: *n, step, stride: last };
                    block.copy(x, base + f + g, &mut y[t + u..]);
                }
            }
        }
    }
}

/// Calls `f` with where each row of `n` elements comes from and where it goes.
fn each(sides: &[Side], from: isize, to: usize, n: usize, f: &mut dyn FnMut(isize, usize)) {
    let Some((&(len, stride), rest)) = sides.split_first() else { return f(from, to) };
    let step = n * rest.iter().map(|(n, _)| n).product::<usize>();
    for i in 0..len {
        each(rest, from + i as isize * stride, to + i * step, n, f);
    }
}

fn run<T: Copy>(y: &mut [T], x: &[T], from: isize, stride: isize) {
    match stride {
        1 => y.copy_from_slice(&x[from as usize..][..y.len()]),
        0 => y.fill(x[from as usize]),
        _ => {
            for (i, y) in y.iter_mut().enumerate() {
                *y = x[(from + i as isize * stride) as usize];
            }
        }
    }
}

/// `y[r * step + c] = x[r + c * stride]`.
struct Block {
    rows: usize,
    columns: usize,
    step: usize,
    stride: isize,
}

impl Block {
    fn copy<T: Copy>(&self, x: &[T], base: isize, y: &mut [T]) {
        for r in (0..self.rows).step_by(BLOCK) {
            let rows = BLOCK.min(self.rows - r);
            for c in (0..self.columns).step_by(BLOCK) {
                let columns = BLOCK.min(self.columns - c);
                for j in c..c + columns {
                    let from = (base + r as isize + j as isize * self.stride) as usize;
                    for (i, &x) in x[from..][..rows].iter().enumerate() {
                        y[(r + i) * self.step + j] = x;
                    }
                }
            }
        }
    }
}

/// Whether a value is `f32`, or bytes.
fn moves(g: &Graph, v: Value) -> bool {
    is_f32(g, v) || is_byte(g, Some(v)) && g.ty(v).rank().is_some()
}

/// Copies elements of either kind from operand 0 to the result.
fn copy_any(sides: impl Iterator<Item = Side>, base: usize, mut args: Args<'_>) -> Result<()> {
    let out = match args.integers.take() {
        None => {
            copy(sides, base, args.input(0)?.1, args.out);
            return Ok(());
        }
        Some(out) => out.bytes()?,
    };
    let (_, x, _) = bytes(args.optional(0))?;
    copy(sides, base, x, out);
    Ok(())
}

/// The shape of operand 0.
fn shape_of<'a>(args: &Args<'a>) -> Result<&'a [usize]> {
    Ok(args.input(0)?.0)
}

/// An order of axes.
struct Transpose(Vec<usize>);

fn prepare_transpose(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Layout(Layout::Transpose { perm }) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    let rank = g.ty(x).rank()?;
    let perm: Option<Vec<usize>> = match perm {
        None => Some((0..rank).rev().collect()),
        Some(p) => p.iter().map(|&a| shape::axis(a, rank).ok()).collect(),
    };
    let perm = perm.filter(|p| p.len() == rank)?;
    moves(g, x).then(|| Box::new(Transpose(perm)) as Box<dyn Kernel>)
}

impl Kernel for Transpose {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let shape = shape_of(&args)?;
        let strides = shape::strides(shape);
        let sides = self.0.iter().map(|&a| (shape[a], strides[a] as isize));
        copy_any(sides, 0, args)
    }
}

/// Channels that become blocks, or blocks that become channels.
struct Blocks(Rearrange);

fn prepare_blocks(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Rearrange(op) = g.op(id) else { return None };
    let blocks = matches!(op, Rearrange::DepthToSpace { .. } | Rearrange::SpaceToDepth { .. });
    let x = g.input_of(id, 0).filter(|_| blocks)?;
    moves(g, x).then(|| Box::new(Blocks(*op)) as Box<dyn Kernel>)
}

impl Kernel for Blocks {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let (&[n, c, h, w], &[_, depth, tall, wide]) = (shape_of(&args)?, args.shape) else {
            invalid!("an image has four axes");
        };
        let (split, order) = match self.0 {
            Rearrange::DepthToSpace { block, mode } => {
                let b = block as usize;
                match mode {
                    BlockMode::Dcr => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
                    BlockMode::Crd => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
                }
            }
            Rearrange::SpaceToDepth { block, mode } => {
                let b = block as usize;
                let order = match mode {
                    BlockMode::Dcr => [0, 3, 5, 1, 2, 4],
                    BlockMode::Crd => [0, 1, 3, 5, 2, 4],
                };
                ([n, c, tall, b, wide, b], order)
            }
            _ => return Err(Error::bug("no blocks")),
        };
        if shape::numel(&split)? != n * c * h * w {
            invalid!("{:?} does not fall into blocks", [n, c, h, w]);
        }
        let strides = shape::strides(&split);
        copy_any(order.into_iter().map(|a: usize| (split[a], strides[a] as isize)), 0, args)
    }
}

/// What a strided copy takes.
enum Cut {
    Slice,
    Expand,
}

fn is_ints(g: &Graph, v: Value) -> bool {
    matches!(g.ty(v), Type::Tensor(t) if matches!(t.dtype, DType::I64 | DType::I32))
}

fn prepare_slice(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let cut = match g.op(id) {
        Op::Slice(_) => Cut::Slice,
        Op::Layout(Layout::Expand) => Cut::Expand,
        _ => return None,
    };
    let (first, rest) = (g.input_of(id, 0)?, g.inputs_of(id).into_iter().skip(1));
    let takes = moves(g, first) && rest.flatten().all(|v| is_ints(g, v));
    takes.then(|| Box::new(cut) as Box<dyn Kernel>)
}

impl Kernel for Cut {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let shape = shape_of(&args)?;
        let own = shape::strides(shape);
        match self {
            Cut::Slice => {
                let lists = [args.ints(1)?, args.ints(2)?, args.ints(3)?, args.ints(4)?];
                let runs = slice::runs(shape, lists)?;
                if runs.iter().map(|r| r.len).ne(args.shape.iter().copied()) {
                    invalid!("a slice of {shape:?} gives no {:?}", args.shape);
                }
                let base = runs.iter().zip(&own).map(|(r, s)| r.start * s).sum();
                let sides =
                    runs.iter().zip(&own).map(|(r, &s)| (r.len, r.step as isize * s as isize));
                copy_any(sides, base, args)
            }
            Cut::Expand => {
                let strides = shape::broadcast_strides(shape, args.shape);
                let to = args.shape;
                let sides = to.iter().zip(strides).map(|(&n, s)| (n, s as isize));
                copy_any(sides, 0, args)
            }
        }
    }
}

fn prepare_concat(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Concat(op) = g.op(id) else { return None };
    let takes = match op {
        Concat::Join { .. } => all_f32(g, id) || g.inputs_of(id).iter().all(|v| is_byte(g, *v)),
        Concat::Split { .. } => is_f32(g, g.input_of(id, 0)?) && is_f32(g, id.first()),
    };
    takes.then(|| Box::new(*op) as Box<dyn Kernel>)
}

impl Kernel for Concat {
    fn run(&self, args: Args<'_>) -> Result<()> {
        match *self {
            Concat::Join { axis } => join(args, axis),
            Concat::Split { axis, .. } => split(args, axis),
        }
    }
}

fn join(mut args: Args<'_>, axis: i64) -> Result<()> {
    let inputs = args.inputs.iter().flatten();
    match args.integers.take() {
        None => {
            let parts = inputs.map(|o| (o.shape, o.data)).collect();
            join_of(parts, args.shape, axis, args.out)
        }
        Some(out) => {
            let parts = inputs.map(|o| bytes(Some(*o)).map(|(shape, x, _)| (shape, x)));
            join_of(parts.collect::<Result<_>>()?, args.shape, axis, out.bytes()?)
        }
    }
}

fn join_of<T: Copy + Send + Sync>(
    parts: Vec<(&[usize], &[T])>,
    shape: &[usize],
    axis: i64,
    out: &mut [T],
) -> Result<()> {
    let axis = shape::axis(axis, shape.len())?;
    let row: usize = shape[axis..].iter().product();
    if out.is_empty() {
        return Ok(());
    }
    let parts: Vec<(usize, &[T])> =
        parts.into_iter().map(|(s, x)| (s[axis..].iter().product(), x)).collect();
    if parts.iter().map(|(n, _)| n).sum::<usize>() != row {
        invalid!("the parts do not make up {shape:?}");
    }
    let rows = (JOB / row).max(1);
    team::each(out.chunks_mut(rows * row).enumerate(), |(q, y)| {
        if row <= NARROW {
            return columnwise(&parts, q * rows, row, y);
        }
        for (r, mut y) in y.chunks_exact_mut(row).enumerate() {
            for &(n, x) in &parts {
                let (piece, rest) = y.split_at_mut(n);
                piece.copy_from_slice(&x[(q * rows + r) * n..][..n]);
                y = rest;
            }
        }
    });
    Ok(())
}

/// Rows of so few elements are put together part by part.
const NARROW: usize = 16;

/// Puts rows from `first` on together, one column of all of them after the other.
fn columnwise<T: Copy>(parts: &[(usize, &[T])], first: usize, row: usize, y: &mut [T]) {
    let mut at = 0;
    for &(n, x) in parts {
        for c in 0..n {
            let x = x[first * n + c..].iter().step_by(n);
            y[at + c..].iter_mut().step_by(row).zip(x).for_each(|(y, x)| *y = *x);
        }
        at += n;
    }
}

fn split(args: Args<'_>, axis: i64) -> Result<()> {
    let (shape, x) = args.input(0)?;
    let axis = shape::axis(axis, shape.len())?;
    let inner: usize = shape[axis + 1..].iter().product();
    let row = shape[axis] * inner;
    let lengths = args.ints(1)?;
    // Without lengths the parts are equal, but for the last ones.
    let equal = shape[axis].div_ceil(args.more.len() + 1);
    let mut at = 0;
    let first = Some((args.shape, args.out));
    for (k, out) in std::iter::once(first).chain(args.more).enumerate() {
        let length = match &lengths {
            Some(l) => l.get(k).copied().and_then(|n| usize::try_from(n).ok()),
            None => Some(equal.min(shape[axis] - at)),
        };
        let Some(length) = length.filter(|n| at + n <= shape[axis]) else {
            invalid!("the parts do not make up {}", shape[axis]);
        };
        if let Some((own, out)) = out {
            let n = length * inner;
            if own.get(axis) != Some(&length) {
                return Err(Error::bug(format!("part {k} is {length} long, not {own:?}")));
            }
            for (y, x) in out.chunks_exact_mut(n.max(1)).zip(x.chunks_exact(row.max(1))) {
                y.copy_from_slice(&x[at * inner..][..n]);
            }
        }
        at += length;
    }
    Ok(())
}

/// Slices along an axis.
struct Slices(i64);

fn prepare_gather(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Gather(Gather::Slices { axis }) = g.op(id) else { return None };
    let takes = is_f32(g, g.input_of(id, 0)?) && is_ints(g, g.input_of(id, 1)?);
    takes.then(|| Box::new(Slices(*axis)) as Box<dyn Kernel>)
}

impl Kernel for Slices {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let (shape, x) = args.input(0)?;
        let axis = shape::axis(self.0, shape.len())?;
        let (n, run) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let place = |i: i64| {
            let at = if i < 0 { i + n as i64 } else { i };
            let wrong = || Error::invalid(format!("index {i} is out of range for length {n}"));
            usize::try_from(at).ok().filter(|&at| at < n).ok_or_else(wrong)
        };
        let places: Result<Vec<usize>> =
            args.ints(1)?.unwrap_or_default().into_iter().map(place).collect();
        let places = places?;
        if args.out.is_empty() {
            return Ok(());
        }
        if run == 1 && places.len() < JOB {
            pick(x, n, &places, args.out);
            return Ok(());
        }
        let rows = (JOB / run).max(1);
        team::each(args.out.chunks_mut(rows * run).enumerate(), |(q, y)| {
            for (r, y) in y.chunks_exact_mut(run).enumerate() {
                let i = q * rows + r;
                let (outer, at) = (i / places.len(), places[i % places.len()]);
                y.copy_from_slice(&x[(outer * n + at) * run..][..run]);
            }
        });
        Ok(())
    }
}

/// Picks these places of each row of `n` elements.
fn pick(x: &[f32], n: usize, places: &[usize], y: &mut [f32]) {
    let (width, rows) = (places.len(), (JOB / places.len()).max(1));
    team::each(y.chunks_mut(rows * width).zip(x.chunks(rows * n)), |(y, x)| {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(n)) {
            y.iter_mut().zip(places).for_each(|(y, &at)| *y = x[at]);
        }
    });
}
