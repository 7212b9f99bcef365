//! Linear models of rows.
//!
//! ```text
//! x [rows, columns] ─products▶ scores [score, row] ─ending▶ [row, score], a label per row
//! ```

mod products;

use kiln_ir::ops::linear::Linear;
use kiln_ir::ops::scores::{Labels, PostTransform};
use kiln_ir::{Graph, NodeId, Op, Result, Type, invalid};

use self::products::Products;
use super::endings::{Ending, Endings, GROUP, Pick, Scores};
use super::is_f32;
use super::tabular::{self, Results, Rows};
use crate::kernel::{Args, Kernel, LABELS, Row};
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

/// A model made ready.
struct Model {
    op: Linear,
    products: Products,
    /// Scores that are given.
    width: usize,
    /// `None`: as the definition has it, row by row.
    ending: Option<Ending>,
    pick: Pick,
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
        let ending = match (count, width) {
            (1, 2) => Ending::opposed(numbers.post, true).filter(|_| !zeroes(numbers.post)),
            _ => Ending::of(numbers.post, count),
        };
        let pick = if count == 1 { Pick::Above(0, 0.0) } else { Pick::Greatest };
        Some(Self { op: op.clone(), products, width, ending, pick })
    }
}

/// Whether a transform looks for scores that are 0.
fn zeroes(post: PostTransform) -> bool {
    post == PostTransform::SoftmaxZero
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
        let mut data = vec![0.0; step * count.next_multiple_of(S::LANES)];
        let mut room = vec![];
        let labels = match &m.op {
            Linear::Classifier(_, labels) => Some(labels),
            Linear::Regressor(..) => None,
        };
        for (i, x) in self.x.chunks(GROUP * columns).enumerate() {
            m.products.run(isa, x, &mut data, step, &mut room);
            let n = x.len() / columns;
            let mut scores = Scores { data: &mut data, count, n, step, from: i * GROUP };
            match m.ending {
                Some(ending) => {
                    let how = Endings { ending, pick: m.pick, labels };
                    scores.end(isa, how, &mut room, self.to);
                }
                None => defined(m, &scores, labels, self.to),
            }
        }
    }
}

/// Ends rows one by one.
fn defined(m: &Model, scores: &Scores<'_>, labels: Option<&Labels>, to: &mut Results<'_>) {
    let mut row = vec![0.0; scores.count];
    let mut unread = vec![0.0; m.width];
    for r in 0..scores.n {
        let of_row = scores.data.iter().skip(r).step_by(scores.step);
        row.iter_mut().zip(of_row).for_each(|(to, s)| *to = *s);
        let out = to.scores(scores.from + r, 1).unwrap_or(&mut unread);
        let class = m.op.finish(&mut row, out) as u64;
        if let Some(labels) = labels {
            to.label(scores.from + r, labels, &[class]);
        }
    }
}
