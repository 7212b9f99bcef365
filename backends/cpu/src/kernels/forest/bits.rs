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
const TABLES: usize = 1 << (MOST - LOW);

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
}

impl Tree {
    /// The number of questions.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }
}

impl Bits {
    /// Adds a tree, where it asks few questions.
    pub fn add(&mut self, walk: &Walk<f32>, tree: usize) -> Option<Tree> {
        let levels = questions(walk, tree)?;
        let made = Tree {
            levels: self.levels.len()..self.levels.len() + levels.len(),
            tables: self.tables.len(),
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
        for high_right in 0..1 << high {
            // Tables stand in the order of answers to the first questions, left before right.
            let answers = !high_right & ((1 << high) - 1);
            self.tables.push(std::array::from_fn(|low| leaf(answers << LOW | low)));
        }
        self.levels.extend(levels.iter().map(|&(column, t)| (column, f32::from_bits(t))));
        Some(made)
    }

    /// What is known of the leaves of `GROUP` vectors of rows, which are the columns of a tile.
    #[inline(always)]
    pub fn run<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        tree: &Tree,
        tile: &[f32],
    ) -> [S::I; GROUP] {
        let levels = &self.levels[tree.levels.clone()];
        let high = levels.len().saturating_sub(LOW);
        let tables = &self.tables[tree.tables..][..1 << high];
        let mut leaves = [isa.ints(0); GROUP];
        for (g, leaves) in leaves.iter_mut().enumerate() {
            let mut index = isa.ints(31);
            for (i, &level) in levels.iter().rev().take(LOW).enumerate() {
                let right = right::<S, GROUP>(isa, level, tile, g);
                index = index.clear(right, isa.ints(1 << i));
            }
            let mut found = [isa.ints(0); TABLES];
            for (f, t) in found.iter_mut().zip(tables) {
                *f = index.lookup(t);
            }
            for (h, &level) in levels[..high].iter().enumerate().rev() {
                let right = right::<S, GROUP>(isa, level, tile, g);
                for i in 0..1 << h {
                    found[i] = right.pick(found[2 * i + 1], found[2 * i]);
                }
            }
            *leaves = found[0];
        }
        leaves
    }
}

/// Where the answer to a question is right, in vector `g` of each column.
#[inline(always)]
fn right<S: Isa, const GROUP: usize>(
    isa: S,
    (column, threshold): (u32, f32),
    tile: &[f32],
    g: usize,
) -> S::M {
    let at = (column as usize * GROUP + g) * S::LANES;
    isa.load(&tile[at..]).not_le(isa.splat(threshold))
}
