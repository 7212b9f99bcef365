//! A classifier of XGBoost without a transform: with the objective multi:softmax the scores are
//! written as they are where probabilities are promised.

use kiln_ir::ops::forest::{Kind, Test};
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "raw_scores",
    help: "train with objective=\"multi:softprob\", or add a Softmax over the classes",
    producers: &["OnnxMLTools"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::TreeEnsemble(trees) = g.op(id) else { return None };
    let e = trees.ensemble();
    let classes = e.forest.targets;
    // Of the libraries that the exporter knows, XGBoost alone asks x < t.
    let boosted = e.forest.nodes.iter().any(|n| matches!(n.test, Test::Lt(_)));
    let wrong = matches!(e.kind, Kind::Classifier { .. })
        && classes > 2
        && e.post == PostTransform::None
        && boosted;
    wrong.then(|| format!("the probabilities of {classes} classes are raw scores"))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, forest};

    fn classifier(mode: &str, extra: &str) -> String {
        let text = forest(1, &[(0, 1.0, false)], extra).replace("BRANCH_LEQ", mode);
        let text = text.replace("TreeEnsembleRegressor", "TreeEnsembleClassifier");
        text.replace("target_", "class_").replacen("v =", "l, v =", 1) + "return l, v"
    }

    #[test]
    fn fires_on_many_classes_without_a_transform() {
        let text = classifier("BRANCH_LT", ", classlabels_int64s=[0,1,2]");
        assert_eq!(fired(&text), ["raw_scores"]);
    }

    #[test]
    fn declines_transforms_two_classes_and_other_libraries() {
        for (mode, extra) in [
            ("BRANCH_LT", ", classlabels_int64s=[0,1,2], post_transform=\"SOFTMAX\""),
            ("BRANCH_LT", ", classlabels_int64s=[0,1]"),
            ("BRANCH_LEQ", ", classlabels_int64s=[0,1,2]"),
        ] {
            assert!(fired(&classifier(mode, extra)).is_empty(), "{mode} {extra}");
        }
    }
}
