//! Normalizations of `f32`: rows over threads, statistics in blocks that are added in `f64`.

use std::borrow::Cow;

use kiln_ir::ops::batch_norm::BatchNorm;
use kiln_ir::ops::group_norm::GroupNorm;
use kiln_ir::ops::layer_norm::LayerNorm;
use kiln_ir::{Graph, NodeId, Op, Result, invalid};
use kiln_tensor::shape;

use super::math::Fma;
use super::spread::Spread;
use super::widest::widest;
use super::{all_f32, is_f32};
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "layer_norm_f32",
        what: "LayerNormalization and RMSNormalization: one pass of reading per row and moment",
        graphs: &[
            "y = LayerNormalization(x: f32[3,5,70], s: f32[70], b: f32[70])\nreturn y",
            "y = LayerNormalization(x: f32[3,2,7], s: f32[2,7]) {axis=1, epsilon=0.5}\nreturn y",
            "y, m, i = LayerNormalization(x: f32[4,9], s: f32[9], b: f32[1])\nreturn y, m, i",
            "y = RMSNormalization(x: f32[3,5,70], s: f32[70])\nreturn y",
            "y = RMSNormalization(x: f32[3,5], s: f32[3,1])\nreturn y",
            "y = LayerNormalization(x: f32[0,5], s: f32[5])\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_layer,
    },
    Row {
        name: "skip_norm_f32",
        what: "ai.kiln.SkipLayerNormalization: the sum and its norm, row by row",
        graphs: &[
            "y, s = ai.kiln.SkipLayerNormalization(x: f32[3,5,70], k: f32[3,5,70], g: f32[70], \
             b: f32[70])\nreturn y, s",
            "y, s = ai.kiln.SkipLayerNormalization(x: f32[9,40], k: f32[40], g: f32[40]) \
             {rms=1}\nt = Neg(s)\nu = Neg(y)\nreturn t, u",
            "y, s = ai.kiln.SkipLayerNormalization(x: f32[9,40], k: f32[9,40], g: f32[40], \
             b: f32[40]) {rms=1, epsilon=0.1}\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_skip,
    },
    Row {
        name: "group_norm_f32",
        what: "GroupNormalization and InstanceNormalization: a group at a time",
        graphs: &[
            "y = GroupNormalization(x: f32[2,6,5,7], s: f32[6], b: f32[6]) {num_groups=3}\n\
             return y",
            "y = InstanceNormalization(x: f32[2,3,40], s: f32[3], b: f32[3])\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_group,
    },
    Row {
        name: "batch_norm_f32",
        what: "BatchNormalization by given statistics: planes in parallel",
        graphs: &[
            "v = f32[3]{0.5,2.0,1.0}\na = Neg(x: f32[2,3,5,7])\n\
             y = BatchNormalization(a, s: f32[3], b: f32[3], m: f32[3], v)\nz = Neg(y)\nreturn z",
            "v = f32[4]{0.5,2.0,1.0,3.0}\n\
             y = BatchNormalization(x: f32[9,4], s: f32[4], b: f32[4], m: f32[4], v)\nreturn y",
        ],
        in_place: true,
        firsts: FLOATS,
        prepare: prepare_batch,
    },
];

fn prepare_layer(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::LayerNorm(op) = g.op(id) else { return None };
    let kernel = Norm { op: *op, skip: false };
    all_f32(g, id).then(|| Box::new(kernel) as Box<dyn Kernel>)
}

fn prepare_skip(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::SkipNorm(op) = g.op(id) else { return None };
    let kernel = Norm { op: op.norm(), skip: true };
    all_f32(g, id).then(|| Box::new(kernel) as Box<dyn Kernel>)
}

fn prepare_group(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::GroupNorm(op) = g.op(id) else { return None };
    (g.inputs_of(id).iter().all(|v| v.is_some_and(|v| is_f32(g, v))))
        .then(|| Box::new(*op) as Box<dyn Kernel>)
}

fn prepare_batch(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::BatchNorm(op) = g.op(id) else { return None };
    let takes = !op.training && g.ty(g.input_of(id, 0)?).rank()? >= 2 && all_f32(g, id);
    takes.then(|| Box::new(*op) as Box<dyn Kernel>)
}

/// Elements whose sum is kept in `f32`.
const BLOCK: usize = 4096;
/// Elements of the rows that one thread takes at a time.
const JOB: usize = 1 << 14;

widest! {
    /// The sum.
    fn sum(x: &[f32]) -> f32 = sum_text
}

widest! {
    /// The sum of the squares of the distances from `mean`.
    fn squares(x: &[f32], mean: f32) -> f32 = squares_text
}

widest! {
    /// `(y - mean) * inverse * scale + bias`, element by element.
    fn apply(y: &mut [f32], by: (f32, f32), scale: &[f32], bias: &[f32]) = apply_text
}

widest! {
    /// `(y - mean) * a + b`.
    fn affine(y: &mut [f32], mean: f32, a: f32, b: f32) = affine_text
}

#[inline(always)]
fn lanes(x: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 64;
    let mut sums = [0f32; LANES];
    for x in x.chunks(LANES) {
        sums.iter_mut().zip(x).for_each(|(s, &x)| *s = f(x, *s));
    }
    sums.iter().sum()
}

#[inline(always)]
fn sum_text(x: &[f32], _: impl Fma) -> f32 {
    lanes(x, |x, s| s + x)
}

#[inline(always)]
fn squares_text(x: &[f32], mean: f32, fma: impl Fma) -> f32 {
    lanes(x, |x, s| fma(x - mean, x - mean, s))
}

#[inline(always)]
fn apply_text(
    y: &mut [f32],
    (mean, inverse): (f32, f32),
    scale: &[f32],
    bias: &[f32],
    _: impl Fma,
) {
    match bias.is_empty() {
        true => y.iter_mut().zip(scale).for_each(|(y, s)| *y = (*y - mean) * inverse * s),
        false => (y.iter_mut().zip(scale.iter().zip(bias)))
            .for_each(|(y, (s, b))| *y = (*y - mean) * inverse * s + b),
    }
}

#[inline(always)]
fn affine_text(y: &mut [f32], mean: f32, a: f32, b: f32, fma: impl Fma) {
    y.iter_mut().for_each(|y| *y = fma(*y - mean, a, b));
}

/// The mean, 0 where it is not wanted, and the mean square of the distances from it.
fn moments(x: &[f32], centered: bool) -> (f32, f64) {
    let n = x.len().max(1) as f64;
    let total = |f: &dyn Fn(&[f32]) -> f32| x.chunks(BLOCK).map(|x| f64::from(f(x))).sum::<f64>();
    let mean = if centered { (total(&sum) / n) as f32 } else { 0.0 };
    (mean, total(&|x| squares(x, mean)) / n)
}

/// A normalization of trailing axes, of a sum where `skip` is set.
struct Norm {
    op: LayerNorm,
    skip: bool,
}

/// A scale or a bias: one row for all, or one for each.
struct Parameter<'a> {
    data: Cow<'a, [f32]>,
    each: bool,
}

impl<'a> Parameter<'a> {
    fn of(args: &Args<'a>, i: usize, first: usize) -> Result<Self> {
        let Some((own, data)) = args.floats(i) else {
            return Ok(Self { data: Cow::Borrowed(&[]), each: false });
        };
        let each = own.len() > args.shape.len() - first;
        let to = if each { args.shape } else { &args.shape[first..] };
        let n: usize = to.iter().product();
        if data.len() == n {
            return Ok(Self { data: Cow::Borrowed(data), each });
        }
        let mut all = vec![0.0; n];
        Spread::new(own, to)?.read(data, 0, &mut all, |x| x);
        Ok(Self { data: Cow::Owned(all), each })
    }

    /// What belongs to row `i` of `n` elements.
    fn row(&self, i: usize, n: usize) -> &[f32] {
        match self.data.is_empty() {
            true => &[],
            false => &self.data[if self.each { i * n } else { 0 }..][..n],
        }
    }
}

/// The rows of one job: results, and what else is written of them.
struct Rows<'a> {
    y: &'a mut [f32],
    sum: Option<&'a mut [f32]>,
    mean: Option<&'a mut [f32]>,
    inverse: Option<&'a mut [f32]>,
}

impl Kernel for Norm {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let trailing = *self.op.trailing();
        let first = shape::axis(trailing.axis, args.shape.len())?;
        let n: usize = args.shape[first..].iter().product();
        if args.out.is_empty() {
            return empty(args);
        }
        let at = if self.skip { 2 } else { 1 };
        let (scale, bias) =
            (Parameter::of(&args, at, first)?, Parameter::of(&args, at + 1, first)?);
        let x = Source::of(&args, 0)?;
        let skip = if self.skip { Some(Source::of(&args, 1)?) } else { None };
        let rows = (JOB / n).max(1);
        let jobs = jobs(args, self.skip, rows, n);
        let centered = matches!(self.op, LayerNorm::Layer(_));
        let job = |(q, mut job): (usize, Rows<'_>)| {
            for (r, y) in job.y.chunks_exact_mut(n).enumerate() {
                let i = q * rows + r;
                x.read(i * n, y);
                if let Some(skip) = &skip {
                    skip.add(i * n, y);
                }
                if let Some(sum) = &mut job.sum {
                    sum[r * n..][..n].copy_from_slice(y);
                }
                let (mean, square) = moments(y, centered);
                let inverse = (1.0 / (square + f64::from(trailing.epsilon)).sqrt()) as f32;
                apply(y, (mean, inverse), scale.row(i, n), bias.row(i, n));
                for (to, value) in [(&mut job.mean, mean), (&mut job.inverse, inverse)] {
                    if let Some(to) = to {
                        to[r] = value;
                    }
                }
            }
        };
        team::each(jobs.into_iter().enumerate(), job);
        Ok(())
    }
}

/// Rows of nothing have statistics all the same.
fn empty(args: Args<'_>) -> Result<()> {
    args.more.into_iter().flatten().for_each(|(_, out)| out.fill(0.0));
    Ok(())
}

fn jobs<'a>(args: Args<'a>, skip: bool, rows: usize, n: usize) -> Vec<Rows<'a>> {
    let mut jobs: Vec<Rows<'a>> = (args.out.chunks_mut(rows * n))
        .map(|y| Rows { y, sum: None, mean: None, inverse: None })
        .collect();
    for (k, more) in args.more.into_iter().enumerate() {
        let Some((_, out)) = more else { continue };
        for (job, part) in jobs.iter_mut().zip(out.chunks_mut(if skip { rows * n } else { rows })) {
            match (skip, k) {
                (true, _) => job.sum = Some(part),
                (false, 0) => job.mean = Some(part),
                (false, _) => job.inverse = Some(part),
            }
        }
    }
    jobs
}

/// An operand that may broadcast.
struct Source<'a> {
    data: &'a [f32],
    spread: Option<Spread>,
}

impl<'a> Source<'a> {
    fn of(args: &Args<'a>, i: usize) -> Result<Self> {
        let (shape, data) = args.input(i)?;
        let same = data.len() == args.out.len();
        let spread = if same { None } else { Some(Spread::new(shape, args.shape)?) };
        Ok(Self { data, spread })
    }

    fn read(&self, at: usize, y: &mut [f32]) {
        match &self.spread {
            None => y.copy_from_slice(&self.data[at..][..y.len()]),
            Some(s) => s.read(self.data, at, y, |x| x),
        }
    }

    fn add(&self, at: usize, y: &mut [f32]) {
        match &self.spread {
            None => y.iter_mut().zip(&self.data[at..]).for_each(|(y, z)| *y += z),
            Some(s) => {
                let mut row = vec![0.0; y.len()];
                s.read(self.data, at, &mut row, |x| x);
                y.iter_mut().zip(&row).for_each(|(y, z)| *y += z);
            }
        }
    }
}

impl Kernel for GroupNorm {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let ((shape, x), (_, scale), (_, bias)) = (args.input(0)?, args.input(1)?, args.input(2)?);
        let [batch, channels, ..] = *shape else { invalid!("x has rank {}", shape.len()) };
        let groups = match self.groups.map(usize::try_from) {
            None => channels,
            Some(Ok(g)) if g > 0 && channels.is_multiple_of(g) => g,
            _ => invalid!("{channels} channels do not fall into {:?} groups", self.groups),
        };
        if scale.len() != bias.len() || ![channels, groups].contains(&scale.len()) {
            invalid!("{channels} channels need as many scales and biases");
        }
        if x.is_empty() {
            return Ok(());
        }
        let (size, plane) = (x.len() / (batch * groups), x.len() / (batch * channels));
        team::each(args.out.chunks_exact_mut(size).enumerate(), |(i, y)| {
            y.copy_from_slice(&x[i * size..][..size]);
            let (mean, variance) = moments(y, true);
            let inverse = (1.0 / (variance + f64::from(self.epsilon)).sqrt()) as f32;
            let group = i % groups;
            for (k, y) in y.chunks_exact_mut(plane).enumerate() {
                let channel = group * (channels / groups) + k;
                let at = if scale.len() == channels { channel } else { group };
                affine(y, mean, inverse * scale[at], bias[at]);
            }
        });
        Ok(())
    }
}

impl Kernel for BatchNorm {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let x = args.input(0)?.1;
        let channels = args.shape[1];
        let plane: usize = args.shape[2..].iter().product();
        let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| args.floats(i).map(|(_, v)| v));
        let (Some(scale), Some(bias), Some(mean), Some(variance)) = (scale, bias, mean, variance)
        else {
            invalid!("a normalization needs scales, biases, means and variances");
        };
        if [scale, bias, mean, variance].iter().any(|p| p.len() != channels) {
            invalid!("{channels} channels need as many scales, biases, means and variances");
        }
        if args.out.is_empty() {
            return Ok(());
        }
        let factor = |c: usize| scale[c] / (variance[c] + self.epsilon).sqrt();
        let factors: Vec<f32> = (0..channels).map(factor).collect();
        // As many planes as make a job.
        let job = plane * (JOB / plane).max(1);
        team::each(args.out.chunks_mut(job).enumerate(), |(q, y)| {
            if !args.in_place {
                y.copy_from_slice(&x[q * job..][..y.len()]);
            }
            for (k, y) in y.chunks_exact_mut(plane).enumerate() {
                let c = (q * (job / plane) + k) % channels;
                affine(y, mean[c], factors[c], bias[c]);
            }
        });
        Ok(())
    }
}
