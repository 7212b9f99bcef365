//! Convolutions of bytes in one and two dimensions: quads of channels side by side, gathered
//! window by window into panels of columns.
//!
//! ```text
//! x [C][H][W] ─▶ [C / 4][H * W][4] ─▶ panels [taps][C / 4][NR][4]      w [M][taps][C / 4][4]
//! ```

use kiln_ir::ops::window::{Axis, Window};
use kiln_ir::{Error, Graph, NodeId, Op, Result, invalid};

use super::conv::gather_row;
use super::integer::{
    Ends, MR, NR, QUAD, Tile, flip, height, interleave, pack_rows, requantize, tile,
};
use super::math::Fma;
use super::matmul_integer::{bytes, ends, is_byte, is_single, is_uniform, panel, zero};
use super::widest::widest;
use crate::kernel::{Args, BYTES, Integers, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "qlinear_conv",
        what: "QLinearConv of bytes in 1 and 2 dimensions with constant weights: quads of products \
               in i32, rounded on the way out",
        graphs: &[
            "s = f32[]{0.3}\nz = u8[]{1}\no = i8[]{0}\nw = i8[2,3,1,1]{1,-2,3,-4,5,-128}\n\
             t = f32[2]{0.25,0.5}\nb = i32[2]{3,-4}\n\
             y = QLinearConv(x: u8[2,3,5,7], s, z, w, t, o, s, z, b)\nreturn y",
            "s = f32[]{0.3}\nz = i8[]{1}\no = i8[]{0}\n\
             w = i8[1,2,3,2]{1,-2,3,-4,5,-6,7,-8,9,1,2,3}\n\
             y = QLinearConv(x: i8[1,2,9,8], s, z, w, s, o, s, z) \
             {pads=[1,1,1,0], strides=[2,1], dilations=[1,2]}\nreturn y",
            "s = f32[]{0.3}\nz = u8[]{2}\no = u8[2]{3,3}\n\
             w = u8[2,2,3]{1,2,3,4,5,6,7,8,9,1,2,255}\n\
             t = f32[2]{0.25,0.5}\n\
             y = QLinearConv(x: u8[1,4,50], s, z, w, t, o, s, z) {group=2, pads=[1,1]}\nreturn y",
            "s = f32[]{0.3}\nz = u8[]{1}\no = i8[]{0}\n\
             w = i8[4,1,2,2]{1,-2,3,-4,5,-6,7,-8,9,1,2,3,4,5,6,7}\n\
             y = QLinearConv(x: u8[2,2,9,8], s, z, w, s, o, s, z) \
             {group=2, pads=[1,0,1,1], strides=[1,2]}\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_qlinear,
    },
    Row {
        name: "conv_integer",
        what: "ConvInteger of bytes in 1 and 2 dimensions with constant weights: quads of products \
               in i32",
        graphs: &[
            "z = u8[]{1}\nw = i8[2,1,1,2]{1,-2,3,-4}\n\
             y = ConvInteger(x: u8[2,1,9,8], w, z) {pads=[0,1,0,1]}\nreturn y",
            "w = i8[1,5,1]{1,-2,3,-4,7}\no = i8[]{-3}\n\
             y = ConvInteger(x: i8[1,5,80], w, _, o)\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_integer,
    },
];

fn prepare_qlinear(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::QLinearConv(op) = g.op(id) else { return None };
    let input = |i| g.input_of(id, i);
    let takes = [1, 2, 6, 7].iter().all(|&i| is_single(g, input(i))) && is_byte(g, input(7));
    let places = Places { w: 3, x_zero: 2, w_zero: 5 };
    takes.then(|| prepare(g, id, &op.window, op.group, places)).flatten()
}

fn prepare_integer(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::ConvInteger(op) = g.op(id) else { return None };
    let takes = g.input_of(id, 2).is_none() || is_single(g, g.input_of(id, 2));
    let places = Places { w: 1, x_zero: 2, w_zero: 3 };
    takes.then(|| prepare(g, id, &op.window, op.group, places)).flatten()
}

fn prepare(
    g: &Graph,
    id: NodeId,
    window: &Window,
    group: i64,
    places: Places,
) -> Option<Box<dyn Kernel>> {
    let input = |i| g.input_of(id, i);
    let w = g.constant_of(input(places.w)?)?;
    let w_zero = input(places.w_zero);
    let alike = w_zero.is_none()
        || w_zero.is_some_and(|z| g.constant_of(z).is_some())
            && is_uniform(g, w_zero, (input(places.w), 0));
    let fits = is_byte(g, input(0)) && is_byte(g, input(places.w)) && alike;
    if !fits || !(3..=4).contains(&w.rank()) || w.is_empty() {
        return None;
    }
    let operand = crate::kernel::Operand { shape: w.shape(), data: &[], other: Some(w) };
    let (shape, data, signed) = bytes(Some(operand)).ok()?;
    let w_zero = match w_zero.and_then(|z| g.constant_of(z)) {
        Some(z) => z.to_vec::<i64>().ok()?.first().copied()? as i32,
        None => 0,
    };
    let weights = Weights::pack(shape, data, (signed, w_zero), usize::try_from(group).ok()?)?;
    Some(Box::new(Direct { window: window.clone(), weights, x_zero: places.x_zero }))
}

/// At which operands things are.
struct Places {
    w: usize,
    x_zero: usize,
    w_zero: usize,
}

/// Weights as rows of signed bytes, channels padded to quads within each tap.
struct Weights {
    groups: usize,
    /// Output channels of one group.
    rows: usize,
    /// Input channels of one group.
    inner: usize,
    kernel: Vec<usize>,
    /// Bytes of a row.
    k: usize,
    /// For each group, its rows in tiles.
    tiles: Vec<Vec<u8>>,
    /// The sum of each row.
    sums: Vec<i32>,
    zero: i32,
    /// For one input channel in each group: the weights less their zero point.
    plain: Vec<i32>,
}

impl Weights {
    fn pack(shape: &[usize], w: &[u8], (signed, zero): (bool, i32), groups: usize) -> Option<Self> {
        let &[m, inner, ref kernel @ ..] = shape else { return None };
        if groups == 0 || !m.is_multiple_of(groups) {
            return None;
        }
        let taps: usize = kernel.iter().product();
        let (bits, by) = flip(signed, true);
        let channels = inner.next_multiple_of(QUAD);
        let k = taps * channels;
        let mut data = vec![0; m * k];
        let mut sums = vec![0; m];
        for (i, &x) in w.iter().enumerate() {
            let (m, c, tap) = (i / (inner * taps), i / taps % inner, i % taps);
            data[m * k + tap * channels + c] = x ^ bits;
            sums[m] += i32::from((x ^ bits) as i8);
        }
        let zero = zero + by;
        let rows = m / groups;
        let mut unused = vec![];
        let tiles = data.chunks((rows * k).max(1)).map(|rows| {
            let mut packed = vec![];
            pack_rows(rows, k, 0, &mut packed, &mut unused);
            packed
        });
        let tiles = tiles.collect();
        let real = |&x: &u8| i32::from((x ^ bits) as i8) - zero;
        let plain = if inner == 1 { w.iter().map(real).collect() } else { vec![] };
        let kernel = kernel.to_vec();
        Some(Self { groups, rows, inner, kernel, k, tiles, sums, zero, plain })
    }

    fn geometry(&self, window: &Window, shape: &[usize]) -> Result<Geometry> {
        let kernel: Vec<i64> = self.kernel.iter().map(|&k| k as i64).collect();
        let axes = window.axes(kernel.len(), &kernel)?;
        let mut resolved = Vec::new();
        for (a, &n) in axes.into_iter().zip(&shape[2..]) {
            resolved.push((a.resolve(n)?, n));
        }
        let point = Axis { kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, ..resolved[0].0.0 };
        if resolved.len() == 1 {
            resolved.insert(0, ((point, 1), 1));
        }
        let [((y, height), h), ((x, width), w)] = resolved[..] else {
            invalid!("one or two spatial axes");
        };
        // Where a window is one position, rows follow one another.
        if [y, x].iter().all(|a| (a.kernel, a.stride, a.begin, a.end) == (1, 1, 0, 0)) {
            return Ok(Geometry { y: point, x: point, input: [1, h * w], output: [1, h * w] });
        }
        Ok(Geometry { y, x, input: [h, w], output: [height, width] })
    }
}

/// The window at work; one dimension is two with a height of 1.
struct Geometry {
    y: Axis,
    x: Axis,
    /// Height and width of the input, and of the output.
    input: [usize; 2],
    output: [usize; 2],
}

impl Geometry {
    /// Height and width of a tap's place, from the output's position 0.
    fn offset(&self, tap: usize) -> (i64, i64) {
        let kw = self.x.kernel as usize;
        let dy = (tap / kw) as i64 * self.y.dilation - self.y.begin;
        (dy, (tap % kw) as i64 * self.x.dilation - self.x.begin)
    }

    /// The row of the input under a row of the output, where it is inside.
    fn row(&self, oy: usize, dy: i64) -> Option<usize> {
        let iy = oy as i64 * self.y.stride + dy;
        usize::try_from(iy).ok().filter(|&iy| iy < self.input[0])
    }
}

/// A convolution with constant weights.
struct Direct {
    window: Window,
    weights: Weights,
    x_zero: usize,
}

/// What becomes of a piece of a row of sums: the output channel, the sums, what is added to each
/// and to all, the piece.
type Finish<'a, T> = &'a (dyn Fn(usize, &[i32; NR], &[i32; NR], i32, &mut [T]) + Sync);

impl Kernel for Direct {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let (signed, out) = match args.integers.take() {
            Some(Integers::I32(out)) => {
                let copy = |_: usize, x: &[i32; NR], each: &[i32; NR], add: i32, y: &mut [i32]| {
                    let sums = x.iter().zip(each).map(|(x, each)| x + each + add);
                    y.iter_mut().zip(sums).for_each(|(y, x)| *y = x);
                };
                return self.convolve(&args, out, &copy);
            }
            Some(Integers::U8(out)) => (false, out),
            Some(Integers::I8(out)) => (true, bytemuck::cast_slice_mut(out)),
            _ => return Err(Error::bug("a convolution of bytes gives sums or bytes")),
        };
        let one = |i| args.floats(i).and_then(|(_, s)| s.first().copied()).unwrap_or(1.0);
        let (x, y) = (one(1), one(6));
        let channels = self.weights.rows * self.weights.groups;
        let w = args.floats(4).map_or(&[][..], |(_, s)| s);
        if w.len() != 1 && w.len() != channels {
            invalid!("{channels} channels have {} scales", w.len());
        }
        let scales: Vec<f32> = w.iter().cycle().take(channels).map(|w| x * w / y).collect();
        let bias = args.ints(8)?.unwrap_or_else(|| vec![0; channels]);
        if bias.len() != channels {
            invalid!("{channels} channels have a bias of {} elements", bias.len());
        }
        let ends: Ends = ends(signed, zero(&args, 7)?);
        let finish = |m: usize, x: &[i32; NR], each: &[i32; NR], add: i32, y: &mut [u8]| {
            let add = add.wrapping_add(bias[m] as i32);
            let made = requantize(x, (each, &[scales[m]; NR]), add, ends);
            y.copy_from_slice(&made[..y.len()]);
        };
        self.convolve(&args, out, &finish)
    }
}

impl Direct {
    fn convolve<T: Send + Sync>(
        &self,
        args: &Args<'_>,
        out: &mut [T],
        finish: Finish<'_, T>,
    ) -> Result<()> {
        let w = &self.weights;
        let (shape, x, signed) = bytes(args.optional(0))?;
        let channels = w.inner * w.groups;
        if shape.len() != w.kernel.len() + 2 || shape[1] != channels {
            invalid!("x is {shape:?}, the weights take {channels} channels");
        }
        let g = w.geometry(&self.window, shape)?;
        let (area, n) = (g.input[0] * g.input[1], g.output[0] * g.output[1]);
        if out.len() != shape[0] * w.rows * w.groups * n {
            invalid!("the result is {:?}, the convolution gives {n} positions", args.shape);
        }
        if n == 0 {
            return Ok(());
        }
        let (bits, by) = flip(signed, false);
        let zero = zero(args, self.x_zero)? + by;
        if w.inner == 1 {
            let planes = out.chunks_exact_mut(n).enumerate();
            team::each(planes, |(i, out)| {
                let (image, m) = (i / (w.rows * w.groups), i % (w.rows * w.groups));
                let plane = &x[(image * channels + m / w.rows) * area..][..area];
                self.plane(&g, plane, (bits, zero), m, out, finish);
            });
            return Ok(());
        }
        for (i, out) in out.chunks_exact_mut(w.rows * n).enumerate() {
            args.cancel.poll()?;
            let x = &x[i * w.inner * area..][..w.inner * area];
            self.group(&g, x, (bits, zero), i % w.groups, out, finish);
        }
        Ok(())
    }

    /// All output channels of one group of one image.
    fn group<T: Send + Sync>(
        &self,
        g: &Geometry,
        x: &[u8],
        (bits, zero): (u8, i32),
        q: usize,
        out: &mut [T],
        finish: Finish<'_, T>,
    ) {
        const ROOM: usize = 1 << 19;
        let w = &self.weights;
        let n = g.output[0] * g.output[1];
        let quads = quads(x, g.input[0] * g.input[1], w.inner, bits);
        let most = (ROOM / w.k / NR).max(1) * NR;
        let both = (w.inner * w.kernel.iter().product::<usize>()) as i32 * zero * w.zero;
        let mut panels = vec![0; most.min(n.next_multiple_of(NR)) * w.k];
        for j in (0..n).step_by(most) {
            let width = most.min(n - j);
            let panels = &mut panels[..width.div_ceil(NR) * NR * w.k];
            team::each(panels.chunks_exact_mut(NR * w.k).enumerate(), |(b, panel)| {
                gather(g, &quads, w, zero as u8, panel, (j + b * NR, n));
            });
            let columns = column_sums(panels, w);
            let rows = |(i, out): (usize, &mut [T])| {
                let piece = Piece { q, first: i, n, from: j, width, both, zero };
                self.rows(&piece, (panels, &columns), out, finish);
            };
            let threads = team::threads();
            let each = w.rows.div_ceil(threads).next_multiple_of(MR);
            match w.rows * w.k * width < 1 << 17 {
                true => rows((0, &mut *out)),
                false => team::each(out.chunks_mut(each * n).enumerate(), |(i, out)| {
                    rows((i * each, out))
                }),
            }
        }
    }

    /// Some output channels at the positions of some panels.
    fn rows<T>(
        &self,
        p: &Piece,
        (panels, columns): (&[u8], &[i32]),
        out: &mut [T],
        finish: Finish<'_, T>,
    ) {
        let w = &self.weights;
        let mut sums: Tile = [[0; NR]; MR];
        let count = out.len() / p.n;
        for (b, columns_of) in panels.chunks_exact(NR * w.k).enumerate() {
            let wide = NR.min(p.width - b * NR);
            for r in (0..count).step_by(MR) {
                let some = MR.min(count - r);
                let height = height(some);
                let a = &w.tiles[p.q][(p.first + r) * w.k..][..height * w.k];
                tile(true, height, a, columns_of, &mut sums);
                for (s, sums) in sums[..some].iter().enumerate() {
                    let m = p.q * w.rows + p.first + r + s;
                    let y = &mut out[(r + s) * p.n + p.from + b * NR..][..wide];
                    let add = p.both - p.zero * w.sums[m];
                    finish(m, sums, panel(columns, b * NR), add, y);
                }
            }
        }
    }

    /// One output channel of one input channel.
    fn plane<T>(
        &self,
        g: &Geometry,
        x: &[u8],
        (bits, zero): (u8, i32),
        m: usize,
        out: &mut [T],
        finish: Finish<'_, T>,
    ) {
        let taps: usize = self.weights.kernel.iter().product();
        let w = &self.weights.plain[m * taps..][..taps];
        let [width, wide] = [g.output[1], g.input[1]];
        let mut sums = vec![0; width.next_multiple_of(NR)];
        for (oy, out) in out.chunks_exact_mut(width).enumerate() {
            sums.fill(0);
            for (tap, &w) in w.iter().enumerate() {
                let (dy, _) = g.offset(tap);
                let Some(iy) = g.row(oy, dy) else { continue };
                let positions = g.x.inside(tap % g.x.kernel as usize, wide, width);
                let first = g.x.at(positions.start, tap % g.x.kernel as usize);
                let Ok(first) = usize::try_from(first) else { continue };
                let row = &x[iy * wide..][..wide];
                let step = g.x.stride as usize;
                if !positions.is_empty() {
                    add_scaled(&row[first..], step, (bits, zero, w), &mut sums[positions]);
                }
            }
            for (i, out) in out.chunks_mut(NR).enumerate() {
                finish(m, panel(&sums, i * NR), &[0; NR], 0, out);
            }
        }
    }
}

/// Where some rows lie, and what their zero points add.
struct Piece {
    /// The group.
    q: usize,
    /// The first output channel in the group.
    first: usize,
    /// Positions of the output.
    n: usize,
    /// The first position, and how many follow.
    from: usize,
    width: usize,
    both: i32,
    zero: i32,
}

widest! {
    /// `y += ((x ^ bits) - zero) * w` for every `step`th `x`.
    fn add_scaled(x: &[u8], step: usize, by: (u8, i32, i32), y: &mut [i32]) = add_scaled_text
}

#[inline(always)]
fn add_scaled_text(
    x: &[u8],
    step: usize,
    (bits, zero, w): (u8, i32, i32),
    y: &mut [i32],
    _: impl Fma,
) {
    match step {
        1 => y.iter_mut().zip(x).for_each(|(y, &x)| *y += (i32::from(x ^ bits) - zero) * w),
        _ => {
            let x = x.iter().step_by(step);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y += (i32::from(x ^ bits) - zero) * w);
        }
    }
}

/// Planes of channels as quads, side by side; what is missing in the last is 0.
fn quads(x: &[u8], area: usize, channels: usize, bits: u8) -> Vec<[u8; QUAD]> {
    let mut out = vec![[0; QUAD]; area * channels.div_ceil(QUAD)];
    if area == 0 {
        return out;
    }
    team::each(out.chunks_exact_mut(area).enumerate(), |(q, out)| {
        let plane = |i: usize| &x[(q * QUAD + i).min(channels - 1) * area..][..area];
        interleave(std::array::from_fn(plane), bits, bytemuck::cast_slice_mut(out));
        let real = channels - q * QUAD;
        if real < QUAD {
            out.iter_mut().for_each(|quad| quad[real..].fill(0));
        }
    });
    out
}

/// Gathers the panel for `NR` positions from `first` on: for each tap, each quad of channels.
fn gather(
    g: &Geometry,
    x: &[[u8; QUAD]],
    w: &Weights,
    zero: u8,
    panel: &mut [u8],
    (first, n): (usize, usize),
) {
    let [h, wide] = g.input;
    let per_tap = w.inner.div_ceil(QUAD);
    let (panel, _) = panel.as_chunks_mut::<QUAD>();
    let end = (first + NR).min(n);
    for (i, out) in panel.chunks_exact_mut(NR).enumerate() {
        let (tap, q) = (i / per_tap, i % per_tap);
        let (dy, dx) = g.offset(tap);
        let plane = &x[q * h * wide..][..h * wide];
        // Channels that are not there count nothing, in the padding, too.
        let pad = std::array::from_fn(|j| if q * QUAD + j < w.inner { zero } else { 0 });
        out[end - first..].fill([0; QUAD]);
        let mut at = first;
        while at < end {
            let (oy, ox) = (at / g.output[1], at % g.output[1]);
            let count = (g.output[1] - ox).min(end - at);
            let out = &mut out[at - first..][..count];
            match g.row(oy, dy) {
                Some(iy) => gather_row(&plane[iy * wide..][..wide], out, (ox, g.x.stride, dx), pad),
                None => out.fill(pad),
            }
            at += count;
        }
    }
}

/// What the zero point of the weights adds to the sums of each column.
fn column_sums(panels: &[u8], w: &Weights) -> Vec<i32> {
    let mut sums = vec![0; panels.len().checked_div(w.k).unwrap_or(0)];
    if w.zero == 0 {
        return sums;
    }
    for (sums, panel) in sums.chunks_exact_mut(NR).zip(panels.chunks_exact(NR * w.k)) {
        for quads in panel.chunks_exact(QUAD * NR) {
            for (s, quad) in sums.iter_mut().zip(quads.chunks_exact(QUAD)) {
                *s -= w.zero * quad.iter().map(|&x| i32::from(x)).sum::<i32>();
            }
        }
    }
    sums
}
