//! Folds what happens to each column of a table into the thresholds of the trees behind.
//!
//! ```text
//! s = ai.onnx.ml.Scaler(x) {offset=o, scale=f}
//! y = ai.onnx.ml.TreeEnsembleRegressor(s) {nodes_values=t}
//!                   =>   y = ai.onnx.ml.TreeEnsembleRegressor(x) {nodes_values=t/f+o}
//! ```
//!
//! Saves a pass over the table for each `Scaler`, `Imputer`, `Binarizer`, `Cast`, sum or product
//! with constants, also where the table is one of several side by side. Exact: each of them is
//! monotone on floats, rounded as it is, so the numbers of which a node says yes are those on one
//! side of some number, which a search over all floats finds. Where NaN becomes a number, the
//! node's direction of missing values is that number's.

use kiln_ir::ops::forest::{Forest, Kind, Node, Test, TreeEnsemble, contains};
use kiln_ir::ops::preprocess::Preprocess;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::DType;

use crate::columns::{Made, made, matrix, spread};
use crate::forms::per_channel;

/// See the module.
pub struct ScalerForest;

impl Rewrite for ScalerForest {
    fn name(&self) -> &'static str {
        "scaler_forest"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::TreeEnsemble(trees) = g.op(root) else { return Ok(None) };
        let Some(table) = g.input_of(root, 0) else { return Ok(None) };
        let Some((dtype, _)) = matrix(g, table) else { return Ok(None) };
        let Some(made) = made(g, table, &step, join) else { return Ok(None) };
        let Some(from) = made.dtype(g) else { return Ok(None) };
        let wide = precision(trees, from, dtype)?;
        let e = trees.ensemble();
        let mut forest = e.forest.clone();
        forest.wide = wide;
        for node in &mut forest.nodes {
            *node = moved(*node, &e.forest, &made.each[node.feature as usize], from)?;
        }
        let trees = trees
            .with_forest(forest, &e.base)
            .map_err(|_| Decline::new("the thresholds are not of the precision of the model"))?;
        Ok(Some(replaced(g, root, &made, trees)))
    }
}

/// The same outputs, of the table before.
fn replaced<F>(g: &Graph, root: NodeId, made: &Made<F>, trees: TreeEnsemble) -> Edit {
    let mut e = Edit::default();
    let x = made.source(&mut e);
    let y = e.node(trees, &[Some(x)]);
    g.outputs_of(root).for_each(|v| e.replace(v, y.slot(v.slot())));
    e
}

/// Whether the scores are summed in double precision, which must stay so.
fn precision(trees: &TreeEnsemble, from: DType, to: DType) -> Result<bool, Decline> {
    let e = trees.ensemble();
    let summed_wide = e.forest.wide || to == DType::F64;
    if from != to && e.kind == Kind::Scores {
        return Err(Decline::new("the scores are of the type of the table"));
    }
    if from == DType::F64 && !summed_wide {
        return Err(Decline::new("the scores would be summed in double precision")
            .advise("export the trees with thresholds in double precision"));
    }
    Ok(summed_wide)
}

/// What happens to the numbers of one column.
#[derive(Clone, Copy)]
enum Each {
    Same,
    /// `(x - .0) * .1`, rounded to single precision.
    Scaled(f64, f64),
    /// `.0` becomes `.1`.
    Imputed(f64, f64),
    /// 1 above it, else 0.
    Above(f64),
    /// In the precision of the column.
    Add(f64),
    Sub(f64),
    From(f64),
    Mul(f64),
    Div(f64),
    /// Rounded to single precision.
    Single,
}

impl Each {
    /// The number that `x` becomes in a column of type `dtype`.
    fn of(self, x: f64, dtype: DType) -> f64 {
        let round = |y: f64| if dtype == DType::F32 { f64::from(y as f32) } else { y };
        // Of two singles, the double rounds to the single.
        match self {
            Each::Same => x,
            Each::Scaled(offset, scale) => f64::from(((x - offset) * scale) as f32),
            Each::Imputed(old, new) if x == old || x.is_nan() && old.is_nan() => new,
            Each::Imputed(..) => x,
            Each::Above(t) => f64::from(u8::from(x > t)),
            Each::Add(c) => round(x + c),
            Each::Sub(c) => round(x - c),
            Each::From(c) => round(c - x),
            Each::Mul(c) => round(x * c),
            Each::Div(c) => round(x / c),
            Each::Single => f64::from(x as f32),
        }
    }

    /// Whether it keeps or turns the order of all numbers and makes NaN of none.
    fn is_monotone(self) -> bool {
        let finite = |c: f64| c.is_finite();
        match self {
            Each::Scaled(o, s) => finite(o) && finite(s) && s != 0.0,
            Each::Imputed(old, _) => old.is_nan(),
            Each::Mul(c) | Each::Div(c) => finite(c) && c != 0.0,
            Each::Add(c) | Each::Sub(c) | Each::From(c) => finite(c),
            Each::Same | Each::Above(_) | Each::Single => true,
        }
    }
}

fn join(parts: Vec<(Option<Vec<Each>>, usize)>) -> Vec<Each> {
    parts.into_iter().flat_map(|(each, n)| each.unwrap_or(vec![Each::Same; n])).collect()
}

/// One node that does something to every column.
fn step(g: &Graph, v: Value, columns: usize) -> Option<(Value, Vec<Each>)> {
    let is_float = |d| matches!(d, DType::F32 | DType::F64);
    let of = |i: usize| {
        let x = g.input_of(v.node, i)?;
        matrix(g, x).filter(|(d, n)| is_float(*d) && *n == columns).map(|m| (x, m.0))
    };
    let zip = |a: Vec<f64>, b: Vec<f64>, f: fn(f64, f64) -> Each| {
        a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect()
    };
    match g.op(v.node) {
        Op::Preprocess(Preprocess::Scaler(s)) => {
            let (offset, scale) =
                (spread(&s.offset, 0.0, columns)?, spread(&s.scale, 1.0, columns)?);
            Some((of(0)?.0, zip(offset, scale, Each::Scaled)))
        }
        Op::Preprocess(Preprocess::Imputer(i)) if !i.floats.is_empty() => {
            let old = vec![f64::from(i.replaced_float); columns];
            Some((of(0)?.0, zip(old, spread(&i.floats, 0.0, columns)?, Each::Imputed)))
        }
        Op::Preprocess(Preprocess::Binarizer(t)) => {
            Some((of(0)?.0, vec![Each::Above(f64::from(*t)); columns]))
        }
        op if op.name() == "Cast" => match matrix(g, v)?.0 {
            DType::F32 => Some((of(0)?.0, vec![Each::Single; columns])),
            DType::F64 => Some((of(0)?.0, vec![Each::Same; columns])),
            _ => None,
        },
        op => {
            let turned = g.constant_of(g.input_of(v.node, 0)?).is_some();
            let c = g.constant_of(g.input_of(v.node, usize::from(!turned))?)?;
            let c = per_channel(c, columns, 1, 2)?;
            let each: fn(f64) -> Each = match op.name() {
                "Add" => Each::Add,
                "Mul" => Each::Mul,
                "Sub" if turned => Each::From,
                "Sub" => Each::Sub,
                "Div" if !turned => Each::Div,
                _ => return None,
            };
            Some((of(usize::from(turned))?.0, c.into_iter().map(each).collect()))
        }
    }
}

fn says_yes(node: &Node, forest: &Forest, x: f64) -> bool {
    match node.test {
        _ if x.is_nan() && node.missing => true,
        Test::Leq(t) => x <= t,
        Test::Lt(t) => x < t,
        Test::Geq(t) => x >= t,
        Test::Gt(t) => x > t,
        Test::Eq(t) => x == t,
        Test::Neq(t) => x != t,
        Test::Member(set) => contains(forest.sets.at(set as usize), x),
    }
}

/// A node that says of `x` what the old one says of what becomes of it.
fn moved(node: Node, forest: &Forest, each: &Each, dtype: DType) -> Result<Node, Decline> {
    let asks = |y: f64| says_yes(&node, forest, y);
    if matches!(each, Each::Same) {
        return Ok(node);
    }
    if let Each::Imputed(old, new) = *each {
        if !old.is_nan() {
            // The old number goes the way of the new one, or its way would be one of its own.
            return match asks(old) == asks(new) {
                true => Ok(node),
                false => Err(Decline::new("a number is replaced, not NaN")),
            };
        }
        return filled(node, asks(new));
    }
    if !each.is_monotone() {
        return Err(Decline::new("a factor is 0, or a constant is not finite"));
    }
    let yes = |x: f64| asks(each.of(x, dtype));
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    let test = match (node.test, yes(low), yes(high)) {
        (Test::Eq(_) | Test::Neq(_) | Test::Member(_), ..) => {
            return Err(Decline::new("a node asks whether a number equals another one"));
        }
        (_, true, true) => Test::Leq(high),
        (_, false, false) => Test::Lt(low),
        (_, true, false) => Test::Leq(last(dtype, yes)),
        (_, false, true) => Test::Gt(last(dtype, |x| !yes(x))),
    };
    let node = Node { test, ..node };
    let of_nan = each.of(f64::NAN, dtype);
    if of_nan.is_nan() { Ok(node) } else { filled(node, asks(of_nan)) }
}

/// The same node, but NaN is led to yes or to no.
fn filled(node: Node, yes: bool) -> Result<Node, Decline> {
    match (node.test, yes) {
        (Test::Neq(_), false) => Err(Decline::new("a node says of NaN that it is another number")),
        _ => Ok(Node { missing: yes, ..node }),
    }
}

/// The last float of which `holds` is true, where it is true of the lowest ones only: of negative
/// infinity, and not of infinity.
fn last(dtype: DType, holds: impl Fn(f64) -> bool) -> f64 {
    let single = dtype == DType::F32;
    // Floats by their order: those with a sign come first, the greatest number first.
    let at = |i: u64| match single {
        true => {
            let i = i as u32;
            let bits = if i >> 31 == 1 { i & (u32::MAX >> 1) } else { !i };
            f64::from(f32::from_bits(bits))
        }
        false => f64::from_bits(if i >> 63 == 1 { i & (u64::MAX >> 1) } else { !i }),
    };
    let place = |x: f64| match single {
        true => {
            let bits = (x as f32).to_bits();
            u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
        }
        false => {
            let bits = x.to_bits();
            if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
        }
    };
    let (mut low, mut high) = (place(f64::NEG_INFINITY), place(f64::INFINITY));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(at(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use kiln_ir::{Context, eval, rewrite, text};
    use kiln_tensor::{Datum, Tensor};

    use super::*;
    use crate::testing::check;

    /// Trees of one node each over columns 0 and 1 in turn, whose leaves tell all answers apart.
    fn trees(tests: &[(&str, f64)], tracks: i64) -> String {
        let list = |f: &dyn Fn(usize, usize) -> String| {
            let all = (0..3 * tests.len()).map(|i| f(i / 3, i % 3)).collect::<Vec<_>>();
            format!("[{}]", all.join(","))
        };
        let inner = |i: usize, s: String, leaf: &str| if i == 0 { s } else { leaf.to_owned() };
        format!(
            "{{nodes_treeids={}, nodes_nodeids={}, nodes_featureids={}, nodes_values={}, \
             nodes_modes={}, nodes_truenodeids={}, nodes_falsenodeids={}, \
             nodes_missing_value_tracks_true={}, target_treeids={}, target_nodeids={}, \
             target_ids={}, target_weights={}}}",
            list(&|t, _| t.to_string()),
            list(&|_, i| i.to_string()),
            list(&|t, i| inner(i, (t % 2).to_string(), "0")),
            list(&|t, i| inner(i, format!("{:?}", tests[t].1 as f32), "0.0")),
            list(&|t, i| format!("{:?}", inner(i, format!("BRANCH_{}", tests[t].0), "LEAF"))),
            list(&|_, i| inner(i, "1".to_owned(), "0")),
            list(&|_, i| inner(i, "2".to_owned(), "0")),
            list(&|_, i| inner(i, tracks.to_string(), "0")),
            list(&|t, _| t.to_string()),
            list(&|_, i| i.to_string()),
            list(&|_, _| "0".to_owned()),
            list(&|t, i| format!("{:.1}", if i == 1 { f64::from(1 << t) } else { 0.0 })),
        )
    }

    fn scores(g: &Graph, x: &Tensor) -> Vec<f32> {
        let y = eval::run(g, &Context::default(), vec![Datum::Tensor(x.clone())]).expect("runs");
        y[0].as_tensor().expect("a tensor").to_vec().expect("floats")
    }

    /// Numbers around a threshold, and special ones.
    fn around(t: f64, dtype: DType) -> Vec<f64> {
        let mut all = vec![t, 0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0, -1.0];
        let (mut up, mut down) = (t, t);
        for _ in 0..40 {
            (up, down) = match dtype {
                DType::F32 => ((up as f32).next_up().into(), (down as f32).next_down().into()),
                _ => (up.next_up(), down.next_down()),
            };
            all.extend([up, down]);
        }
        all.extend([f64::from(f32::MAX), f64::from(f32::MIN), 1e-40, -1e-45]);
        all
    }

    const STEPS: &[&str] = &[
        "s = ai.onnx.ml.Scaler(X) {offset=[0.3,-1000.0], scale=[0.7,-0.001]}",
        "s = ai.onnx.ml.Scaler(X) {scale=[1e-30,1e30]}",
        "s = ai.onnx.ml.Binarizer(X) {threshold=0.25}",
        "s = ai.onnx.ml.Imputer(X) {replaced_value_float=nan, imputed_value_floats=[0.5,-3.0]}",
        "c = T[2]{0.1, -7.0}\ns = Sub(X, c)",
        "c = T[2]{0.1, -7.0}\ns = Sub(c, X)",
        "c = T[2]{0.1, 1e20}\ns = Add(X, c)",
        "c = T[2]{0.1, -7.0}\ns = Mul(c, X)",
        "c = T[2]{0.1, -3e-3}\ns = Div(X, c)",
    ];

    #[test]
    fn every_float_goes_where_it_went() {
        let tests: Vec<_> = ["LEQ", "LT", "GTE", "GT"]
            .into_iter()
            .flat_map(|mode| [0.0, 0.5, -1.3, 1e9, f64::INFINITY].map(|t| (mode, t)))
            .collect();
        for (step, dtype, tracks) in STEPS
            .iter()
            .flat_map(|s| [(s, DType::F32, 0), (s, DType::F32, 1), (s, DType::F64, 1)])
            // A scaler gives singles, whatever it gets.
            .filter(|(s, dtype, _)| *dtype == DType::F32 || !s.contains("Scaler"))
        {
            let name = if dtype == DType::F32 { "f32" } else { "f64" };
            let step = step.replace('T', name).replace('X', &format!("x: {name}[N,2]"));
            for tests in tests.chunks(10) {
                let trees = trees(tests, tracks);
                let t =
                    format!("{step}\ny = ai.onnx.ml.TreeEnsembleRegressor(s) {trees}\nreturn y");
                let before = text::parse(&t).expect(&t);
                let mut after = before.clone();
                let order = after.order().expect("no cycle");
                let outcome =
                    rewrite::run(&mut after, &ScalerForest, &order, 0, &mut ()).expect("sound");
                assert_eq!(outcome.patches.len(), 1, "{t}");
                let new = after.nodes().find_map(|n| match after.op(n) {
                    Op::TreeEnsemble(e) => Some(e.ensemble().forest.nodes.clone()),
                    _ => None,
                });
                for node in new.expect("the trees") {
                    let (Test::Leq(t) | Test::Lt(t) | Test::Gt(t) | Test::Geq(t)) = node.test
                    else {
                        panic!("{node:?}")
                    };
                    let x = around(t, dtype);
                    let x: Vec<f64> = x.iter().flat_map(|x| [*x, *x]).collect();
                    let shape = [x.len() / 2, 2];
                    let x = match dtype {
                        DType::F32 => {
                            Tensor::from_vec(&shape, x.iter().map(|x| *x as f32).collect())
                        }
                        _ => Tensor::from_vec(&shape, x),
                    };
                    let x = x.expect("a table");
                    assert_eq!(scores(&before, &x), scores(&after, &x), "{t}: {node:?}");
                }
            }
        }
    }

    #[test]
    fn folds_a_part_of_the_table() {
        let t = format!(
            "s = ai.onnx.ml.Scaler(x: f32[N,1]) {{offset=[1.0], scale=[-2.0]}}\n\
             t = Concat(s, z: f32[N,1]) {{axis=1}}\n\
             y = ai.onnx.ml.TreeEnsembleRegressor(t) {}\nreturn y",
            trees(&[("LEQ", 3.0), ("LEQ", 3.0)], 0)
        );
        check(
            &ScalerForest,
            &t,
            expect![[r#"
                x: f32[N,1]
                z: f32[N,1]
                y/scaler_forest0 = Concat(x, z) {axis=1}
                y = ai.onnx.ml.TreeEnsembleRegressor(y/scaler_forest0) {n_targets=1,
                    nodes_falsenodeids=[2,0,0,2,0,0], nodes_featureids=[0,0,0,1,0,0],
                    nodes_missing_value_tracks_true=[0,0,0,0,0,0], nodes_modes=["BRANCH_GT","LEAF",
                    "LEAF","BRANCH_LEQ","LEAF","LEAF"], nodes_nodeids=[0,1,2,0,1,2],
                    nodes_treeids=[0,0,0,1,1,1], nodes_truenodeids=[1,0,0,1,0,0],
                    nodes_values=[-0.5000001,0.0,0.0,3.0,0.0,0.0], target_ids=[0,0,0,0],
                    target_nodeids=[1,2,1,2], target_treeids=[0,0,1,1], target_weights=[1.0,0.0,2.0,
                    0.0]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_has_no_threshold() {
        let of = |step: &str, x: &str, test: (&str, f64)| {
            format!(
                "s = ai.onnx.ml.{}\ny = ai.onnx.ml.TreeEnsembleRegressor(s) {}\nreturn y",
                step.replace('X', x),
                trees(&[test, test], 0)
            )
        };
        let table = "x: f32[N,2]";
        let equality = of("Scaler(X) {scale=[2.0]}", table, ("EQ", 3.0));
        check(
            &ScalerForest,
            &equality,
            expect![[r#"
            (unchanged)
            # scaler_forest @ y: a node asks whether a number equals another one
        "#]],
        );
        let zero = of("Scaler(X) {scale=[0.0]}", table, ("LEQ", 3.0));
        check(
            &ScalerForest,
            &zero,
            expect![[r#"
            (unchanged)
            # scaler_forest @ y: a factor is 0, or a constant is not finite
        "#]],
        );
        let number = "Imputer(X) {replaced_value_float=1.0, imputed_value_floats=[5.0]}";
        check(
            &ScalerForest,
            &of(number, table, ("LEQ", 3.0)),
            expect![[r#"
            (unchanged)
            # scaler_forest @ y: a number is replaced, not NaN
        "#]],
        );
        let nan = "Imputer(X) {replaced_value_float=nan, imputed_value_floats=[3.0]}";
        check(
            &ScalerForest,
            &of(nan, table, ("NEQ", 3.0)),
            expect![[r#"
            (unchanged)
            # scaler_forest @ y: a node says of NaN that it is another number
        "#]],
        );
        let wide = of("Scaler(X) {scale=[2.0]}", "x: f64[N,2]", ("LEQ", 3.0));
        check(
            &ScalerForest,
            &wide,
            expect![[r#"
            (unchanged)
            # scaler_forest @ y: the scores would be summed in double precision
        "#]],
        );
    }
}
