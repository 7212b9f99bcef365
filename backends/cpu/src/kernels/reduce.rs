//! Reductions of `f32` over neighbouring axes, and pools over all spatial axes.
//!
//! ```text
//! x [outer, n, inner] ─▶ y [outer, inner]     inner = 1: rows; else columns side by side
//! ```

use kiln_ir::ops::global_pool::GlobalPool;
use kiln_ir::ops::reduce::{Reduce, ReduceKind};
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Graph, NodeId, Op, Result};
use kiln_tensor::shape;

use super::math::{self, Fma};
use super::widest::widest;
use super::{all_f32, is_f32};
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::lanes::{ABREAST, room, turn};
use crate::simd::{Isa, Work, dispatch};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "reduce_f32",
        what: "ReduceSum, Mean, Max, Min, L1, L2, SumSquare and LogSumExp over neighbouring axes",
        graphs: &[
            "a = i64[1]{-1}\ny = ReduceSum(x: f32[7,5000], a)\nreturn y",
            "a = i64[2]{1,2}\ny = ReduceMean(x: f32[3,4,5,70], a) {keepdims=0}\nreturn y",
            "a = i64[1]{0}\ny = ReduceMax(x: f32[300,9], a)\nz = ReduceMin(x, a)\nreturn y, z",
            "a = i64[1]{1}\ny = ReduceSumSquare(x: f32[35,28], a)\nz = ReduceMax(v: f32[5,0,3])\n\
             w = ReduceMean(x, a)\nreturn y, w",
            "y = ReduceL2(x: f32[6,5])\nz = ReduceL1(x)\nreturn y, z",
            "a = i64[1]{1}\ny = ReduceSumSquare(x: f32[2,600,3], a)\nreturn y",
            "a = i64[1]{1}\ny = ReduceMax(x: f32[2,40], a)\nreturn y",
            "a = i64[1]{1}\ny = ReduceLogSumExp(x: f32[70,10], a) {keepdims=0}\n\
             z = ReduceLogSumExp(v: f32[3,900], a)\nreturn y, z",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_reduce,
    },
    Row {
        name: "global_pool_f32",
        what: "GlobalAveragePool and GlobalMaxPool: planes in parallel",
        graphs: &[
            "y = GlobalAveragePool(x: f32[2,3,7,9])\nreturn y",
            "y = GlobalMaxPool(x: f32[2,3,70])\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_pool,
    },
];

/// A reduction of the axes `first..end`.
struct Fold {
    kind: ReduceKind,
    first: usize,
    end: usize,
}

fn prepare_reduce(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Reduce(op @ Reduce { kind, .. }) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    let rank = g.ty(x).rank()?;
    if !is_f32(g, x) || matches!(kind, ReduceKind::Prod | ReduceKind::LogSum) || rank == 0 {
        return None;
    }
    let axes = match g.input_of(id, 1) {
        None => vec![],
        Some(v) => g.constant_of(v)?.to_vec::<i64>().ok()?,
    };
    if axes.is_empty() && op.noop_with_empty_axes {
        return None;
    }
    let axes: Option<Vec<usize>> = axes.iter().map(|&a| shape::axis(a, rank).ok()).collect();
    let mut axes = axes.filter(|a| !a.is_empty()).unwrap_or_else(|| (0..rank).collect());
    axes.sort_unstable();
    axes.dedup();
    let (first, end) = (axes[0], axes[axes.len() - 1] + 1);
    let rows = *kind != ReduceKind::LogSumExp || end == rank;
    let together = end - first == axes.len() && rows;
    together.then(|| Box::new(Fold { kind: *kind, first, end }) as Box<dyn Kernel>)
}

fn prepare_pool(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::GlobalPool(op) = g.op(id) else { return None };
    let kind = match op {
        GlobalPool::Average => ReduceKind::Mean,
        GlobalPool::Max => ReduceKind::Max,
        GlobalPool::Lp { .. } => return None,
    };
    let end = g.ty(g.input_of(id, 0)?).rank()?;
    (all_f32(g, id) && end > 2).then(|| Box::new(Fold { kind, first: 2, end }) as Box<dyn Kernel>)
}

/// What is done with each element and with the result so far.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Sum,
    Absolute,
    Square,
    Max,
    Min,
}

impl Step {
    fn of(kind: ReduceKind) -> Self {
        match kind {
            ReduceKind::Max => Step::Max,
            ReduceKind::Min => Step::Min,
            ReduceKind::L1 => Step::Absolute,
            ReduceKind::L2 | ReduceKind::SumSquare => Step::Square,
            _ => Step::Sum,
        }
    }

    fn start(self) -> f32 {
        match self {
            Step::Max => f32::NEG_INFINITY,
            Step::Min => f32::INFINITY,
            _ => 0.0,
        }
    }

    /// Joins the results of two blocks.
    fn join(self, a: f64, b: f32) -> f64 {
        let b = f64::from(b);
        match self {
            Step::Max => {
                if b > a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            Step::Min => {
                if b < a || b.is_nan() {
                    b
                } else {
                    a
                }
            }
            _ => a + b,
        }
    }
}

widest! {
    /// Takes one row into as many results.
    fn take(step: Step, y: &mut [f32], x: &[f32]) = take_text
}

widest! {
    /// One row as one number.
    fn fold(step: Step, x: &[f32]) -> f32 = fold_text
}

#[inline(always)]
fn take_text(step: Step, y: &mut [f32], x: &[f32], fma: impl Fma) {
    let y = y.iter_mut().zip(x);
    match step {
        Step::Sum => y.for_each(|(y, &x)| *y += x),
        Step::Absolute => y.for_each(|(y, &x)| *y += x.abs()),
        Step::Square => y.for_each(|(y, &x)| *y = fma(x, x, *y)),
        Step::Max => y.for_each(|(y, &x)| *y = if *y >= x || y.is_nan() { *y } else { x }),
        Step::Min => y.for_each(|(y, &x)| *y = if *y <= x || y.is_nan() { *y } else { x }),
    }
}

#[inline(always)]
fn fold_text(step: Step, x: &[f32], fma: impl Fma) -> f32 {
    const LANES: usize = 64;
    let mut all = [step.start(); LANES];
    for x in x.chunks(LANES) {
        take_text(step, &mut all[..x.len()], x, fma);
    }
    let (first, rest) = all.split_at(1);
    rest.iter().fold(first[0], |a, &b| step.join(f64::from(a), b) as f32)
}

/// Elements whose sum is kept in `f32`.
const BLOCK: usize = 4096;
/// Rows whose sums are kept in `f32`.
const ROWS_OF_COLUMNS: usize = 64;
/// Rows of so many elements are taken in lanes.
const SHORT: usize = 64;
/// Elements that one thread takes at a time.
const JOB: usize = 1 << 15;

impl Fold {
    fn finish(&self, x: f64, n: usize) -> f32 {
        match self.kind {
            ReduceKind::Mean => (x / n as f64) as f32,
            ReduceKind::L2 => x.sqrt() as f32,
            _ => x as f32,
        }
    }

    fn row(&self, x: &[f32]) -> f32 {
        if self.kind == ReduceKind::LogSumExp {
            return log_sum_exp(x);
        }
        let step = Step::of(self.kind);
        let start = f64::from(step.start());
        let all = x.chunks(BLOCK).fold(start, |a, x| step.join(a, fold(step, x)));
        self.finish(all, x.len())
    }

    fn columns(&self, x: &[f32], y: &mut [f32]) {
        let (step, inner) = (Step::of(self.kind), y.len());
        let mut all = vec![f64::from(step.start()); inner];
        for block in x.chunks(inner * ROWS_OF_COLUMNS) {
            y.fill(step.start());
            block.chunks_exact(inner).for_each(|x| take(step, y, x));
            all.iter_mut().zip(&*y).for_each(|(a, &b)| *a = step.join(*a, b));
        }
        let n = x.len() / inner;
        y.iter_mut().zip(all).for_each(|(y, a)| *y = self.finish(a, n));
    }
}

/// The logarithm of the sum of exponentials, from which the greatest is taken away.
fn log_sum_exp(x: &[f32]) -> f32 {
    let most = finite(x.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m }));
    let mut sum = 0.0;
    let mut tile = [0.0; 256];
    for x in x.chunks(tile.len()) {
        tile[..x.len()].copy_from_slice(x);
        sum += f64::from(math::exp_less(&mut tile[..x.len()], most));
    }
    (f64::from(most) + sum.ln()) as f32
}

/// What may be taken away from numbers.
#[inline(always)]
fn finite(x: f32) -> f32 {
    if x.abs() < f32::INFINITY { x } else { 0.0 }
}

/// Rows of few elements, one result each.
struct Short<'a> {
    fold: &'a Fold,
    x: &'a [f32],
    y: &'a mut [f32],
    n: usize,
}

impl Work for Short<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let n = self.n;
        let step = Step::of(self.fold.kind);
        let (mut turned, most) = room::<S>(self.y.len(), n);
        for (y, x) in self.y.chunks_mut(ABREAST).zip(self.x.chunks(ABREAST * n)) {
            turn(isa, x, n, &mut turned, most);
            let columns = || turned.chunks_exact(most).take(n);
            let mut all = [step.start(); ABREAST];
            let fma = |a: f32, b: f32, c: f32| if S::FUSED { a.mul_add(b, c) } else { a * b + c };
            if self.fold.kind == ReduceKind::LogSumExp {
                let mut greatest = [f32::NEG_INFINITY; ABREAST];
                columns().for_each(|x| take_text(Step::Max, &mut greatest, x, fma));
                greatest.iter_mut().for_each(|m| *m = finite(*m));
                let mut sums = [0.0; ABREAST];
                for x in columns() {
                    all.iter_mut().zip(x).zip(&greatest).for_each(|((a, x), m)| *a = x - m);
                    math::unary(Unary::Function(Function::Exp), &mut all);
                    sums.iter_mut().zip(&all).for_each(|(s, a)| *s += a);
                }
                math::unary(Unary::Function(Function::Log), &mut sums);
                y.iter_mut().zip(sums).zip(greatest).for_each(|((y, s), m)| *y = m + s);
                continue;
            }
            columns().for_each(|x| take_text(step, &mut all, x, fma));
            y.iter_mut().zip(all).for_each(|(y, a)| *y = self.fold.finish(f64::from(a), n));
        }
    }
}

impl Kernel for Fold {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let (shape, x) = args.input(0)?;
        let n: usize = shape[self.first..self.end].iter().product();
        let inner: usize = shape[self.end..].iter().product();
        if args.out.is_empty() {
            return Ok(());
        }
        if inner == 1 {
            let rows = (JOB / n.max(1)).max(1);
            team::each(args.out.chunks_mut(rows).enumerate(), |(q, y)| {
                let x = &x[q * rows * n..][..y.len() * n];
                if (1..=SHORT).contains(&n) {
                    return dispatch(Short { fold: self, x, y, n });
                }
                let row = |i: usize| self.row(&x[i * n..][..n]);
                y.iter_mut().enumerate().for_each(|(i, y)| *y = row(i));
            });
        } else {
            let each = |(i, y): (usize, &mut [f32])| {
                self.columns(&x[i * n * inner..][..n * inner], y);
            };
            team::each(args.out.chunks_exact_mut(inner).enumerate(), each);
        }
        Ok(())
    }
}
