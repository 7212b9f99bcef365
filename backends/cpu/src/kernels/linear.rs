//! Linear models of rows: products in double precision, where those of `f32` are exact, in eight
//! sums side by side, column `c` in sum `c mod 8`.

use kiln_ir::ops::linear::Linear;
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{Graph, NodeId, Op, Result, Type, invalid};

use super::is_f32;
use super::tabular::{self, Results, Rows};
use crate::kernel::{Args, Kernel, LABELS, Row};
use crate::simd::{Isa, Work, dispatch};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "linear_f32",
    what: "LinearClassifier and LinearRegressor: double precision, eight sums side by side",
    graphs: &[
        "y, z = ai.onnx.ml.LinearClassifier(x: f32[70,3]) {coefficients=[0.5,-1.0,0.25], \
         intercepts=[0.1], classlabels_ints=[10,20], post_transform=\"LOGISTIC\"}\nreturn y, z",
        "y, z = ai.onnx.ml.LinearClassifier(x: f32[70,3]) {coefficients=[0.5,-1.0,0.25], \
         intercepts=[0.1], classlabels_strings=[\"a\",\"b\"]}\nreturn y, z",
        "y, z = ai.onnx.ml.LinearClassifier(x: f32[90,2]) {coefficients=[1.0,2.0,-1.0,0.5,0.3,\
         0.2], intercepts=[0.1,0.2,0.3], post_transform=\"SOFTMAX\"}\nreturn y, z",
        "y, z = ai.onnx.ml.LinearClassifier(x: f32[21,2]) {coefficients=[1.0,2.0,-1.0,0.5,0.3,\
         0.2,0.7,0.1,-0.6,0.2,0.1,1.5,-0.1,0.2,0.8,0.9,1.1,0.3], post_transform=\"LOGISTIC\", \
         intercepts=[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9]}\nreturn y, z",
        "y, z = ai.onnx.ml.LinearClassifier(x: f32[5,2]) {coefficients=[1.0,2.0,-1.0,0.5], \
         intercepts=[0.1,0.7], post_transform=\"SOFTMAX_ZERO\"}\nreturn y, z",
        "y = ai.onnx.ml.LinearRegressor(x: f32[70,11]) {coefficients=[0.5,-1.0,0.25,0.1,0.2,\
         0.3,0.4,0.5,0.6,0.7,0.8], intercepts=[0.1]}\nreturn y",
        "y = ai.onnx.ml.LinearRegressor(x: f32[2]) {coefficients=[0.2,0.3,0.1,-0.4], \
         intercepts=[0.1,0.2], targets=2, post_transform=\"SOFTMAX\"}\nreturn y",
    ],
    in_place: false,
    firsts: LABELS,
    prepare,
}];

/// Sums side by side.
const LANES: usize = 8;
/// Rows that are done without looking up.
const BLOCK: usize = 1024;
/// Rows whose scores are transformed together.
const GROUP: usize = 64;

/// A number for each sum.
type Lanes = [f64; LANES];

/// What becomes of scores.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// They stay.
    Plain,
    /// One score stands for two.
    Opposed,
    Logistic,
    Softmax,
    /// As the definition has it, row by row.
    Defined,
}

/// A model made ready.
struct Model {
    op: Linear,
    columns: usize,
    /// The same, filled up to whole eights.
    padded: usize,
    /// Scores that are products.
    count: usize,
    /// Scores that are given.
    width: usize,
    /// Of each score `padded` coefficients.
    weights: Vec<f64>,
    intercepts: Vec<f64>,
    ending: Ending,
}

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Linear(op) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    is_f32(g, x).then_some(())?;
    let Type::Tensor(t) = g.ty(x) else { return None };
    let columns = t.shape.as_ref()?.last()?.as_len()?;
    Model::of(op, columns).map(|m| Box::new(m) as Box<dyn Kernel>)
}

impl Model {
    fn of(op: &Linear, columns: usize) -> Option<Self> {
        let count = op.count(columns).ok().filter(|_| columns > 0)?;
        let (numbers, width) = op.parts();
        let padded = columns.next_multiple_of(LANES);
        let mut weights = vec![0.0; count * padded];
        let lines = numbers.coefficients.chunks_exact(columns);
        for (to, from) in weights.chunks_exact_mut(padded).zip(lines) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
        }
        let intercept = |k: usize| numbers.intercepts.get(k).map_or(0.0, |b| f64::from(*b));
        let intercepts = (0..count).map(intercept).collect();
        let ending = match (numbers.post, count, width) {
            (PostTransform::Probit | PostTransform::SoftmaxZero, ..) => Ending::Defined,
            (_, 1, 2) => Ending::Opposed,
            (_, 1, _) | (PostTransform::None, ..) => Ending::Plain,
            (PostTransform::Logistic, ..) => Ending::Logistic,
            (PostTransform::Softmax, ..) => Ending::Softmax,
        };
        Some(Self { op: op.clone(), columns, padded, count, width, weights, intercepts, ending })
    }

    /// The coefficients of a score.
    #[inline(always)]
    fn line(&self, k: usize) -> &[f64] {
        &self.weights[k * self.padded..][..self.padded]
    }
}

impl Kernel for Model {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let Rows { count, width, data } = tabular::rows(&args)?;
        if width != self.columns {
            invalid!("the input has {width} columns, the model {}", self.columns);
        }
        let classifier = matches!(self.op, Linear::Classifier(..));
        let results = Results::of(classifier, self.width, &mut args)?;
        results.blockwise(count, BLOCK, |rows, mut to| {
            args.cancel.poll()?;
            let x = &data[rows.start * width..rows.end * width];
            dispatch(Block { model: self, x, to: &mut to });
            Ok(())
        })
    }
}

/// Some rows.
struct Block<'a, 'b> {
    model: &'a Model,
    x: &'a [f32],
    to: &'a mut Results<'b>,
}

impl Work for Block<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let m = self.model;
        let rows = self.x.len() / m.columns;
        let mut scores = vec![0.0; rows.min(GROUP) * m.count];
        let mut unread = vec![0.0; m.width];
        for (i, x) in self.x.chunks(GROUP * m.columns).enumerate() {
            let scores = &mut scores[..x.len() / m.columns * m.count];
            let rows = x.chunks_exact(m.columns).map(<[f32]>::as_chunks);
            let mut lasts = [[0.0; LANES]; GROUP];
            for ((_, rest), last) in rows.clone().zip(&mut lasts) {
                last[..rest.len()].copy_from_slice(rest);
            }
            for (((x, _), last), scores) in rows.zip(&lasts).zip(scores.chunks_exact_mut(m.count)) {
                row::<S>(m, x, last, scores);
            }
            let from = i * GROUP;
            match m.ending {
                Ending::Defined => defined(m, scores, from, &mut unread, self.to),
                Ending::Opposed => opposed(m, scores, from, self.to),
                _ => several(m, scores, from, self.to),
            }
        }
    }
}

/// `sum + a * b`, where the product of two `f32` is exact: rounded once either way.
#[inline(always)]
fn add_product<S: Isa>(sum: f64, a: f64, b: f64) -> f64 {
    if S::FUSED { a.mul_add(b, sum) } else { sum + a * b }
}

#[inline(always)]
fn add_products<S: Isa>(sums: &mut Lanes, x: &[f32; LANES], w: &Lanes) {
    for j in 0..LANES {
        sums[j] = add_product::<S>(sums[j], f64::from(x[j]), w[j]);
    }
}

/// The sum of eight sums.
#[inline(always)]
fn total(s: &Lanes) -> f64 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// The scores of one row: of whole eights of columns, and of the last ones, filled up with zeros.
#[inline(always)]
fn row<S: Isa>(m: &Model, x: &[[f32; LANES]], last: &[f32; LANES], scores: &mut [f64]) {
    let mut k = 0;
    while k < m.count {
        k += match m.count - k {
            4.. => some::<S, 4>(m, x, last, k, scores),
            // Some twice over, which is quicker than a few by themselves.
            _ if m.count > 4 => some::<S, 4>(m, x, last, m.count - 4, scores),
            2.. => some::<S, 2>(m, x, last, k, scores),
            _ => some::<S, 1>(m, x, last, k, scores),
        };
    }
}

/// `K` scores of one row, from score `k` on.
#[inline(always)]
fn some<S: Isa, const K: usize>(
    m: &Model,
    x: &[[f32; LANES]],
    last: &[f32; LANES],
    k: usize,
    scores: &mut [f64],
) -> usize {
    let mut lines: [&[Lanes]; K] = [&[]; K];
    let mut ends: [&[Lanes]; K] = [&[]; K];
    for i in 0..K {
        (lines[i], ends[i]) = m.line(k + i).as_chunks().0.split_at(x.len());
    }
    let mut sums = [[0.0; LANES]; K];
    for (i, x) in x.iter().enumerate() {
        for j in 0..K {
            add_products::<S>(&mut sums[j], x, &lines[j][i]);
        }
    }
    if m.columns > x.len() * LANES {
        for j in 0..K {
            add_products::<S>(&mut sums[j], last, &ends[j][0]);
        }
    }
    let intercepts = &m.intercepts[k..k + K];
    for ((s, sums), b) in scores[k..k + K].iter_mut().zip(&sums).zip(intercepts) {
        *s = total(sums) + b;
    }
    K
}

/// Ends rows one by one.
fn defined(m: &Model, scores: &mut [f64], from: usize, unread: &mut [f32], to: &mut Results<'_>) {
    for (r, scores) in scores.chunks_exact_mut(m.count).enumerate() {
        let out = to.scores(from + r).unwrap_or(unread);
        let class = m.op.finish(scores, out);
        label(m, from + r, class, to);
    }
}

#[inline(always)]
fn label(m: &Model, row: usize, class: usize, to: &mut Results<'_>) {
    if let Linear::Classifier(_, labels) = &m.op {
        to.label(row, labels, class.min(m.width - 1));
    }
}

/// Ends rows of one score that stands for two.
#[inline(always)]
fn opposed(m: &Model, scores: &mut [f64], from: usize, to: &mut Results<'_>) {
    let mut first = [0.0; GROUP];
    let mut second = [0.0; GROUP];
    let logistics = m.op.parts().0.post == PostTransform::Logistic;
    for ((first, second), s) in first.iter_mut().zip(&mut second).zip(&*scores) {
        let both = if logistics { logistic(*s) } else { (1.0 - s, *s) };
        (*first, *second) = (both.0 as f32, both.1 as f32);
    }
    for (r, s) in scores.iter().enumerate() {
        if let Some([a, b]) = to.scores(from + r) {
            (*a, *b) = (first[r], second[r]);
        }
        label(m, from + r, usize::from(*s > 0.0), to);
    }
}

/// Ends rows that give as many scores as they have.
#[inline(always)]
fn several(m: &Model, scores: &mut [f64], from: usize, to: &mut Results<'_>) {
    for (r, scores) in scores.chunks_exact_mut(m.count).enumerate() {
        let class = argmax(scores);
        let best = scores[class];
        if m.ending == Ending::Softmax {
            for s in scores {
                *s -= best;
            }
        } else if m.count == 1 {
            label(m, from + r, usize::from(best > 0.0), to);
            continue;
        }
        label(m, from + r, class, to);
    }
    match m.ending {
        Ending::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s).1),
        Ending::Softmax => softmax(scores, m.count),
        _ => {}
    }
    for (r, scores) in scores.chunks_exact(m.count).enumerate() {
        if let Some(out) = to.scores(from + r) {
            for (o, s) in out.iter_mut().zip(scores) {
                *o = *s as f32;
            }
        }
    }
}

/// The first of the greatest scores; NaN is never greater.
#[inline(always)]
fn argmax(scores: &[f64]) -> usize {
    let mut best = f64::NEG_INFINITY;
    for &s in scores {
        best = if s > best { s } else { best };
    }
    // No branch: which score is the greatest cannot be foreseen.
    let mut class = u64::MAX;
    for (k, &s) in (0..).zip(scores) {
        class = class.min(if s == best { k } else { u64::MAX });
    }
    // Where all are NaN, the first.
    if class == u64::MAX { 0 } else { class as usize }
}

/// `1 / (1 + e^x)` and `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic(x: f64) -> (f64, f64) {
    let small = 1.0 / (1.0 + exp(-x.abs()));
    let great = 1.0 - small;
    (if x > 0.0 { great } else { small }, if x < 0.0 { great } else { small })
}

/// Softmax of each row, from which its greatest score is taken away.
#[inline(always)]
fn softmax(scores: &mut [f64], each: usize) {
    for s in &mut *scores {
        *s = exp(*s);
    }
    for scores in scores.chunks_exact_mut(each) {
        let mut sum = 0.0;
        for s in &*scores {
            sum += s;
        }
        let sum = if sum > 0.0 { sum } else { 1.0 };
        for s in scores {
            *s /= sum;
        }
    }
}

/// `e^x` within `1e-9` of it, relatively; never less than `e^-700`.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding this rounds to a whole number, which the lowest bits then hold.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    const LN2: f64 = 0.693_147_180_369_123_8;
    const REST: f64 = 1.908_214_929_270_587_7e-10;
    let bounded = if x < -700.0 { -700.0 } else { x };
    let bounded = if bounded > 700.0 { 700.0 } else { bounded };
    let k = bounded * std::f64::consts::LOG2_E + WHOLE;
    let whole = k - WHOLE;
    let r = (bounded - whole * LN2) - whole * REST;
    let mut p = 1.0 / 40320.0;
    for c in [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    let y = f64::from_bits(p.to_bits().wrapping_add(k.to_bits() << 52));
    if x.is_nan() { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;
    use kiln_ir::text;

    fn model(columns: usize, scores: usize) -> Model {
        let numbers = |n: usize| {
            let n: Vec<String> = (0..n).map(|i| format!("{:.2}", (i as f64 * 1.7).sin())).collect();
            n.join(",")
        };
        let g = text::parse(&format!(
            "y = ai.onnx.ml.LinearRegressor(x: f32[N,{columns}]) {{targets={scores}, \
             coefficients=[{}], intercepts=[{}]}}\nreturn y",
            numbers(columns * scores),
            numbers(scores)
        ));
        let g = g.expect("parses");
        let op = g.nodes().find_map(|id| match g.op(id) {
            Op::Linear(op) => Model::of(op, columns),
            _ => None,
        });
        op.expect("a model")
    }

    fn bits(m: &Model, x: &[f32], level: Level) -> Vec<u32> {
        let rows = x.len() / m.columns;
        let mut out = vec![0.0; rows * m.width];
        let mut to = Results::floats(&mut out, m.width);
        level.run(Block { model: m, x, to: &mut to });
        out.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn bits_depend_neither_on_instructions_nor_on_neighbours() {
        for (columns, scores) in [(5, 1), (28, 2), (50, 15), (16, 3), (600, 5)] {
            let m = model(columns, scores);
            let x: Vec<f32> = (0..19 * columns).map(|i| (i as f32 * 0.37).cos()).collect();
            let want = bits(&m, &x, Level::Scalar);
            let exact = |r: usize, k: usize| {
                let row = x[r * columns..][..columns].iter().zip(m.line(k));
                row.map(|(x, w)| f64::from(*x) * w).sum::<f64>() + m.intercepts[k]
            };
            let far = f64::from(f32::from_bits(want[scores])) - exact(1, 0);
            assert!(far.abs() < 1e-5, "{columns} columns: {far}");
            for &level in Level::all() {
                assert_eq!(bits(&m, &x, level), want, "{columns} columns, {level:?}");
                let alone: Vec<u32> = x.chunks(columns).flat_map(|x| bits(&m, x, level)).collect();
                assert_eq!(alone, want, "{columns} columns, {level:?}, row by row");
            }
        }
    }

    #[test]
    fn exponentials() {
        for x in [-700.0, -20.5, -1e-9, 0.0, 0.3, 1.0, 300.25] {
            assert!((exp(x) / f64::exp(x) - 1.0).abs() < 1e-9, "{x}");
        }
        assert!(exp(f64::NAN).is_nan());
        assert!(exp(f64::NEG_INFINITY) < 1e-300);
        assert_eq!(logistic(0.0), (0.5, 0.5));
        assert_eq!(logistic(f64::INFINITY), (0.0, 1.0));
        assert_eq!(logistic(f64::NEG_INFINITY), (1.0, 0.0));
    }
}
