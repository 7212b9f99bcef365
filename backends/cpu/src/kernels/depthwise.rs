//! Convolutions of `f32` in which every channel is a group of its own: planes over threads.

use kiln_ir::ops::conv::Conv;
use kiln_ir::{Graph, NodeId, Op, Result, invalid};

use super::all_f32;
use super::conv::{epilogue, residual};
use super::math::Fma;
use super::pool::{plane, sides};
use super::widest::widest;
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "conv_depthwise_f32",
    what: "Conv with one channel per group in 1 and 2 dimensions: tap by tap, row by row",
    graphs: &[
        "w = f32[6,1,3,3]\n\
         y = Conv(x: f32[1,6,7,7], w) {group=6, auto_pad=\"SAME_UPPER\", strides=[2,2]}\nreturn y",
        "w = f32[6,1,3,2]\ny = ai.kiln.Conv(x: f32[2,3,9,8], w, b: f32[6], z: f32[2,6,7,7]) \
         {group=3, activation=\"Swish\"}\nreturn y",
        "y = Conv(x: f32[2,4,30], w: f32[4,1,5], b: f32[4]) {group=4, dilations=[2], pads=[4,4]}\n\
         return y",
    ],
    in_place: false,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Conv(op) = g.op(id) else { return None };
    let (x, w) = (g.ty(g.input_of(id, 0)?), g.ty(g.input_of(id, 1)?));
    let channels = x.as_tensor().ok()?.shape.as_ref()?.get(1)?.as_const()?;
    let takes = op.group == channels && op.group > 1 && (3..=4).contains(&w.rank()?);
    (takes && all_f32(g, id)).then(|| Box::new(Depthwise(op.clone())) as Box<dyn Kernel>)
}

struct Depthwise(Conv);

widest! {
    /// `y += by * x` for every `step`th `x`.
    fn add_scaled(by: f32, y: &mut [f32], x: &[f32], step: usize) = add_scaled_text
}

#[inline(always)]
fn add_scaled_text(by: f32, y: &mut [f32], x: &[f32], step: usize, fma: impl Fma) {
    match step {
        1 => y.iter_mut().zip(x).for_each(|(y, &x)| *y = fma(by, x, *y)),
        2 => y.iter_mut().zip(x.chunks(2)).for_each(|(y, x)| *y = fma(by, x[0], *y)),
        _ => y.iter_mut().zip(x.iter().step_by(step)).for_each(|(y, &x)| *y = fma(by, x, *y)),
    }
}

impl Kernel for Depthwise {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let ((shape, x), (w_shape, w)) = (args.input(0)?, args.input(1)?);
        let (&[batch, channels, ref lengths @ ..], &[outer, inner, ref kernel @ ..]) =
            (shape, w_shape)
        else {
            invalid!("x is {shape:?}, the weights are {w_shape:?}");
        };
        let op = &self.0;
        let fits = op.group == channels as i64 && inner == 1 && lengths.len() == kernel.len();
        if !fits || channels == 0 || outer % channels != 0 {
            invalid!("x is {shape:?}, the weights {w_shape:?} are not for each of its channels");
        }
        let taps: Vec<i64> = kernel.iter().map(|&k| k as i64).collect();
        let [h, w_side] = sides(op.window.axes(taps.len(), &taps)?, lengths)?;
        let (area, size) = (h.input * w_side.input, h.output * w_side.output);
        if args.out.len() != batch * outer * size {
            invalid!("the result is {:?}, the convolution gives planes of {size}", args.shape);
        }
        if size == 0 {
            return Ok(());
        }
        let bias = args.floats(2).map(|(_, b)| b);
        let z = residual(&args)?;
        let (each, taps) = (outer / channels, kernel.iter().product::<usize>());
        team::each(args.out.chunks_exact_mut(size).enumerate(), |(i, y)| {
            let m = i % outer;
            let x = &x[(i / outer * channels + m / each) * area..][..area];
            let w = &w[m * taps..][..taps];
            y.fill(0.0);
            plane(&[h, w_side], x, y, |tap, y, x, step| add_scaled(w[tap], y, x, step));
            let z = z.as_deref().map(|z| &z[i * size..][..size]);
            epilogue(bias.map(|b| b[m]), z, op.activation, y);
        });
        Ok(())
    }
}
