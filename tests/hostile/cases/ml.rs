//! Classical models whose tables contradict themselves.

use super::Class;
use crate::proto::{
    F32, Graph, I64, Message, STRING, floats, i64s, int, ints, strings, text, texts,
};

pub fn classes() -> Vec<Class> {
    vec![trees(), supports(), linear(), words(), encoders()]
}

/// The tables of a regressor; a stump on feature 0 to begin with.
struct Trees {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<&'static str>,
    values: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    target: [Vec<i64>; 3],
    weights: Vec<f32>,
    targets: i64,
}

impl Trees {
    fn stump() -> Self {
        Trees {
            trees: vec![0; 3],
            nodes: vec![0, 1, 2],
            features: vec![0; 3],
            modes: vec!["BRANCH_LEQ", "LEAF", "LEAF"],
            values: vec![0.5, 0.0, 0.0],
            yes: vec![1, 0, 0],
            no: vec![2, 0, 0],
            target: [vec![0, 0], vec![1, 2], vec![0, 0]],
            weights: vec![1.0, 2.0],
            targets: 1,
        }
    }

    /// One path of `depth` splits, a leaf beside each.
    fn chain(depth: usize) -> Self {
        let n = 2 * depth as i64 + 1;
        let of = |split: &dyn Fn(i64) -> i64| -> Vec<i64> {
            (0..n).map(|i| if i % 2 == 0 && i + 1 < n { split(i) } else { 0 }).collect()
        };
        let is_leaf = |i: &i64| i % 2 == 1 || i + 1 == n;
        let leaves: Vec<i64> = (0..n).filter(is_leaf).collect();
        Trees {
            trees: vec![0; n as usize],
            nodes: (0..n).collect(),
            features: vec![0; n as usize],
            modes: (0..n).map(|i| if is_leaf(&i) { "LEAF" } else { "BRANCH_LEQ" }).collect(),
            values: (0..n).map(|i| -(i as f32)).collect(),
            yes: of(&|i| i + 1),
            no: of(&|i| i + 2),
            weights: vec![1.0; leaves.len()],
            target: [vec![0; leaves.len()], leaves.clone(), vec![0; leaves.len()]],
            targets: 1,
        }
    }

    fn with(change: impl FnOnce(&mut Trees)) -> Graph {
        let mut trees = Trees::stump();
        change(&mut trees);
        trees.graph()
    }

    fn graph(&self) -> Graph {
        let attributes = [
            ints("nodes_treeids", &self.trees),
            ints("nodes_nodeids", &self.nodes),
            ints("nodes_featureids", &self.features),
            texts("nodes_modes", &self.modes),
            floats("nodes_values", &self.values),
            ints("nodes_truenodeids", &self.yes),
            ints("nodes_falsenodeids", &self.no),
            ints("target_treeids", &self.target[0]),
            ints("target_nodeids", &self.target[1]),
            ints("target_ids", &self.target[2]),
            floats("target_weights", &self.weights),
            int("n_targets", self.targets),
        ];
        table("TreeEnsembleRegressor", &attributes)
    }
}

/// A model of one operator on four rows of two features.
fn table(op: &str, attributes: &[Message]) -> Graph {
    Graph::new().input("x", F32, &[4, 2]).ml(op, "x", "y", attributes).output("y", F32)
}

fn trees() -> Class {
    Class::new("trees")
        .odd("chain_of_1000", Trees::chain(1000).graph())
        .odd("chain_of_200000", Trees::chain(200_000).graph())
        .bad("root_is_its_own_child", Trees::with(|t| t.yes[0] = 0))
        .bad("two_nodes_in_a_ring", {
            Trees::with(|t| {
                t.modes[1] = "BRANCH_LEQ";
                t.no[1] = 2;
            })
        })
        .bad("child_missing", Trees::with(|t| t.no[0] = 77))
        .bad("child_negative", Trees::with(|t| t.no[0] = -1))
        .bad("child_most_negative", Trees::with(|t| t.yes[0] = i64::MIN))
        .bad("feature_out_of_range", Trees::with(|t| t.features[0] = 2))
        .bad("feature_huge", Trees::with(|t| t.features[0] = i64::MAX))
        .bad("feature_negative", Trees::with(|t| t.features[0] = -1))
        .bad("values_too_few", Trees::with(|t| t.values.truncate(1)))
        .bad("children_too_few", Trees::with(|t| t.no.truncate(2)))
        .bad("modes_too_many", Trees::with(|t| t.modes.push("LEAF")))
        .bad("mode_unknown", Trees::with(|t| t.modes[0] = "BRANCH_MAYBE"))
        .bad("node_twice", Trees::with(|t| t.nodes[2] = 1))
        .bad("target_out_of_range", Trees::with(|t| t.target[2][0] = 9))
        .bad("target_negative", Trees::with(|t| t.target[2][0] = -9))
        .bad("target_of_no_node", Trees::with(|t| t.target[1][0] = 44))
        .bad("weights_too_few", Trees::with(|t| t.weights.truncate(1)))
        .bad("targets_two_to_62", Trees::with(|t| t.targets = 1 << 62))
        .bad("targets_negative", Trees::with(|t| t.targets = -1))
        .odd("thresholds_nan", Trees::with(|t| t.values[0] = f32::NAN))
        .odd("no_tables", table("TreeEnsembleRegressor", &[]))
        .bad(
            "classifier_without_labels",
            table("TreeEnsembleClassifier", &[ints("class_ids", &[0])]),
        )
}

fn supports() -> Class {
    let machine = |counts: &[i64], vectors: usize, coefficients: usize, rho: usize| {
        let attributes = [
            ints("classlabels_ints", &[0, 1]),
            ints("vectors_per_class", counts),
            floats("support_vectors", &vec![1.0; vectors]),
            floats("coefficients", &vec![1.0; coefficients]),
            floats("rho", &vec![0.0; rho]),
            floats("kernel_params", &[0.5, 0.0, 3.0]),
            text("kernel_type", "RBF"),
        ];
        let g = Graph::new().input("x", F32, &[4, 2]);
        g.ml("SVMClassifier", "x", "label y", &attributes).output("y", F32)
    };
    let regressor = |supports: i64, kernel: &str| {
        let attributes = [
            int("n_supports", supports),
            floats("support_vectors", &[1.0; 4]),
            floats("coefficients", &[1.0; 2]),
            floats("rho", &[0.0]),
            text("kernel_type", kernel),
        ];
        table("SVMRegressor", &attributes)
    };
    Class::new("supports")
        .bad("coefficients_too_few", machine(&[1, 1], 4, 1, 1))
        .bad("vectors_not_a_table", machine(&[1, 1], 5, 2, 1))
        .bad("counts_too_large", machine(&[1, 99], 4, 2, 1))
        .bad("counts_negative", machine(&[-1, 3], 4, 2, 1))
        .bad("counts_overflow", machine(&[i64::MAX, 3], 4, 2, 1))
        .bad("no_rho", machine(&[1, 1], 4, 2, 0))
        .bad("regressor_supports", regressor(1 << 40, "RBF"))
        .bad("regressor_negative", regressor(-2, "RBF"))
        .bad("kernel_unknown", regressor(2, "QUANTUM"))
        .odd("no_kernel_params", regressor(2, "POLY"))
}

fn linear() -> Class {
    let classifier = |coefficients: usize, intercepts: usize, labels: &[i64]| {
        let attributes = [
            floats("coefficients", &vec![1.0; coefficients]),
            floats("intercepts", &vec![1.0; intercepts]),
            ints("classlabels_ints", labels),
        ];
        let g = Graph::new().input("x", F32, &[4, 2]);
        g.ml("LinearClassifier", "x", "label y", &attributes).output("y", F32)
    };
    let scaler = |offset: usize, scale: usize| {
        let attributes = [floats("offset", &vec![1.0; offset]), floats("scale", &vec![1.0; scale])];
        table("Scaler", &attributes)
    };
    let regressor = |targets: i64| {
        table("LinearRegressor", &[floats("coefficients", &[1.0; 2]), int("targets", targets)])
    };
    Class::new("linear")
        .bad("coefficients_too_few", classifier(3, 2, &[0, 1]))
        .bad("no_coefficients", classifier(0, 2, &[0, 1]))
        .odd("labels_too_many", classifier(4, 2, &[0, 1, 2, 3]))
        .bad("scaler_too_few", scaler(3, 3))
        .bad("scaler_lengths_differ", scaler(2, 5))
        .bad("targets_two_to_62", regressor(1 << 62))
        .bad("targets_negative", regressor(-1))
        .odd("imputer_too_few", table("Imputer", &[floats("imputed_value_floats", &[1.0; 3])]))
        .bad("extractor_out_of_range", {
            let g = Graph::new().input("x", F32, &[4, 2]).init("i", i64s(&[7]));
            g.ml("ArrayFeatureExtractor", "x i", "y", &[]).output("y", F32)
        })
        .bad("vectorizer_lengths", {
            table("FeatureVectorizer", &[ints("inputdimensions", &[1 << 40])])
        })
}

fn words() -> Class {
    struct Pools<'a> {
        counts: &'a [i64],
        pool: &'a [i64],
        indexes: &'a [i64],
        grams: [i64; 3],
    }
    let vectorizer = |p: Pools| {
        let [min, max, skip] = p.grams;
        let attributes = [
            text("mode", "TF"),
            int("min_gram_length", min),
            int("max_gram_length", max),
            int("max_skip_count", skip),
            ints("ngram_counts", p.counts),
            ints("ngram_indexes", p.indexes),
            ints("pool_int64s", p.pool),
        ];
        let g = Graph::new().init("x", i64s(&[1, 2, 3, 1, 2, 3]));
        g.node("TfIdfVectorizer", "x", "y", &attributes).output("y", F32)
    };
    let (counts, pool, indexes) = (&[0, 2][..], &[1, 2, 1, 2][..], &[0, 1, 2][..]);
    let good = Pools { counts, pool, indexes, grams: [1, 2, 0] };
    Class::new("words")
        .odd("sound", vectorizer(good))
        .bad("counts_past_the_pool", {
            vectorizer(Pools { counts: &[0, 99], pool, indexes, grams: [1, 2, 0] })
        })
        .bad("counts_fall", {
            vectorizer(Pools { counts: &[3, 0], pool, indexes, grams: [1, 2, 0] })
        })
        .bad("counts_negative", {
            vectorizer(Pools { counts: &[-2, 2], pool, indexes, grams: [1, 2, 0] })
        })
        .bad("pool_not_whole_grams", {
            vectorizer(Pools { counts, pool: &[1, 2, 1], indexes, grams: [1, 2, 0] })
        })
        .bad("indexes_too_few", {
            vectorizer(Pools { counts, pool, indexes: &[0], grams: [1, 2, 0] })
        })
        .bad("index_negative", {
            vectorizer(Pools { counts, pool, indexes: &[0, -1, 2], grams: [1, 2, 0] })
        })
        .bad("index_two_to_62", {
            vectorizer(Pools { counts, pool, indexes: &[0, 1, 1 << 62], grams: [1, 2, 0] })
        })
        .bad("gram_length_zero", vectorizer(Pools { counts, pool, indexes, grams: [0, 2, 0] }))
        .bad("gram_lengths_crossed", vectorizer(Pools { counts, pool, indexes, grams: [2, 1, 0] }))
        .odd("gram_length_huge", {
            vectorizer(Pools { counts, pool, indexes, grams: [1, 1 << 62, 0] })
        })
        .odd("skips_huge", vectorizer(Pools { counts, pool, indexes, grams: [1, 2, i64::MAX] }))
        .bad("skips_negative", vectorizer(Pools { counts, pool, indexes, grams: [1, 2, -1] }))
}

fn encoders() -> Class {
    let label = |attributes: &[Message]| {
        let g = Graph::new().init("x", strings(&[b"a", b"\xC3\xA9"]));
        g.ml("LabelEncoder", "x", "y", attributes).output("y", I64)
    };
    let names = |names: &[&str]| texts("keys_strings", names);
    Class::new("encoders")
        .bad("lengths_differ", label(&[names(&["a", "b"]), ints("values_int64s", &[1])]))
        .bad("no_tables", label(&[]))
        .bad("two_tables_of_values", {
            let both = [ints("values_int64s", &[1]), floats("values_floats", &[1.0])];
            label(&[names(&["a"]), both[0].clone(), both[1].clone()])
        })
        .bad("one_hot_without_categories", table("OneHotEncoder", &[]))
        .bad("one_hot_unseen", {
            table("OneHotEncoder", &[ints("cats_int64s", &[1 << 40]), int("zeros", 0)])
        })
        .bad("normalizer_unknown", table("Normalizer", &[text("norm", "L7")]))
        .bad("zip_map_too_few", {
            let g = Graph::new().input("x", F32, &[4, 2]);
            g.ml("ZipMap", "x", "y", &[ints("classlabels_int64s", &[1, 2, 3])]).output_any("y")
        })
        .bad("category_mapper_lengths", {
            let g = Graph::new().init("x", strings(&[b"a"]));
            let attrs = [texts("cats_strings", &["a"]), ints("cats_int64s", &[1, 2])];
            g.ml("CategoryMapper", "x", "y", &attrs).output("y", I64)
        })
        .bad("dict_vectorizer_of_a_tensor", {
            let g = Graph::new().init("x", strings(&[b"a"]));
            let attrs = [texts("string_vocabulary", &["a"])];
            g.ml("DictVectorizer", "x", "y", &attrs).output("y", STRING)
        })
}
