//! Pools of `f32` over one and two spatial axes: planes over threads, rows as vectors.

use kiln_ir::ops::pool::{Pool, PoolKind};
use kiln_ir::ops::window::{AutoPad, Axis};
use kiln_ir::{Error, Graph, NodeId, Op, Result, invalid};

use super::is_f32;
use super::math::Fma;
use super::matmul_integer::is_byte;
use super::widest::widest;
use crate::kernel::{Args, BYTES, Integers, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "pool_nchw_f32_u8",
    what: "MaxPool without indices, of bytes, too, and AveragePool in 1 and 2 dimensions: planes \
           in parallel",
    graphs: &[
        "y = MaxPool(x: f32[2,3,9,8]) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}\n\
         return y",
        "y = MaxPool(x: f32[1,2,11]) {kernel_shape=[3], dilations=[2], ceil_mode=1, strides=[3]}\n\
         return y",
        "y = MaxPool(x: u8[2,3,9,8]) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}\n\
         z = MaxPool(v: i8[1,2,7]) {kernel_shape=[2]}\nreturn y, z",
        "y = AveragePool(x: f32[2,3,7,7]) {kernel_shape=[2,3], pads=[0,1,1,2]}\nreturn y",
        "y = AveragePool(x: f32[1,3,8,9]) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], \
         count_include_pad=1, ceil_mode=1}\nreturn y",
        "y = AveragePool(x: f32[1,3,8,9]) {kernel_shape=[3,2], auto_pad=\"SAME_UPPER\"}\nreturn y",
    ],
    in_place: false,
    firsts: BYTES,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Pool(op) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    let max = matches!(op.kind, PoolKind::Max { .. });
    let takes = (is_f32(g, x) || max && is_byte(g, Some(x)))
        && !g.outputs_of(id).skip(1).any(|v| g.is_read(v))
        && (3..=4).contains(&g.ty(x).rank()?)
        && matches!(op.kind, PoolKind::Max { .. } | PoolKind::Average { .. });
    takes.then(|| Box::new(op.clone()) as Box<dyn Kernel>)
}

/// One axis at work: the window, and the lengths before and after.
#[derive(Clone, Copy)]
pub(super) struct Side {
    axis: Axis,
    pub(super) input: usize,
    pub(super) output: usize,
}

impl Side {
    fn one() -> Self {
        let axis = Axis {
            kernel: 1,
            stride: 1,
            dilation: 1,
            begin: 0,
            end: 0,
            auto: AutoPad::NotSet,
            ceil: false,
        };
        Self { axis, input: 1, output: 1 }
    }

    /// The positions at which a tap lies inside, and where it lies for the first.
    fn inside(&self, tap: usize) -> (std::ops::Range<usize>, usize) {
        let positions = self.axis.inside(tap, self.input, self.output);
        let first = self.axis.at(positions.start, tap);
        (positions, usize::try_from(first).unwrap_or(0))
    }

    /// How many taps count at each position.
    fn counts(&self, include_pad: bool) -> Vec<f32> {
        let a = &self.axis;
        let count = |o: usize| match include_pad {
            false => a.taps(o, self.input).len(),
            // Elements behind the padding do not count.
            true => {
                let behind = self.input as i64 + a.end - a.at(o, 0);
                (behind + a.dilation - 1).div_euclid(a.dilation).clamp(0, a.kernel) as usize
            }
        };
        (0..self.output).map(|o| count(o).max(1) as f32).collect()
    }
}

widest! {
    /// `y = max(y, x)` for every `step`th `x`; NaN stays.
    fn greater(y: &mut [f32], x: &[f32], step: usize) = greater_text
}

widest! {
    /// `y += x` for every `step`th `x`.
    fn add(y: &mut [f32], x: &[f32], step: usize) = add_text
}

#[inline(always)]
fn walk(y: &mut [f32], x: &[f32], step: usize, f: impl Fn(f32, f32) -> f32) {
    match step {
        1 => y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(*y, x)),
        2 => y.iter_mut().zip(x.chunks(2)).for_each(|(y, x)| *y = f(*y, x[0])),
        _ => y.iter_mut().zip(x.iter().step_by(step)).for_each(|(y, &x)| *y = f(*y, x)),
    }
}

#[inline(always)]
fn greater_text(y: &mut [f32], x: &[f32], step: usize, _: impl Fma) {
    walk(y, x, step, |y, x| if y >= x || y.is_nan() { y } else { x });
}

#[inline(always)]
fn add_text(y: &mut [f32], x: &[f32], step: usize, _: impl Fma) {
    walk(y, x, step, |y, x| y + x);
}

/// One plane: `step` takes what each tap reads into the row of the result.
pub(super) fn plane<T>(
    [h, w]: &[Side; 2],
    x: &[T],
    y: &mut [T],
    step: impl Fn(usize, &mut [T], &[T], usize),
) {
    let (kh, kw) = (h.axis.kernel as usize, w.axis.kernel as usize);
    let columns: Vec<_> = (0..kw).map(|kx| w.inside(kx)).collect();
    for ky in 0..kh {
        let (rows, first_row) = h.inside(ky);
        for (i, oy) in rows.enumerate() {
            let row = &x[(first_row + i * h.axis.stride as usize) * w.input..][..w.input];
            let y = &mut y[oy * w.output..][..w.output];
            for (kx, (columns, first)) in columns.iter().enumerate() {
                if !columns.is_empty() {
                    let y = &mut y[columns.clone()];
                    step(ky * kw + kx, y, &row[*first..], w.axis.stride as usize);
                }
            }
        }
    }
}

/// The two sides of `axes`, one of length 1 before a single one.
pub(super) fn sides(axes: Vec<Axis>, lengths: &[usize]) -> Result<[Side; 2]> {
    let mut sides = vec![Side::one(); 2_usize.saturating_sub(axes.len())];
    for (a, &input) in axes.into_iter().zip(lengths) {
        let (axis, output) = a.resolve(input)?;
        sides.push(Side { axis, input, output });
    }
    match sides[..] {
        [h, w] => Ok([h, w]),
        _ => invalid!("one or two spatial axes"),
    }
}

/// The greatest of each window, from the least of the type on.
fn greatest<T: Copy + Ord + Send + Sync>(
    [h, w]: &[Side; 2],
    x: &[T],
    out: &mut [T],
    least: T,
) -> Result<()> {
    let (area, size) = (h.input * w.input, h.output * w.output);
    if size > 0 && out.len() / size != x.len().checked_div(area).unwrap_or(0) {
        invalid!("the pool gives planes of {size}, which do not fill the result");
    }
    team::each(out.chunks_exact_mut(size.max(1)).enumerate(), |(i, y)| {
        y.fill(least);
        plane(&[*h, *w], &x[i * area..][..area], y, |_, y, x, step| {
            y.iter_mut().zip(x.iter().step_by(step)).for_each(|(y, &x)| *y = x.max(*y));
        });
    });
    Ok(())
}

impl Kernel for Pool {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let (shape, x) = args.input(0)?;
        let [h, w] = sides(self.axes(shape.len() - 2)?, &shape[2..])?;
        let (area, size) = (h.input * w.input, h.output * w.output);
        let tensor = args.optional(0).and_then(|x| x.other);
        match (args.integers.take(), tensor) {
            (Some(Integers::U8(out)), Some(x)) => return greatest(&[h, w], x.as_slice()?, out, 0),
            (Some(Integers::I8(out)), Some(x)) => {
                return greatest(&[h, w], x.as_slice()?, out, i8::MIN);
            }
            (Some(_), _) => return Err(Error::bug("a pool of bytes reads something else")),
            (None, _) => {}
        }
        if args.out.len() != shape[0] * shape[1] * size {
            invalid!("the result is {:?}, the pool gives planes of {size}", args.shape);
        }
        if size == 0 {
            return Ok(());
        }
        let planes = args.out.chunks_exact_mut(size).enumerate();
        match self.kind {
            PoolKind::Average { count_include_pad } => {
                let rows = h.counts(count_include_pad);
                let columns = w.counts(count_include_pad);
                team::each(planes, |(i, y)| {
                    y.fill(0.0);
                    plane(&[h, w], &x[i * area..][..area], y, |_, y, x, step| add(y, x, step));
                    for (y, n) in y.chunks_exact_mut(w.output).zip(&rows) {
                        y.iter_mut().zip(&columns).for_each(|(y, m)| *y /= n * m);
                    }
                });
            }
            _ => team::each(planes, |(i, y)| {
                y.fill(f32::NEG_INFINITY);
                plane(&[h, w], &x[i * area..][..area], y, |_, y, x, step| greater(y, x, step));
            }),
        }
        Ok(())
    }
}
