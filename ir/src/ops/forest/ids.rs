//! Finding nodes by the numbers of their tree and of themselves.

use crate::{Result, invalid};

/// An index of nodes by (tree, node), in memory proportional to their number.
///
/// Lists that are already in order, as exporters write them, are not sorted, and most look-ups
/// in them are right at the first guess.
pub struct Ids<'a> {
    tree: &'a [i64],
    node: &'a [i64],
    /// Places in the order of their keys; empty where that is the order of the list.
    sorted: Vec<u32>,
    /// The place of the first node of each tree, in the order of the list.
    firsts: Vec<usize>,
}

impl<'a> Ids<'a> {
    /// An index; an error where two nodes have the same numbers.
    pub fn new(tree: &'a [i64], node: &'a [i64]) -> Result<Self> {
        let n = tree.len().min(node.len());
        if n > super::canonical::MOST {
            invalid!("the forest has more than {} nodes", super::canonical::MOST);
        }
        let key = |i: usize| (tree[i], node[i]);
        let mut sorted = Vec::new();
        if (1..n).any(|i| key(i - 1) >= key(i)) {
            sorted = (0..n as u32).collect();
            sorted.sort_unstable_by_key(|&i| (key(i as usize), i));
        }
        let mut ids = Self { tree, node, sorted, firsts: vec![] };
        for k in 1..n {
            if ids.key(k - 1) == ids.key(k) {
                let (tree, node) = ids.key(k);
                invalid!("tree {tree} has node {node} twice");
            }
        }
        ids.firsts = ids.find_firsts(n);
        Ok(ids)
    }

    /// The first place of each tree: where the run of its keys has its least place.
    fn find_firsts(&self, n: usize) -> Vec<usize> {
        let mut firsts: Vec<usize> = Vec::new();
        for k in 0..n {
            let place = self.place(k);
            match firsts.last_mut() {
                Some(first) if self.tree[*first] == self.tree[place] => *first = place.min(*first),
                _ => firsts.push(place),
            }
        }
        firsts.sort_unstable();
        firsts
    }

    fn place(&self, k: usize) -> usize {
        if self.sorted.is_empty() { k } else { self.sorted[k] as usize }
    }

    fn key(&self, k: usize) -> (i64, i64) {
        let i = self.place(k);
        (self.tree[i], self.node[i])
    }

    /// The place of a node; `near` is the place of another one in its tree, where one is known.
    pub fn find(&self, tree: i64, node: i64, near: usize) -> Option<usize> {
        let n = self.tree.len();
        // In a tree numbered without gaps, nodes lie as far apart as their numbers.
        let guess = (|| {
            let by = node.checked_sub(*self.node.get(near)?)?;
            let i = usize::try_from(i64::try_from(near).ok()?.checked_add(by)?).ok()?;
            (i < n && self.tree[i] == tree && self.node[i] == node).then_some(i)
        })();
        guess.or_else(|| {
            let k = partition(n, |k| self.key(k) < (tree, node));
            (k < n && self.key(k) == (tree, node)).then(|| self.place(k))
        })
    }

    /// The place of the first node of each tree, in the order of the list.
    pub fn firsts(&self) -> impl Iterator<Item = usize> {
        self.firsts.iter().copied()
    }
}

/// The least number below `n` that `before` does not hold of, else `n`; it must be monotonous.
fn partition(n: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = lo + (hi - lo) / 2;
        if before(mid) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    lo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_node_of_sorted_and_mixed_lists() {
        let lists: [(&[i64], &[i64]); 3] = [
            (&[0, 0, 0, 1, 1], &[0, 1, 2, 0, 1]),
            (&[5, 1, 5, 1, 5], &[3, 0, i64::MIN, i64::MAX, 4]),
            (&[2, 2, 0, 0, 0], &[10, 20, 30, 40, 50]),
        ];
        for (tree, node) in lists {
            let ids = Ids::new(tree, node).expect("unique");
            for i in 0..tree.len() {
                for near in 0..tree.len() {
                    assert_eq!(ids.find(tree[i], node[i], near), Some(i));
                }
            }
            assert_eq!(ids.find(7, 7, 0), None);
        }
    }

    #[test]
    fn trees_come_in_the_order_of_their_first_nodes() {
        let ids = Ids::new(&[5, 1, 5, 1, 0], &[3, 0, 1, 2, 9]).expect("unique");
        assert_eq!(ids.firsts().collect::<Vec<_>>(), [0, 1, 4]);
        assert!(Ids::new(&[1, 1], &[2, 2]).is_err());
    }
}
