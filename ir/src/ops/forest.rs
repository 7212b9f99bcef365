//! Ensembles of decision trees: rows walk down every tree, leaves vote, votes are summed.
//!
//! ```text
//! score[t] = aggregate over trees of the votes for t of the leaf that x reaches, + base[t]
//! y        = post_transform(score)
//! ```
//!
//! Every version of every ONNX operator becomes one [`Forest`]; kernels read nothing else of the
//! trees.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kiln_tensor::{DType, Datum, Scalar, Tensor, match_float};

use self::score::Scored;
use super::scores::{Labels, PostTransform, table};
use crate::eval::tensor;
use crate::{
    Attr, AttrValue, Attrs, Context, Error, Fact, Infer, Operator, Result, Schema, attr_enum,
    invalid,
};

pub mod canonical;
mod ids;
mod ranks;
mod read;
mod score;
mod sets;
mod write;

pub use canonical::{Forest, Lists, Next, Node, Test, Vote};
pub use ranks::{RankForest, Ranks};
pub use score::Votes;
pub use sets::contains;

/// An ensemble of trees.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEnsemble(Arc<Ensemble>);

/// What an ensemble computes.
#[derive(Debug, PartialEq)]
pub struct Ensemble {
    /// The trees.
    pub forest: Forest,
    /// How the votes of the trees become one score.
    pub aggregate: Aggregate,
    /// What becomes of the scores of a row.
    pub post: PostTransform,
    /// What is added to the scores: nothing, or a number per target.
    pub base: Vec<f64>,
    /// What is made of the scores.
    pub kind: Kind,
    /// The attributes that it came from.
    attrs: Attrs,
}

/// What an ensemble makes of its scores.
#[derive(Debug, PartialEq)]
pub enum Kind {
    /// Single-precision scores (`TreeEnsembleRegressor`).
    Regressor,
    /// Scores in the type of the input (`TreeEnsemble`).
    Scores,
    /// Labels, and single-precision scores (`TreeEnsembleClassifier`).
    Classifier {
        /// One label per class.
        labels: Labels,
        /// How two classes get their scores.
        pair: Pair,
    },
}

/// How two classes get their scores and their label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Each has its own, or there are not two; the greater one wins.
    Own,
    /// All votes are for class 0 but speak of class 1: its score is `s`, that of class 0 is
    /// `1 - s` or, where a weight is negative, `-s`. Class 1 wins above 0.5 or above 0.
    Opposed {
        /// Whether no weight is negative.
        positive: bool,
    },
    /// All votes are for class 1; class 0 has score 0. Class 1 wins above 0.5 or above 0.
    Second {
        /// Whether no weight is negative.
        positive: bool,
    },
}

attr_enum! {
    /// How the votes of the trees become one score.
    pub enum Aggregate {
        /// Their sum by the number of trees.
        Average = "AVERAGE",
        /// Their sum.
        Sum = "SUM",
        /// The least vote.
        Min = "MIN",
        /// The greatest vote.
        Max = "MAX",
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema {
        name: "ai.onnx.ml.TreeEnsembleClassifier",
        since: 1,
        build: |b| Ok(Ensemble::classifier(std::mem::take(&mut b.attrs))?.into()),
    },
    Schema {
        name: "ai.onnx.ml.TreeEnsembleRegressor",
        since: 1,
        build: |b| Ok(Ensemble::regressor(std::mem::take(&mut b.attrs))?.into()),
    },
    Schema {
        name: "ai.onnx.ml.TreeEnsemble",
        since: 5,
        build: |b| Ok(Ensemble::scores(std::mem::take(&mut b.attrs))?.into()),
    },
    ranks::SCHEMA,
];

/// Reads a string attribute as an enum.
fn word<T: AttrValue>(attrs: &Attrs, name: &str, default: T) -> Result<T> {
    let mut one = Attrs::default();
    if let Some(a) = attrs.get(name) {
        one.set(name, a.clone());
    }
    Ok(one.take(name)?.unwrap_or(default))
}

impl Ensemble {
    fn classifier(attrs: Attrs) -> Result<TreeEnsemble> {
        let labels = Labels::read(&attrs, "classlabels_int64s", "classlabels_strings")?;
        let mut forest = read::read_v1(&attrs, "class")?;
        if labels.is_empty() {
            return Err(unlabelled(forest.targets));
        }
        let pair = Pair::of(&forest, labels.len());
        let base = read::Numbers::read(&attrs, "base_values", "base_values_as_tensor")?;
        let values = match base.values[..] {
            // One base for two classes belongs to the score that the votes are for.
            [b] if labels.len() == 2 && matches!(pair, Pair::Second { .. }) => vec![0.0, b],
            [b] if labels.len() == 2 => vec![b, 0.0],
            _ => base.values,
        };
        forest.wide |= base.wide;
        forest.targets = labels.len();
        let kind = Kind::Classifier { labels, pair };
        Self::assemble(forest, Aggregate::Sum, values, kind, attrs)
    }

    fn regressor(attrs: Attrs) -> Result<TreeEnsemble> {
        let mut forest = read::read_v1(&attrs, "target")?;
        let base = read::Numbers::read(&attrs, "base_values", "base_values_as_tensor")?;
        forest.wide |= base.wide;
        forest.targets = targets(&attrs, &forest)?;
        if forest.targets == 1 {
            // A leaf that names the only target again and again votes once, with the first weight:
            // the specification says nothing of it, ONNX Runtime does so, and skl2onnx counts on it
            // where the trees of a classifier are to give the places of their leaves (it repeats
            // the place once per class). With more targets, and in a classifier, all votes count.
            forest.leaves = forest.leaves.firsts();
        }
        let aggregate = word(&attrs, "aggregate_function", Aggregate::Sum)?;
        Self::assemble(forest, aggregate, base.values, Kind::Regressor, attrs)
    }

    fn scores(attrs: Attrs) -> Result<TreeEnsemble> {
        let mut forest = read::read_v5(&attrs)?;
        forest.targets = targets(&attrs, &forest)?;
        let aggregate = match read::int(&attrs, "aggregate_function")?.unwrap_or(1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => invalid!("aggregate_function {other} is none of 0 to 3"),
        };
        Self::assemble(forest, aggregate, vec![], Kind::Scores, attrs)
    }

    fn assemble(
        forest: Forest,
        aggregate: Aggregate,
        base: Vec<f64>,
        kind: Kind,
        mut attrs: Attrs,
    ) -> Result<TreeEnsemble> {
        let post = match kind {
            Kind::Scores => {
                PostTransform::from_code(read::int(&attrs, "post_transform")?.unwrap_or(0))?
            }
            _ => word(&attrs, "post_transform", PostTransform::None)?,
        };
        if !base.is_empty() && base.len() != forest.targets {
            invalid!("base_values has {} elements for {} targets", base.len(), forest.targets);
        }
        // How often a node was hit in training says nothing of what it computes.
        let _ = attrs.take::<Vec<f32>>("nodes_hitrates");
        let _ = attrs.take::<Tensor>("nodes_hitrates_as_tensor");
        let _ = attrs.take::<Tensor>("nodes_hitrates");
        let forest = Forest::new(forest)?;
        Ok(TreeEnsemble(Arc::new(Ensemble { forest, aggregate, post, base, kind, attrs })))
    }
}

impl Ensemble {
    /// The same with other trees, which it is not made to read out of the attributes again.
    fn regrown(&self, mut forest: Forest, attrs: Attrs) -> Result<TreeEnsemble> {
        if self.kind == Kind::Regressor && forest.targets == 1 {
            forest.leaves = forest.leaves.firsts();
        }
        let kind = match &self.kind {
            Kind::Regressor => Kind::Regressor,
            Kind::Scores => Kind::Scores,
            Kind::Classifier { labels, .. } => {
                let pair = Pair::of(&forest, labels.len());
                Kind::Classifier { labels: labels.clone(), pair }
            }
        };
        if kind != self.kind {
            invalid!("the operator gives these trees another meaning");
        }
        let attrs = match kind {
            Kind::Regressor => write::write_v1(&forest, "target", attrs)?,
            Kind::Scores => write::write_v5(&forest, attrs)?,
            Kind::Classifier { .. } => write::write_v1(&forest, "class", attrs)?,
        };
        let (aggregate, post, base) = (self.aggregate, self.post, self.base.clone());
        Ok(TreeEnsemble(Arc::new(Ensemble { forest, aggregate, post, base, kind, attrs })))
    }

    /// Whether trees of another shape or other votes show at a glance that two are not equal.
    fn differs(&self, other: &Self) -> bool {
        let (a, b) = (&self.forest, &other.forest);
        let (u, v) = (a.leaves.items(), b.leaves.items());
        let nodes = || a.nodes.iter().zip(&b.nodes);
        (a.nodes.len(), u.len()) != (b.nodes.len(), v.len())
            || nodes().any(|(a, b)| (a.feature, a.yes, a.no) != (b.feature, b.yes, b.no))
            || u.iter().zip(v).any(|(u, v)| u.weight.to_bits() != v.weight.to_bits())
    }
}

/// CatBoost writes regressors of several targets as classifiers of no classes.
fn unlabelled(votes: usize) -> Error {
    Error::invalid(format!(
        "TreeEnsembleClassifier has no labels: `classlabels_int64s` and `classlabels_strings` \
         are empty, its leaves vote for {votes} classes"
    ))
    .help(
        "export a regressor of several targets (CatBoost: MultiRMSE) as one model per target; \
         give a classifier its labels",
    )
}

/// The number of targets, by default those that a leaf votes for.
fn targets(attrs: &Attrs, forest: &Forest) -> Result<usize> {
    match read::int(attrs, "n_targets")? {
        None => Ok(forest.targets.max(1)),
        Some(n) => match usize::try_from(n) {
            Ok(n) if n > 0 => Ok(n),
            _ => invalid!("n_targets is {n}"),
        },
    }
}

impl Pair {
    fn of(forest: &Forest, classes: usize) -> Self {
        let votes = forest.leaves.items();
        let positive = votes.iter().all(|v| v.weight >= 0.0);
        match votes.first() {
            Some(v) if classes == 2 && votes.iter().all(|w| w.target == v.target) => {
                if v.target == 0 { Pair::Opposed { positive } } else { Pair::Second { positive } }
            }
            _ => Pair::Own,
        }
    }
}

impl TreeEnsemble {
    /// Whether two are not equal at a glance; where not, their attributes tell.
    pub fn differs(&self, other: &Self) -> bool {
        self.0.differs(&other.0)
    }

    /// The ensemble, shared by all clones.
    pub fn ensemble(&self) -> &Ensemble {
        &self.0
    }

    /// A regressor whose trees are summed, from numbers to begin with or from zeros.
    ///
    /// An error where a number is not of the precision of the forest.
    pub fn regressor(forest: Forest, base: &[f64]) -> Result<TreeEnsemble> {
        let forest = Forest::new(forest)?;
        let mut attrs = Attrs::default().with("n_targets", forest.targets as i64);
        if !base.is_empty() {
            write::set_base(&mut attrs, base, forest.wide)?;
        }
        Ensemble::regressor(write::write_v1(&forest, "target", attrs)?)
    }

    /// The same with other trees and other numbers to begin with.
    ///
    /// An error where the operator cannot say that: a number that its precision does not hold,
    /// votes of which a classifier of two classes would make other scores, a base in a
    /// `TreeEnsemble`.
    pub fn with_forest(&self, forest: Forest, base: &[f64]) -> Result<TreeEnsemble> {
        let e = &*self.0;
        let forest = Forest::new(forest)?;
        let mut attrs = match e.kind {
            Kind::Scores => e.attrs.clone(),
            _ => write::without_trees(&e.attrs),
        };
        if e.base != base {
            write::set_base(&mut attrs, base, forest.wide)?;
        }
        if !matches!(e.kind, Kind::Classifier { .. }) {
            attrs.set("n_targets", Attr::Int(forest.targets as i64));
        }
        if e.base == base && e.forest.targets == forest.targets {
            return e.regrown(forest, attrs);
        }
        let new = match e.kind {
            Kind::Regressor => Ensemble::regressor(write::write_v1(&forest, "target", attrs)?)?,
            Kind::Scores => Ensemble::scores(write::write_v5(&forest, attrs)?)?,
            Kind::Classifier { .. } => {
                Ensemble::classifier(write::write_v1(&forest, "class", attrs)?)?
            }
        };
        let kept = |n: &Ensemble| n.kind == e.kind && n.base == base && n.post == e.post;
        match kept(&new.0) && new.0.forest.targets == forest.targets {
            true => Ok(new),
            false => invalid!("the operator gives these trees another meaning"),
        }
    }

    /// The ensemble of the operator of this name.
    fn named(operator: &str, attrs: Attrs) -> Result<Self> {
        match operator {
            "ai.onnx.ml.TreeEnsembleClassifier" => Ensemble::classifier(attrs),
            "ai.onnx.ml.TreeEnsembleRegressor" => Ensemble::regressor(attrs),
            "ai.onnx.ml.TreeEnsemble" => Ensemble::scores(attrs),
            other => invalid!("`{other}` is no ensemble of trees"),
        }
    }

    /// The definition; rows walk by ranks where they are given.
    fn eval_with(
        &self,
        cx: &Context,
        inputs: &[Option<&Datum>],
        ranks: Option<&Ranks>,
    ) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        let Scored { rows, scores, classes } = self.0.score(cx, x, ranks)?;
        let shape = [rows, self.0.forest.targets];
        let dtype = if self.0.kind == Kind::Scores { x.dtype() } else { DType::F32 };
        let y = match_float!(dtype, T => {
            Tensor::from_vec(&shape, scores.into_iter().map(T::from_f64).collect::<Vec<T>>())?
        }, else invalid!("TreeEnsemble takes no {dtype}"));
        Ok(match &self.0.kind {
            Kind::Classifier { labels, .. } => vec![labels.of(&classes)?.into(), y.into()],
            _ => vec![y.into()],
        })
    }
}

impl Operator for TreeEnsemble {
    fn name(&self) -> &str {
        match self.0.kind {
            Kind::Classifier { .. } => "ai.onnx.ml.TreeEnsembleClassifier",
            Kind::Regressor => "ai.onnx.ml.TreeEnsembleRegressor",
            Kind::Scores => "ai.onnx.ml.TreeEnsemble",
        }
    }

    fn attrs(&self) -> Attrs {
        self.0.attrs.clone()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype_in(0, |d| {
            matches!(d, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
                || matches!(d, DType::I64 | DType::I32) && self.0.kind != Kind::Scores
        })?;
        let (rows, columns) = table(cx, 0)?;
        if let Some(have) = columns.and_then(|c| c.as_len()) {
            self.0.check_columns(have)?;
        }
        let scores = |d| Fact::shaped(d, vec![rows.clone(), self.0.forest.targets.into()]);
        Ok(match &self.0.kind {
            Kind::Scores => vec![scores(dtype)],
            Kind::Regressor => vec![scores(DType::F32)],
            Kind::Classifier { labels, .. } => {
                vec![Fact::shaped(labels.dtype(), vec![rows.clone()]), scores(DType::F32)]
            }
        })
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        self.eval_with(cx, inputs, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, types};

    /// Two stumps over columns 0 and 1; `extra` holds votes and whatever else there is.
    fn text(op: &str, x: &str, extra: &str) -> String {
        format!(
            "y = ai.onnx.ml.TreeEnsemble{op}(x: {x}) {{nodes_treeids=[0,0,0,1,1,1], \
             nodes_nodeids=[0,1,2,0,1,2], nodes_featureids=[0,0,0,1,0,0], \
             nodes_values=[1.0,0.0,0.0,-1.0,0.0,0.0], \
             nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"LEAF\",\"BRANCH_GT\",\"LEAF\",\"LEAF\"], \
             nodes_truenodeids=[1,0,0,1,0,0], nodes_falsenodeids=[2,0,0,2,0,0], \
             nodes_hitrates=[1.0,1.0,1.0,1.0,1.0,1.0], {extra}}}\nreturn y"
        )
    }

    fn both(op: &str, x: &str, extra: &str) -> String {
        text(op, x, extra).replace("y = ai", "y, z = ai").replace("return y", "return y, z")
    }

    const ONE: &str = "target_treeids=[0,0,1,1], target_nodeids=[1,2,1,2], \
                       target_ids=[0,0,0,0], target_weights=[0.25,0.5,-1.0,2.0]";
    const TWO: &str = "n_targets=2, target_treeids=[0,0,1,1], target_nodeids=[1,2,1,2], \
                       target_ids=[0,1,0,1], target_weights=[0.25,0.5,-1.0,2.0]";

    /// Rows (0, 0) and (2, -2): the yes branches, then the no branches.
    fn rows() -> Tensor {
        Tensor::from_vec(&[2, 2], vec![0f32, 0.0, 2.0, -2.0]).expect("2x2")
    }

    fn scores(op: &str, extra: &str) -> Vec<f32> {
        let y = run(&text(op, "f32[N,2]", extra), &[rows()]).expect("runs");
        y[0].as_tensor().expect("tensor").as_slice::<f32>().expect("f32").to_vec()
    }

    #[test]
    fn aggregates() {
        for (how, want) in [
            ("SUM", [-0.75f32, 2.5]),
            ("AVERAGE", [-0.375, 1.25]),
            ("MIN", [-1.0, 0.5]),
            ("MAX", [0.25, 2.0]),
        ] {
            let extra = format!("{ONE}, aggregate_function=\"{how}\"");
            assert_eq!(scores("Regressor", &extra), want, "{how}");
            let based: Vec<f32> = want.iter().map(|x| x + 10.0).collect();
            assert_eq!(scores("Regressor", &format!("{extra}, base_values=[10.0]")), based);
        }
        assert_eq!(scores("Regressor", TWO), [-0.75, 0.0, 0.0, 2.5]);
        let based = scores("Regressor", &format!("{TWO}, base_values=[1.0,2.0]"));
        assert_eq!(based, [0.25, 2.0, 1.0, 4.5]);
    }

    #[test]
    fn one_target_keeps_its_raw_score() {
        for post in ["SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"] {
            let extra = format!("{ONE}, post_transform=\"{post}\"");
            assert_eq!(scores("Regressor", &extra), [-0.75, 2.5], "{post}");
        }
        let two = scores("Regressor", &format!("{TWO}, post_transform=\"LOGISTIC\""));
        assert_close(&two, &[0.320_821_3, 0.5, 0.5, 0.924_141_8], 1e-6);
        let probit = format!("{ONE}, base_values=[1.05], post_transform=\"PROBIT\"");
        assert_close(&scores("Regressor", &probit)[..1], &[-0.5244], 1e-4);
    }

    #[test]
    fn a_leaf_that_repeats_its_only_target_votes_once() {
        let votes = |targets: usize, how: &str| {
            format!(
                "n_targets={targets}, aggregate_function=\"{how}\", \
                 target_treeids=[0,0,0,1,1,1], target_nodeids=[1,2,1,2,1,1], \
                 target_ids=[0,0,0,0,0,0], target_weights=[1.0,2.0,4.0,8.0,16.0,32.0]"
            )
        };
        for how in ["SUM", "MIN", "MAX"] {
            let want = match how {
                "SUM" => [17.0, 10.0],
                "MIN" => [1.0, 2.0],
                _ => [16.0, 8.0],
            };
            assert_eq!(scores("Regressor", &votes(1, how)), want, "{how}");
        }
        assert_eq!(scores("Regressor", &votes(2, "SUM")), [53.0, 0.0, 10.0, 0.0]);
    }

    fn classify(extra: &str) -> (Vec<i64>, Vec<f32>) {
        let y = run(&both("Classifier", "f32[N,2]", extra), &[rows()]).expect("runs");
        let (label, score) = (y[0].as_tensor().expect("label"), y[1].as_tensor().expect("score"));
        (label.to_vec().expect("i64"), score.to_vec().expect("f32"))
    }

    fn votes(ids: &str, weights: &str, more: &str) -> String {
        format!(
            "class_treeids=[0,0,1,1], class_nodeids=[1,2,1,2], class_ids={ids}, \
             class_weights={weights}, {more}"
        )
    }

    #[test]
    fn one_score_for_two_classes() {
        let labels = "classlabels_int64s=[10,20]";
        let case = |ids: &str, w: &str, more: &str, want: ([i64; 2], [f32; 4])| {
            let (label, score) = classify(&votes(ids, w, &format!("{labels}{more}")));
            assert_eq!(label, want.0, "{ids} {w} {more}");
            assert_close(&score, &want.1, 1e-6);
        };
        let (zero, one) = ("[0,0,0,0]", "[1,1,1,1]");
        let (plus, minus) = ("[0.2,0.3,0.1,0.4]", "[-0.2,0.3,-0.2,0.3]");
        case(zero, plus, "", ([10, 20], [0.7, 0.3, 0.3, 0.7]));
        case(zero, minus, "", ([10, 20], [0.4, -0.4, -0.6, 0.6]));
        let logistic = ", post_transform=\"LOGISTIC\"";
        let want = [0.425_557_5, 0.574_442_5, 0.331_812_26, 0.668_187_7];
        case(zero, plus, logistic, ([10, 20], want));
        case(zero, plus, ", base_values=[0.25]", ([20, 20], [0.45, 0.55, 0.05, 0.95]));
        case(one, plus, "", ([10, 20], [0.0, 0.3, 0.0, 0.7]));
        case(
            one,
            minus,
            ", post_transform=\"SOFTMAX\"",
            ([10, 20], [0.598_687_65, 0.401_312_35, 0.354_343_7, 0.645_656_3]),
        );
    }

    #[test]
    fn several_classes() {
        let own = votes("[0,1,0,1]", "[0.3,0.2,0.1,0.4]", "classlabels_int64s=[10,20]");
        let (label, score) = classify(&own);
        assert_eq!(label, [10, 20]);
        assert_close(&score, &[0.4, 0.0, 0.0, 0.6], 1e-6);
        // Class 0 has no votes: its 0 does not win over negative scores.
        let three = votes("[1,2,1,2]", "[-0.3,-0.2,-0.1,-0.4]", "classlabels_int64s=[1,2,3]");
        assert_eq!(classify(&three).0, [2, 3]);
        let based = classify(&format!("{three}, base_values=[0.1,0.2,0.3]"));
        assert_eq!(based.0, [3, 2]);
        assert_close(&based.1, &[0.1, -0.2, 0.3, 0.1, 0.2, -0.3], 1e-6);
    }

    #[test]
    fn a_classifier_without_labels_says_what_to_do() {
        let extra = votes("[0,1,2,0]", "[1.0,1.0,1.0,1.0]", "post_transform=\"SOFTMAX\"");
        let e = types(&both("Classifier", "f32[N,2]", &extra)).expect_err("no labels");
        let text = e.to_string();
        assert!(text.contains("`classlabels_int64s` and `classlabels_strings`"), "{text}");
        assert!(text.contains("vote for 3 classes"), "{text}");
    }

    #[test]
    fn string_labels_and_inferred_types() {
        let extra =
            votes("[0,1,2,1]", "[1.0,1.0,1.0,1.0]", "classlabels_strings=[\"a\",\"b\",\"c\"]");
        let y = run(&both("Classifier", "f32[N,2]", &extra), &[rows()]).expect("runs");
        assert_eq!(y[0].as_tensor().expect("t").strings().expect("strings"), ["a", "b"]);
        let t = types(&both("Classifier", "f64[N,2]", &extra)).expect("types");
        assert_eq!(t, ["str[N]", "f32[N,3]"]);
        assert_eq!(types(&text("Regressor", "i64[N,4]", TWO)).expect("types"), ["f32[N,2]"]);
        assert!(types(&text("Regressor", "f32[N,1]", TWO)).is_err());
        assert!(types(&text("Regressor", "str[N,2]", TWO)).is_err());
    }

    #[test]
    fn rows_are_checked_when_run() {
        let t = text("Regressor", "f32[..]", ONE);
        let of = |shape: &[usize], n: usize| {
            run(&t, &[Tensor::from_vec(shape, vec![0f32; n]).expect("shape")])
        };
        assert!(of(&[3, 1], 3).expect_err("narrow").message().contains("2 columns"));
        assert!(of(&[1, 1, 2], 2).is_err());
        let one = of(&[2], 2).expect("one row");
        assert_eq!(one[0].as_tensor().expect("t").shape(), [1, 1]);
        assert_eq!(of(&[0, 2], 0).expect("none")[0].as_tensor().expect("t").shape(), [0, 1]);
    }

    #[test]
    fn integers_beyond_single_precision_are_compared_exactly() {
        let split = text("Regressor", "i64[N,2]", ONE).replace("[1.0,0.0", "[16777216.0,0.0");
        let x = Tensor::from_vec(&[2, 2], vec![16_777_216i64, 0, 16_777_217, 0]).expect("2x2");
        let y = run(&split, &[x]).expect("runs");
        assert_eq!(y[0].as_tensor().expect("t").to_vec::<f32>().expect("f32"), [-0.75, -0.5]);
    }

    const V5: &str = "y = ai.onnx.ml.TreeEnsemble(x: f32[N,1]) {tree_roots=[0], \
        nodes_featureids=[0,0], nodes_splits=f32[2]{3.0, 0.0}, nodes_modes=u8[2]{0, 6}, \
        nodes_truenodeids=[1,0], nodes_trueleafs=[0,1], nodes_falsenodeids=[1,2], \
        nodes_falseleafs=[1,1], leaf_targetids=[0,1,0], leaf_weights=f32[3]{1.0, 2.0, 4.0}, \
        membership_values=f32[3]{0.0, -2.5, nan}, n_targets=2}\nreturn y";

    #[test]
    fn sets_and_leaves_of_their_own() {
        let x = Tensor::from_vec(&[5, 1], vec![0f32, -2.5, 1.0, 4.0, f32::NAN]).expect("5x1");
        let y = run(V5, std::slice::from_ref(&x)).expect("runs");
        let y = y[0].as_tensor().expect("t").to_vec::<f32>().expect("f32");
        assert_eq!(y, [1.0, 0.0, 1.0, 0.0, 4.0, 0.0, 0.0, 2.0, 0.0, 2.0]);
        assert_eq!(types(&V5.replace("f32[N,1]", "f64[N,1]")).expect("types"), ["f64[N,2]"]);
    }

    #[test]
    fn the_text_reads_back() {
        for t in [
            V5.to_owned(),
            both(
                "Classifier",
                "f32[N,2]",
                &votes("[0,0,0,0]", "[0.5,0.5,1.0,-1.0]", "classlabels_int64s=[0,1]"),
            ),
        ] {
            let g = crate::text::parse(&t).expect("parses");
            let printed = crate::text::print_full(&g);
            let again = crate::text::parse(&printed).expect("its own text");
            assert_eq!(printed, crate::text::print_full(&again));
            let op = |g: &crate::Graph| g.op(g.outputs()[0].1.node).clone();
            assert_eq!(op(&g), op(&again));
        }
    }

    fn op(t: &str) -> TreeEnsemble {
        let g = crate::text::parse(t).expect("parses");
        match g.op(g.outputs()[0].1.node) {
            crate::Op::TreeEnsemble(e) => e.clone(),
            other => panic!("{}", other.name()),
        }
    }

    #[test]
    fn a_forest_is_written_as_it_was_read() {
        let two = votes("[0,0,0,0]", "[0.5,0.5,1.0,-1.0]", "classlabels_int64s=[0,1]");
        let based = format!("{ONE}, base_values=[3.0], aggregate_function=\"MAX\"");
        for t in [
            V5.to_owned(),
            text("Regressor", "f32[N,2]", &based),
            both("Classifier", "f32[N,2]", &two),
        ] {
            let old = op(&t);
            let e = old.ensemble();
            let new = old.with_forest(e.forest.clone(), &e.base).expect("writes");
            assert_eq!((&new.0.forest, new.0.aggregate), (&e.forest, e.aggregate), "{t}");
            let wide = Forest { wide: true, ..e.forest.clone() };
            let new = new.with_forest(wide.clone(), &e.base).expect("writes doubles");
            assert_eq!(new.0.forest, wide, "{t}");
        }
    }

    #[test]
    fn sets_are_written_as_chains_of_equalities() {
        let regressor = op(&text("Regressor", "f32[N,2]", ONE));
        for set in [&[1.0, 2.0, 3.0][..], &[2.5]] {
            let mut forest = regressor.ensemble().forest.clone();
            forest.sets.push(set.to_vec());
            forest.nodes[0] = Node { test: Test::Member(0), missing: true, ..forest.nodes[0] };
            let new = regressor.with_forest(forest.clone(), &[]).expect("writes");
            let new = &new.0.forest;
            let leaf = |f: &Forest, x: f64| f.leaf_of(f.roots[0], &[x, 0.0]);
            for x in [1.0, 2.0, 2.5, 3.0, 4.0, f64::NAN] {
                assert_eq!(leaf(new, x), leaf(&forest, x), "{set:?} {x}");
            }
            assert_eq!(new.nodes.len(), 2);
        }
    }

    #[test]
    fn trees_of_one_leaf_and_other_bases_are_written() {
        let regressor = text("Regressor", "f32[N,2]", ONE);
        for (t, base) in [(V5, &[][..]), (&regressor, &[5.0][..])] {
            let old = op(t);
            let mut forest = old.ensemble().forest.clone();
            forest.roots = vec![Next::leaf(1), forest.roots[0]];
            let new = old.with_forest(forest, base).expect("writes");
            assert_eq!(new.0.forest.roots, [Next::leaf(0), Next::node(0)], "{t}");
            assert_eq!(new.0.base, base);
        }
    }

    #[test]
    fn regressors_are_made_of_trees() {
        let forest = op(V5).ensemble().forest.clone();
        let new = TreeEnsemble::regressor(forest.clone(), &[0.5, 1.0]).expect("writes");
        let e = new.ensemble();
        assert_eq!((e.forest.targets, &e.base[..]), (2, &[0.5, 1.0][..]));
        let leaf = |f: &Forest, x| f.leaves.at(f.leaf_of(f.roots[0], &[x])).to_vec();
        for x in [0.0, -2.5, 1.0, 4.0] {
            assert_eq!(leaf(&e.forest, x), leaf(&forest, x));
        }
        assert!(TreeEnsemble::regressor(forest, &[0.1, 0.0]).is_err());
    }

    #[test]
    fn what_the_operator_cannot_say_is_an_error() {
        let two = votes("[0,0,0,0]", "[0.5,0.5,1.0,-1.0]", "classlabels_int64s=[0,1]");
        let (regressor, classifier, v5) = (
            op(&text("Regressor", "f32[N,2]", ONE)),
            op(&both("Classifier", "f32[N,2]", &two)),
            op(V5),
        );
        let mut forest = regressor.ensemble().forest.clone();
        forest.nodes[0].test = Test::Leq(0.1);
        assert!(regressor.with_forest(forest, &[]).is_err());
        // Without its only negative weight, the scores would be 1 - s and s.
        let mut forest = classifier.ensemble().forest.clone();
        forest.roots.truncate(1);
        assert!(classifier.with_forest(forest, &[]).is_err());
        assert!(v5.with_forest(v5.ensemble().forest.clone(), &[1.0]).is_err());
    }

    #[test]
    fn cycles_are_found_at_import() {
        let looped = V5.replace("nodes_truenodeids=[1,0]", "nodes_truenodeids=[0,0]");
        assert!(types(&looped).expect_err("cycle").message().contains("back to itself"));
    }
}
