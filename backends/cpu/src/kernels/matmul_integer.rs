//! Products of matrices of bytes by packed panels of columns.

use std::sync::OnceLock;

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::product_integer::IntegerProduct;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Type, Value, invalid};
use kiln_tensor::{DType, Tensor, shape};

use super::integer::{
    Ends, MR, NR, QUAD, flip, height, interleave, pack_rows, requantize, rescale, tile,
};
use super::matmul::Addend;
use super::{is_f32, math};
use crate::kernel::{Args, BYTES, FLOATS, Integers, Kernel, Operand, Row};
use crate::team;

/// Elements that a thread finishes at a time.
const PIECE: usize = 1 << 14;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "qlinear_matmul",
        what: "QLinearMatMul of bytes with one scale for A and for the result: quads of products \
               in i32, panels of a constant B kept",
        graphs: &[
            "s = f32[]{0.3}\nz = u8[]{1}\nt = f32[3]{0.5,0.25,0.75}\no = i8[]{2}\nu = f32[]{0.4}\n\
             y = QLinearMatMul(x: u8[2,7,5], s, z, w: i8[5,3], t, o, u, z)\nreturn y",
            "s = f32[]{0.3}\nz = u8[]{1}\nu = f32[]{0.4}\n\
             y = QLinearMatMul(x: u8[2,40,9], s, z, w: u8[2,9,70], s, z, u, z)\nreturn y",
            "s = f32[]{0.3}\nz = i8[]{1}\nu = f32[]{0.4}\nr = i8[]{-3}\n\
             y = QLinearMatMul(x: i8[1,300], s, z, w: i8[300,200], s, z, u, r)\nreturn y",
            "s = f32[]{0.3}\nz = u8[]{1}\no = i8[]{0}\nw = i8[2,3]{1,2,-3,4,5,-128}\n\
             y = QLinearMatMul(x: u8[90,2], s, z, w, s, o, s, z)\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_qlinear,
    },
    Row {
        name: "matmul_integer",
        what: "MatMulInteger of bytes with one zero point for each operand: quads of products in \
               i32, panels of a constant B kept",
        graphs: &[
            "y = MatMulInteger(x: u8[2,7,5], w: i8[5,3])\nreturn y",
            "y = MatMulInteger(x: i8[7,8], w: u8[8,33], z: i8[], o: u8[])\nreturn y",
            "y = MatMulInteger(x: u8[3,0], w: i8[0,4], z: u8[])\nreturn y",
        ],
        in_place: false,
        firsts: BYTES,
        prepare: prepare_integer,
    },
    Row {
        name: "matmul_integer_to_float",
        what: "MatMulIntegerToFloat of bytes with one zero point for each operand, bias, residual \
               and activation: quads of products in i32, panels of a constant B kept",
        graphs: &[
            "s = f32[]{0.3}\nt = f32[3]{0.5,0.25,0.75}\nz = u8[]{1}\no = i8[]{2}\n\
             y = ai.kiln.MatMulIntegerToFloat(x: u8[2,7,5], w: i8[5,3], t, z, o, t) \
             {activation=\"Gelu\"}\nv = ai.kiln.MatMulIntegerToFloat(x, w, s, _, _, s)\n\
             return y, v",
            "z = i8[]{3}\ny = ai.kiln.MatMulIntegerToFloat(x: i8[2,90,40], w: i8[40,70], \
             s: f32[70], z, _, b: f32[70], r: f32[2,90,70]) {activation=\"Relu\"}\n\
             v = ai.kiln.MatMulIntegerToFloat(x, w, s, _, _, c: f32[90,1], r)\nreturn y, v",
            "w = i8[2,3]{1,2,-3,4,5,-128}\nt = f32[3]{0.5,0.25,0.75}\nz = u8[]{3}\n\
             y = ai.kiln.MatMulIntegerToFloat(x: u8[90,2], w, t, z, _, t) {activation=\"Tanh\"}\n\
             return y",
            "s = f32[]{0.3}\ny = ai.kiln.MatMulIntegerToFloat(x: u8[2,7,9], w: u8[2,9,33], s, _, \
             _, _, r: f32[33])\nv = ai.kiln.MatMulIntegerToFloat(a: u8[3,0], b: i8[0,4], s)\n\
             return y, v",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_real,
    },
];

fn dtype(g: &Graph, v: Value) -> Option<DType> {
    Some(g.ty(v).as_tensor().ok()?.dtype)
}

/// Whether a value is bytes.
pub(super) fn is_byte(g: &Graph, v: Option<Value>) -> bool {
    matches!(v.and_then(|v| dtype(g, v)), Some(DType::U8 | DType::I8))
}

/// Whether a value has one element.
pub(super) fn is_single(g: &Graph, v: Option<Value>) -> bool {
    let shape = |v| match g.ty(v) {
        Type::Tensor(t) => t.static_shape(),
        _ => None,
    };
    v.and_then(shape).is_some_and(|s| s.iter().product::<usize>() == 1)
}

/// Whether a value is one number: an element, or a constant vector of equal elements, as many as
/// axis `axis` of `of` (from the end where negative) is long.
pub(super) fn is_uniform(g: &Graph, v: Option<Value>, (of, axis): (Option<Value>, i64)) -> bool {
    let length = || {
        let dims = g.ty(of?).as_tensor().ok()?.shape.as_ref()?;
        dims[shape::axis(axis, dims.len()).ok()?].as_len()
    };
    let alike = |t: &Tensor| {
        let all = t.to_vec::<i64>().unwrap_or_default();
        t.rank() == 1
            && Some(all.len()) == length()
            && all.first().is_some_and(|first| all.iter().all(|x| x == first))
    };
    is_single(g, v) || v.and_then(|v| g.constant_of(v)).is_some_and(alike)
}

fn matrices(g: &Graph, all: [Option<Value>; 2]) -> bool {
    all.iter().all(|v| is_byte(g, *v) && v.is_some_and(|v| g.ty(v).rank() >= Some(2)))
}

/// Room for the panels of a constant matrix.
fn kept(g: &Graph, b: Option<Value>) -> Option<OnceLock<Columns>> {
    let constant = b.and_then(|b| g.constant_of(b)).is_some_and(|t| t.rank() == 2);
    constant.then(OnceLock::new)
}

fn prepare_qlinear(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::QLinearMatMul(_) = g.op(id) else { return None };
    let input = |i| g.input_of(id, i);
    let b_scale = input(4)?;
    let by_column = g.ty(b_scale).rank() == Some(1);
    let takes = matrices(g, [input(0), input(3)])
        && [1, 2, 6, 7].iter().all(|&i| is_single(g, input(i)))
        && (by_column || is_single(g, Some(b_scale)))
        && is_uniform(g, input(5), (input(3), -1))
        && is_byte(g, input(7))
        && [1, 4, 6].iter().all(|&i| input(i).and_then(|v| dtype(g, v)) == Some(DType::F32));
    takes.then(|| {
        Box::new(Product { b: 3, zeros: (2, 5), kept: kept(g, input(3)) }) as Box<dyn Kernel>
    })
}

fn prepare_integer(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::MatMulInteger(_) = g.op(id) else { return None };
    let input = |i| g.input_of(id, i);
    let zero = |i, of| input(i).is_none() || is_uniform(g, input(i), of);
    let takes =
        matrices(g, [input(0), input(1)]) && zero(2, (input(0), -2)) && zero(3, (input(1), -1));
    takes.then(|| {
        Box::new(Product { b: 1, zeros: (2, 3), kept: kept(g, input(1)) }) as Box<dyn Kernel>
    })
}

fn prepare_real(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::IntegerProduct(op) = g.op(id) else { return None };
    let input = |i| g.input_of(id, i);
    let zeros = (IntegerProduct::A_ZERO, IntegerProduct::B_ZERO);
    let zero = |i, of| input(i).is_none() || is_uniform(g, input(i), of);
    let scale = input(IntegerProduct::SCALE)?;
    let takes = matrices(g, [input(0), input(1)])
        && zero(zeros.0, (input(0), -2))
        && zero(zeros.1, (input(1), -1))
        && (g.ty(scale).rank() == Some(1) || is_single(g, Some(scale)))
        && [IntegerProduct::BIAS, IntegerProduct::BRANCH]
            .iter()
            .all(|&i| input(i).is_none_or(|v| is_f32(g, v)));
    let product = Product { b: 1, zeros, kept: kept(g, input(1)) };
    takes.then(|| Box::new(Reals { product, activation: op.activation }) as Box<dyn Kernel>)
}

/// The bytes of an operand, and whether they are signed.
pub(super) fn bytes(operand: Option<Operand<'_>>) -> Result<(&[usize], &[u8], bool)> {
    let tensor = operand.and_then(|o| o.other);
    let t = tensor.ok_or_else(|| Error::bug("an operand of a kernel holds no bytes"))?;
    match t.dtype() {
        DType::U8 => Ok((t.shape(), t.as_slice::<u8>()?, false)),
        DType::I8 => Ok((t.shape(), bytemuck::cast_slice(t.as_slice::<i8>()?), true)),
        d => Err(Error::bug(format!("a kernel of bytes reads {d}"))),
    }
}

/// The zero point at operand `i`: the first of its elements, which are alike.
pub(super) fn zero(args: &Args<'_>, i: usize) -> Result<i32> {
    let all = args.ints(i)?.unwrap_or_default();
    Ok(all.first().map_or(0, |&z| z as i32))
}

/// The ends of a type, around a zero point.
pub(super) fn ends(signed: bool, zero: i32) -> Ends {
    let (least, most) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    Ends { zero: zero as f32, least, most }
}

/// The second matrix as panels of signed bytes.
struct Columns {
    /// Bytes of a column, padded.
    k: usize,
    n: usize,
    panels: Vec<u8>,
    /// The sum of each column, padded to whole panels.
    sums: Vec<i32>,
}

impl Columns {
    /// Packs a row-major `k` by `n` matrix.
    fn pack(b: &[u8], (k, n): (usize, usize), flip: u8) -> Self {
        let padded = k.next_multiple_of(QUAD);
        let mut panels = vec![0; n.div_ceil(NR) * padded * NR];
        let mut sums = vec![0; n.next_multiple_of(NR)];
        if padded == 0 {
            return Self { k: 0, n, panels, sums };
        }
        let pack = |(q, (panel, sums)): (usize, (&mut [u8], &mut [i32]))| {
            let (from, width) = (q * NR, NR.min(n - q * NR));
            // What lies below the last row is met by zeros of the other matrix.
            let row = |p: usize| &b[p.min(k - 1) * n + from..][..width];
            for (p, quads) in panel.chunks_exact_mut(QUAD * NR).enumerate() {
                let rows = std::array::from_fn(|i| row(p * QUAD + i));
                interleave(rows, flip, &mut quads[..QUAD * width]);
                for (i, quad) in quads.chunks_exact(QUAD).take(width).enumerate() {
                    let real = QUAD.min(k - p * QUAD);
                    sums[i] += quad[..real].iter().map(|&x| i32::from(x as i8)).sum::<i32>();
                }
            }
        };
        let size = padded * NR;
        match k * n < 1 << 16 {
            true => {
                panels.chunks_exact_mut(size).zip(sums.chunks_mut(NR)).enumerate().for_each(pack)
            }
            false => {
                let jobs = panels.chunks_exact_mut(size).zip(sums.chunks_mut(NR)).enumerate();
                team::each(jobs, pack);
            }
        }
        Self { k: padded, n, panels, sums }
    }
}

/// Zero points of both sides, and how many products a sum has.
#[derive(Clone, Copy)]
struct Zeros {
    a: i32,
    b: i32,
    k: usize,
}

/// What becomes of a piece of a row: its first column, the sums, what is added to all.
type Finish<'a, T> = &'a (dyn Fn(usize, &[i32; NR], i32, &mut [T]) + Sync);

/// The same, told first what is added to the sums of each column.
type FinishColumns<'a, T> = &'a (dyn Fn(&[i32], usize, &[i32; NR], i32, &mut [T]) + Sync);

/// The first matrix: rows of bytes, which are unsigned once they are flipped.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [u8],
    bits: u8,
    zeros: Zeros,
}

/// `out = a * columns`, the sums finished piece by piece.
fn multiply<T: Send>(a: Left<'_>, columns: &Columns, out: &mut [T], finish: Finish<'_, T>) {
    let (k, n) = (columns.k, columns.n);
    let m = out.len().checked_div(n).unwrap_or(0);
    let piece = |i: usize, from: usize, out: &mut [T]| {
        let a = Left { data: &a.data[i * a.zeros.k..], ..a };
        block(a, columns, from, out, finish);
    };
    let threads = team::threads();
    let most = 8 * MR;
    if m * n * k < 1 << 17 || threads == 1 {
        out.chunks_mut((most * n).max(1)).enumerate().for_each(|(i, o)| piece(i * most, 0, o));
    } else if m == 1 {
        let width = n.div_ceil(threads).next_multiple_of(NR);
        team::each(out.chunks_mut(width).enumerate(), |(i, o)| piece(0, i * width, o));
    } else {
        let rows = m.div_ceil(threads).next_multiple_of(MR).min(most);
        team::each(out.chunks_mut(rows * n).enumerate(), |(i, o)| piece(i * rows, 0, o));
    }
}

/// Some whole rows, or a part of a single one from column `from` on.
fn block<T>(a: Left<'_>, columns: &Columns, from: usize, out: &mut [T], finish: Finish<'_, T>) {
    let (k, n) = (columns.k, columns.n);
    let wide = n.min(out.len()).max(1);
    let m = out.len() / wide;
    let (mut packed, mut adds) = (vec![], vec![]);
    pack_rows(&a.data[..m * a.zeros.k], a.zeros.k, a.bits, &mut packed, &mut adds);
    adds.resize(m, 0);
    adds.iter_mut().for_each(|x| *x *= -a.zeros.b);
    let mut sums = [[0; NR]; MR];
    for at in (0..wide).step_by(NR) {
        let width = NR.min(wide - at);
        let panel = &columns.panels[(from + at) * k..][..k * NR];
        for i in (0..m).step_by(MR) {
            let count = MR.min(m - i);
            let height = height(count);
            tile(false, height, &packed[i * k..][..height * k], panel, &mut sums);
            for (r, sums) in sums[..count].iter().enumerate() {
                let y = &mut out[(i + r) * wide + at..][..width];
                finish(from + at, sums, adds[i + r], y);
            }
        }
    }
}

/// A product of bytes: the places of its second matrix and of both zero points.
struct Product {
    b: usize,
    zeros: (usize, usize),
    kept: Option<OnceLock<Columns>>,
}

/// Both operands of a product at work.
struct Sides<'a> {
    a: &'a [u8],
    a_shape: &'a [usize],
    a_signed: bool,
    b: &'a [u8],
    b_shape: &'a [usize],
    b_signed: bool,
    zeros: Zeros,
}

impl Product {
    fn sides<'a>(&self, args: &Args<'a>) -> Result<Sides<'a>> {
        let (a_shape, a, a_signed) = bytes(args.optional(0))?;
        let (b_shape, b, b_signed) = bytes(args.optional(self.b))?;
        let (&[.., _, k], &[.., inner, _]) = (a_shape, b_shape) else {
            invalid!("two matrices are needed")
        };
        if k != inner {
            invalid!("A is {a_shape:?} and B is {b_shape:?}: their inner lengths differ");
        }
        let places = self.zeros;
        let zeros = Zeros {
            a: zero(args, places.0)? + flip(a_signed, false).1,
            b: zero(args, places.1)? + flip(b_signed, true).1,
            k,
        };
        Ok(Sides { a, a_shape, a_signed, b, b_shape, b_signed, zeros })
    }

    /// All products of a stack; `finish` is told what to add to the sums of each column.
    fn stack<T: Send + Sync>(
        &self,
        s: &Sides<'_>,
        out: &mut [T],
        finish: FinishColumns<'_, T>,
    ) -> Result<()> {
        let k = s.zeros.k;
        let (&[ref a_batch @ .., m, _], &[ref b_batch @ .., _, n]) = (s.a_shape, s.b_shape) else {
            invalid!("two matrices are needed")
        };
        let pack = |b: &[u8]| Columns::pack(b, (k, n), flip(s.b_signed, true).0);
        let run = |a: &[u8], columns: &Columns, out: &mut [T]| {
            let both = s.zeros.k as i32 * s.zeros.a * s.zeros.b;
            let adds: Vec<i32> = columns.sums.iter().map(|c| both - s.zeros.a * c).collect();
            let finish = |j: usize, x: &[i32; NR], add, y: &mut [T]| finish(&adds, j, x, add, y);
            let a = Left { data: a, bits: flip(s.a_signed, false).0, zeros: s.zeros };
            multiply(a, columns, out, &finish);
        };
        if b_batch.iter().all(|&d| d == 1) && a_batch.len() >= b_batch.len() {
            match &self.kept {
                Some(kept) => run(s.a, kept.get_or_init(|| pack(s.b)), out),
                None => run(s.a, &pack(s.b), out),
            }
            return Ok(());
        }
        let batch = shape::broadcast(a_batch, b_batch)?;
        let at = |x: &[usize]| -> Vec<usize> {
            shape::offsets(&batch, &shape::broadcast_strides(x, &batch)).collect()
        };
        let (a_at, b_at) = (at(a_batch), at(b_batch));
        team::each(out.chunks_exact_mut((m * n).max(1)).enumerate(), |(q, out)| {
            let columns = pack(&s.b[b_at[q] * k * n..][..k * n]);
            run(&s.a[a_at[q] * m * k..][..m * k], &columns, out);
        });
        Ok(())
    }
}

/// The `NR` elements from place `j` on, which are there.
pub(super) fn panel<T>(x: &[T], j: usize) -> &[T; NR] {
    x[j..].first_chunk().expect("invariant: padded to whole panels")
}

impl Kernel for Product {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let sides = self.sides(&args)?;
        let out = args.integers.take();
        let (signed, out) = match out {
            Some(Integers::I32(out)) => {
                return self.stack(&sides, out, &|adds, j, x, add, y| {
                    for (y, (x, each)) in y.iter_mut().zip(x.iter().zip(panel(adds, j))) {
                        *y = x.wrapping_add(*each).wrapping_add(add);
                    }
                });
            }
            Some(Integers::U8(out)) => (false, out),
            Some(Integers::I8(out)) => (true, bytemuck::cast_slice_mut(out)),
            _ => return Err(Error::bug("a product of bytes gives sums or bytes")),
        };
        let one = |i| args.floats(i).and_then(|(_, s)| s.first().copied()).unwrap_or(1.0);
        let (a, y) = (one(1), one(6));
        let n = sides.b_shape.last().copied().unwrap_or(0);
        let b = args.floats(4).map_or(&[][..], |(_, s)| s);
        if b.len() != 1 && b.len() != n {
            invalid!("{n} columns have {} scales", b.len());
        }
        let mut scales: Vec<f32> = (b.iter().cycle().take(n)).map(|b| a * b / y).collect();
        scales.resize(n.next_multiple_of(NR), 0.0);
        let ends = ends(signed, zero(&args, 7)?);
        self.stack(&sides, out, &|adds, j, x, add, y| {
            let made = requantize(x, (panel(adds, j), panel(&scales, j)), add, ends);
            y.copy_from_slice(&made[..y.len()]);
        })
    }
}

/// `MatMulIntegerToFloat`.
struct Reals {
    product: Product,
    activation: Option<Activation>,
}

/// Numbers for each of `n` columns, or one for all, in whole panels.
fn by_column(x: &[f32], n: usize) -> Vec<f32> {
    let mut all: Vec<f32> = x.iter().cycle().take(n).copied().collect();
    all.resize(n.next_multiple_of(NR), 0.0);
    all
}

impl Kernel for Reals {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let sides = self.product.sides(&args)?;
        let n = sides.b_shape.last().copied().unwrap_or(0);
        let (_, scale) = args.input(IntegerProduct::SCALE)?;
        if scale.len() != 1 && scale.len() != n {
            invalid!("{n} columns have {} scales", scale.len());
        }
        let along = |x: &&[f32]| x.len() == 1 || x.len() == n;
        let bias = args.floats(IntegerProduct::BIAS);
        // What is added to whole columns is added to their sums; the rest, in a second pass.
        let column = bias.filter(|(s, x)| along(x) && s.last().is_none_or(|&s| s == x.len()));
        let first = if column.is_some() { None } else { Addend::of(&args, IntegerProduct::BIAS)? };
        let later = [first, Addend::of(&args, IntegerProduct::BRANCH)?];
        let scales = by_column(scale, n);
        let bias = by_column(column.map_or(&[0.0], |(_, x)| x), n);
        let (at_once, has_bias) = (later.iter().all(Option::is_none), column.is_some());
        self.product.stack(&sides, args.out, &|adds, j, x, add, y| {
            let made = rescale(x, panel(adds, j), panel(&scales, j), add);
            y.copy_from_slice(&made[..y.len()]);
            if has_bias {
                y.iter_mut().zip(&bias[j..]).for_each(|(y, b)| *y += b);
            }
            if let Some(activation) = self.activation.filter(|_| at_once) {
                math::activate(activation, y);
            }
        })?;
        if at_once {
            return Ok(());
        }
        team::each(args.out.chunks_mut(PIECE).enumerate(), |(i, y)| {
            later.iter().flatten().for_each(|z| z.add(i * PIECE, y));
            if let Some(activation) = self.activation {
                math::activate(activation, y);
            }
        });
        Ok(())
    }
}
