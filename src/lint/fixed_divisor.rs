//! `y = Div(TreeEnsemble(x), 100)`: LightGBM's random forests average over their trees; the
//! exporter divides by 100 whatever their number, and after the transform to probabilities.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::forest::Aggregate;
use kiln_ir::ops::scores::PostTransform;
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each, numbers, source};

pub const LINT: Lint = Lint {
    name: "fixed_divisor",
    help: "train with another boosting_type than rf; regressors may have n_estimators=100 as well",
    producers: &["OnnxMLTools", "skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Binary(Binary::Div) = g.op(id) else { return None };
    let from = source(g, g.input_of(id, 0)?);
    let Op::TreeEnsemble(trees) = g.op(from.node) else { return None };
    let (e, divisor) = (trees.ensemble(), numbers(g, g.input_of(id, 1))?);
    if divisor != [100.0] || e.aggregate != Aggregate::Sum {
        return None;
    }
    let n = e.forest.roots.len();
    match e.post {
        PostTransform::None if n == 100 => None,
        PostTransform::None => Some(format!("the sum of {n} trees is divided by 100, not by {n}")),
        _ => Some("probabilities are divided by 100 where scores should be averaged".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, fired_of, forest};

    fn divided(trees: usize, extra: &str, by: &str) -> String {
        let forest = forest(trees, &[(0, 1.0, false)], extra);
        format!("{forest}by = f32[]{{{by}}}\ny = Div(v, by)\nreturn y")
    }

    #[test]
    fn fires_where_the_divisor_is_not_the_number_of_trees() {
        assert_eq!(fired(&divided(3, "", "100.0")), ["fixed_divisor"]);
        let logistic = ", post_transform=\"LOGISTIC\"";
        assert_eq!(fired(&divided(100, logistic, "100.0")), ["fixed_divisor"]);
    }

    #[test]
    fn declines_means_and_other_divisors() {
        assert!(fired(&divided(100, "", "100.0")).is_empty());
        assert!(fired(&divided(3, "", "3.0")).is_empty());
        let mean = ", aggregate_function=\"AVERAGE\"";
        assert!(fired(&divided(3, mean, "100.0")).is_empty());
        assert!(fired_of(&divided(3, "", "100.0"), "percent").is_empty());
    }
}
