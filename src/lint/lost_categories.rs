//! `x <= 0` asked again below `x <= 0`: a split by category, whose set of categories is lost.

use kiln_ir::ops::forest::{Forest, Next, Test};
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "lost_categories",
    help: "encode categories in the pipeline (OneHotEncoder) instead of categorical_features",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

/// How many nodes above a node are compared with it.
const ABOVE: usize = 32;

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::TreeEnsemble(trees) = g.op(id) else { return None };
    let feature = repeated(&trees.ensemble().forest)?;
    Some(format!(
        "feature {feature} is compared with 0 again where that is known: splits by category \
         were written as x <= 0, and columns may have moved"
    ))
}

/// A feature that is compared with 0 twice on a way from a root, to no end.
fn repeated(forest: &Forest) -> Option<u32> {
    let mut path: Vec<usize> = vec![];
    let mut seen = vec![false; forest.nodes.len()];
    // What is still to be walked, and how long the path to it is.
    let mut open: Vec<(Next, usize)> = forest.roots.iter().map(|&root| (root, 0)).collect();
    while let Some((next, depth)) = open.pop() {
        let Some(i) = next.as_node().filter(|&i| !std::mem::replace(&mut seen[i], true)) else {
            continue;
        };
        path.truncate(depth);
        path.push(i);
        let last = path.len().saturating_sub(ABOVE);
        if path[last..].windows(2).any(|w| is_known(forest, w[0], w[1], i)) {
            return Some(forest.nodes[i].feature);
        }
        let node = forest.nodes[i];
        open.extend([(node.no, path.len()), (node.yes, path.len())]);
    }
    None
}

/// Whether the answer that led from a node above to the next one, and where it sent NaN, leaves
/// one answer here.
fn is_known(forest: &Forest, above: usize, next: usize, here: usize) -> bool {
    let (a, b) = (forest.nodes[above], forest.nodes[here]);
    let yes = a.yes == Next::node(next);
    let splits_nan = a.missing == yes && b.missing != yes;
    let same = a.feature == b.feature && [a.test, b.test] == [Test::Leq(0.0); 2];
    same && a.yes != a.no && !splits_nan
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{fired, forest};

    #[test]
    fn fires_where_a_test_for_zero_is_repeated() {
        let tests = [(1, 0.0, false), (0, 1.0, false), (1, 0.0, false)];
        assert_eq!(fired(&(forest(1, &tests, "") + "return v")), ["lost_categories"]);
    }

    #[test]
    fn declines_tests_that_differ_and_that_find_missing_values() {
        let second: [&[_]; 4] =
            [&[(2, 0.0, false)], &[(1, -1.0, false), (1, -1.0, false)], &[], &[(1, -1.0, false)]];
        for more in second {
            let tests = [&[(1, 0.0, false)][..], more].concat();
            assert!(fired(&(forest(2, &tests, "") + "return v")).is_empty(), "{tests:?}");
        }
        // The first sends NaN to yes, the second tells it from the rest.
        let tests = [(1, 0.0, true), (1, 0.0, false)];
        assert!(fired(&(forest(1, &tests, "") + "return v")).is_empty());
    }
}
