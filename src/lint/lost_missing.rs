//! `x <= inf` in a forest that sends NaN nowhere in particular: such a test only tells NaN from
//! numbers, so the trees were trained with missing values, and their directions are lost.

use kiln_ir::ops::forest::Test;
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "lost_missing",
    help: "impute missing values in the pipeline before the trees, and train again",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::TreeEnsemble(trees) = g.op(id) else { return None };
    let e = trees.ensemble();
    // Boosted trees, which have a base, keep the directions.
    if !e.base.is_empty() || e.forest.nodes.iter().any(|n| n.missing) {
        return None;
    }
    let split = e.forest.nodes.iter().find(|n| n.test == Test::Leq(f64::INFINITY))?;
    Some(format!(
        "trees trained with missing values (feature {} <= inf) send NaN to the right always",
        split.feature
    ))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, fired_of, forest};

    const SPLIT: (u32, f32, bool) = (1, f32::INFINITY, false);

    #[test]
    fn fires_where_only_the_test_for_missing_values_is_left() {
        let text = forest(1, &[(0, 1.0, false), SPLIT], "") + "return v";
        assert_eq!(fired(&text), ["lost_missing"]);
        assert!(fired_of(&text, "OnnxMLTools").is_empty());
    }

    #[test]
    fn declines_directions_and_ordinary_tests() {
        for tests in [[(0, 1.0, true), SPLIT], [(0, 1.0, false), (1, 2.0, false)]] {
            assert!(fired(&(forest(1, &tests, "") + "return v")).is_empty());
        }
        let boosted = forest(1, &[SPLIT], ", base_values=[0.5]") + "return v";
        assert!(fired(&boosted).is_empty());
    }
}
