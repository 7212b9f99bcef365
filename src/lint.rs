//! Lints: what exporters get wrong in models that are valid and run.
//!
//! ```text
//! LINTS ─ find(graph) ─ Finding      one file per lint; the bodies of nodes are searched too
//! repairs of the importer ─ Finding  nodes that break the specification
//! ```
//!
//! A lint fires only where the graph itself proves the fault: what depends on the data that a
//! model was trained on, and leaves no trace in the file, cannot be found here.

use std::sync::Arc;

use kiln_ir::{Attr, Graph, NodeId, NodeInfo, Op, Operator, Value};

use crate::Model;

mod f32_thresholds;
mod fixed_divisor;
mod gp_in_f32;
mod greatest_norm;
mod knn_weights;
mod lost_categories;
mod lost_missing;
mod lost_targets;
mod nearest_knot;
mod raw_scores;
mod sublinear_tf;
mod swapped_scores;

/// What a lint found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The lint's name.
    pub lint: &'static str,
    /// Where it fired.
    pub node: NodeInfo,
    /// What is wrong there, and what the results are.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

/// One lint.
struct Lint {
    name: &'static str,
    help: &'static str,
    /// Words, one of which the producer's name holds; none where any producer will do.
    producers: &'static [&'static str],
    /// The nodes that are wrong, and in what way.
    find: fn(&Graph) -> Vec<(NodeId, String)>,
}

const LINTS: &[Lint] = &[
    f32_thresholds::LINT,
    fixed_divisor::LINT,
    gp_in_f32::LINT,
    greatest_norm::LINT,
    knn_weights::LINT,
    lost_categories::LINT,
    lost_missing::LINT,
    lost_targets::LINT,
    nearest_knot::LINT,
    raw_scores::LINT,
    sublinear_tf::LINT,
    swapped_scores::LINT,
];

/// Looks for what exporters are known to get wrong; the findings come in the order of the nodes.
///
/// ```no_run
/// # fn main() -> Result<(), kiln::Error> {
/// for finding in kiln::lint(&kiln::Model::load("model.onnx")?) {
///     println!("{}: {}; {}", finding.lint, finding.what, finding.help);
/// }
/// # Ok(())
/// # }
/// ```
pub fn lint(model: &Model) -> Vec<Finding> {
    let mut findings = check(model.graph(), model.producer());
    findings.extend(model.repairs().iter().map(|r| Finding {
        lint: "mixed_floats",
        node: r.node.clone(),
        what: r.what.clone(),
        help: "cast in the model where types differ: other runtimes refuse it",
    }));
    findings.sort_by_key(|f| f.node.index);
    findings
}

fn check(g: &Graph, producer: &str) -> Vec<Finding> {
    let heard =
        |l: &&Lint| l.producers.is_empty() || l.producers.iter().any(|p| producer.contains(p));
    let lints: Vec<&Lint> = LINTS.iter().filter(heard).collect();
    let mut findings = search(g, &lints);
    findings.sort_by_key(|f| f.node.index);
    findings
}

/// What lints find in a graph and in the bodies of its nodes.
fn search(g: &Graph, lints: &[&Lint]) -> Vec<Finding> {
    let mut findings = vec![];
    for l in lints {
        findings.extend((l.find)(g).into_iter().map(|(node, what)| Finding {
            lint: l.name,
            node: g.info_of(node),
            what,
            help: l.help,
        }));
    }
    for id in g.nodes() {
        for f in bodies(g.op(id)).iter().flat_map(|body| search(body, lints)) {
            let holder = g.info_of(id);
            let what = format!("{} (in a body of `{}`, {})", f.what, holder.name, holder.op);
            let node = NodeInfo { index: holder.index, ..f.node };
            findings.push(Finding { node, what, ..f });
        }
    }
    findings
}

fn bodies(op: &Op) -> Vec<Arc<Graph>> {
    // The attributes of a forest are many, and no body is among them.
    if matches!(op, Op::TreeEnsemble(_)) {
        return vec![];
    }
    let body = |(_, attr): (&str, &Attr)| match attr {
        Attr::Graph(body) => Some(body.clone()),
        _ => None,
    };
    op.attrs().iter().filter_map(body).collect()
}

/// The nodes for which `wrong` knows a fault.
fn each(g: &Graph, wrong: impl Fn(NodeId) -> Option<String>) -> Vec<(NodeId, String)> {
    g.nodes().filter_map(|id| Some((id, wrong(id)?))).collect()
}

/// Input `i` of a node.
fn input(g: &Graph, id: NodeId, i: usize) -> Option<&Op> {
    g.input_of(id, i).map(|v| g.op(v.node))
}

/// The elements of a constant of numbers.
fn numbers(g: &Graph, v: Option<Value>) -> Option<Vec<f64>> {
    let t = g.constant_of(v?)?;
    (t.dtype().is_float()).then(|| t.to_vec().ok()).flatten()
}

/// The input of a node that is a constant of numbers, and the other one.
fn with_constant(g: &Graph, id: NodeId) -> Option<(Value, Vec<f64>)> {
    let (a, b) = (g.input_of(id, 0)?, g.input_of(id, 1)?);
    match numbers(g, Some(b)) {
        Some(n) => Some((a, n)),
        None => Some((b, numbers(g, Some(a))?)),
    }
}

/// What a value is made of, behind nodes that choose and arrange elements only.
fn source(g: &Graph, mut v: Value) -> Value {
    const PASS: [&str; 6] =
        ["Identity", "Cast", "Reshape", "Flatten", "Transpose", "ai.onnx.ml.ArrayFeatureExtractor"];
    while PASS.contains(&kiln_ir::Operator::name(g.op(v.node))) {
        match g.input_of(v.node, 0) {
            Some(before) => v = before,
            None => break,
        }
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCERS: &str = "skl2onnx OnnxMLTools";

    /// The lints that fire on a graph of the exporters that they watch.
    pub fn fired(text: &str) -> Vec<&'static str> {
        fired_of(text, PRODUCERS)
    }

    pub fn fired_of(text: &str, producer: &str) -> Vec<&'static str> {
        let g = kiln_ir::text::parse(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        check(&g, producer).into_iter().map(|f| f.lint).collect()
    }

    /// `v`, a regressor of equal trees: each asks (feature, threshold, whether NaN says yes) one
    /// after the other as long as the answer is yes. Leaves vote for target 0.
    pub fn forest(trees: usize, tests: &[(u32, f32, bool)], extra: &str) -> String {
        let (n, all) = (tests.len(), 2 * tests.len() + 1);
        let list = |f: &dyn Fn(usize, usize) -> String| {
            let items = (0..trees).flat_map(|t| (0..all).map(move |i| (t, i)));
            items.map(|(t, i)| f(t, i)).collect::<Vec<_>>().join(",")
        };
        let node = |i: usize, of: &dyn Fn(usize) -> String| if i < n { of(i) } else { "0".into() };
        let yes = |i: usize| if i + 1 < n { i + 1 } else { 2 * n }.to_string();
        let mode = |i| if i < n { "\"BRANCH_LEQ\"" } else { "\"LEAF\"" }.to_owned();
        let value = |i: usize| format!("{:?}", tests.get(i).map_or(0.0, |t| t.1));
        format!(
            "v = ai.onnx.ml.TreeEnsembleRegressor(x: f32[N,3]) {{nodes_treeids=[{trees}], \
             nodes_nodeids=[{ids}], nodes_featureids=[{}], nodes_values=[{}], nodes_modes=[{}], \
             nodes_truenodeids=[{}], nodes_falsenodeids=[{}], \
             nodes_missing_value_tracks_true=[{}], target_treeids=[{trees}], \
             target_nodeids=[{ids}], target_ids=[{}], target_weights=[{}]{extra}}}\n",
            list(&|_, i| node(i, &|i| tests[i].0.to_string())),
            list(&|_, i| value(i)),
            list(&|_, i| mode(i)),
            list(&|_, i| node(i, &yes)),
            list(&|_, i| node(i, &|i| (n + i).to_string())),
            list(&|_, i| node(i, &|i| u8::from(tests[i].2).to_string())),
            list(&|_, _| "0".to_owned()),
            list(&|_, _| "1.0".to_owned()),
            trees = list(&|t, _| t.to_string()),
            ids = list(&|_, i| i.to_string()),
        )
    }

    #[test]
    fn names_are_unique_and_sorted() {
        assert!(LINTS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn bodies_are_searched() {
        let text = format!(
            "c: bool[]\na: f32[N,3]\ny = If(c, a) {{captures=1, \
             then_branch=graph {{\n{}return v\n}}, \
             else_branch=graph {{\nx: f32[N,3]\nz = Neg(x)\nreturn z\n}}}}\nreturn y",
            forest(1, &[(0, 1.0, false)], ", n_targets=3"),
        );
        let g = kiln_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let [found] = &check(&g, "")[..] else { panic!("one finding") };
        assert_eq!((found.lint, &*found.node.name), ("lost_targets", "v"));
        assert!(found.what.ends_with("are constant (in a body of `y`, If)"), "{}", found.what);
    }

    #[test]
    fn a_finding_says_where_and_what_to_do() {
        let text = forest(1, &[(0, 1.0, false)], ", n_targets=2") + "return v";
        let g = kiln_ir::text::parse(&text).expect("parses");
        let [found] = &check(&g, "")[..] else { panic!("one finding") };
        assert_eq!((found.lint, &*found.node.name), ("lost_targets", "v"));
        assert_eq!(found.what, "all trees vote for target 0 of 2; the others are constant");
        assert_eq!(found.help, lost_targets::LINT.help);
    }
}
