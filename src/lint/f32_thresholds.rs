//! Thresholds so great and so close that single precision has few numbers between them, such as
//! timestamps: rows that double precision told apart in training become the same.

use std::collections::BTreeMap;

use kiln_ir::ops::forest::{Forest, Test};
use kiln_ir::{Graph, NodeId, Op};

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "f32_thresholds",
    help: "subtract an offset from the feature before training, or export in double precision",
    producers: &["OnnxMLTools", "skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

/// Where single precision begins to skip integers.
const EXACT: f64 = 16_777_216.0;
/// With fewer numbers than this, a split between two of them misses rows.
const FEW: f64 = 4096.0;

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::TreeEnsemble(trees) = g.op(id) else { return None };
    let forest = &trees.ensemble().forest;
    // Trees without directions for NaN come from libraries that train in single precision.
    if forest.wide || !forest.nodes.iter().any(|n| n.missing) {
        return None;
    }
    let (feature, n) = crowded(forest)?;
    Some(format!(
        "single precision has {n} numbers between the thresholds of feature {feature}: rows \
         that were told apart in training become the same"
    ))
}

/// The first feature whose thresholds are crowded, and how many steps there are between them.
fn crowded(forest: &Forest) -> Option<(u32, f64)> {
    let mut ranges: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for node in &forest.nodes {
        if let Test::Leq(t) = node.test
            && t.is_finite()
        {
            let (low, high) = ranges.entry(node.feature).or_insert((t, t));
            (*low, *high) = (low.min(t), high.max(t));
        }
    }
    ranges.into_iter().find_map(|(feature, (low, high))| {
        let size = low.abs().max(high.abs());
        let step = f64::from(size as f32) - f64::from((size as f32).next_down());
        let n = ((high - low) / step).ceil();
        (low.abs().min(high.abs()) >= EXACT && (1.0..FEW).contains(&n)).then_some((feature, n))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::tests::{fired, forest};

    fn timestamps(first: f32, last: f32, missing: bool) -> String {
        forest(1, &[(2, last, missing), (2, first, missing)], "") + "return v"
    }

    #[test]
    fn fires_where_few_numbers_lie_between_thresholds() {
        let text = timestamps(1.7e9, 1.7e9 + 86_400.0, true);
        assert_eq!(fired(&text), ["f32_thresholds"]);
        let g = kiln_ir::text::parse(&text).expect("parses");
        let (_, v) = g.outputs()[0].clone();
        let what = wrong(&g, v.node).expect("it fires");
        // 86 400 seconds in steps of 128.
        assert!(what.starts_with("single precision has 675 numbers"), "{what}");
    }

    #[test]
    fn declines_wide_ranges_small_numbers_and_single_precision() {
        assert!(fired(&timestamps(1e9, 2e9, true)).is_empty());
        assert!(fired(&timestamps(2019.5, 2020.5, true)).is_empty());
        assert!(fired(&timestamps(1.7e9, 1.7e9, true)).is_empty());
        assert!(fired(&timestamps(1.7e9, 1.7e9 + 86_400.0, false)).is_empty());
        // Infinity only tells NaN from numbers.
        assert!(fired(&timestamps(1.7e9, f32::INFINITY, true)).is_empty());
    }
}
