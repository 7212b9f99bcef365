//! MatMul and Gemm of `f32` by packed panels, with what is fused into them.

use std::sync::OnceLock;

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::{Graph, NodeId, Op, Result, invalid};
use kiln_tensor::shape;

use super::gemm::{Finish, NC, NR, PackedA, multiply, pack_b, pack_turned};
use super::gemv::{self, FEW};
use super::tiles::Spread;
use super::{all_f32, math};
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::team;

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
pub(super) type Packed = OnceLock<Vec<f32>>;

/// The second matrix of a product.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) data: &'a [f32],
    /// Whether it is stored as `[n, k]`, not as `[k, n]`.
    pub(super) turned: bool,
    /// Where its panels are kept.
    pub(super) packed: Option<&'a Packed>,
}

impl Right<'_> {
    /// Packs the panels for the columns from `j` on.
    fn pack(&self, (k, n): (usize, usize), j: usize, panels: &mut [f32]) {
        let pack = |(q, panel): (usize, &mut [f32])| match self.turned {
            true => pack_turned(panel, self.data, (k, n), j + q * NR),
            false => pack_b(panel, self.data, n, j + q * NR),
        };
        team::each(panels.chunks_exact_mut(k * NR).enumerate(), pack);
    }
}

/// `c = a * b` of an `m` by `k` and a `k` by `n` matrix, `a` by its elements.
pub(super) fn product(
    (m, k, n): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: Right<'_>,
    c: &mut [f32],
    finish: Finish<'_>,
) {
    if n == 0 {
        return;
    }
    // Products by rows of B sum in another order than panels: with panels that are kept anyhow, a
    // row gets the same bits however many there are.
    let kept = b.turned && b.packed.is_some();
    if k == 0 || m <= FEW && !kept {
        let a: Vec<f32> = (0..m * k).map(|i| a(i / k, i % k)).collect();
        match (k, b.turned) {
            (0, _) => c.fill(0.0),
            (_, true) => gemv::times_rows(k, n, &a, b.data, c),
            (_, false) => gemv::times_columns(k, n, &a, b.data, c),
        }
        return c.chunks_exact_mut(n).enumerate().for_each(|(i, row)| finish(i, 0, row));
    }
    let a = PackedA::new(m, k, a);
    let all = b.packed.map(|packed| {
        packed.get_or_init(|| {
            let mut panels = vec![0.0; n.div_ceil(NR) * k * NR];
            b.pack((k, n), 0, &mut panels);
            panels
        })
    });
    let mut own = vec![0.0; if all.is_some() { 0 } else { NC.min(n.next_multiple_of(NR)) * k }];
    for j in (0..n).step_by(NC) {
        let width = NC.min(n - j);
        let size = width.div_ceil(NR) * k * NR;
        let panels = match all {
            Some(all) => &all[j * k..][..size],
            None => {
                b.pack((k, n), j, &mut own[..size]);
                &own[..size]
            }
        };
        multiply(&a, panels, c, (n, j, width), finish);
    }
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

impl Addend<'_> {
    /// Operand `i`, where it is there.
    pub(super) fn of<'a>(args: &Args<'a>, i: usize) -> Result<Option<Addend<'a>>> {
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
        let addends = [Addend::of(&args, 2)?, Addend::of(&args, 3)?];
        let finish = |first: usize, row: usize, j: usize, y: &mut [f32]| {
            if alpha != 1.0 {
                y.iter_mut().for_each(|y| *y *= alpha);
            }
            addends.iter().flatten().for_each(|z| z.add(first + row * n + j, y));
            if let Some(activation) = self.activation {
                math::activate(activation, y);
            }
        };
        let right = |b| Right { data: b, turned: trans_b, packed: self.packed.as_ref() };
        // One B for every batch: the batches are rows of one product.
        if b_batch.iter().all(|&d| d == 1) && a_batch.len() >= b_batch.len() && !trans_a {
            let m = args.out.len().checked_div(n).unwrap_or(0);
            let finish = |row: usize, j: usize, y: &mut [f32]| finish(0, row, j, y);
            product((m, k, n), |i, p| a[i * k + p], right(b), args.out, &finish);
            return Ok(());
        }
        let batch = shape::broadcast(a_batch, b_batch)?;
        let at = |s: &[usize]| shape::offsets(&batch, &shape::broadcast_strides(s, &batch));
        let pairs = at(a_batch).zip(at(b_batch));
        for (q, ((i, j), c)) in pairs.zip(args.out.chunks_exact_mut((m * n).max(1))).enumerate() {
            args.cancel.poll()?;
            let (a, b) = (&a[i * m * k..][..m * k], &b[j * k * n..][..k * n]);
            let finish = |row: usize, j: usize, y: &mut [f32]| finish(q * m * n, row, j, y);
            let read = |i: usize, p: usize| if trans_a { a[p * m + i] } else { a[i * k + p] };
            product((m, k, n), read, right(b), c, &finish);
        }
        Ok(())
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
        let addend = args.floats(2);
        let strides = addend.map(|(s, _)| shape::broadcast_strides(s, args.shape));
        let read = |i: usize, p: usize| if trans_a { a[p * m + i] } else { a[i * k + p] };
        let finish = |row: usize, first: usize, y: &mut [f32]| {
            for (j, y) in y.iter_mut().enumerate() {
                *y *= alpha;
                if let (Some((_, c)), Some(s)) = (addend, &strides) {
                    *y += beta * c[row * s[0] + (first + j) * s[1]];
                }
            }
        };
        let right = Right { data: b, turned: trans_b, packed: self.packed.as_ref() };
        product((m, k, n), read, right, args.out, &finish);
        Ok(())
    }
}
