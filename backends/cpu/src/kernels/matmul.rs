//! MatMul and Gemm of `f32` by packed panels.

use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::{Graph, NodeId, Op, Result, invalid};
use kiln_tensor::shape;
use rayon::prelude::*;

use super::gemm::{NC, NR, PackedA, multiply, pack_b, pack_turned};
use super::gemv::{self, FEW};
use super::is_f32;
use crate::kernel::{Args, Kernel, Row};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "matmul_f32",
        what: "MatMul of any ranks: packed panels; few rows straight from B",
        graphs: &[
            "y = MatMul(x: f32[7,5], w: f32[5,33])\nreturn y",
            "y = MatMul(x: f32[2,3,4,5], w: f32[3,5,6])\nreturn y",
            "y = MatMul(x: f32[3,0], w: f32[0,4])\nreturn y",
        ],
        in_place: false,
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
        ],
        in_place: false,
        prepare: prepare_gemm,
    },
];

fn prepare_matmul(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::MatMul(op) = g.op(id) else { return None };
    let fits = *op == MatMul::PLAIN && all_f32(g, id);
    // Vectors are left to the definition: there is nothing to block.
    let matrices = g.inputs_of(id).iter().flatten().all(|v| g.ty(*v).rank() >= Some(2));
    (fits && matrices).then(|| Box::new(Product) as Box<dyn Kernel>)
}

fn prepare_gemm(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Gemm(op) = g.op(id) else { return None };
    all_f32(g, id).then(|| Box::new(General(*op)) as Box<dyn Kernel>)
}

fn all_f32(g: &Graph, id: NodeId) -> bool {
    g.inputs_of(id).iter().flatten().all(|v| is_f32(g, *v))
}

/// The second matrix of a product.
#[derive(Clone, Copy)]
struct Right<'a> {
    data: &'a [f32],
    /// Whether it is stored as `[n, k]`, not as `[k, n]`.
    turned: bool,
}

/// `c = a * b` of an `m` by `k` and a `k` by `n` matrix, `a` by its elements.
fn product(
    (m, k, n): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: Right<'_>,
    c: &mut [f32],
) {
    if k == 0 {
        return c.fill(0.0);
    }
    if m <= FEW {
        let a: Vec<f32> = (0..m * k).map(|i| a(i / k, i % k)).collect();
        return match b.turned {
            true => gemv::times_rows(k, n, &a, b.data, c),
            false => gemv::times_columns(k, n, &a, b.data, c),
        };
    }
    let a = PackedA::new(m, k, a);
    let mut panels = vec![0.0; NC.min(n.next_multiple_of(NR)) * k];
    for j in (0..n).step_by(NC) {
        let width = NC.min(n - j);
        let panels = &mut panels[..width.div_ceil(NR) * k * NR];
        let pack = |(q, panel): (usize, &mut [f32])| match b.turned {
            true => pack_turned(panel, b.data, (k, n), j + q * NR),
            false => pack_b(panel, b.data, n, j + q * NR),
        };
        panels.par_chunks_exact_mut(k * NR).enumerate().for_each(pack);
        multiply(&a, panels, c, (n, j, width), &|_, _| {});
    }
}

/// MatMul with broadcast batches.
struct Product;

impl Kernel for Product {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let [(a_shape, a), (b_shape, b)] = args.inputs[..] else { invalid!("takes two inputs") };
        let (a_batch, a_matrix) = a_shape.split_at(a_shape.len() - 2);
        let (b_batch, b_matrix) = b_shape.split_at(b_shape.len() - 2);
        let (m, k, n) = (a_matrix[0], a_matrix[1], b_matrix[1]);
        if b_matrix[0] != k {
            invalid!("A is {a_shape:?} and B is {b_shape:?}: their inner lengths differ");
        }
        // One B for every batch: the batches are rows of one product.
        if b_batch.iter().all(|&d| d == 1) && a_batch.len() >= b_batch.len() {
            let m = args.out.len().checked_div(n).unwrap_or(0);
            let b = Right { data: b, turned: false };
            product((m, k, n), |i, p| a[i * k + p], b, args.out);
            return Ok(());
        }
        let batch = shape::broadcast(a_batch, b_batch)?;
        let at = |s: &[usize]| shape::offsets(&batch, &shape::broadcast_strides(s, &batch));
        let pairs = at(a_batch).zip(at(b_batch));
        for ((i, j), c) in pairs.zip(args.out.chunks_exact_mut((m * n).max(1))) {
            args.cancel.poll()?;
            let (a, b) = (&a[i * m * k..][..m * k], &b[j * k * n..][..k * n]);
            product((m, k, n), |i, p| a[i * k + p], Right { data: b, turned: false }, c);
        }
        Ok(())
    }
}

/// `alpha * A' * B' + beta * C`.
struct General(Gemm);

impl Kernel for General {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let (a_shape, a) = args.inputs[0];
        let (b_shape, b) = args.inputs[1];
        let [m, n] = args.shape[..] else { invalid!("Gemm gives a matrix") };
        let k = if self.0.trans_a { a_shape[0] } else { a_shape[1] };
        let inner = if self.0.trans_b { b_shape[1] } else { b_shape[0] };
        if inner != k {
            invalid!("A is {a_shape:?} and B is {b_shape:?}: their inner lengths differ");
        }
        let Gemm { alpha, beta, trans_a, .. } = self.0;
        let addend = args.inputs.get(2);
        let strides = addend.map(|(s, _)| shape::broadcast_strides(s, args.shape));
        let read = |i: usize, p: usize| if trans_a { a[p * m + i] } else { a[i * k + p] };
        product((m, k, n), read, Right { data: b, turned: self.0.trans_b }, args.out);
        args.out.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
            for (j, y) in row.iter_mut().enumerate() {
                *y *= alpha;
                if let (Some((_, c)), Some(s)) = (addend, &strides) {
                    *y += beta * c[i * s[0] + j * s[1]];
                }
            }
        });
        Ok(())
    }
}
