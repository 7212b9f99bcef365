//! Trees walked without branches: many independent walks side by side hide each other's latency.
//!
//! ```text
//! step { threshold, link }      at = (link >> bits) + (not x[link & mask] <= threshold)
//! ```
//! The two sides of a split lie side by side, the left one at an even distance from the tree's
//! first step, so a comparison is all that chooses. A leaf leads to itself: nothing is at most its
//! NaN.

use std::collections::{BinaryHeap, HashMap, HashSet};

use kiln_ir::ops::forest::Next;

use super::splits::{Real, Splits};

/// One split or leaf of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<T> {
    threshold: T,
    /// Where the left side lies among the steps of the tree, above the bits of the column.
    link: u32,
}

/// All trees as steps.
#[derive(Debug)]
pub(super) struct Walk<T> {
    steps: Vec<Step<T>>,
    /// What is known of the leaf of each step that is one.
    leaves: Vec<u32>,
    trees: Vec<Tree>,
    /// The trees, shallow ones first.
    by_depth: Vec<u32>,
    /// Bits of a link that name the column.
    bits: u32,
    columns: usize,
}

/// A tree's steps.
#[derive(Clone, Copy, Debug)]
struct Tree {
    first: u32,
    /// Splits on the longest way down.
    depth: u32,
}

/// Numbers of some rows: column `c` of row `r` at `c * column + r * row`.
#[derive(Clone, Copy)]
pub(super) struct Table<'a, T> {
    pub data: &'a [T],
    pub column: usize,
    pub row: usize,
}

/// The step where every walk begins: a left side lies at an even place, so this one is alone.
pub(super) const ROOT: u32 = 1;

/// What a tree looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub splits: usize,
    pub leaves: usize,
    /// Splits on the way to a leaf, on average.
    pub mean: f64,
}

/// Splits that are counted: beyond, no tactic but walking pays.
pub(super) const SHOWN: usize = 1 << 12;
/// Walks side by side.
const ABREAST: usize = 8;
/// Steps between looks at whether all have arrived.
const STRIDE: u32 = 4;

impl<T: Real> Walk<T> {
    /// The steps of a forest, `known` of its leaves; `None` where a tree is too large for a link to
    /// name its steps.
    pub fn of(s: &Splits<T>, known: &dyn Fn(usize) -> u32) -> Option<Self> {
        let bits = u32::BITS - (s.columns.len().max(2) as u32 - 1).leading_zeros();
        let mut walk = Self {
            steps: vec![],
            leaves: vec![],
            trees: vec![],
            by_depth: vec![],
            bits,
            columns: s.columns.len(),
        };
        let sides = vec![0; s.splits.len()];
        let mut builder = Builder { splits: s, known, sides, touched: vec![] };
        for &root in &s.roots {
            builder.tree(&mut walk, root)?;
        }
        walk.by_depth = (0..walk.trees.len() as u32).collect();
        walk.by_depth.sort_by_key(|&t| walk.trees[t as usize].depth);
        Some(walk)
    }

    /// The number of trees.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// What is known of the leaf of a step that is one.
    pub fn leaf(&self, tree: usize, at: u32) -> u32 {
        self.leaves[(self.trees[tree].first + at) as usize]
    }

    /// The most splits on a way down a tree.
    pub fn depth(&self, tree: usize) -> u32 {
        self.trees[tree].depth
    }

    /// The sides that a step leads to: none for a leaf.
    pub fn sides(&self, tree: usize, at: u32) -> Option<(u32, u32)> {
        let step = self.steps[(self.trees[tree].first + at) as usize];
        let left = step.link >> self.bits;
        (left + 1 != at).then_some((left, left + 1))
    }

    /// The column and the threshold of a step.
    pub fn split(&self, tree: usize, at: u32) -> (u32, T) {
        let step = self.steps[(self.trees[tree].first + at) as usize];
        (step.link & ((1 << self.bits) - 1), step.threshold)
    }

    /// The size of a tree, branches that meet again counted each time.
    pub fn shape(&self, tree: usize) -> Shape {
        let mut shape = Shape { splits: 0, leaves: 0, mean: 0.0 };
        let mut ways = 0usize;
        let mut stack = vec![(ROOT, 0usize)];
        while let Some((at, depth)) = stack.pop() {
            match self.sides(tree, at) {
                Some((left, right)) if shape.splits < SHOWN => {
                    shape.splits += 1;
                    stack.extend([(right, depth + 1), (left, depth + 1)]);
                }
                _ => {
                    shape.leaves += 1;
                    ways += depth;
                }
            }
        }
        shape.mean = ways as f64 / shape.leaves as f64;
        shape
    }

    /// The steps at which a sweep of the top of a tree is to end: as many as `most`, so that the
    /// largest parts below are as small as they can be.
    pub fn top(&self, tree: usize, most: usize) -> HashSet<u32> {
        let steps = self.trees.get(tree + 1).map_or(self.steps.len(), |t| t.first as usize);
        let mut below = vec![1u32; steps - self.trees[tree].first as usize];
        // Sides lie behind the splits that lead to them, but where branches meet again: there the
        // counts are too low, and any ends are right.
        for at in (ROOT..below.len() as u32).rev() {
            if let Some((left, right)) = self.sides(tree, at) {
                below[at as usize] = below[left as usize].saturating_add(below[right as usize]);
            }
        }
        let mut ends = BinaryHeap::from([(below[ROOT as usize], ROOT)]);
        let mut done = HashSet::new();
        while ends.len() + done.len() < most {
            let Some((_, at)) = ends.pop() else { break };
            match self.sides(tree, at) {
                None => _ = done.insert(at),
                Some((left, right)) => {
                    ends.extend([left, right].map(|s| (below[s as usize], s)));
                }
            }
        }
        ends.into_iter().map(|(_, at)| at).chain(done).collect()
    }

    /// Walks one row down all trees, those of like depth side by side; `out` gets what is known of
    /// each tree's leaf.
    pub fn across(&self, x: &[T], out: &mut [u32]) {
        assert!(x.len() >= self.columns, "a row has a number for each column");
        for trees in self.by_depth.chunks(ABREAST) {
            let mut base = [0u32; ABREAST];
            let mut at = [ROOT; ABREAST];
            for (b, t) in base.iter_mut().zip(trees) {
                *b = self.trees[*t as usize].first;
            }
            // Lanes without a tree walk the first one again.
            base[trees.len()..].fill(self.trees[trees[0] as usize].first);
            let depth = trees.last().map_or(0, |t| self.trees[*t as usize].depth);
            self.descend(depth, |l| base[l], &mut at, |_, c| element(x, c));
            for ((tree, at), base) in trees.iter().zip(at).zip(base) {
                out[*tree as usize] = self.leaves[(base + at) as usize];
            }
        }
    }

    /// Walks some rows down one tree side by side, from the steps in `at`, which become leaves.
    pub fn down(&self, tree: usize, x: Table<'_, T>, at: &mut [u32]) {
        let Tree { first, depth } = self.trees[tree];
        let last = (self.columns.max(1) - 1) * x.column + (at.len().max(1) - 1) * x.row;
        assert!(at.is_empty() || depth == 0 || last < x.data.len(), "a table has all its numbers");
        let mut rows = at.chunks_exact_mut(ABREAST);
        let mut r = 0;
        for at in &mut rows {
            let at: &mut [u32; ABREAST] = at.try_into().expect("chunks of this length");
            self.descend(
                depth,
                |_| first,
                at,
                |l, c| element(x.data, c * x.column + (r + l) * x.row),
            );
            r += ABREAST;
        }
        let rest = rows.into_remainder();
        if !rest.is_empty() {
            let mut at = [ROOT; ABREAST];
            at[..rest.len()].copy_from_slice(rest);
            let last = rest.len() - 1;
            let read = |l: usize, c| element(x.data, c * x.column + (r + l.min(last)) * x.row);
            self.descend(depth, |_| first, &mut at, read);
            rest.copy_from_slice(&at[..rest.len()]);
        }
    }

    /// Walks lane `l` from step `at[l]` of the tree that begins at step `base(l)`, until all have
    /// arrived; `read` gives the number of a lane and a column.
    #[inline(always)]
    fn descend(
        &self,
        depth: u32,
        base: impl Fn(usize) -> u32,
        at: &mut [u32; ABREAST],
        read: impl Fn(usize, usize) -> T,
    ) {
        let (bits, mask) = (self.bits, (1 << self.bits) - 1);
        for (l, at) in at.iter().enumerate() {
            assert!(((base(l) + at) as usize) < self.steps.len(), "a walk begins at a step");
        }
        let steps = &self.steps[..];
        let step = |l: usize, at: u32| {
            // SAFETY: where walks begin was looked at above, and `Builder` links the steps of a
            // tree to steps of the same tree alone.
            #[allow(unsafe_code)]
            let step = unsafe { steps.get_unchecked((base(l) + at) as usize) };
            let x = read(l, (step.link & mask) as usize);
            let below = x <= step.threshold;
            (step.link >> bits) + u32::from(!below)
        };
        // Locals, so that they stay in registers.
        let mut now = *at;
        for _ in 0..depth.div_ceil(STRIDE) {
            for _ in 1..STRIDE {
                for (l, now) in now.iter_mut().enumerate() {
                    *now = step(l, *now);
                }
            }
            let mut moved = 0;
            for (l, now) in now.iter_mut().enumerate() {
                let next = step(l, *now);
                moved |= next ^ *now;
                *now = next;
            }
            if moved == 0 {
                break;
            }
        }
        *at = now;
    }
}

/// An element of which callers have made sure.
///
/// # Panics
/// In tests, where it is not there.
#[inline(always)]
fn element<T: Real>(x: &[T], i: usize) -> T {
    debug_assert!(i < x.len());
    // SAFETY: the callers have compared the greatest index that they form with the length.
    #[allow(unsafe_code)]
    unsafe {
        *x.get_unchecked(i)
    }
}

/// Lays trees out, level by level.
struct Builder<'a, T> {
    splits: &'a Splits<T>,
    known: &'a dyn Fn(usize) -> u32,
    /// Where the sides of each split of this tree lie, 0 where they have no place yet.
    sides: Vec<u32>,
    touched: Vec<usize>,
}

impl<T: Real> Builder<'_, T> {
    fn tree(&mut self, walk: &mut Walk<T>, root: Next) -> Option<()> {
        let first = walk.steps.len();
        let most = u32::MAX >> walk.bits;
        // What lies at each step; step 0 is never walked on.
        let mut order = vec![Next::leaf(0), root];
        let mut depth = 0;
        let mut level = ROOT as usize..2;
        loop {
            for i in level.clone() {
                let Some(s) = order[i].as_node() else { continue };
                if self.sides[s] == 0 {
                    self.sides[s] = order.len() as u32;
                    self.touched.push(s);
                    order.extend([self.splits.splits[s].left, self.splits.splits[s].right]);
                }
            }
            level = level.end..order.len();
            if level.is_empty() {
                break;
            }
            depth += 1;
        }
        if order.len() as u64 > u64::from(most) {
            return None;
        }
        for (at, &next) in order.iter().enumerate() {
            let (step, leaf) = self.step(next, at as u32, walk.bits);
            walk.steps.push(step);
            walk.leaves.push(leaf);
        }
        let depth = self.longest(&order).max(depth);
        walk.trees.push(Tree { first: u32::try_from(first).ok()?, depth });
        self.touched.drain(..).for_each(|s| self.sides[s] = 0);
        Some(())
    }

    fn step(&self, next: Next, at: u32, bits: u32) -> (Step<T>, u32) {
        match (next.as_node(), next.as_leaf()) {
            (Some(s), _) => {
                let split = &self.splits.splits[s];
                let link = self.sides[s] << bits | split.column;
                (Step { threshold: split.threshold, link }, 0)
            }
            (_, leaf) => {
                let link = at.saturating_sub(1) << bits;
                (Step { threshold: T::NAN, link }, leaf.map_or(0, self.known))
            }
        }
    }

    /// The splits on the longest way down: where branches meet again, it is longer than the levels.
    fn longest(&self, order: &[Next]) -> u32 {
        if order.iter().filter(|n| n.as_node().is_some()).count() == self.touched.len() {
            return 0;
        }
        let mut depths: HashMap<usize, u32> = HashMap::new();
        let mut stack: Vec<usize> = order.get(1).and_then(|n| n.as_node()).into_iter().collect();
        while let Some(&s) = stack.last() {
            let split = &self.splits.splits[s];
            let sides = [split.left, split.right].map(|n| n.as_node());
            let open: Vec<usize> =
                sides.into_iter().flatten().filter(|n| !depths.contains_key(n)).collect();
            if open.is_empty() {
                let below = sides.iter().flatten().map(|n| depths[n]).max().unwrap_or(0);
                depths.insert(s, below + 1);
                stack.pop();
            } else {
                stack.extend(open);
            }
        }
        depths.values().copied().max().unwrap_or(0)
    }
}
