//! The one form of a forest: flat, validated, renumbered.

use crate::{Result, invalid};

/// Where a branch leads: to a node or to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Next(u32);

const LEAF: u32 = 1 << 31;

impl Next {
    /// A node, by its place. At most 2^31 nodes exist: `Forest::new` checks their number.
    pub fn node(i: usize) -> Self {
        Next(i as u32 & !LEAF)
    }

    /// A leaf, by its place.
    pub fn leaf(i: usize) -> Self {
        Next(i as u32 | LEAF)
    }

    /// The place of the leaf, if it is one.
    pub fn as_leaf(self) -> Option<usize> {
        (self.0 & LEAF != 0).then_some((self.0 & !LEAF) as usize)
    }

    /// The place of the node, if it is one.
    pub fn as_node(self) -> Option<usize> {
        (self.0 & LEAF == 0).then_some(self.0 as usize)
    }
}

/// What a node asks of its feature `x`. Thresholds are exact: a model in single precision has
/// thresholds that are singles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Test {
    /// `x <= t`.
    Leq(f64),
    /// `x < t`.
    Lt(f64),
    /// `x >= t`.
    Geq(f64),
    /// `x > t`.
    Gt(f64),
    /// `x == t`.
    Eq(f64),
    /// `x != t`.
    Neq(f64),
    /// `x` is in the set of this place.
    Member(u32),
}

/// One inner node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The question.
    pub test: Test,
    /// The column that it asks.
    pub feature: u32,
    /// Where it leads if the answer is yes.
    pub yes: Next,
    /// Where it leads otherwise.
    pub no: Next,
    /// Whether NaN leads to `yes` whatever the question.
    pub missing: bool,
}

/// What a leaf adds to one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote {
    /// The target or class.
    pub target: u32,
    /// How much.
    pub weight: f64,
}

/// A list of lists in two flat arrays.
#[derive(Clone, Debug, PartialEq)]
pub struct Lists<T> {
    starts: Vec<u32>,
    items: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { starts: vec![0], items: vec![] }
    }
}

impl<T> Lists<T> {
    /// Adds a list.
    pub fn push(&mut self, items: impl IntoIterator<Item = T>) {
        self.items.extend(items);
        self.starts.push(self.items.len() as u32);
    }

    /// The list at a place, which must exist.
    pub fn at(&self, i: usize) -> &[T] {
        &self.items[self.starts[i] as usize..self.starts[i + 1] as usize]
    }

    /// The number of lists.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are no lists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items of all lists.
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// The lists, of each only its first item.
    #[must_use]
    pub fn firsts(&self) -> Self
    where
        T: Copy,
    {
        let mut firsts = Self::default();
        (0..self.len()).for_each(|i| firsts.push(self.at(i).first().copied()));
        firsts
    }
}

/// Decision trees, or DAGs whose branches meet again, over the columns of a table.
///
/// Nodes and leaves are numbered as a walk from the roots first meets them, yes before no, so a
/// tree lies in one piece and nothing in it is unreachable. Every index is in range and there is
/// no cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forest {
    /// The inner nodes.
    pub nodes: Vec<Node>,
    /// Where each tree begins.
    pub roots: Vec<Next>,
    /// The votes of each leaf.
    pub leaves: Lists<Vote>,
    /// Sorted values, for `Test::Member`.
    pub sets: Lists<f64>,
    /// One more than the greatest column read.
    pub features: usize,
    /// How many targets votes go to.
    pub targets: usize,
    /// Whether the model is in double precision, which scores are then summed in.
    pub wide: bool,
}

/// The most nodes, leaves, votes and set values of a forest.
pub const MOST: usize = LEAF as usize - 1;

impl Forest {
    /// Validates a forest and brings it into its form; `features` need not be set.
    ///
    /// Errors where an index is out of range or a branch leads back to where it came from.
    /// The time is linear in the size, whatever the shape.
    pub fn new(mut raw: Forest) -> Result<Self> {
        raw.check()?;
        super::sets::merge_chains(&mut raw);
        raw.renumbered()
    }

    /// The leaf that a row reaches in the tree that begins at `root`.
    pub fn leaf_of(&self, root: Next, row: &[f64]) -> usize {
        let mut at = root;
        loop {
            match at.as_leaf() {
                Some(leaf) => return leaf,
                None => {
                    let node = &self.nodes[at.0 as usize];
                    let yes = self.answer(node, row[node.feature as usize]);
                    at = if yes { node.yes } else { node.no };
                }
            }
        }
    }

    /// Whether a row whose feature is `x` goes to `yes` at a node.
    pub fn answer(&self, node: &Node, x: f64) -> bool {
        if x.is_nan() && node.missing {
            return true;
        }
        match node.test {
            Test::Leq(t) => x <= t,
            Test::Lt(t) => x < t,
            Test::Geq(t) => x >= t,
            Test::Gt(t) => x > t,
            Test::Eq(t) => x == t,
            Test::Neq(t) => x != t,
            Test::Member(set) => super::sets::contains(self.sets.at(set as usize), x),
        }
    }

    fn check(&self) -> Result<()> {
        let sizes = [self.nodes.len(), self.leaves.items.len(), self.leaves.len()];
        if sizes.into_iter().chain([self.sets.items.len()]).any(|n| n > MOST) {
            invalid!("the forest has more than {MOST} nodes, leaves or set values");
        }
        let exists = |n: Next| match (n.as_node(), n.as_leaf()) {
            (Some(i), _) => i < self.nodes.len(),
            (_, leaf) => leaf.is_some_and(|i| i < self.leaves.len()),
        };
        for (i, n) in self.nodes.iter().enumerate() {
            if !exists(n.yes) || !exists(n.no) {
                invalid!("node {i} leads to a node that does not exist");
            }
            if matches!(n.test, Test::Member(s) if s as usize >= self.sets.len()) {
                invalid!("node {i} asks a set that does not exist");
            }
        }
        if !self.roots.iter().all(|&r| exists(r)) {
            invalid!("a tree begins at a node that does not exist");
        }
        match self.leaves.items.iter().find(|v| v.target as usize >= self.targets) {
            Some(v) => invalid!("a leaf votes for target {} of {}", v.target, self.targets),
            None => Ok(()),
        }
    }

    /// The same forest, numbered as a walk meets it; an error where there is a cycle.
    fn renumbered(self) -> Result<Self> {
        let mut walk = Walk::new(&self);
        for &root in &self.roots {
            walk.from(root)?;
        }
        let Walk { node_at, leaf_at, nodes, leaves, .. } = walk;
        let moved = |n: Next| match (n.as_node(), n.as_leaf()) {
            (Some(i), _) => Next(node_at[i] & !OPEN),
            (_, leaf) => Next::leaf(leaf.map_or(0, |i| leaf_at[i] as usize)),
        };
        let nodes: Vec<Node> = (nodes.iter().map(|&i| self.nodes[i as usize]))
            .map(|n| Node { yes: moved(n.yes), no: moved(n.no), ..n })
            .collect();
        let mut lists = Lists::default();
        leaves.iter().for_each(|&i| lists.push(self.leaves.at(i as usize).iter().copied()));
        Ok(Forest {
            features: nodes.iter().map(|n| n.feature as usize + 1).max().unwrap_or(0),
            roots: self.roots.iter().map(|&r| moved(r)).collect(),
            leaves: lists,
            nodes,
            ..self
        })
    }
}

/// Marks a node whose branches are not yet walked through.
const OPEN: u32 = LEAF;
const UNSEEN: u32 = u32::MAX;

/// A depth-first walk that numbers what it meets.
struct Walk<'a> {
    forest: &'a Forest,
    /// New numbers by old ones, `OPEN` while a node is on the way down.
    node_at: Vec<u32>,
    leaf_at: Vec<u32>,
    /// Old numbers by new ones.
    nodes: Vec<u32>,
    leaves: Vec<u32>,
}

impl<'a> Walk<'a> {
    fn new(forest: &'a Forest) -> Self {
        Self {
            forest,
            node_at: vec![UNSEEN; forest.nodes.len()],
            leaf_at: vec![UNSEEN; forest.leaves.len()],
            nodes: vec![],
            leaves: vec![],
        }
    }

    fn from(&mut self, root: Next) -> Result<()> {
        let forest = self.forest;
        let mut way: Vec<(usize, u8)> = Vec::new();
        way.extend(self.meet(root)?.map(|i| (i, 0)));
        while let Some((i, step)) = way.last_mut() {
            let (i, node) = (*i, &forest.nodes[*i]);
            *step += 1;
            let next = match *step {
                1 => node.yes,
                2 => node.no,
                _ => {
                    self.node_at[i] &= !OPEN;
                    way.pop();
                    continue;
                }
            };
            way.extend(self.meet(next)?.map(|i| (i, 0)));
        }
        Ok(())
    }

    /// Numbers what is met for the first time; returns a node that is to be walked through.
    fn meet(&mut self, next: Next) -> Result<Option<usize>> {
        if let Some(i) = next.as_leaf() {
            if self.leaf_at[i] == UNSEEN {
                self.leaf_at[i] = self.leaves.len() as u32;
                self.leaves.push(i as u32);
            }
            return Ok(None);
        }
        let i = next.0 as usize;
        match self.node_at[i] {
            UNSEEN => {
                self.node_at[i] = self.nodes.len() as u32 | OPEN;
                self.nodes.push(i as u32);
                Ok(Some(i))
            }
            n if n & OPEN != 0 => invalid!("node {i} of the forest leads back to itself"),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(test: Test, yes: Next, no: Next) -> Node {
        Node { test, feature: 0, yes, no, missing: false }
    }

    fn forest(nodes: Vec<Node>, leaves: usize) -> Result<Forest> {
        let mut lists = Lists::default();
        (0..leaves).for_each(|i| lists.push([Vote { target: 0, weight: i as f64 }]));
        let roots = vec![Next::node(0)];
        Forest::new(Forest { nodes, roots, leaves: lists, targets: 1, ..Forest::default() })
    }

    #[test]
    fn every_test_and_where_nan_goes() {
        let cases = [
            (Test::Leq(1.0), [true, true, false], false),
            (Test::Lt(1.0), [true, false, false], false),
            (Test::Geq(1.0), [false, true, true], false),
            (Test::Gt(1.0), [false, false, true], false),
            (Test::Eq(1.0), [false, true, false], false),
            (Test::Neq(1.0), [true, false, true], true),
        ];
        for (test, want, nan) in cases {
            let f = forest(vec![node(test, Next::leaf(0), Next::leaf(1))], 2).expect("valid");
            let yes = |f: &Forest, x: f64| f.leaf_of(f.roots[0], &[x]) == 0;
            assert_eq!([0.0, 1.0, 2.0].map(|x| yes(&f, x)), want, "{test:?}");
            assert_eq!(yes(&f, f64::NAN), nan, "{test:?}");
            let mut tracks = f.clone();
            tracks.nodes[0].missing = true;
            assert!(yes(&tracks, f64::NAN), "{test:?}");
            assert_eq!(yes(&tracks, 2.0), want[2], "{test:?}");
        }
    }

    #[test]
    fn shared_branches_are_kept_and_unreachable_ones_dropped() {
        let f = forest(
            vec![
                node(Test::Lt(0.0), Next::node(2), Next::node(3)),
                node(Test::Lt(9.0), Next::leaf(2), Next::leaf(2)),
                node(Test::Lt(-1.0), Next::leaf(1), Next::node(3)),
                node(Test::Lt(-2.0), Next::leaf(0), Next::leaf(1)),
            ],
            3,
        )
        .expect("a DAG");
        assert_eq!((f.nodes.len(), f.leaves.len()), (3, 2));
        assert_eq!(f.nodes[0].no, f.nodes[1].no);
        assert_eq!(f.leaves.at(0)[0].weight, 1.0);
    }

    #[test]
    fn cycles_and_bad_indices_are_errors() {
        let lead = |yes, no| forest(vec![node(Test::Lt(0.0), yes, no)], 1);
        assert!(lead(Next::leaf(0), Next::leaf(0)).is_ok());
        assert!(lead(Next::node(0), Next::leaf(0)).expect_err("cycle").message().contains("back"));
        assert!(lead(Next::node(1), Next::leaf(0)).is_err());
        assert!(lead(Next::leaf(0), Next::leaf(1)).is_err());
    }

    #[test]
    fn a_very_deep_chain() {
        const DEPTH: usize = 300_000;
        let nodes = (0..DEPTH)
            .map(|i| {
                let no = if i + 1 == DEPTH { Next::leaf(1) } else { Next::node(i + 1) };
                node(Test::Gt(-(i as f64)), Next::leaf(0), no)
            })
            .collect();
        let f = forest(nodes, 2).expect("a chain");
        assert_eq!(f.leaf_of(f.roots[0], &[-1e9]), 1);
        assert_eq!(f.leaf_of(f.roots[0], &[-5.5]), 0);
    }
}
