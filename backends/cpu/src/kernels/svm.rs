//! Support vector machines: distances, kernel and weighted sums in one pass over the support
//! vectors.
//!
//! ```text
//! many rows   rows in lanes, a support vector against 16 to 64 rows at a time
//! few rows    support vectors in lanes, a row against 16 to 64 of them at a time
//! ```
//! Kernels are `f32`; what 16 support vectors give is summed in `f64`. The vectors of a class are
//! filled up to a multiple of 16 with ones of weight 0.

use std::ops::Range;

use kiln_ir::ops::svm::{self, Classes, KernelType, Scratch, Svm, pairs};
use kiln_ir::{Graph, NodeId, Op, Result};

use super::is_f32;
use super::tabular::{self, Results, Rows};
use crate::kernel::{Args, Kernel, LABELS, Row};
use crate::simd::{Floats, Ints, Isa, Work, dispatch};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "svm_f32",
    what: "SVMClassifier and SVMRegressor with support vectors; POLY of whole degrees up to 8",
    graphs: &[
        "y, z = ai.onnx.ml.SVMClassifier(x: f32[70,2]) {kernel_type=\"RBF\", \
         kernel_params=[0.5,0.0,3.0], support_vectors=[1.0,0.0,0.0,1.0,1.0,1.0,0.5,0.5], \
         classlabels_ints=[10,20,30], vectors_per_class=[1,2,1], \
         coefficients=[1.0,-0.5,0.25,-1.0,0.7,-0.2,0.3,-0.6], rho=[0.1,-0.2,0.3]}\nreturn y, z",
        "y, z = ai.onnx.ml.SVMClassifier(x: f32[3,2]) {kernel_type=\"SIGMOID\", \
         kernel_params=[0.5,0.25,3.0], support_vectors=[1.0,0.0,0.0,1.0,0.5,0.5], \
         classlabels_strings=[\"a\",\"b\"], vectors_per_class=[1,2], prob_a=[-1.5], \
         prob_b=[0.25], coefficients=[1.0,-1.0,0.5], rho=[0.25]}\nreturn y, z",
        "y = ai.onnx.ml.SVMRegressor(x: f32[90,2]) {kernel_type=\"POLY\", \
         kernel_params=[0.5,0.25,3.0], support_vectors=[1.0,0.0,0.0,1.0,0.5,0.5], \
         n_supports=3, coefficients=[1.0,-1.0,0.5], rho=[0.25]}\nreturn y",
        "y = ai.onnx.ml.SVMRegressor(x: f32[2]) {kernel_type=\"RBF\", one_class=1, \
         kernel_params=[0.5,0.25,3.0], support_vectors=[1.0,0.0,0.0,1.0,0.5,0.5], \
         n_supports=3, coefficients=[1.0,-1.0,0.5], rho=[0.25]}\nreturn y",
    ],
    in_place: false,
    firsts: LABELS,
    prepare,
}];

/// Support vectors of a block: as many as the widest machine has lanes.
const VECTORS: usize = 16;
/// Support vectors that are calculated side by side for many rows.
const ABREAST: usize = 4;
/// Rows of the widest tile.
const WIDEST: usize = 64;
/// Fewer rows than this have support vectors in their lanes.
const FEW: usize = 16;
/// The greatest power that is multiplied out.
const POWERS: f32 = 8.0;

/// The function of a row and a support vector.
#[derive(Clone, Copy)]
enum Function {
    Poly { gamma: f32, coef0: f32, degree: u32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

/// A model made ready.
struct Machine {
    op: Svm,
    width: usize,
    classes: usize,
    /// Sums of each class.
    lines: usize,
    sums: Sums,
}

/// Support vectors in blocks.
struct Vectors {
    function: Function,
    width: usize,
    /// Blocks of support vectors: of each column 16 numbers.
    vectors: Vec<f32>,
    /// Of each block, `lines` times 16 weights.
    weights: Vec<f32>,
    lines: usize,
    /// The blocks of each class.
    classes: Vec<Range<usize>>,
}

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Svm(op) = g.op(id) else { return None };
    is_f32(g, g.input_of(id, 0)?).then_some(())?;
    Machine::of(op).map(|m| Box::new(m) as Box<dyn Kernel>)
}

/// What a model sums over its support vectors.
enum Sums {
    Kernels(Vectors),
    /// Of a linear kernel, a weight per column: of each class and line in turn.
    Columns(Vec<f64>),
}

impl Machine {
    fn of(op: &Svm) -> Option<Self> {
        let (kernel, counts) = match op {
            Svm::Classifier(c) => match &c.classes {
                Classes::Pairs { vectors, .. } => (&c.kernel, vectors.clone()),
                Classes::Linear => return None,
            },
            Svm::Regressor(r) if r.count > 0 => (&r.kernel, vec![r.count]),
            Svm::Regressor(_) => return None,
        };
        let param = |i: usize| kernel.params.get(i).copied().unwrap_or(0.0);
        let (gamma, coef0, degree) = (param(0), param(1), param(2));
        let count: usize = counts.iter().sum();
        let width = kernel.support_vectors.len() / count.max(1);
        let lines = kernel.coefficients.len() / count.max(1);
        let function = match kernel.kind {
            KernelType::Linear => None,
            KernelType::Rbf => Some(Function::Rbf { gamma }),
            KernelType::Sigmoid => Some(Function::Sigmoid { gamma, coef0 }),
            KernelType::Poly if degree.fract() == 0.0 && (0.0..=POWERS).contains(&degree) => {
                Some(Function::Poly { gamma, coef0, degree: degree as u32 })
            }
            KernelType::Poly => return None,
        };
        let sums = match function {
            None => Sums::Columns(columns(kernel, &counts, width)),
            Some(f) => Sums::Kernels(Vectors::of(f, kernel, &counts, width)),
        };
        Some(Self { op: op.clone(), width, classes: counts.len(), lines, sums })
    }

    /// Sums per row: of class and line `(c, l)`, at `c * lines + l`.
    fn each(&self) -> usize {
        self.classes * self.lines
    }

    /// The sums of each row in turn.
    fn sums(&self, x: &[f32], rows: usize) -> Vec<f64> {
        match &self.sums {
            Sums::Kernels(vectors) => dispatch(Block { vectors, x, rows }),
            Sums::Columns(weights) => {
                let mut sums = Vec::with_capacity(rows * self.each());
                for x in x.chunks_exact(self.width) {
                    let weights = weights.chunks_exact(self.width);
                    let products = |w: &[f64]| -> f64 {
                        w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum()
                    };
                    sums.extend(weights.map(products));
                }
                sums
            }
        }
    }

    /// Ends a row: scores, and the label of a classifier.
    fn finish(&self, sums: &[f64], row: usize, to: &mut Results<'_>, room: &mut Room) {
        let c = match &self.op {
            Svm::Regressor(r) => return to.set(row, &[r.finish(sums[0])]),
            Svm::Classifier(c) => c,
        };
        let at = |i: usize, line: usize| sums[i * self.lines + line];
        room.pairs.clear();
        room.pairs.extend(pairs(self.classes).map(|(i, j)| at(i, j - 1) + at(j, i)));
        let scores = to.scores(row, 1).unwrap_or(&mut room.unread);
        let class = c.finish(&room.pairs, scores, &mut room.scratch);
        to.label(row, &c.labels, &[class as u64]);
    }
}

/// Room for what is calculated of a row.
#[derive(Default)]
struct Room {
    pairs: Vec<f64>,
    unread: Vec<f32>,
    scratch: Scratch,
}

/// Of each class and line, the sum of the support vectors by their weights.
fn columns(kernel: &svm::Kernel, counts: &[usize], width: usize) -> Vec<f64> {
    let count: usize = counts.iter().sum();
    let mut sums = vec![];
    let mut first = 0;
    for &n in counts {
        for line in kernel.coefficients.chunks_exact(count) {
            let mut sum = vec![0.0; width];
            let vectors = kernel.support_vectors.chunks_exact(width).zip(line);
            for (v, w) in vectors.skip(first).take(n) {
                let products = v.iter().map(|v| f64::from(*w) * f64::from(*v));
                sum.iter_mut().zip(products).for_each(|(s, p)| *s += p);
            }
            sums.extend(sum);
        }
        first += n;
    }
    sums
}

impl Vectors {
    fn of(function: Function, kernel: &svm::Kernel, counts: &[usize], width: usize) -> Self {
        let count: usize = counts.iter().sum();
        let lines = kernel.coefficients.len() / count.max(1);
        let (mut vectors, mut weights, mut classes) = (vec![], vec![], vec![]);
        let mut first = 0;
        for n in counts {
            let from = vectors.len() / (width * VECTORS).max(1);
            for block in (first..first + n).step_by(VECTORS) {
                let lanes = block..(block + VECTORS).min(first + n);
                let of = |x: &[f32], at: &dyn Fn(usize) -> usize| {
                    let mut out = [0.0; VECTORS];
                    out.iter_mut().zip(lanes.clone()).for_each(|(o, i)| *o = x[at(i)]);
                    out
                };
                for c in 0..width {
                    vectors.extend(of(&kernel.support_vectors, &|i| i * width + c));
                }
                for l in 0..lines {
                    weights.extend(of(&kernel.coefficients, &|i| l * count + i));
                }
            }
            classes.push(from..vectors.len() / (width * VECTORS).max(1));
            first += n;
        }
        Self { function, width, vectors, weights, lines, classes }
    }

    fn each(&self) -> usize {
        self.classes.len() * self.lines
    }

    fn block(&self, block: usize) -> (&[f32], &[f32]) {
        let (v, w) = (self.width * VECTORS, self.lines * VECTORS);
        (&self.vectors[block * v..][..v], &self.weights[block * w..][..w])
    }
}

impl Kernel for Machine {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let Rows { count, width, data } = tabular::rows(&args)?;
        self.op.check_columns(width)?;
        let (classifier, each) = match &self.op {
            Svm::Classifier(c) => (true, c.width()),
            Svm::Regressor(_) => (false, 1),
        };
        let results = Results::of(classifier, each, &mut args)?;
        results.blockwise(count, WIDEST, |rows, mut to| {
            args.cancel.poll()?;
            let x = &data[rows.start * width..rows.end * width];
            let sums = self.sums(x, rows.len());
            let mut room = Room { unread: vec![0.0; each], ..Room::default() };
            for (row, sums) in sums.chunks_exact(self.each()).enumerate() {
                self.finish(sums, row, &mut to, &mut room);
            }
            Ok(())
        })
    }
}

/// Some rows, at most `WIDEST`.
struct Block<'a> {
    vectors: &'a Vectors,
    x: &'a [f32],
    rows: usize,
}

impl Work for Block<'_> {
    type Out = Vec<f64>;

    /// The sums of each row in turn.
    #[inline(always)]
    fn run<S: Isa>(self, isa: S) -> Vec<f64> {
        let mut sums = vec![0.0; self.rows * self.vectors.each()];
        match (self.rows < FEW, S::LANES) {
            (true, _) => self.few(isa, &mut sums),
            (false, 16) => self.many::<S, 4>(isa, &mut sums),
            (false, _) => self.many::<S, 2>(isa, &mut sums),
        }
        sums
    }
}

impl Block<'_> {
    /// A row against a block of support vectors at a time.
    #[inline(always)]
    fn few<S: Isa>(&self, isa: S, sums: &mut [f64]) {
        let m = self.vectors;
        for (x, sums) in self.x.chunks_exact(m.width).zip(sums.chunks_exact_mut(m.each())) {
            for (c, blocks) in m.classes.iter().enumerate() {
                for block in blocks.clone() {
                    let (vectors, weights) = m.block(block);
                    let mut kernels = [0.0; VECTORS];
                    for at in (0..VECTORS).step_by(S::LANES) {
                        let mut sum = isa.splat(0.0);
                        for (x, v) in x.iter().zip(vectors.chunks_exact(VECTORS)) {
                            sum = step(m.function, isa.splat(*x), isa.load(&v[at..]), sum);
                        }
                        end(isa, m.function, sum).store(&mut kernels[at..]);
                    }
                    // As `many` sums, so that a row gets the same bits among few and among many.
                    for (l, weights) in weights.chunks_exact(VECTORS).enumerate() {
                        let mut sum = isa.splat(0.0);
                        for (w, k) in weights.iter().zip(&kernels) {
                            sum = isa.splat(*k).mul_add(isa.splat(*w), sum);
                        }
                        let mut lanes = [0.0; VECTORS];
                        sum.store(&mut lanes);
                        sums[c * m.lines + l] += f64::from(lanes[0]);
                    }
                }
            }
        }
    }

    /// Tiles of `GROUP` vectors of rows against four support vectors at a time.
    #[inline(always)]
    fn many<S: Isa, const GROUP: usize>(&self, isa: S, sums: &mut [f64]) {
        let m = self.vectors;
        let wide = GROUP * S::LANES;
        let mut tile = vec![0.0; m.width * wide];
        let mut wide_sums = vec![0.0; m.each() * wide];
        let tiles = self.x.chunks(wide * m.width).zip(sums.chunks_mut(wide * m.each()));
        for (x, sums) in tiles {
            for (r, x) in x.chunks_exact(m.width).enumerate() {
                x.iter().enumerate().for_each(|(c, x)| tile[c * wide + r] = *x);
            }
            wide_sums.fill(0.0);
            for (c, blocks) in m.classes.iter().enumerate() {
                for block in blocks.clone() {
                    let sums = &mut wide_sums[c * m.lines * wide..][..m.lines * wide];
                    self.tile::<S, GROUP>(isa, block, &tile, sums);
                }
            }
            for (r, sums) in sums.chunks_exact_mut(m.each()).enumerate() {
                sums.iter_mut().enumerate().for_each(|(i, s)| *s = wide_sums[i * wide + r]);
            }
        }
    }

    /// Adds what a block of support vectors gives to the sums of a tile's rows.
    #[inline(always)]
    fn tile<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        block: usize,
        tile: &[f32],
        sums: &mut [f64],
    ) {
        let (vectors, weights) = self.vectors.block(block);
        let function = self.vectors.function;
        let wide = GROUP * S::LANES;
        let mut kernels = [[isa.splat(0.0); GROUP]; VECTORS];
        for (i, kernels) in kernels.chunks_exact_mut(ABREAST).enumerate() {
            let mut sum = [[isa.splat(0.0); GROUP]; ABREAST];
            for (x, v) in tile.chunks_exact(wide).zip(vectors.chunks_exact(VECTORS)) {
                let v = &v[i * ABREAST..][..ABREAST];
                for g in 0..GROUP {
                    let x = isa.load(&x[g * S::LANES..]);
                    for a in 0..ABREAST {
                        sum[a][g] = step(function, x, isa.splat(v[a]), sum[a][g]);
                    }
                }
            }
            for a in 0..ABREAST {
                for g in 0..GROUP {
                    kernels[a][g] = end(isa, function, sum[a][g]);
                }
            }
        }
        for (weights, sums) in weights.chunks_exact(VECTORS).zip(sums.chunks_exact_mut(wide)) {
            for (g, sums) in sums.chunks_exact_mut(S::LANES).enumerate() {
                let mut sum = isa.splat(0.0);
                for (w, k) in weights.iter().zip(&kernels) {
                    sum = k[g].mul_add(isa.splat(*w), sum);
                }
                let mut lanes = [0.0; VECTORS];
                sum.store(&mut lanes);
                sums.iter_mut().zip(lanes).for_each(|(s, x)| *s += f64::from(x));
            }
        }
    }
}

/// One more column of a distance or a product.
#[inline(always)]
fn step<F: Floats>(function: Function, x: F, v: F, sum: F) -> F {
    match function {
        Function::Rbf { .. } => {
            let d = x - v;
            d.mul_add(d, sum)
        }
        _ => x.mul_add(v, sum),
    }
}

/// The kernel of a distance or a product.
#[inline(always)]
fn end<S: Isa>(isa: S, function: Function, sum: S::F) -> S::F {
    match function {
        Function::Rbf { gamma } => exp(isa, sum * isa.splat(-gamma)),
        Function::Sigmoid { gamma, coef0 } => {
            tanh(isa, sum.mul_add(isa.splat(gamma), isa.splat(coef0)))
        }
        Function::Poly { gamma, coef0, degree } => {
            let x = sum.mul_add(isa.splat(gamma), isa.splat(coef0));
            let mut y = isa.splat(1.0);
            for _ in 0..degree {
                y = y * x;
            }
            y
        }
    }
}

/// `e^x` within 2 units in the last place; the least normal number where it would be less.
#[inline(always)]
fn exp<S: Isa>(isa: S, x: S::F) -> S::F {
    // Adding this rounds to a whole number, which the lowest bits then hold.
    const WHOLE: f32 = 12_582_912.0;
    const LN2: f32 = 0.693_359_4;
    const REST: f32 = -2.121_944_4e-4;
    // NaN is the second operand, so it stays.
    let x = isa.splat(88.0).min(isa.splat(-87.0).max(x));
    let k = x.mul_add(isa.splat(std::f32::consts::LOG2_E), isa.splat(WHOLE));
    let whole = k - isa.splat(WHOLE);
    let r = whole.mul_add(isa.splat(-LN2), x);
    let r = whole.mul_add(isa.splat(-REST), r);
    let mut p = isa.splat(1.0 / 720.0);
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, isa.splat(c));
    }
    // The bits of a NaN are no exponent.
    let nan = x * isa.splat(0.0);
    (p.to_bits() + (k.to_bits() << 23)).bits() + nan
}

/// The hyperbolic tangent within 2e-7.
#[inline(always)]
fn tanh<S: Isa>(isa: S, x: S::F) -> S::F {
    let one = isa.splat(1.0);
    let e = exp(isa, isa.splat(30.0).min(isa.splat(-30.0).max(x + x)));
    one - isa.splat(2.0) / (e + one)
}
