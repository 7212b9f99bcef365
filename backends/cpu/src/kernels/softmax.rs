//! Softmax and LogSoftmax of `f32`: rows over threads; along an inner axis, columns side by side.

use kiln_ir::ops::softmax::{Softmax, SoftmaxKind};
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Graph, NodeId, Op, Result};
use kiln_tensor::shape;

use super::widest::widest;
use super::{all_f32, math};
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "softmax_f32",
    what: "Softmax and LogSoftmax along any axis: rows in parallel, exponentials by polynomial",
    graphs: &[
        "y = Softmax(x: f32[7,3000])\nreturn y",
        "a = Neg(x: f32[2,9,5])\nb = Softmax(a) {axis=1}\ny = Neg(b)\nreturn y",
        "y = LogSoftmax(x: f32[40,33])\nreturn y",
        "y = LogSoftmax(x: f32[4,3,2]) {axis=0}\nreturn y",
        "y = Softmax(x: f32[3,0])\nreturn y",
    ],
    in_place: true,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Softmax(op) = g.op(id) else { return None };
    let takes = matches!(op.kind, SoftmaxKind::Soft | SoftmaxKind::Log) && all_f32(g, id);
    takes.then(|| Box::new(*op) as Box<dyn Kernel>)
}

/// Elements of the rows that one thread takes at a time.
const JOB: usize = 1 << 13;

widest! {
    /// The greatest element; NaN may be passed over.
    pub(super) fn greatest(x: &[f32]) -> f32 = greatest_text
}

widest! {
    /// `y *= by`.
    pub(super) fn scale(y: &mut [f32], by: f32) = scale_text
}

widest! {
    /// `most = max(most, x)`.
    fn raise(most: &mut [f32], x: &[f32]) = raise_text
}

#[inline(always)]
fn greatest_text(x: &[f32], _: impl math::Fma) -> f32 {
    let mut most = [f32::NEG_INFINITY; 32];
    for x in x.chunks(32) {
        most.iter_mut().zip(x).for_each(|(m, &x)| *m = if x > *m { x } else { *m });
    }
    most.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

#[inline(always)]
fn scale_text(y: &mut [f32], by: f32, _: impl math::Fma) {
    y.iter_mut().for_each(|y| *y *= by);
}

#[inline(always)]
fn raise_text(most: &mut [f32], x: &[f32], _: impl math::Fma) {
    most.iter_mut().zip(x).for_each(|(m, &x)| *m = if x > *m { x } else { *m });
}

/// One row, in place.
fn row(kind: SoftmaxKind, y: &mut [f32]) {
    let most = greatest(y);
    if kind == SoftmaxKind::Log {
        let mut e = y.to_vec();
        let by = most + math::exp_less(&mut e, most).ln();
        return y.iter_mut().for_each(|y| *y -= by);
    }
    let sum = math::exp_less(y, most);
    scale(y, 1.0 / sum);
}

/// The columns of a block of `n` rows of `inner` elements, in place.
fn columns(kind: SoftmaxKind, y: &mut [f32], inner: usize) {
    let mut most = vec![f32::NEG_INFINITY; inner];
    y.chunks_exact(inner).for_each(|x| raise(&mut most, x));
    let mut sum = vec![0f32; inner];
    let mut tile = vec![0f32; inner];
    let exp = Unary::Function(Function::Exp);
    for y in y.chunks_exact_mut(inner) {
        y.iter_mut().zip(&most).for_each(|(y, m)| *y -= m);
        tile.copy_from_slice(y);
        math::unary(exp, &mut tile);
        sum.iter_mut().zip(&tile).for_each(|(s, e)| *s += e);
        if kind == SoftmaxKind::Soft {
            y.copy_from_slice(&tile);
        }
    }
    let log = kind == SoftmaxKind::Log;
    sum.iter_mut().for_each(|s| *s = if log { s.ln() } else { 1.0 / *s });
    for y in y.chunks_exact_mut(inner) {
        match log {
            true => y.iter_mut().zip(&sum).for_each(|(y, s)| *y -= s),
            false => y.iter_mut().zip(&sum).for_each(|(y, s)| *y *= s),
        }
    }
}

impl Kernel for Softmax {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let axis = shape::axis(self.axis, args.shape.len())?;
        let (n, inner) = (args.shape[axis], args.shape[axis + 1..].iter().product::<usize>());
        if args.out.is_empty() {
            return Ok(());
        }
        let x = args.input(0)?.1;
        let block = n * inner;
        let job = block * (JOB / block).max(1);
        team::each(args.out.chunks_mut(job).enumerate(), |(q, y)| {
            if !args.in_place {
                y.copy_from_slice(&x[q * job..][..y.len()]);
            }
            for y in y.chunks_exact_mut(block) {
                match inner {
                    1 => row(self.kind, y),
                    _ => columns(self.kind, y, inner),
                }
            }
        });
        Ok(())
    }
}
