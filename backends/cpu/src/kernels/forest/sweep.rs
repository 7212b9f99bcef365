//! Trees swept node by node, rows in lanes: no branches, no gathers.
//!
//! ```text
//! open = all leaves, one bit each, from left to right
//! for each split:  where x > threshold:  open &= !leaves of its left side
//! the leaf of a row is the lowest bit left
//! ```
//! Each split says which leaves it rules out; those left of the row's leaf are all ruled out, and
//! the row's leaf never is. A tree of more than 32 leaves is swept a word of leaves at a time, with
//! the splits that rule out any of the word; the first word with a bit left holds the leaf.

use std::ops::Range;

use super::walk::{ROOT, Walk};
use crate::simd::{Floats, Ints, Isa, Mask};

/// Leaves of a word.
pub(super) const WORD: usize = 32;

/// A split as a sweep sees it.
#[derive(Clone, Copy, Debug)]
struct Probe {
    threshold: f32,
    column: u32,
    /// The leaves of the word on its left side.
    left: u32,
}

/// Leaves of a tree that are swept together.
#[derive(Debug)]
struct Word {
    /// Where its probes end.
    end: u32,
    /// What is known of each leaf.
    leaves: [u32; WORD],
}

/// The words of some trees, or of their tops.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    probes: Vec<Probe>,
    words: Vec<Word>,
}

/// The words of one tree.
#[derive(Clone, Debug)]
pub(super) struct Swept {
    words: Range<u32>,
}

impl Sweep {
    /// Adds a tree as far as some steps, which count as its leaves: `known` says what sweeping
    /// gives for each of them. They are those of the tree from left to right.
    pub fn add(
        &mut self,
        walk: &Walk<f32>,
        tree: usize,
        is_leaf: &dyn Fn(u32) -> bool,
        known: &dyn Fn(u32) -> u32,
    ) -> Swept {
        let mut leaves = vec![];
        let mut splits = vec![];
        // Steps to come, and where splits on the way are to end their left sides.
        let mut stack = vec![Task::Step(ROOT)];
        while let Some(task) = stack.pop() {
            match task {
                Task::Ends(i) => {
                    let (_, _, range): &mut (u32, f32, Range<usize>) = &mut splits[i];
                    range.end = leaves.len();
                }
                Task::Step(at) => match walk.sides(tree, at).filter(|_| !is_leaf(at)) {
                    None => leaves.push(known(at)),
                    Some((left, right)) => {
                        let (column, threshold) = walk.split(tree, at);
                        splits.push((column, threshold, leaves.len()..leaves.len()));
                        let i = splits.len() - 1;
                        stack.extend([Task::Step(right), Task::Ends(i), Task::Step(left)]);
                    }
                },
            }
        }
        let first = self.words.len() as u32;
        for (w, known) in leaves.chunks(WORD).enumerate() {
            let from = w * WORD;
            for (column, threshold, left) in &splits {
                let range = left.start.max(from)..left.end.min(from + WORD);
                if !range.is_empty() {
                    let ones = u32::MAX >> (WORD - range.len());
                    let left = ones << (range.start - from);
                    self.probes.push(Probe { threshold: *threshold, column: *column, left });
                }
            }
            let mut leaves = [0; WORD];
            leaves[..known.len()].copy_from_slice(known);
            self.words.push(Word { end: self.probes.len() as u32, leaves });
        }
        Swept { words: first..self.words.len() as u32 }
    }

    /// What is known of the leaves of `GROUP` vectors of rows, which are the columns of a tile.
    #[inline(always)]
    pub fn run<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        tree: &Swept,
        tile: &[f32],
    ) -> [S::I; GROUP] {
        let words = &self.words[tree.words.start as usize..tree.words.end as usize];
        let start = match tree.words.start {
            0 => 0,
            w => self.words[w as usize - 1].end as usize,
        };
        match words {
            [word] => {
                let mut found = self.word::<S, GROUP>(isa, start..word.end as usize, tile);
                for leaves in &mut found {
                    *leaves = leaves.lowest().lookup(&word.leaves);
                }
                found
            }
            _ => self.words::<S, GROUP>(isa, start, words, tile),
        }
    }

    /// The first word with a bit left holds the leaf.
    #[inline(always)]
    fn words<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        mut start: usize,
        words: &[Word],
        tile: &[f32],
    ) -> [S::I; GROUP] {
        let mut found = [isa.ints(0); GROUP];
        let mut looking = [isa.ints(u32::MAX); GROUP];
        for word in words {
            let open = self.word::<S, GROUP>(isa, start..word.end as usize, tile);
            start = word.end as usize;
            for g in 0..GROUP {
                let here = (open[g] & looking[g]).any_bit();
                found[g] = here.pick(open[g].lowest().lookup(&word.leaves), found[g]);
                looking[g] = looking[g].clear(here, isa.ints(u32::MAX));
            }
        }
        found
    }

    /// The leaves of a word that are left.
    #[inline(always)]
    fn word<S: Isa, const GROUP: usize>(
        &self,
        isa: S,
        probes: Range<usize>,
        tile: &[f32],
    ) -> [S::I; GROUP] {
        let mut open = [isa.ints(u32::MAX); GROUP];
        for p in &self.probes[probes] {
            let (threshold, left) = (isa.splat(p.threshold), isa.ints(p.left));
            let x = &tile[p.column as usize * GROUP * S::LANES..][..GROUP * S::LANES];
            for g in 0..GROUP {
                let right = isa.load(&x[g * S::LANES..]).not_le(threshold);
                open[g] = open[g].clear(right, left);
            }
        }
        open
    }
}

enum Task {
    /// Go on at a step.
    Step(u32),
    /// The left side of a split ends here.
    Ends(usize),
}
