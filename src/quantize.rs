//! Quantizing: a model in, a smaller model of integers or half floats out.
//!
//! ```text
//! fold ─ find layers ─ calibrate: run on samples ─ range per value ─ place ─ measure the loss
//!                                                                       └─ put layers back
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use kiln_ir::{Context, Error, Graph, NodeId, Op, Operator, Result, eval};
use kiln_passes::Sites;
use kiln_tensor::{DType, Datum};

use self::search::Search;
use crate::builder::{self, Compiled, Options};
use crate::model::Model;

mod calibrate;
mod metric;
mod range;
mod search;
mod storage;

pub use metric::Metric;
pub use range::Method;

/// What numbers become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Weights i8, activations u8, sums i32: layers are calculated in integers.
    #[default]
    Int8,
    /// Weights are stored as bf16 and calculated with in f32.
    Bf16,
    /// Weights are stored as f16 and calculated with in f32.
    F16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "int8" => Ok(Self::Int8),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(Error::invalid(format!("`{text}` is none of int8, bf16 and f16"))),
        }
    }
}

/// How a model is quantized.
#[derive(Clone, Debug)]
pub struct Quantizing {
    /// What numbers become.
    pub precision: Precision,
    /// How the ranges of activations are chosen.
    pub method: Method,
    /// Whether each output channel of the weights has a scale of its own.
    pub per_channel: bool,
    /// Whether weights alone become i8, and are calculated with in f32: no samples are needed.
    pub weights_only: bool,
    /// Layers that stay as they are, by the names of their nodes.
    pub exclude: Vec<String>,
    /// How much the outputs may lose: layers are put back until they lose no more.
    pub max_drop: Option<f64>,
    /// What is called a loss.
    pub metric: Metric,
    /// The right labels of all rows of the samples, in order.
    pub labels: Option<Vec<i64>>,
    /// Threads inside one run; 0 is one per core.
    pub threads: usize,
}

impl Default for Quantizing {
    fn default() -> Self {
        Self {
            precision: Precision::Int8,
            method: Method::MinMax,
            per_channel: true,
            weights_only: false,
            exclude: vec![],
            max_drop: None,
            metric: Metric::Cosine,
            labels: None,
            threads: 0,
        }
    }
}

/// A quantized graph, in standard operators, and what was done.
#[derive(Debug)]
pub struct Quantized {
    /// The graph.
    pub graph: Graph,
    /// The convolutions and products of the model, in order.
    pub layers: Vec<Layer>,
    /// What the outputs lose on the samples.
    pub loss: Option<f64>,
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The name of its node.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Why it stays as it is, if it does.
    pub left: Option<String>,
    /// What the outputs lose where it alone is quantized, if that was measured.
    pub loss: Option<f64>,
}

/// Quantizes a model by samples, each a value for every input in order.
pub(crate) fn quantize(
    model: &Model,
    samples: &[Vec<Datum>],
    how: &Quantizing,
) -> Result<Quantized> {
    let excluded = excluded(model, &how.exclude)?;
    match how.precision {
        Precision::Int8 if how.weights_only => weights(model, how, &excluded),
        Precision::Int8 => integers(model, samples, how, &excluded),
        Precision::Bf16 => storage::store(model.graph(), DType::BF16, &excluded),
        Precision::F16 => storage::store(model.graph(), DType::F16, &excluded),
    }
}

/// Nodes by name and by place in the file.
pub(super) struct Excluded {
    names: HashSet<String>,
    places: HashSet<u32>,
}

impl Excluded {
    fn has(&self, g: &Graph, id: NodeId) -> bool {
        let node = g.node(id);
        self.names.contains(&*node.name) || node.origin.iter().any(|i| self.places.contains(i))
    }
}

/// The nodes of these names: a layer that has swallowed one is excluded, too.
fn excluded(model: &Model, names: &[String]) -> Result<Excluded> {
    let g = model.graph();
    let mut known: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for id in g.nodes() {
        let node = g.node(id);
        known.entry(&node.name).or_default().extend(&node.origin);
    }
    let mut places = HashSet::new();
    for name in names {
        let found = known.get(name.as_str()).ok_or_else(|| {
            Error::invalid(format!("the model has no node `{name}`"))
                .help("`kiln inspect MODEL --ir` shows the names of all nodes")
        })?;
        places.extend(found);
    }
    Ok(Excluded { names: names.iter().cloned().collect(), places })
}

/// The passes that make layers larger and keep to standard operators.
const FOLDING: &[&str] = &["conv_bn", "conv_affine"];

/// The graph with everything folded into weights that can be.
fn folded(model: &Model) -> Result<Graph> {
    let others = kiln_passes::passes()
        .iter()
        .filter(|p| p.phase != "clean" && !FOLDING.contains(&p.name))
        .map(|p| p.name.to_owned())
        .collect::<Vec<_>>();
    let mut g = model.graph().clone();
    let pipeline = kiln_passes::pipeline(2, &others, model.limits())?;
    kiln_passes::run(&mut g, &pipeline)?;
    kiln_passes::rank_forests(&mut g)?;
    Ok(g)
}

fn integers(
    model: &Model,
    samples: &[Vec<Datum>],
    how: &Quantizing,
    excluded: &Excluded,
) -> Result<Quantized> {
    let g = folded(model)?;
    let sites = Sites::find(&g, &|id| !excluded.has(&g, id))?;
    let forests = forests(&g)?;
    if sites.layers().len() == 0 {
        return match forests.iter().any(|f| f.left.is_none()) {
            true => Ok(Quantized { graph: g, layers: forests, loss: None }),
            false => Err(nothing(&g, &sites, &forests)),
        };
    }
    if samples.is_empty() {
        return Err(Error::invalid("int8 needs samples: the ranges of activations are measured")
            .help("give some with --calib; --weights-only, --dtype bf16 and f16 need none"));
    }
    let runner = Runner { model, threads: how.threads };
    let ranges = calibrate::ranges(&runner, &g, &sites.values(), samples, how.method)?;
    let want = runner.run_all(g.clone(), samples)?;
    let search = Search { runner, g: &g, ranges, samples, want, how };
    let found = search.search(&sites)?;
    let mut layers = layers(&g, &found.sites, &found.back, &found.alone)?;
    layers.extend(forests);
    Ok(Quantized { graph: found.graph, layers, loss: Some(found.loss) })
}

/// Weights as integers with a scale for each layer or channel, and real numbers for all else.
fn weights(model: &Model, how: &Quantizing, excluded: &Excluded) -> Result<Quantized> {
    let g = folded(model)?;
    let sites = Sites::find(&g, &|id| !excluded.has(&g, id))?;
    let forests = forests(&g)?;
    if sites.layers().len() == 0 {
        return Err(nothing(&g, &sites, &forests));
    }
    let mut layers = layers(&g, &sites, &BTreeSet::new(), &BTreeMap::new())?;
    layers.extend(forests);
    Ok(Quantized { graph: sites.place_weights(&g, how.per_channel)?, layers, loss: None })
}

fn nothing(g: &Graph, sites: &Sites, forests: &[Layer]) -> Error {
    let left = sites.left().iter().map(|(id, why)| (g.node(*id).name.to_string(), *why));
    let forests = forests.iter().filter_map(|f| Some((f.name.clone(), f.left.as_deref()?)));
    let left = left.chain(forests).take(5).map(|(name, why)| format!("`{name}`: {why}"));
    let left: Vec<_> = left.collect();
    let why = match left.is_empty() {
        true => "it has no convolution, no product and no forest".to_owned(),
        false => left.join("; "),
    };
    Error::unsupported(format!("nothing of the model can be quantized: {why}"))
}

/// What became of the forests, in order.
fn forests(g: &Graph) -> Result<Vec<Layer>> {
    let forest = |id: NodeId| {
        let left = match g.op(id) {
            Op::RankForest(_) => None,
            Op::TreeEnsemble(_) => Some("ranks do not pay, or do not say what it asks".to_owned()),
            _ => return None,
        };
        let (name, op) = (g.node(id).name.to_string(), g.op(id).name().to_owned());
        Some(Layer { name, op, left, loss: None })
    };
    Ok(g.order()?.into_iter().filter_map(forest).collect())
}

/// What became of all layers, in order.
fn layers(
    g: &Graph,
    sites: &Sites,
    back: &BTreeSet<NodeId>,
    alone: &BTreeMap<NodeId, f64>,
) -> Result<Vec<Layer>> {
    let done: BTreeSet<_> = sites.layers().collect();
    let left: BTreeMap<_, _> = sites.left().iter().copied().collect();
    let why = |id: NodeId| match () {
        () if done.contains(&id) => Some(None),
        () if back.contains(&id) => Some(Some("the outputs would lose too much".to_owned())),
        () => left.get(&id).map(|why| Some((*why).to_owned())),
    };
    let layer = |id: NodeId| {
        let (name, op) = (g.node(id).name.to_string(), g.op(id).name().to_owned());
        Some(Layer { name, op, left: why(id)?, loss: alone.get(&id).copied() })
    };
    Ok(g.order()?.into_iter().filter_map(layer).collect())
}

/// Runs graphs that were made from a model.
pub(super) struct Runner<'a> {
    model: &'a Model,
    threads: usize,
}

impl Runner<'_> {
    /// Optimizes a graph and makes it ready to run.
    fn compile(&self, mut g: Graph) -> Result<Compiled> {
        let pipeline = kiln_passes::pipeline(3, &[], self.model.limits())?;
        kiln_passes::run(&mut g, &pipeline)?;
        let options = Options { threads: self.threads, ..Options::default() };
        builder::backend(&options)?.compile(Arc::new(g), self.model.limits())
    }

    /// Runs on a sample.
    fn run(&self, compiled: &Compiled, sample: &[Datum]) -> Result<Vec<Datum>> {
        let given = sample.iter().map(|d| d.nbytes() as u64).sum::<u64>();
        let limits = self.model.limits().within(self.model.nbytes().saturating_add(given));
        compiled.run(&Context::new(limits), sample.to_vec())
    }

    /// The outputs for all samples.
    fn run_all(&self, g: Graph, samples: &[Vec<Datum>]) -> Result<Vec<Vec<Datum>>> {
        let compiled = self.compile(g)?;
        samples.iter().map(|s| self.run(&compiled, s)).collect()
    }
}

/// Checks that a sample has a value of the right type for every input.
fn check_sample(g: &Graph, i: usize, sample: &[Datum]) -> Result<()> {
    if sample.len() != g.inputs().len() {
        kiln_ir::invalid!("sample {i} has {} inputs of {}", sample.len(), g.inputs().len());
    }
    for (v, d) in g.inputs().zip(sample) {
        eval::check_type(d, g.ty(v)).map_err(|e| {
            let name = &g.node(v.node).name;
            Error::invalid(format!("sample {i}, input `{name}`: {}", e.message()))
        })?;
    }
    Ok(())
}

/// Whether nothing reads the constant.
fn is_idle(g: &Graph, id: NodeId) -> bool {
    matches!(g.op(id), Op::Const(_)) && !g.is_read(id.first())
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;
    use kiln_tensor::Tensor;

    use super::*;

    /// Two products that share exact weights; both 0 and 255 are integers of a range up to 255.
    fn two() -> Model {
        let w = vec!["127.0"; 64].join(", ");
        let graph = format!(
            "w = f32[8,8]{{{w}}}\na = MatMul(x: f32[N,8], w)\nb = MatMul(z: f32[N,8], w)\n\
             return a, b"
        );
        let g = text::parse(&graph).expect("the test's graph parses");
        let bytes = kiln_onnx::export_bytes(&g, &BTreeMap::new()).expect("exports");
        Model::from_bytes(bytes).expect("loads")
    }

    fn row(first: f32, rest: f32) -> Datum {
        let data = std::iter::once(first).chain([rest; 7]).collect();
        Tensor::from_vec(&[1, 8], data).expect("a row").into()
    }

    /// The integers of x lose the ones beside the thousand; those of z are exact.
    fn samples() -> Vec<Vec<Datum>> {
        vec![vec![row(1000.0, 1.0), row(255.0, 0.0)], vec![row(0.0, 2.0), row(0.0, 255.0)]]
    }

    fn left(q: &Quantized) -> Vec<(&str, bool)> {
        q.layers.iter().map(|l| (l.name.as_str(), l.left.is_some())).collect()
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        for method in [Method::MinMax, Method::Percentile(99.0), Method::Entropy, Method::Mse] {
            let how = Quantizing { method, ..Quantizing::default() };
            let quantize = |s: &[Vec<Datum>]| two().quantize(s, &how).expect("quantizes");
            let (one, mut back) = (samples(), samples());
            back.reverse();
            let [a, b] = [quantize(&one), quantize(&back)].map(|q| text::print_full(&q.graph));
            assert_eq!(a, b, "{method:?}");
        }
    }

    #[test]
    fn the_worst_layer_is_put_back() {
        let mut how = Quantizing { metric: Metric::Mse, ..Quantizing::default() };
        let q = two().quantize(&samples(), &how).expect("quantizes");
        assert_eq!(left(&q), [("a", false), ("b", false)]);
        assert!(q.loss.expect("measured") > 1.0);
        how.max_drop = Some(0.0);
        let q = two().quantize(&samples(), &how).expect("quantizes");
        assert_eq!((left(&q), q.loss), (vec![("a", true), ("b", false)], Some(0.0)));
        assert_eq!(q.layers[1].loss, Some(0.0));
        assert!(q.layers[0].loss.expect("measured") > 1.0);
    }

    #[test]
    fn what_is_excluded_stays() {
        let exclude = |names: &[&str]| {
            let exclude = names.iter().map(|&n| n.to_owned()).collect();
            two().quantize(&samples(), &Quantizing { exclude, ..Quantizing::default() })
        };
        let q = exclude(&["b"]).expect("a is left");
        assert_eq!(left(&q), [("a", false), ("b", true)]);
        assert!(exclude(&["a", "b"]).expect_err("nothing is left").message().contains("excluded"));
        assert!(exclude(&["c"]).expect_err("no such node").message().contains("`c`"));
    }

    #[test]
    fn samples_must_be_there_and_fit() {
        let fails = |s: &[Vec<Datum>]| {
            let e = two().quantize(s, &Quantizing::default()).expect_err("wrong samples");
            e.message().to_owned()
        };
        assert!(fails(&[]).contains("int8 needs samples"));
        assert!(fails(&[vec![row(1.0, 1.0)]]).contains("sample 0 has 1 inputs of 2"));
        let flat = Datum::from(Tensor::vector(vec![1f32; 8]));
        assert!(fails(&[vec![row(1.0, 1.0), flat]]).contains("sample 0, input `z`"));
    }

    #[test]
    fn weights_are_stored_as_half_floats() {
        let how = Quantizing { precision: Precision::Bf16, ..Quantizing::default() };
        let q = two().quantize(&[], &how).expect("quantizes");
        let printed = text::print(&q.graph);
        assert!(printed.contains("w/stored = bf16[8,8]"), "{printed}");
        assert!(printed.contains("w/wide = Cast(w/stored)"), "{printed}");
        let how = Quantizing { exclude: vec!["a".to_owned()], ..how };
        let q = two().quantize(&[], &how).expect("quantizes");
        assert_eq!(left(&q), [("w", true)]);
    }

    #[test]
    fn weights_alone_need_no_samples() {
        let how = Quantizing { weights_only: true, ..Quantizing::default() };
        let q = two().quantize(&[], &how).expect("quantizes");
        let printed = text::print(&q.graph);
        assert!(!printed.contains("QuantizeLinear(x"), "{printed}");
        assert!(printed.contains("a/weight_int = i8[8,8]"), "{printed}");
        assert_eq!((left(&q), q.loss), (vec![("a", false), ("b", false)], None));
        let how = Quantizing { exclude: vec!["a".to_owned(), "b".to_owned()], ..how };
        assert!(two().quantize(&[], &how).expect_err("all").message().contains("excluded"));
    }

    #[test]
    fn forests_of_ranks_give_the_same_bits() {
        let file = |name: &str| format!("{}/models/forest_iris/{name}", env!("CARGO_MANIFEST_DIR"));
        let model = Model::load(file("model.onnx")).expect("loads");
        let q = model.quantize(&[], &Quantizing::default()).expect("forests need no samples");
        assert!(text::print(&q.graph).contains("ai.kiln.RankForest"));
        let npz = std::fs::read(file("inputs.npz")).expect("beside the model").into();
        let inputs = crate::npy::read_npz(&npz).expect("arrays");
        let run = |g: &Graph| {
            let inputs = inputs.iter().map(|(_, t)| t.clone().into()).collect();
            eval::run(g, &Context::default(), inputs).expect("runs")
        };
        let same = |a: &Datum, b: &Datum| {
            a.as_tensor().ok().map(|t| t.bytes().to_vec())
                == b.as_tensor().ok().map(|t| t.bytes().to_vec())
        };
        let (want, got) = (run(model.graph()), run(&q.graph));
        assert!(want.len() == got.len() && want.iter().zip(&got).all(|(a, b)| same(a, b)));
    }
}
