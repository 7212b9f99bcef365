//! Trees that ask few questions: the answers are the number of a leaf.
//!
//! ```text
//! leaf = table[ [x0 <= t0] [x1 <= t1] .. [xd <= td] ]
//! ```
//! CatBoost asks one question per level, and writes that out as full trees, of which passes cut
//! off what no row can reach. Shallow trees are of this kind, too.

use std::ops::Range;

use super::walk::{ROOT, Walk};
use crate::simd::{Floats, Ints, Isa, Mask};

/// The most questions: eight tables of 32 leaves.
const MOST: usize = 8;
/// Questions that one table answers.
const LOW: usize = 5;

/// The levels and leaves of some trees.
#[derive(Debug, Default)]
pub(super) struct Bits {
    levels: Vec<(u32, f32)>,
    /// By the answers to the last five questions.
    tables: Vec<[u32; 32]>,
}

/// A column, and the bits of a threshold.
type Question = (u32, u32);

fn question(walk: &Walk<f32>, tree: usize, at: u32) -> Question {
    let (column, threshold) = walk.split(tree, at);
    (column, threshold.to_bits())
}

/// The questions of a tree in the order of its levels; `None` where they are too many.
pub(super) fn questions(walk: &Walk<f32>, tree: usize) -> Option<Vec<Question>> {
    let mut found: Vec<Question> = vec![];
    let mut level = vec![ROOT];
    while !level.is_empty() {
        let mut below = vec![];
        for at in level {
            let Some((left, right)) = walk.sides(tree, at) else { continue };
            let asked = question(walk, tree, at);
            if !found.contains(&asked) {
                found.push(asked);
            }
            below.extend([left, right]);
        }
        // Where branches meet again, ways to a step may be many.
        if found.len() > MOST || below.len() > 4 << MOST {
            return None;
        }
        level = below;
    }
    Some(found)
}

/// A tree among them.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    levels: Range<usize>,
    tables: usize,
    pub targets: usize,
}

impl Tree {
    /// The number of questions.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }
}

impl Bits {
    /// Adds a tree, where it asks few questions. For each of some targets, `value` says what
    /// running gives for what is known of a leaf.
    pub fn add(
        &mut self,
        walk: &Walk<f32>,
        tree: usize,
        targets: usize,
        value: &dyn Fn(u32, usize) -> u32,
    ) -> Option<Tree> {
        let levels = questions(walk, tree)?;
        let made = Tree {
            levels: self.levels.len()..self.levels.len() + levels.len(),
            tables: self.tables.len(),
            targets,
        };
        // The leaf for some answers, whether any number gives them or not: bit `i` is set where
        // the answer to the question `i` from the last is left.
        let leaf = |answers: usize| {
            let mut at = ROOT;
            while let Some((left, right)) = walk.sides(tree, at) {
                let asked = question(walk, tree, at);
                let i = levels.iter().rev().position(|q| *q == asked).unwrap_or(0);
                at = if answers >> i & 1 == 1 { left } else { right };
            }
            walk.leaf(tree, at)
        };
        let high = levels.len().saturating_sub(LOW);
        for (target, right) in (0..targets).flat_map(|t| (0..1 << high).map(move |r| (t, r))) {
            // Tables stand in the order of answers to the first questions, left before right.
            let left = !right & ((1 << high) - 1);
            let table = std::array::from_fn(|low| value(leaf(left << LOW | low), target));
            self.tables.push(table);
        }
        self.levels.extend(levels.iter().map(|&(column, t)| (column, f32::from_bits(t))));
        Some(made)
    }

    /// The values for a target of the leaves of `GROUP` vectors of rows, which are the columns of
    /// a tile.
    #[inline(always)]
    pub fn run<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        tree: &Tree,
        target: usize,
        tile: &[f32],
    ) -> [S::I; GROUP] {
        let levels = &self.levels[tree.levels.clone()];
        let (high, low) = levels.split_at(levels.len().saturating_sub(LOW));
        let tables = tree.tables + (target << high.len());
        let tables = &self.tables[tables..][..1 << high.len()];
        let mut index = [isa.ints(31); GROUP];
        for (i, &(column, threshold)) in low.iter().rev().enumerate() {
            let (threshold, bit) = (isa.splat(threshold), isa.ints(1 << i));
            let x = &tile[column as usize * GROUP * S::LANES..][..GROUP * S::LANES];
            for g in 0..GROUP {
                let right = isa.load(&x[g * S::LANES..]).not_le(threshold);
                index[g] = index[g].clear(right, bit);
            }
        }
        let asked = Asked { isa, tile, index };
        match high {
            [] => asked.one(&tables[0]),
            [a] => asked.two(tables, a),
            [a, b] => asked.four(tables, [a, b]),
            [a, rest @ ..] => asked.eight(tables, a, [&rest[0], &rest[1]]),
        }
    }
}

/// Vectors of rows that have answered the last five questions.
struct Asked<'a, S: Isa, const GROUP: usize> {
    isa: S,
    tile: &'a [f32],
    index: [S::I; GROUP],
}

/// Tables of 32 leaves, those to the left of the first questions before those to the right.
type Tables = [[u32; 32]];

impl<S: Isa, const GROUP: usize> Asked<'_, S, GROUP> {
    #[inline(always)]
    fn one(&self, table: &[u32; 32]) -> [S::I; GROUP] {
        let mut found = self.index;
        for found in &mut found {
            *found = found.lookup(table);
        }
        found
    }

    /// What lies to the right of a question where the answer is right.
    #[inline(always)]
    fn pick(
        &self,
        &(column, threshold): &(u32, f32),
        left: [S::I; GROUP],
        right: [S::I; GROUP],
    ) -> [S::I; GROUP] {
        let threshold = self.isa.splat(threshold);
        let x = &self.tile[column as usize * GROUP * S::LANES..][..GROUP * S::LANES];
        let mut found = left;
        for g in 0..GROUP {
            let answer = self.isa.load(&x[g * S::LANES..]).not_le(threshold);
            found[g] = answer.pick(right[g], left[g]);
        }
        found
    }

    #[inline(always)]
    fn two(&self, tables: &Tables, a: &(u32, f32)) -> [S::I; GROUP] {
        self.pick(a, self.one(&tables[0]), self.one(&tables[1]))
    }

    #[inline(always)]
    fn four(&self, tables: &Tables, [a, b]: [&(u32, f32); 2]) -> [S::I; GROUP] {
        self.pick(a, self.two(&tables[..2], b), self.two(&tables[2..], b))
    }

    #[inline(always)]
    fn eight(&self, tables: &Tables, a: &(u32, f32), rest: [&(u32, f32); 2]) -> [S::I; GROUP] {
        self.pick(a, self.four(&tables[..4], rest), self.four(&tables[4..], rest))
    }
}
