//! Pipelines made up from a seed: tables, what is done to their columns, and the classical models
//! that read them.

use std::sync::Arc;

use kiln_ir::{Attrs, Dim, Graph, Type, Value, text};
use kiln_tensor::{DType, Tensor};

use crate::random::Maker;

/// A graph of about `steps` steps on tables of `N` rows; the same for a seed.
///
/// What a forest or a classifier reads is not calculated by what rounds differently if rewritten,
/// so that no row stands on an edge.
pub fn graph(seed: u64, steps: usize) -> Graph {
    let mut p = Pipeline { m: Maker::new(seed), tables: vec![], ends: vec![] };
    for i in 0..p.m.random.usize(1..=2) {
        let shape = vec![Dim::sym("N"), Dim::from(p.m.random.usize(2..=4))];
        let v = p.m.g.input(&format!("x{i}"), Type::tensor(DType::F32, Some(shape)));
        p.tables.push(v);
    }
    for _ in 0..steps {
        let step = STEPS[p.m.random.usize(..STEPS.len())];
        let x = p.tables[p.m.random.usize(..p.tables.len())];
        if let Some(v) = p.m.columns(x).and_then(|n| step(&mut p, x, n)) {
            p.tables.push(v);
        }
    }
    let last = p.tables[p.tables.len() - 1];
    if let Some(n) = p.m.columns(last) {
        let _ = linear(&mut p, last, n);
    }
    p.finish()
}

/// A step reads a table of so many columns; it returns another table, or adds an end.
type Step = fn(&mut Pipeline, Value, usize) -> Option<Value>;

const STEPS: &[Step] = &[
    scaled, scaled, moved, imputed, binarized, picked, joined, linear, kernel, product, forest,
    forest, classes, voted, encoded, labelled, hot, hot, narrow, nearest, products,
];

struct Pipeline {
    m: Maker,
    tables: Vec<Value>,
    /// What nothing else reads.
    ends: Vec<Value>,
}

impl Pipeline {
    fn finish(mut self) -> Graph {
        let n = self.ends.len();
        let kept = self.ends.split_off(n - n.min(5));
        let outputs = kept.into_iter().enumerate().map(|(i, v)| (format!("y{i}").into(), v));
        self.m.g.set_outputs(outputs.collect());
        self.m.g
    }

    fn end(&mut self, v: Option<Value>) -> Option<Value> {
        self.ends.extend(v);
        None
    }

    fn number(&mut self) -> f32 {
        self.m.random.f32() * 2.0 - 1.0
    }

    fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }

    /// Factors of both signs that are not near 0.
    fn factors(&mut self, n: usize) -> Vec<f32> {
        self.numbers(n).into_iter().map(|x| x + x.signum() * 0.5).collect()
    }
}

impl Maker {
    fn columns(&self, v: Value) -> Option<usize> {
        self.shape(v)?.get(1)?.as_len()
    }
}

fn scaled(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let n = if p.m.random.bool() { n } else { 1 };
    let attrs = Attrs::default().with("offset", p.numbers(n)).with("scale", p.factors(n));
    p.m.node("ai.onnx.ml.Scaler", &[x], attrs)
}

fn moved(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let op = ["Add", "Sub", "Mul", "Div"][p.m.random.usize(..4)];
    let c = p.factors(n);
    let c = p.m.constant(Tensor::vector(c));
    p.m.plain(op, &[x, c])
}

fn imputed(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let attrs = Attrs::default().with("imputed_value_floats", p.numbers(n));
    p.m.node("ai.onnx.ml.Imputer", &[x], attrs.with("replaced_value_float", f32::NAN))
}

fn binarized(p: &mut Pipeline, x: Value, _: usize) -> Option<Value> {
    let threshold = p.number();
    p.m.node("ai.onnx.ml.Binarizer", &[x], Attrs::default().with("threshold", threshold))
}

/// Some of the columns, in another order.
fn picked(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let mut columns: Vec<i64> = (0..n as i64).collect();
    p.m.random.shuffle(&mut columns);
    columns.truncate(p.m.random.usize(1..=n));
    let columns = p.m.ints(&columns);
    match p.m.random.bool() {
        true => p.m.node("Gather", &[x, columns], Attrs::default().with("axis", 1i64)),
        false => p.m.plain("ai.onnx.ml.ArrayFeatureExtractor", &[x, columns]),
    }
}

fn joined(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let other = p.tables[p.m.random.usize(..p.tables.len())];
    if n + p.m.columns(other)? > 8 {
        return None;
    }
    match p.m.random.u8(..4) {
        0 => p.m.plain("ai.onnx.ml.FeatureVectorizer", &[x, other]),
        _ => p.m.node("Concat", &[x, other], Attrs::default().with("axis", 1i64)),
    }
}

/// The table, and beside it products of its columns.
fn products(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    if n > 6 {
        return None;
    }
    let (axes, along) = (p.m.ints(&[1]), Attrs::default().with("axis", 1i64));
    let mut columns = vec![x];
    for _ in 0..2 {
        let of = [0, 1].map(|_| p.m.random.i64(0..n as i64));
        let of = p.m.ints(&of);
        let picked = p.m.node("Gather", &[x, of], along.clone())?;
        columns.push(p.m.plain("ReduceProd", &[picked, axes])?);
    }
    p.m.node("Concat", &columns, along)
}

fn linear(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let k = p.m.random.usize(1..=3);
    let mut weights = p.numbers(n * k);
    if p.m.random.bool() {
        let column = p.m.random.usize(..n);
        (0..k).for_each(|k| weights[k * n + column] = 0.0);
    }
    let attrs = Attrs::default().with("coefficients", weights).with("intercepts", p.numbers(k));
    let y = match p.m.random.bool() {
        true => p.m.node("ai.onnx.ml.LinearRegressor", &[x], attrs.with("targets", k as i64)),
        false => {
            let labels: Vec<i64> = (0..k.max(2) as i64).collect();
            let attrs = attrs.with("classlabels_ints", labels);
            p.m.node("ai.onnx.ml.LinearClassifier", &[x], attrs).map(|v| v.node.out(1))
        }
    };
    p.end(y)
}

/// A support vector machine of a linear kernel, with a vector twice.
fn kernel(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let kind = if p.m.random.u8(..4) == 0 { "RBF" } else { "LINEAR" };
    let classes = p.m.random.usize(1..=3);
    let count = 2 * classes + 1;
    let mut vectors = p.numbers(n * count);
    vectors.copy_within(..n, n);
    let attrs = Attrs::default()
        .with("kernel_type", kind.to_owned())
        .with("kernel_params", vec![0.5f32, 0.0, 3.0])
        .with("support_vectors", vectors);
    let y = if classes == 1 {
        let attrs = attrs.with("coefficients", p.numbers(count)).with("rho", p.numbers(1));
        p.m.node("ai.onnx.ml.SVMRegressor", &[x], attrs.with("n_supports", count as i64))
    } else {
        let mut of_class = vec![2i64; classes];
        of_class[0] = 3;
        let labels: Vec<i64> = (0..classes as i64).collect();
        let attrs = attrs
            .with("coefficients", p.numbers(count * (classes - 1)))
            .with("rho", p.numbers(classes * (classes - 1) / 2))
            .with("vectors_per_class", of_class)
            .with("classlabels_ints", labels);
        let y = p.m.node("ai.onnx.ml.SVMClassifier", &[x], attrs);
        y.map(|y| if p.m.random.bool() { y } else { y.node.out(1) })
    };
    p.end(y)
}

fn product(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let k = p.m.random.usize(1..=n);
    let (w, b) = (p.m.weights(&[n, k])?, p.m.weights(&[k])?);
    let y = match p.m.random.u8(..3) {
        0 => p.m.plain("Gemm", &[x, w, b]),
        1 => p.m.plain("MatMul", &[x, w]),
        _ => {
            let y = p.m.plain("MatMul", &[x, w])?;
            p.m.plain("Add", &[y, b])
        }
    };
    p.end(y)
}

/// The attributes of trees over `columns` columns, the votes for `targets` targets.
fn trees(p: &mut Pipeline, columns: usize, targets: usize, votes: &str) -> Attrs {
    let [mut tree, mut id, mut feature, mut yes, mut no] = [(); 5].map(|()| Vec::<i64>::new());
    let (mut values, mut modes) = (Vec::<f32>::new(), Vec::<String>::new());
    let [mut vote_tree, mut vote_id, mut target] = [(); 3].map(|()| Vec::<i64>::new());
    let mut weights = Vec::<f32>::new();
    for t in 0..p.m.random.i64(1..=3) {
        // Nodes are numbered as those of a heap.
        let inner = [0i64, 1, 3, 7][p.m.random.usize(..4)];
        for i in 0..2 * inner + 1 {
            let is_leaf = i >= inner;
            tree.push(t);
            id.push(i);
            feature.push(if is_leaf { 0 } else { p.m.random.usize(..columns) as i64 });
            values.push(if is_leaf { 0.0 } else { p.number() });
            let mode = if is_leaf { "LEAF" } else { ["BRANCH_LEQ", "BRANCH_LT"][t as usize % 2] };
            modes.push(mode.to_owned());
            yes.push(if is_leaf { 0 } else { 2 * i + 1 });
            no.push(if is_leaf { 0 } else { 2 * i + 2 });
            if is_leaf {
                vote_tree.push(t);
                vote_id.push(i);
                target.push(p.m.random.usize(..targets) as i64);
                // Numbers whose sums are the same in any order, some of them often.
                weights.push(f32::from(p.m.random.u8(1..6)) / 4.0);
            }
        }
    }
    Attrs::default()
        .with("nodes_treeids", tree)
        .with("nodes_nodeids", id)
        .with("nodes_featureids", feature)
        .with("nodes_values", values)
        .with("nodes_modes", modes)
        .with("nodes_truenodeids", yes)
        .with("nodes_falsenodeids", no)
        .with(&format!("{votes}_treeids"), vote_tree)
        .with(&format!("{votes}_nodeids"), vote_id)
        .with(&format!("{votes}_ids"), target)
        .with(&format!("{votes}_weights"), weights)
}

fn regressor(p: &mut Pipeline, x: Value, n: usize, targets: usize) -> Option<Value> {
    let attrs = trees(p, n, targets, "target").with("n_targets", targets as i64);
    p.m.node("ai.onnx.ml.TreeEnsembleRegressor", &[x], attrs)
}

/// A forest over a table, perhaps with parts that it does not read.
fn forest(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let targets = p.m.random.usize(1..=2);
    let wide = if p.m.random.bool() { joined(p, x, n) } else { None };
    let y = regressor(p, wide.unwrap_or(x), n, targets);
    p.end(y)
}

fn classes(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let attrs = trees(p, n, 3, "class").with("classlabels_int64s", vec![4i64, 5, 6]);
    let y = p.m.node("ai.onnx.ml.TreeEnsembleClassifier", &[x], attrs);
    let y = y.map(|y| if p.m.random.bool() { y } else { y.node.out(1) });
    p.end(y)
}

/// The sum of two forests, or their mean as exporters write it.
fn voted(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let (a, b) = (regressor(p, x, n, 2)?, regressor(p, x, n, 2)?);
    if p.m.random.bool() {
        let y = p.m.plain("Add", &[a, b]);
        return p.end(y);
    }
    let (layer, first) = (p.m.ints(&[1, -1, 2]), p.m.ints(&[0]));
    let (a, b) = (p.m.plain("Reshape", &[a, layer])?, p.m.plain("Reshape", &[b, layer])?);
    let stacked = p.m.node("Concat", &[a, b], Attrs::default().with("axis", 0i64))?;
    let keep = Attrs::default().with("keepdims", 0i64);
    let y = p.m.node("ReduceMean", &[stacked, first], keep);
    p.end(y)
}

/// What a function makes of the leaf of a tree.
fn encoded(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let y = regressor(p, x, n, 1)?;
    let attrs = Attrs::default()
        .with("keys_floats", vec![0.25f32, 0.5, 0.75])
        .with("values_floats", vec![0.5f32, 0.25, 2.0])
        .with("default_float", 0.125f32);
    let encoded = p.m.node("ai.onnx.ml.LabelEncoder", &[y], attrs.clone())?;
    let y = match p.m.random.bool() {
        true => p.m.node("ai.onnx.ml.LabelEncoder", &[encoded], attrs),
        false => p.m.plain("Exp", &[encoded]),
    };
    p.end(y)
}

/// Labels that are one-hot encoded, perhaps beside a table, and a model that reads them.
fn hot(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let (count, mut columns) = (p.m.random.usize(1..=2), 0);
    let mut all = vec![];
    for i in 0..count {
        let name = format!("c{}_{i}", p.m.g.len());
        let ty = Type::tensor(DType::I64, Some(vec![Dim::sym("N"), 1i64.into()]));
        let labels = p.m.g.input(&name, ty);
        // Of the labels 0 to 3, some are unknown.
        let categories: Vec<i64> = (0..p.m.random.i64(2..=4)).rev().collect();
        columns += categories.len();
        let attrs = Attrs::default().with("cats_int64s", categories);
        all.push(p.m.node("ai.onnx.ml.OneHotEncoder", &[labels], attrs)?);
    }
    let side = match all[..] {
        [one] => one,
        _ => p.m.node("Concat", &all, Attrs::default().with("axis", 2i64))?,
    };
    let shape = p.m.ints(&[-1, columns as i64]);
    let mut table = p.m.plain("Reshape", &[side, shape])?;
    if p.m.random.bool() {
        table = p.m.node("Concat", &[x, table], Attrs::default().with("axis", 1i64))?;
        columns += n;
    }
    if p.m.random.bool() {
        let y = regressor(p, table, columns, 1);
        return p.end(y);
    }
    // The scores of two classes, as exporters write them.
    let one = p.numbers(columns);
    let both = one.iter().map(|x| -x).chain(one.iter().copied()).collect();
    let weights: Vec<f32> = if p.m.random.bool() { one } else { both };
    let targets = (weights.len() / columns) as i64;
    let attrs = Attrs::default().with("coefficients", weights).with("targets", targets);
    let y = p.m.node("ai.onnx.ml.LinearRegressor", &[table], attrs);
    p.end(y)
}

/// Columns that are picked from what is done to tables side by side.
fn narrow(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let wide = joined(p, x, n)?;
    let n = p.m.columns(wide)?;
    let made = match p.m.random.u8(..3) {
        0 => scaled(p, wide, n),
        1 => moved(p, wide, n),
        _ => p.m.plain("Exp", &[wide]),
    };
    let one = p.m.random.usize(..n) as i64;
    let first = p.m.ints(&[one]);
    let y = p.m.node("Gather", &[made?, first], Attrs::default().with("axis", 1i64));
    p.end(y)
}

/// The nearest rows of a table, as exporters write them.
fn nearest(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let square = match p.m.random.u8(..3) {
        0 => "y = ReduceSumSquare(d, e) {keepdims=0}",
        1 => "p = Pow(d, two)\ny = ReduceSum(p, e) {keepdims=0}",
        _ => "p = Mul(d, d)\ny = ReduceSum(p, e) {keepdims=0}",
    };
    let step = format!(
        "s: f32[a,b]\nn: f32[b]\ne = i64[1]{{1}}\ntwo = f32[]{{2.0}}\nd = Sub(s, n)\n{square}\n\
         o = Identity(s)\nreturn o, y"
    );
    let attrs = Attrs::default()
        .with("num_scan_inputs", 1i64)
        .with("body", Arc::new(text::parse(&step).ok()?));
    let table = p.numbers(5 * n);
    let table = p.m.constant(Tensor::from_vec(&[5, n], table).ok()?);
    let columns = p.m.node("Scan", &[x, table], attrs)?.node.out(1);
    let mut d = p.m.node("Transpose", &[columns], Attrs::default().with("perm", vec![1i64, 0]))?;
    if p.m.random.bool() {
        d = p.m.plain("Sqrt", &[d])?;
    }
    let k = p.m.random.i64(1..=3);
    let k = p.m.ints(&[k]);
    let y = p.m.node("TopK", &[d, k], Attrs::default().with("largest", 0i64));
    let y = y.map(|y| if p.m.random.bool() { y } else { y.node.out(1) });
    p.end(y)
}

/// The label of the greatest column, as exporters end classifiers.
fn labelled(p: &mut Pipeline, x: Value, n: usize) -> Option<Value> {
    let best = p.m.node("ArgMax", &[x], Attrs::default().with("axis", 1i64))?;
    let labels = p.m.constant(Tensor::vector((0..n as i32).rev().collect()));
    let row = p.m.plain("ai.onnx.ml.ArrayFeatureExtractor", &[labels, best])?;
    let wide = p.m.node("Cast", &[row], Attrs::default().with("to", DType::I64))?;
    let flat = p.m.ints(&[-1]);
    let y = p.m.plain("Reshape", &[wide, flat]);
    p.end(y)
}

#[cfg(test)]
mod tests {
    use kiln_ir::{Context, eval, verify};

    use super::*;
    use crate::values::inputs;

    #[test]
    fn pipelines_are_valid_and_run() {
        let mut nodes = 0;
        for seed in 0..200 {
            let g = graph(seed, 12);
            verify::verify(&g).expect("valid");
            nodes += g.len();
            let made = inputs(&g, 2, seed).expect("made");
            eval::run(&g, &Context::default(), made).unwrap_or_else(|e| panic!("{seed}: {e}"));
        }
        assert!(nodes > 200 * 12, "the steps hardly ever fit: {nodes} nodes");
    }
}
