//! Convolution of `f32` in one and two dimensions as a product of packed panels: the columns
//! are the positions of the window, gathered block by block, so nothing large is unrolled.

use std::borrow::Cow;
use std::ops::Range;

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::conv::Conv;
use kiln_ir::ops::window::Axis;
use kiln_ir::{Graph, NodeId, Op, Result, invalid};

use super::gemm::{Ending, Layout, Left, Product};
use super::matmul::bounds;
use super::spread::Spread;
use super::{is_f32, math};
use crate::cells::Cells;
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::lines::Lines;
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "conv_nchw_f32",
    what: "Conv in 1 and 2 dimensions: gathered columns, packed panels, residual and activation \
           on the way out",
    graphs: &[
        "w = f32[4,3,3,3]\ny = Conv(x: f32[2,3,9,8], w, b: f32[4]) {pads=[1,1,1,1]}\nreturn y",
        "w = f32[4,2,3,2]\n\
         y = Conv(x: f32[1,4,9,8], w) {group=2, strides=[2,1], dilations=[1,2]}\nreturn y",
        "w = f32[6,1,3,3]\n\
         y = Conv(x: f32[1,6,7,7], w) {group=6, auto_pad=\"SAME_UPPER\", strides=[2,2]}\nreturn y",
        "w = f32[5,3,4]\ny = Conv(x: f32[2,3,40], w) {pads=[2,1]}\nreturn y",
        "y = Conv(x: f32[2,4,5,5], v: f32[6,2,3,2], b: f32[6]) {group=2}\nreturn y",
        "w = f32[4,3,1,1]\n\
         y = ai.kiln.Conv(x: f32[1,3,33,33], w) {activation=\"Relu\"}\nreturn y",
        "w = f32[4,2,3,3]\ny = ai.kiln.Conv(x: f32[2,4,9,9], w, b: f32[4], z: f32[2,4,7,7]) \
         {group=2, activation=\"Swish\"}\nreturn y",
        "w = f32[5,3,1,1]\ny = ai.kiln.Conv(x: f32[1,3,30,30], w, _, z: f32[5,1,1]) \
         {activation=\"GeluTanh\"}\nreturn y",
    ],
    in_place: false,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Conv(op) = g.op(id) else { return None };
    let inputs = g.inputs_of(id);
    if !inputs.iter().flatten().all(|v| is_f32(g, *v)) {
        return None;
    }
    let w = inputs.get(1).copied().flatten()?;
    if !(3..=4).contains(&g.ty(w).rank()?) {
        return None;
    }
    let weights = match g.constant_of(w) {
        Some(t) => Some(Weights::pack(op, t.shape(), t.as_slice().ok()?).ok()?),
        None => None,
    };
    Some(Box::new(Direct { op: op.clone(), weights }))
}

struct Direct {
    op: Conv,
    /// The packed weights, where they are constant.
    weights: Option<Weights>,
}

/// Weights, one matrix for each group.
struct Weights {
    data: Vec<f32>,
    groups: usize,
    /// Output channels of one group.
    rows: usize,
    /// Input channels of one group.
    inner: usize,
    kernel: Vec<usize>,
}

impl Weights {
    fn pack(op: &Conv, shape: &[usize], w: &[f32]) -> Result<Self> {
        let (&[m, inner, ref kernel @ ..], Ok(groups)) = (shape, usize::try_from(op.group)) else {
            invalid!("the weights are {shape:?}, and there are {} groups", op.group);
        };
        if groups == 0 || !m.is_multiple_of(groups) {
            invalid!("{m} output channels do not fall into {groups} groups");
        }
        let data = w.to_vec();
        Ok(Self { data, groups, rows: m / groups, inner, kernel: kernel.to_vec() })
    }
}

/// What the gathering of columns needs to know; one dimension is two with a height of 1.
struct Geometry {
    y: Axis,
    x: Axis,
    /// Height and width of the input.
    input: [usize; 2],
    /// Width of the output.
    width: usize,
}

impl Weights {
    fn geometry(&self, op: &Conv, shape: &[usize]) -> Result<(Geometry, usize)> {
        let kernel: Vec<i64> = self.kernel.iter().map(|&k| k as i64).collect();
        let axes = op.window.axes(kernel.len(), &kernel)?;
        let mut resolved = Vec::new();
        for (a, &n) in axes.into_iter().zip(&shape[2..]) {
            resolved.push((a.resolve(n)?, n));
        }
        let single =
            Axis { kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, ..resolved[0].0.0 };
        if resolved.len() == 1 {
            resolved.insert(0, ((single, 1), 1));
        }
        let [((y, height), h), ((x, width), w)] = resolved[..] else {
            invalid!("one or two spatial axes");
        };
        Ok((Geometry { y, x, input: [h, w], width }, height * width))
    }
}

impl Kernel for Direct {
    fn run(&self, args: Args<'_>) -> Result<()> {
        match &self.weights {
            Some(weights) => run(&self.op, weights, args),
            None => {
                let (shape, w) = args.input(1)?;
                run(&self.op, &Weights::pack(&self.op, shape, w)?, args)
            }
        }
    }
}

/// Elements of a block of gathered columns, at most, but for the narrowest one.
const BLOCK: usize = 1 << 17;

fn run(op: &Conv, weights: &Weights, args: Args<'_>) -> Result<()> {
    let &Weights { groups, rows, inner, ref kernel, .. } = weights;
    let (shape, x) = args.input(0)?;
    let channels = inner * groups;
    if shape.len() != kernel.len() + 2 || shape[1] != channels {
        invalid!("x is {shape:?}, the weights take {channels} channels");
    }
    let (geometry, n) = weights.geometry(op, shape)?;
    if args.out.len() != shape[0] * rows * groups * n {
        invalid!("the result is {:?}, the convolution gives {n} positions", args.shape);
    }
    if n == 0 {
        return Ok(());
    }
    let k = inner * kernel.iter().product::<usize>();
    let width = Layout::new(k, n).width;
    let most = (BLOCK / k.max(1) / width).max(1) * width;
    let residual = residual(&args)?;
    let block = Block {
        weights,
        geometry,
        k,
        n,
        x,
        bias: args.floats(2).map(|(_, b)| b),
        residual: residual.as_deref(),
        activation: op.activation,
    };
    let outs: Vec<Cells<'_>> = args
        .out
        .chunks_exact_mut((rows * n).max(1))
        .map(|out| Cells::new(out, n, rows, n))
        .collect();
    let columns = (0..n).step_by(most);
    let jobs =
        outs.iter().enumerate().flat_map(|(i, out)| columns.clone().map(move |j| (i, j, *out)));
    team::try_each(jobs, |(i, j, out)| {
        args.cancel.poll()?;
        block.run(i, j..n.min(j + most), out);
        Ok(())
    })
}

/// What the blocks of a convolution have in common.
struct Block<'a> {
    weights: &'a Weights,
    geometry: Geometry,
    k: usize,
    n: usize,
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    activation: Option<Activation>,
}

impl Block<'_> {
    /// Some columns of the result of image and group `i`.
    fn run(&self, i: usize, columns: Range<usize>, out: Cells<'_>) {
        let &Weights { ref data, groups, rows, inner, .. } = self.weights;
        let ([h, w], n, k) = (self.geometry.input, self.n, self.k);
        let x = &self.x[i * inner * h * w..][..inner * h * w];
        let layout = Layout::new(k, columns.len());
        let mut panels = Lines::zeros(layout.len());
        for (q, panel) in layout.split(panels.as_mut()) {
            let width = panel.len() / k.max(1);
            gather(&self.geometry, x, panel, width, columns.start + q * layout.width, columns.end);
        }
        let q = i % groups;
        let a = Left { data: &data[q * rows * k..][..rows * k], stride: k, rows };
        let activation = self.activation;
        let bounds = activation.and_then(bounds).filter(|_| self.residual.is_none());
        let rest = bounds.is_none() && (activation.is_some() || self.residual.is_some());
        let then = |row: usize, j: usize, y: &mut [f32]| {
            let at = (i * rows + row) * n + columns.start + j;
            epilogue(None, self.residual.map(|z| &z[at..][..y.len()]), activation, y);
        };
        let bias = self.bias.map(|b| &b[q * rows..][..rows]);
        let ending =
            Ending { rows: bias, bounds, then: rest.then_some(&then), ..Ending::default() };
        Product { a, b: panels.as_ref(), layout, ending }
            .run_on(out.part(columns.start, columns.len()));
    }
}

/// Gathers the panel for the positions from `first` on: one row per channel and tap.
fn gather(g: &Geometry, x: &[f32], panel: &mut [f32], width: usize, first: usize, n: usize) {
    let (kh, kw) = (g.y.kernel as usize, g.x.kernel as usize);
    let [h, w] = g.input;
    for (row, out) in panel.chunks_exact_mut(width.max(1)).enumerate() {
        let (channel, tap) = (row / (kh * kw), row % (kh * kw));
        let plane = &x[channel * h * w..][..h * w];
        let dy = (tap / kw) as i64 * g.y.dilation - g.y.begin;
        let dx = (tap % kw) as i64 * g.x.dilation - g.x.begin;
        let mut at = first;
        let end = (first + width).min(n);
        out[end - first..].fill(0.0);
        // One row of the output at a time.
        while at < end {
            let (oy, ox) = (at / g.width, at % g.width);
            let count = (g.width - ox).min(end - at);
            let out = &mut out[at - first..][..count];
            let iy = oy as i64 * g.y.stride + dy;
            match usize::try_from(iy).ok().filter(|&iy| iy < h) {
                Some(iy) => gather_row(&plane[iy * w..][..w], out, (ox, g.x.stride, dx), 0.0),
                None => out.fill(0.0),
            }
            at += count;
        }
    }
}

/// `out[i] = row[(ox + i) * stride + dx]`, `pad` outside of the row.
#[inline]
pub(super) fn gather_row<T: Copy>(
    row: &[T],
    out: &mut [T],
    (ox, stride, dx): (usize, i64, i64),
    pad: T,
) {
    let start = ox as i64 * stride + dx;
    if stride == 1 {
        let skip = (-start).clamp(0, out.len() as i64) as usize;
        let end = (row.len() as i64 - start).clamp(skip as i64, out.len() as i64) as usize;
        out[..skip].fill(pad);
        out[end..].fill(pad);
        if skip < end {
            let from = (start + skip as i64) as usize;
            out[skip..end].copy_from_slice(&row[from..][..end - skip]);
        }
        return;
    }
    for (i, o) in out.iter_mut().enumerate() {
        let at = start + i as i64 * stride;
        *o = usize::try_from(at).ok().and_then(|at| row.get(at)).copied().unwrap_or(pad);
    }
}

/// What is added to the result, in its shape.
pub(super) fn residual<'a>(args: &Args<'a>) -> Result<Option<Cow<'a, [f32]>>> {
    let Some((shape, z)) = args.floats(3) else { return Ok(None) };
    if z.len() == args.out.len() {
        return Ok(Some(Cow::Borrowed(z)));
    }
    let mut all = vec![0.0; args.out.len()];
    Spread::new(shape, args.shape)?.read(z, 0, &mut all, |z| z);
    Ok(Some(Cow::Owned(all)))
}

/// Bias, residual and activation on a finished piece of a row.
pub(super) fn epilogue(
    bias: Option<f32>,
    z: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
) {
    if let Some(b) = bias {
        y.iter_mut().for_each(|y| *y += b);
    }
    if let Some(z) = z {
        y.iter_mut().zip(z).for_each(|(y, z)| *y += z);
    }
    if let Some(a) = activation {
        math::activate(a, y);
    }
}
