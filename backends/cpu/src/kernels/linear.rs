//! Linear models of rows.
//!
//! ```text
//! x [rows, columns] ─products▶ scores [score, row] ─ending▶ [row, score], a label per row
//! ```

mod products;

use kiln_ir::ops::linear::Linear;
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{Graph, NodeId, Op, Result, Type, invalid};

use self::products::Products;
use super::is_f32;
use super::tabular::{self, Results, Rows};
use crate::kernel::{Args, Kernel, LABELS, Row};
use crate::lanes::unturn;
use crate::simd::{Isa, Work, dispatch};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "linear_f32",
    what: "LinearClassifier and LinearRegressor: double precision, rows in lanes",
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

/// Rows that are done without looking up.
const BLOCK: usize = 1024;
/// Rows whose scores are transformed together.
const GROUP: usize = 64;

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
    products: Products,
    /// Scores that are given.
    width: usize,
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
        let (coefficients, intercepts) = (&numbers.coefficients, &numbers.intercepts);
        let products = Products::of(coefficients, columns, count, intercepts);
        let ending = match (numbers.post, count, width) {
            (PostTransform::Probit | PostTransform::SoftmaxZero, ..) => Ending::Defined,
            (_, 1, 2) => Ending::Opposed,
            (_, 1, _) | (PostTransform::None, ..) => Ending::Plain,
            (PostTransform::Logistic, ..) => Ending::Logistic,
            (PostTransform::Softmax, ..) => Ending::Softmax,
        };
        Some(Self { op: op.clone(), products, width, ending })
    }
}

impl Kernel for Model {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let Rows { count, width, data } = tabular::rows(&args)?;
        if width != self.products.columns {
            invalid!("the input has {width} columns, the model {}", self.products.columns);
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
    fn run<S: Isa>(self, isa: S) {
        let m = self.model;
        let Products { columns, count, .. } = m.products;
        let step = (self.x.len() / columns).min(GROUP).next_multiple_of(S::LANES);
        // Whole vectors of scores, too, to be turned into rows.
        let mut scores = vec![0.0; step * count.next_multiple_of(S::LANES)];
        let mut room = vec![];
        for (i, x) in self.x.chunks(GROUP * columns).enumerate() {
            m.products.run(isa, x, &mut scores, step, &mut room);
            let n = x.len() / columns;
            let mut scored = Scored { m, scores: &mut scores, n, step, from: i * GROUP };
            match m.ending {
                Ending::Defined => scored.defined(self.to),
                Ending::Opposed => scored.opposed(self.to),
                _ => scored.several(isa, &mut room, self.to),
            }
        }
    }
}

/// The scores of `n` rows, `step` apart, score by score.
struct Scored<'a> {
    m: &'a Model,
    scores: &'a mut [f64],
    n: usize,
    step: usize,
    /// The first of the rows.
    from: usize,
}

impl Scored<'_> {
    /// Ends rows one by one.
    fn defined(&mut self, to: &mut Results<'_>) {
        let mut row = vec![0.0; self.m.products.count];
        let mut unread = vec![0.0; self.m.width];
        let mut classes = [0; GROUP];
        for (r, class) in classes.iter_mut().enumerate().take(self.n) {
            let scores = self.scores.iter().skip(r).step_by(self.step);
            row.iter_mut().zip(scores).for_each(|(to, s)| *to = *s);
            let out = to.scores(self.from + r, 1).unwrap_or(&mut unread);
            *class = self.m.op.finish(&mut row, out) as u64;
        }
        self.label(&classes, to);
    }

    #[inline(always)]
    fn label(&self, classes: &[u64; GROUP], to: &mut Results<'_>) {
        if let Linear::Classifier(_, labels) = &self.m.op {
            to.label(self.from, labels, &classes[..self.n]);
        }
    }

    /// Ends rows of one score that stands for two.
    #[inline(always)]
    fn opposed(&mut self, to: &mut Results<'_>) {
        let mut both = [[0.0; 2]; GROUP];
        let mut classes = [0; GROUP];
        let logistics = self.m.op.parts().0.post == PostTransform::Logistic;
        for ((both, class), &s) in both.iter_mut().zip(&mut classes).zip(&*self.scores) {
            let (first, second) = if logistics { logistic(s) } else { (1.0 - s, s) };
            *both = [first as f32, second as f32];
            *class = u64::from(s > 0.0);
        }
        if let Some(out) = to.scores(self.from, self.n) {
            out.copy_from_slice(&both.as_flattened()[..2 * self.n]);
        }
        self.label(&classes, to);
    }

    /// Ends rows that give as many scores as they have.
    #[inline(always)]
    fn several<S: Isa>(&mut self, isa: S, room: &mut Vec<f32>, to: &mut Results<'_>) {
        let count = self.m.products.count;
        if to.has_labels() {
            let (best, mut classes) = self.best();
            if count == 1 {
                classes.iter_mut().zip(best).for_each(|(c, s)| *c = u64::from(s > 0.0));
            }
            self.label(&classes, to);
        }
        let scores = &mut self.scores[..self.step * count];
        match self.m.ending {
            Ending::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s).1),
            Ending::Softmax => self.softmax(),
            _ => {}
        }
        if let Some(out) = to.scores(self.from, self.n) {
            room.clear();
            room.extend(self.scores.iter().map(|s| *s as f32));
            unturn(isa, room, self.step, out, count);
        }
    }

    /// The greatest score of each row and the first place of it; NaN is never greater.
    #[inline(always)]
    fn best(&self) -> ([f64; GROUP], [u64; GROUP]) {
        let mut best = [f64::NEG_INFINITY; GROUP];
        let mut class = [0; GROUP];
        for (k, scores) in (0..).zip(self.of_scores()) {
            for ((best, class), &s) in best.iter_mut().zip(&mut class).zip(scores) {
                *class = if s > *best { k } else { *class };
                *best = if s > *best { s } else { *best };
            }
        }
        (best, class)
    }

    /// The rows' numbers of each score.
    #[inline(always)]
    fn of_scores(&self) -> impl Iterator<Item = &[f64]> {
        self.scores.chunks_exact(self.step).take(self.m.products.count)
    }

    /// Softmax of each row.
    #[inline(always)]
    fn softmax(&mut self) {
        let best = self.best().0;
        let mut sums = [0.0; GROUP];
        for scores in self.scores.chunks_exact_mut(self.step).take(self.m.products.count) {
            for ((s, best), sum) in scores.iter_mut().zip(&best).zip(&mut sums) {
                *s = exp(*s - best);
                *sum += *s;
            }
        }
        for sum in &mut sums {
            *sum = 1.0 / if *sum > 0.0 { *sum } else { 1.0 };
        }
        for scores in self.scores.chunks_exact_mut(self.step).take(self.m.products.count) {
            for (s, sum) in scores.iter_mut().zip(&sums) {
                *s *= sum;
            }
        }
    }
}

/// `1 / (1 + e^x)` and `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic(x: f64) -> (f64, f64) {
    let small = 1.0 / (1.0 + exp(-x.abs()));
    let great = 1.0 - small;
    (if x > 0.0 { great } else { small }, if x < 0.0 { great } else { small })
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
