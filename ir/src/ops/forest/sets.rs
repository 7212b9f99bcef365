//! Sets of values that a node may ask for, and chains of equalities that are such sets.

use super::canonical::{Forest, Lists, Next, Test};
use crate::{Result, invalid};

/// Whether a sorted set holds `x`; never for NaN.
pub fn contains(set: &[f64], x: f64) -> bool {
    // Comparison by value, so 0 finds -0.
    set.binary_search_by(|v| v.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Less)).is_ok()
}

/// Adds a set, whose values may come in any order; NaN is no value.
pub fn push(sets: &mut Lists<f64>, mut values: Vec<f64>) {
    values.retain(|v| !v.is_nan());
    values.sort_by(f64::total_cmp);
    values.dedup();
    sets.push(values);
}

/// Splits values into `count` sets, each ended by NaN.
pub fn split(values: &[f64], count: usize) -> Result<Lists<f64>> {
    let mut sets = Lists::default();
    let mut ended = values.split(|v| v.is_nan()).collect::<Vec<_>>();
    // The last NaN ends the last set and begins none.
    ended.pop_if(|last| last.is_empty());
    if ended.len() != count {
        invalid!("membership_values holds {} sets for {count} membership nodes", ended.len());
    }
    ended.into_iter().for_each(|set| push(&mut sets, set.to_vec()));
    Ok(sets)
}

/// Turns chains of equality tests into one membership test each.
///
/// ```text
/// n0: x == a ? t : n1
/// n1: x == b ? t : n2        =>   n0: x in {a, b, c} ? t : f
/// n2: x == c ? t : f
/// ```
/// The nodes must ask the same feature, and n1 and n2 must have no other way in.
pub fn merge_chains(f: &mut Forest) {
    if !f.nodes.iter().any(|n| matches!(n.test, Test::Eq(_))) {
        return;
    }
    let mut ways_in = vec![0u32; f.nodes.len()];
    let branches = f.nodes.iter().flat_map(|n| [n.yes, n.no]);
    for i in branches.chain(f.roots.iter().copied()).filter_map(Next::as_node) {
        ways_in[i] = ways_in[i].saturating_add(1);
    }
    let follows = |f: &Forest, i: usize| -> Option<usize> {
        let (n, j) = (&f.nodes[i], f.nodes[i].no.as_node()?);
        let m = &f.nodes[j];
        let both = matches!((n.test, m.test), (Test::Eq(_), Test::Eq(_)));
        (both && j != i && m.feature == n.feature && m.yes == n.yes && ways_in[j] == 1).then_some(j)
    };
    let mut inner = vec![false; f.nodes.len()];
    (0..f.nodes.len()).filter_map(|i| follows(f, i)).for_each(|j| inner[j] = true);
    for (head, inner) in inner.into_iter().enumerate() {
        let mut last = head;
        let mut values = Vec::new();
        let mut missing = f.nodes[head].missing;
        // A cycle of equalities has no head, and is found as a cycle later.
        while let Some(j) = follows(f, last).filter(|_| !inner) {
            if let Test::Eq(v) = f.nodes[last].test {
                values.push(v);
            }
            missing |= f.nodes[j].missing;
            last = j;
        }
        if let (Test::Eq(v), false) = (f.nodes[last].test, values.is_empty()) {
            values.push(v);
            f.nodes[head].no = f.nodes[last].no;
            f.nodes[head].missing = missing;
            f.nodes[head].test = Test::Member(f.sets.len() as u32);
            push(&mut f.sets, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::forest::canonical::{Node, Vote};

    #[test]
    fn zero_negative_and_large_members() {
        let sets = split(&[2.5, 0.0, -3.0, 1e9, f64::NAN, f64::NAN, 7.0, f64::NAN], 3);
        let sets = sets.expect("three sets");
        let holds = |x| contains(sets.at(0), x);
        assert!([0.0, -0.0, -3.0, 2.5, 1e9].into_iter().all(holds));
        assert!(![1.0, f64::NAN, f64::INFINITY].into_iter().any(holds));
        assert!(sets.at(1).is_empty());
        assert!(contains(sets.at(2), 7.0));
        assert!(split(&[1.0, f64::NAN], 2).is_err());
    }

    fn chain(tests: &[f64], roots: &[usize]) -> Forest {
        let nodes = (0..tests.len())
            .map(|i| Node {
                test: Test::Eq(tests[i]),
                feature: 0,
                yes: Next::leaf(0),
                no: if i + 1 < tests.len() { Next::node(i + 1) } else { Next::leaf(1) },
                missing: false,
            })
            .collect();
        let mut leaves = Lists::default();
        (0..2).for_each(|i| leaves.push([Vote { target: 0, weight: f64::from(i) }]));
        let roots = roots.iter().map(|&r| Next::node(r)).collect();
        Forest::new(Forest { nodes, roots, leaves, targets: 1, ..Forest::default() })
            .expect("valid")
    }

    #[test]
    fn chains_become_sets() {
        let f = chain(&[3.0, 1.0, 2.0], &[0]);
        assert_eq!(f.nodes.len(), 1);
        assert_eq!(f.sets.at(0), [1.0, 2.0, 3.0]);
        let reached = [1.0, 2.0, 3.0, 4.0, f64::NAN].map(|x| f.leaf_of(f.roots[0], &[x]));
        assert_eq!(reached, [0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_node_with_another_way_in_stays() {
        let f = chain(&[3.0, 1.0, 2.0], &[0, 1]);
        assert_eq!(f.nodes.len(), 2);
        assert_eq!(f.leaf_of(f.roots[1], &[3.0]), f.leaf_of(f.roots[0], &[9.0]));
        assert_eq!(f.leaf_of(f.roots[0], &[3.0]), 0);
    }
}
