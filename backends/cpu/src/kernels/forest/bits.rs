//! Trees that ask one question per level: a leaf's number is the bits of the answers.
//!
//! ```text
//! leaf = [x0 > t0] [x1 > t1] .. [xd > td]
//! ```
//! Such trees come from CatBoost, which writes them out as full trees.

use std::ops::Range;

use super::walk::{ROOT, Walk};
use crate::simd::{Floats, Ints, Isa, Mask};

/// The most levels: eight tables of 32 leaves.
const MOST: usize = 8;
/// Levels that one table answers.
const LOW: usize = 5;
const TABLES: usize = 1 << (MOST - LOW);

/// The levels and leaves of some trees.
#[derive(Debug, Default)]
pub(super) struct Bits {
    levels: Vec<(u32, f32)>,
    /// For the answers of the lowest five levels, leftmost leaf last.
    tables: Vec<[u32; 32]>,
}

/// A tree among them.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    levels: Range<usize>,
    tables: usize,
}

impl Tree {
    /// The number of levels.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }
}

impl Bits {
    /// Adds a tree, where it asks one question per level.
    pub fn add(&mut self, walk: &Walk<f32>, tree: usize) -> Option<Tree> {
        let mut steps = vec![ROOT];
        let mut levels = vec![];
        while walk.sides(tree, steps[0]).is_some() {
            let (column, threshold) = walk.split(tree, steps[0]);
            let same = |&s: &u32| {
                let (c, t) = walk.split(tree, s);
                c == column && t.to_bits() == threshold.to_bits()
            };
            if levels.len() == MOST || !steps.iter().all(same) {
                return None;
            }
            levels.push((column, threshold));
            let sides = steps.iter().map(|&s| walk.sides(tree, s).map(|(l, r)| [l, r]));
            steps = sides.collect::<Option<Vec<_>>>()?.concat();
        }
        if steps.iter().any(|&s| walk.sides(tree, s).is_some()) {
            return None;
        }
        let made = Tree {
            levels: self.levels.len()..self.levels.len() + levels.len(),
            tables: self.tables.len(),
        };
        self.levels.extend(levels);
        for leaves in steps.chunks(32) {
            let mut table = [0; 32];
            for (i, &s) in leaves.iter().enumerate() {
                table[leaves.len() - 1 - i] = walk.leaf(tree, s);
            }
            self.tables.push(table);
        }
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
        std::array::from_fn(|g| {
            let right = |(column, threshold): (u32, f32)| {
                let at = (column as usize * GROUP + g) * S::LANES;
                isa.load(&tile[at..]).not_le(isa.splat(threshold))
            };
            let mut index = isa.ints(31);
            for (i, &level) in levels.iter().rev().take(LOW).enumerate() {
                index = index.clear(right(level), isa.ints(1 << i));
            }
            // The tables of 2^(levels - 5) leaves or fewer hold their leaves at the end of the bits.
            let index = index & isa.ints((1u32 << levels.len().min(LOW)) - 1);
            let mut found = [isa.ints(0); TABLES];
            for (f, t) in found.iter_mut().zip(tables) {
                *f = index.lookup(t);
            }
            for (h, &level) in levels[..high].iter().enumerate().rev() {
                let right = right(level);
                for i in 0..1 << h {
                    found[i] = right.pick(found[2 * i + 1], found[2 * i]);
                }
            }
            found[0]
        })
    }
}
