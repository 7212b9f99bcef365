//! MatMul and Gemm of `f32` by packed panels, with what is fused into them.

use std::borrow::Cow;
use std::sync::OnceLock;

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::{Graph, NodeId, Op, Result, invalid};
use kiln_tensor::shape;

use super::gemm::{Ending, Layout, Left, Product, Then};
use super::gemv::{self, FEW};
use super::spread::Spread;
use super::{all_f32, math};
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::lines::Lines;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "matmul_f32",
        what: "MatMul of any ranks, bias, residual and activation: packed panels; few rows \
               straight from B",
        graphs: &[
            "y = MatMul(x: f32[7,5], w: f32[5,33])\nreturn y",
            "y = MatMul(x: f32[2,3,4,5], w: f32[3,5,6])\nreturn y",
            "y = MatMul(x: f32[3,0], w: f32[0,4])\nreturn y",
            "w = f32[70,600]\ny = MatMul(x: f32[3,9,70], w)\nreturn y",
            "w = f32[600,70]\ny = ai.kiln.MatMul(x: f32[2,9,70], w, b: f32[600], z: f32[2,9,600]) \
             {transB=1, alpha=0.5, activation=\"Gelu\"}\nreturn y",
            "w = f32[40,30]\ny = ai.kiln.MatMul(x: f32[2,40], w, b: f32[30]) \
             {activation=\"Tanh\"}\nreturn y",
            "y = ai.kiln.MatMul(x: f32[2,3,5,4], v: f32[3,5,6], b: f32[3,4,1], z: f32[6]) \
             {transA=1, activation=\"Relu\"}\nreturn y",
            "y = ai.kiln.MatMul(x: f32[6,0], v: f32[0,4], b: f32[4])\nreturn y",
            "y = com.microsoft.FusedMatMul(x: f32[2,3,4], v: f32[2,5,4]) {transB=1}\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_matmul,
    },
    Row {
        name: "gemm_f32",
        what: "Gemm: packed panels; few rows straight from B",
        graphs: &[
            "y = Gemm(x: f32[5,7], v: f32[9,5], c: f32[9]) \
             {transA=1, transB=1, alpha=0.5, beta=2.0}\nreturn y",
            "y = Gemm(x: f32[3,7], w: f32[7,600], c: f32[3,1])\nreturn y",
            "y = Gemm(x: f32[2,70], w: f32[300,70], c: f32[300]) {transB=1}\nreturn y",
            "y = Gemm(x: f32[20,70], w: f32[33,70]) {transB=1}\nreturn y",
            "w = f32[600,70]\ny = Gemm(x: f32[20,70], w, c: f32[600]) {transB=1}\nreturn y",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_gemm,
    },
];

fn prepare_matmul(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let (op, activation) = match g.op(id) {
        Op::MatMul(op) => (*op, None),
        Op::Product(p) => (p.matmul, p.activation),
        _ => return None,
    };
    let inputs = g.inputs_of(id);
    let fits = !op.trans_batch_a && !op.trans_batch_b && all_f32(g, id);
    // Vectors are left to the definition: there is nothing to block.
    let matrices = inputs[..2].iter().flatten().all(|v| g.ty(*v).rank() >= Some(2));
    let constant = inputs[1].and_then(|b| g.constant_of(b)).is_some_and(|t| t.rank() == 2);
    let packed = constant.then(OnceLock::new);
    (fits && matrices).then(|| Box::new(Stacks { op, activation, packed }) as Box<dyn Kernel>)
}

fn prepare_gemm(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Gemm(op) = g.op(id) else { return None };
    let constant = g.input_of(id, 1).is_some_and(|b| g.constant_of(b).is_some());
    let packed = constant.then(OnceLock::new);
    all_f32(g, id).then(|| Box::new(General { op: *op, packed }) as Box<dyn Kernel>)
}

/// The panels of a second matrix that is constant, made when they are first needed.
pub(super) type Packed = OnceLock<(Layout, Lines)>;

/// The second matrix of a product.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) data: &'a [f32],
    /// Whether it is stored as `[n, k]`, not as `[k, n]`.
    pub(super) turned: bool,
    /// Where its panels are kept.
    pub(super) packed: Option<&'a Packed>,
}

/// The rows of a first matrix that is stored as `[k, m]`.
fn rows_of(a: &[f32], (m, k): (usize, usize)) -> Vec<f32> {
    (0..m * k).map(|i| a[i % k * m + i / k]).collect()
}

/// `c = a * b` of rows of `k` elements and a `k` by `n` matrix.
pub(super) fn product(
    a: Left<'_>,
    (k, n): (usize, usize),
    b: Right<'_>,
    c: &mut [f32],
    ending: Ending<'_>,
) {
    if n == 0 || a.rows == 0 {
        return;
    }
    let panels = |b: Right<'_>| {
        let layout = Layout::new(k, n);
        (layout, layout.pack_all(b.data, b.turned))
    };
    let made;
    let (layout, panels) = match b.packed {
        Some(packed) => packed.get_or_init(|| panels(b)),
        // Few rows, and panels that nobody keeps: B is read where it lies.
        None if a.rows <= FEW => {
            match b.turned {
                true => gemv::times_rows(k, n, a.data, b.data, c),
                false => gemv::times_columns(k, n, a.data, b.data, c),
            }
            return c.chunks_exact_mut(n).enumerate().for_each(|(i, row)| ending.finish(i, 0, row));
        }
        None => {
            made = panels(b);
            &made
        }
    };
    Product { a, b: panels.as_ref(), layout: *layout, ending }.run(c, n);
}

/// MatMul with broadcast batches, and what is fused into it.
struct Stacks {
    op: MatMul,
    activation: Option<Activation>,
    packed: Option<Packed>,
}

/// What is added to a result, and how it is read there.
pub(super) struct Addend<'a> {
    data: &'a [f32],
    /// `None` where it has the shape of the result.
    spread: Option<Spread>,
}

impl<'a> Addend<'a> {
    /// A number for each of `n` columns, where it is that.
    fn columns(&self, n: usize) -> Option<&'a [f32]> {
        let one_row = || self.spread.as_ref().is_some_and(|s| s.is_row(n));
        (self.data.len() == n && one_row()).then_some(self.data)
    }

    /// Operand `i`, where it is there.
    pub(super) fn of(args: &Args<'a>, i: usize) -> Result<Option<Self>> {
        let Some((shape, data)) = args.floats(i) else { return Ok(None) };
        let same = data.len() == args.out.len();
        let spread = if same { None } else { Some(Spread::new(shape, args.shape)?) };
        Ok(Some(Addend { data, spread }))
    }

    /// Adds the elements from place `at` of the result on.
    pub(super) fn add(&self, at: usize, y: &mut [f32]) {
        let Some(spread) = &self.spread else {
            return y.iter_mut().zip(&self.data[at..]).for_each(|(y, z)| *y += z);
        };
        let mut tile = [0f32; 256];
        for (i, y) in y.chunks_mut(tile.len()).enumerate() {
            let z = &mut tile[..y.len()];
            spread.read(self.data, at + i * 256, z, |z| z);
            y.iter_mut().zip(z).for_each(|(y, z)| *y += *z);
        }
    }
}

impl Stacks {
    /// The lengths `m`, `k` and `n` of the matrices.
    fn lengths(&self, a: &[usize], b: &[usize]) -> Result<(usize, usize, usize)> {
        let (&[.., r, c], &[.., s, d]) = (a, b) else { invalid!("two matrices are needed") };
        let (m, k) = if self.op.trans_a { (c, r) } else { (r, c) };
        let (inner, n) = if self.op.trans_b { (d, s) } else { (s, d) };
        if inner != k {
            invalid!("A is {a:?} and B is {b:?}: their inner lengths differ");
        }
        Ok((m, k, n))
    }
}

impl Kernel for Stacks {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let ((a_shape, a), (b_shape, b)) = (args.input(0)?, args.input(1)?);
        let (m, k, n) = self.lengths(a_shape, b_shape)?;
        let MatMul { alpha, trans_a, trans_b, .. } = self.op;
        let (a_batch, b_batch) = (&a_shape[..a_shape.len() - 2], &b_shape[..b_shape.len() - 2]);
        let (bias, residual) = (Addend::of(&args, 2)?, Addend::of(&args, 3)?);
        let scale = (alpha != 1.0).then_some(alpha);
        let columns = bias.as_ref().and_then(|b| b.columns(n));
        let bounds = self.activation.and_then(bounds).filter(|_| residual.is_none());
        let bounds = bounds.filter(|_| columns.is_some() == bias.is_some());
        let addends = [bias.filter(|_| columns.is_none()), residual];
        let activation = self.activation.filter(|_| bounds.is_none());
        let rest = addends.iter().any(Option::is_some) || activation.is_some();
        let finish = |first: usize, row: usize, j: usize, y: &mut [f32]| {
            addends.iter().flatten().for_each(|z| z.add(first + row * n + j, y));
            if let Some(activation) = activation {
                math::activate(activation, y);
            }
        };
        let right = |b| Right { data: b, turned: trans_b, packed: self.packed.as_ref() };
        let batch = shape::broadcast(a_batch, b_batch)?;
        let at = |s: &[usize]| shape::offsets(&batch, &shape::broadcast_strides(s, &batch));
        // One B for every batch: the batches are rows of one product.
        let one = b_batch.iter().all(|&d| d == 1) && a_batch.len() >= b_batch.len() && !trans_a;
        let (m, pairs): (_, Vec<_>) = match one {
            true => (args.out.len().checked_div(n).unwrap_or(0), vec![(0, 0)]),
            false => (m, at(a_batch).zip(at(b_batch)).collect()),
        };
        for (q, ((i, j), c)) in
            pairs.into_iter().zip(args.out.chunks_exact_mut((m * n).max(1))).enumerate()
        {
            args.cancel.poll()?;
            let (a, b) = (&a[i * m * k..][..m * k], &b[j * k * n..][..k * n]);
            let rows = trans_a.then(|| rows_of(a, (m, k)));
            let a = Left { data: rows.as_deref().unwrap_or(a), stride: k, rows: m };
            let then = |row: usize, j: usize, y: &mut [f32]| finish(q * m * n, row, j, y);
            let then = rest.then_some(&then as Then<'_>);
            let ending = Ending { scale, columns, rows: None, bounds, then };
            product(a, (k, n), right(b), c, ending);
        }
        Ok(())
    }
}

/// Numbers times a factor.
fn scaled(x: &[f32], by: f32) -> Cow<'_, [f32]> {
    if by == 1.0 { x.into() } else { x.iter().map(|x| x * by).collect() }
}

/// The bounds that an activation is, where it is that alone.
pub(super) fn bounds(a: Activation) -> Option<(f32, f32)> {
    match a {
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Clip { min, max } => Some((min, max)),
        _ => None,
    }
}

/// `alpha * A' * B' + beta * C`.
struct General {
    op: Gemm,
    packed: Option<Packed>,
}

impl Kernel for General {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let ((a_shape, a), (b_shape, b)) = (args.input(0)?, args.input(1)?);
        let [m, n] = args.shape[..] else { invalid!("Gemm gives a matrix") };
        let Gemm { alpha, beta, trans_a, trans_b } = self.op;
        let k = if trans_a { a_shape[0] } else { a_shape[1] };
        let inner = if trans_b { b_shape[1] } else { b_shape[0] };
        if inner != k {
            invalid!("A is {a_shape:?} and B is {b_shape:?}: their inner lengths differ");
        }
        let addend = args.floats(2).map(|(s, c)| (s, scaled(c, beta)));
        let of = |fits: fn(&[usize], [usize; 2]) -> bool| {
            addend.as_ref().filter(|(s, _)| fits(s, [m, n])).map(|(_, c)| &c[..])
        };
        let columns = of(|s, [_, n]| matches!(*s, [w] | [1, w] if w == n));
        let rows = of(|s, [m, n]| matches!(*s, [h, 1] if h == m && n > 1));
        let rest = addend.as_ref().filter(|_| columns.is_none() && rows.is_none());
        let strides = rest.map(|(s, _)| shape::broadcast_strides(s, args.shape));
        let then = |row: usize, first: usize, y: &mut [f32]| {
            let (Some((_, c)), Some(s)) = (rest, &strides) else { return };
            for (i, y) in y.chunks_mut(n - first).enumerate() {
                for (j, y) in y.iter_mut().enumerate() {
                    *y += c[(row + i) * s[0] + (first + j) * s[1]];
                }
            }
        };
        let scale = (alpha != 1.0).then_some(alpha);
        let then = rest.is_some().then_some(&then as Then<'_>);
        let ending = Ending { scale, columns, rows, bounds: None, then };
        let rows = trans_a.then(|| rows_of(a, (m, k)));
        let a = Left { data: rows.as_deref().unwrap_or(a), stride: k, rows: m };
        let right = Right { data: b, turned: trans_b, packed: self.packed.as_ref() };
        product(a, (k, n), right, args.out, ending);
        Ok(())
    }
}
