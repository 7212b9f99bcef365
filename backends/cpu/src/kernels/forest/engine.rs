//! Tables through forests: blocks of rows in cache, each tree by the tactic that suits it.

use kiln_ir::ops::forest::{Ensemble, Votes};

use super::bits::{self, Bits};
use super::splits::{Column, Real, Splits};
use super::sweep::{Sweep, Swept, WORD};
use super::tally::{Sums, Tally};
use super::walk::{ROOT, SHOWN, Shape, Table, Walk};
use crate::lanes::turn;
use crate::simd::{Floats, Ints, Isa, Level, Work};

/// Vectors of rows that a tree is swept with at a time.
const GROUP: usize = 4;
/// Rows of the widest tile.
const WIDEST: usize = GROUP * 16;
/// Fewer rows than this walk one by one, down many trees side by side.
const FEW: usize = 16;
/// Rows that wait in cache while trees pass by.
pub(super) const BLOCK: usize = 512;
/// Bytes of trees that stay in cache while tiles pass by.
const TREES: usize = 256 << 10;

/// How trees are run on many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeTactic {
    /// One comparison per question, the leaf by the answers; trees of at most eight questions.
    Bits,
    /// One comparison per split, the leaf by the lowest bit left.
    Sweep,
    /// The top of the tree swept, the rest walked.
    Top,
    /// Rows walk side by side.
    Walk,
}

/// A tree made ready for a tactic.
#[derive(Clone, Debug)]
enum Tactic {
    Bits(bits::Tree),
    Sweep(Swept),
    Top(Swept),
    Walk,
}

/// A forest made ready.
#[derive(Debug)]
pub(super) struct Engine<T> {
    columns: Vec<Column>,
    walk: Walk<T>,
    tally: Tally,
    wide: bool,
}

/// Tactics on tiles of `f32`.
#[derive(Debug)]
pub(super) struct Tiles {
    sweep: Sweep,
    bits: Bits,
    tactics: Vec<Tactic>,
    /// Where blocks of trees end.
    blocks: Vec<usize>,
    level: Level,
}

impl<T: Real> Engine<T> {
    /// The steps of an ensemble; `wide` where its sums are in double precision.
    pub fn of(e: &Ensemble, wide: bool) -> Option<Self> {
        let splits = Splits::of(&e.forest);
        let tally = Tally::of(e, wide);
        let walk = Walk::of(&splits, &|leaf| tally.known(&e.forest, leaf))?;
        Some(Self { columns: splits.columns, walk, tally, wide })
    }

    /// The votes for some rows, which walk one after another.
    pub fn few(&self, e: &Ensemble, x: &[T], width: usize) -> Sums {
        let mut sums = self.tally.begin(e, self.wide, x.len() / width.max(1));
        let mut row = vec![T::NAN; self.columns.len()];
        let mut known = vec![0; self.walk.trees()];
        for (r, x) in x.chunks_exact(width.max(1)).enumerate() {
            for (to, c) in row.iter_mut().zip(&self.columns) {
                *to = read(x, *c);
            }
            self.walk.across(&row, &mut known);
            self.tally.add_row(e, &mut sums, r, &known);
        }
        sums
    }

    /// The votes for some rows, tree by tree.
    pub fn walked(&self, e: &Ensemble, x: &[T], width: usize) -> Sums {
        let rows = x.len() / width.max(1);
        let mut sums = self.tally.begin(e, self.wide, rows);
        let mut table = vec![T::NAN; self.columns.len() * rows];
        for (x, row) in
            x.chunks_exact(width.max(1)).zip(table.chunks_mut(self.columns.len().max(1)))
        {
            row.iter_mut().zip(&self.columns).for_each(|(to, c)| *to = read(x, *c));
        }
        let table = Table { data: &table, column: 1, row: self.columns.len() };
        let mut at = vec![ROOT; rows];
        for tree in 0..self.walk.trees() {
            at.fill(ROOT);
            self.walk.down(tree, table, &mut at);
            at.iter_mut().for_each(|at| *at = self.walk.leaf(tree, *at));
            self.tally.add(e, &mut sums, tree, 0, &at);
        }
        sums
    }

    /// Whether sums are all there is to know of votes.
    pub fn is_whole(&self, e: &Ensemble) -> bool {
        !self.wide && self.tally.is_whole(e)
    }

    /// Gives the votes of each row to `done`.
    pub fn each(
        &self,
        e: &Ensemble,
        sums: &Sums,
        rows: usize,
        mut done: impl FnMut(usize, &mut Votes),
    ) {
        let mut votes = Votes::new(e.forest.targets, self.wide);
        for row in 0..rows {
            votes.reset();
            self.tally.votes(sums, row, &mut votes);
            done(row, &mut votes);
        }
    }
}

fn read<T: Real>(x: &[T], c: Column) -> T {
    let x = x[c.feature as usize];
    if c.mirrored { x.mirrored() } else { x }
}

impl Engine<f32> {
    /// The tactics that suit the trees best on some instruction set, or `only` one of them.
    pub fn tiles(&self, e: &Ensemble, level: Level, only: Option<TreeTactic>) -> Tiles {
        let mut tiles = Tiles {
            sweep: Sweep::default(),
            bits: Bits::default(),
            tactics: vec![],
            blocks: vec![],
            level,
        };
        let mut bytes = 0;
        for tree in 0..self.walk.trees() {
            let (tactic, size) = self.tactic(e, &mut tiles, tree, only);
            if bytes + size > TREES && bytes > 0 {
                tiles.blocks.push(tree);
                bytes = 0;
            }
            bytes += size;
            tiles.tactics.push(tactic);
        }
        tiles.blocks.push(self.walk.trees());
        tiles
    }

    /// Makes a tree ready for the tactic that costs least, or for `only`; returns the bytes that it
    /// reads, too.
    fn tactic(
        &self,
        e: &Ensemble,
        tiles: &mut Tiles,
        tree: usize,
        only: Option<TreeTactic>,
    ) -> (Tactic, usize) {
        let shape = self.walk.shape(tree);
        let costs = self.costs(&shape, tree, tiles.level);
        let cheapest = || costs.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let size = 12 * shape.splits;
        // Branches that meet again are swept each time, which may be very often.
        let only = only.filter(|t| *t != TreeTactic::Sweep || shape.splits < SHOWN);
        match only.or_else(|| cheapest().map(|c| c.0)) {
            Some(TreeTactic::Bits) => {
                let targets = if self.tally.is_few(e) { e.forest.targets } else { 1 };
                let value = |known, t| self.tally.weight(e, known, t).map_or(known, f32::to_bits);
                match tiles.bits.add(&self.walk, tree, targets, &value) {
                    Some(bits) => {
                        let size = targets * (128 << bits.levels().saturating_sub(5));
                        (Tactic::Bits(bits), size)
                    }
                    None => (Tactic::Walk, size),
                }
            }
            Some(TreeTactic::Sweep) => {
                let known = |at| self.walk.leaf(tree, at);
                let swept = tiles.sweep.add(&self.walk, tree, &|_| false, &known);
                (Tactic::Sweep(swept), size + 4 * shape.leaves)
            }
            Some(TreeTactic::Top) => {
                let ends = self.walk.top(tree, WORD);
                let is_end = |at| ends.contains(&at);
                let swept = tiles.sweep.add(&self.walk, tree, &is_end, &|at| at);
                (Tactic::Top(swept), size)
            }
            _ => (Tactic::Walk, size),
        }
    }

    /// Cycles of a row in a tree, by tactic.
    fn costs(&self, shape: &Shape, tree: usize, level: Level) -> [(TreeTactic, f64); 4] {
        let lanes = if level == Level::Avx512 { 16.0 } else { 8.0 };
        let (probe, look) = (cost::PROBE / lanes, cost::LOOK / lanes);
        let asked = bits::questions(&self.walk, tree).map(|q| q.len());
        let tables = |asked: usize| f64::from(1u32 << asked.saturating_sub(5));
        let bits = asked.map_or(f64::INFINITY, |n| look.mul_add(tables(n), probe * n as f64));
        let words = shape.leaves.div_ceil(WORD) as f64;
        let more = if words > 1.0 { cost::MORE } else { 1.0 };
        let sweep = match shape.splits < SHOWN {
            true => look.mul_add(words, probe * shape.splits as f64 * more),
            false => f64::INFINITY,
        };
        let way = (shape.mean + f64::from(self.walk.depth(tree))) / 2.0;
        let below = cost::STEP.mul_add((way - 5.0).max(1.0), cost::LEAVE);
        [
            (TreeTactic::Bits, bits),
            (TreeTactic::Sweep, sweep),
            (TreeTactic::Top, probe.mul_add((WORD - 1) as f64, below)),
            (TreeTactic::Walk, cost::STEP * way),
        ]
    }

    /// The votes for a block of rows, by tiles.
    pub fn block(&self, e: &Ensemble, tiles: &Tiles, x: &[f32], width: usize) -> Sums {
        let rows = x.len() / width.max(1);
        if rows < FEW {
            return self.few(e, x, width);
        }
        tiles.level.run(Blocked { engine: self, e, tiles, x, width, rows })
    }
}

/// Cycles of the parts of tactics, for rows in a tile.
mod cost {
    /// A comparison of one vector.
    pub const PROBE: f64 = 2.5;
    /// A table of 32 leaves for one vector.
    pub const LOOK: f64 = 5.0;
    /// A step of one row among many.
    pub const STEP: f64 = 4.0;
    /// From a sweep to a walk.
    pub const LEAVE: f64 = 6.0;

    /// How often a split is compared in a tree of several words.
    pub const MORE: f64 = 1.25;
}

/// A block of rows at work.
struct Blocked<'a> {
    engine: &'a Engine<f32>,
    e: &'a Ensemble,
    tiles: &'a Tiles,
    x: &'a [f32],
    width: usize,
    rows: usize,
}

impl Work for Blocked<'_> {
    type Out = Sums;

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) -> Sums {
        let wide = GROUP * S::LANES;
        let columns = &self.engine.columns;
        let padded = self.rows.next_multiple_of(wide);
        let mut sums = self.engine.tally.begin(self.e, self.engine.wide, padded);
        let mut table = vec![0.0; columns.len() * padded];
        let size = columns.len() * wide;
        // Turning costs a fraction of a step per number, looking one up several.
        let turns = self.width < 4 * columns.len();
        let mut turned =
            vec![0.0; if turns { self.width.next_multiple_of(S::LANES) * wide } else { 0 }];
        for (tile, x) in table.chunks_mut(size.max(1)).zip(self.x.chunks(wide * self.width)) {
            if turns {
                turn(isa, x, self.width, &mut turned, wide);
                for (to, column) in tile.chunks_exact_mut(wide).zip(columns) {
                    let from = &turned[column.feature as usize * wide..][..wide];
                    match column.mirrored {
                        true => to.iter_mut().zip(from).for_each(|(to, x)| *to = x.mirrored()),
                        false => to.copy_from_slice(from),
                    }
                }
                continue;
            }
            for (r, x) in x.chunks_exact(self.width).enumerate() {
                for (c, column) in columns.iter().enumerate() {
                    tile[c * wide + r] = read(x, *column);
                }
            }
        }
        let mut first = 0;
        for &end in &self.tiles.blocks {
            for (i, at) in (0..padded).step_by(wide).enumerate() {
                let tile = &table[i * size..][..size];
                for tree in first..end {
                    self.tree(isa, tree, tile, at, &mut sums);
                }
            }
            first = end;
        }
        sums
    }
}

impl Blocked<'_> {
    #[inline(always)]
    fn tree<S: Isa>(&self, isa: S, tree: usize, tile: &[f32], row: usize, sums: &mut Sums) {
        let tiles = self.tiles;
        let wide = GROUP * S::LANES;
        match &tiles.tactics[tree] {
            Tactic::Bits(t) => {
                if t.targets == 1 && !self.engine.tally.is_few(self.e) {
                    let found = tiles.bits.run::<S, GROUP>(isa, t, 0, tile);
                    return self.add(isa, tree, row, found, sums);
                }
                for target in 0..t.targets {
                    let found = tiles.bits.run::<S, GROUP>(isa, t, target, tile);
                    add_weights::<S, GROUP>(isa, target, row, found, sums);
                }
            }
            Tactic::Sweep(t) => {
                let found = tiles.sweep.run::<S, GROUP>(isa, t, tile);
                self.add(isa, tree, row, found, sums);
            }
            other => {
                let mut at = [ROOT; WIDEST];
                if let Tactic::Top(t) = other {
                    let found = tiles.sweep.run::<S, GROUP>(isa, t, tile);
                    for (g, v) in found.into_iter().enumerate() {
                        v.store(&mut at[g * S::LANES..]);
                    }
                }
                let table = Table { data: tile, column: wide, row: 1 };
                self.engine.walk.down(tree, table, &mut at[..wide]);
                for a in &mut at[..wide] {
                    *a = self.engine.walk.leaf(tree, *a);
                }
                let mut found = [isa.ints(0); GROUP];
                for (g, found) in found.iter_mut().enumerate() {
                    *found = isa.load_ints(&at[g * S::LANES..]);
                }
                self.add(isa, tree, row, found, sums);
            }
        }
    }

    #[inline(always)]
    fn add<S: Isa>(&self, isa: S, tree: usize, row: usize, found: [S::I; GROUP], sums: &mut Sums) {
        if let Tally::One { targets } = &self.engine.tally {
            return add_weights::<S, GROUP>(isa, targets[tree] as usize, row, found, sums);
        }
        let mut known = [0; WIDEST];
        for (g, v) in found.into_iter().enumerate() {
            v.store(&mut known[g * S::LANES..]);
        }
        // Rows that only fill a tile up have no scores to read, but places for them.
        self.engine.tally.add(self.e, sums, tree, row, &known[..GROUP * S::LANES]);
    }
}

/// Adds weights to the sums that rows have for a target.
#[inline(always)]
fn add_weights<S: Isa, const GROUP: usize>(
    isa: S,
    target: usize,
    row: usize,
    weights: [S::I; GROUP],
    sums: &mut Sums,
) {
    let Sums::ByTarget { rows, sums } = sums else { return };
    let sums = &mut sums[target * *rows + row..][..GROUP * S::LANES];
    for (g, weight) in weights.into_iter().enumerate() {
        let old = isa.load(&sums[g * S::LANES..]);
        (old + weight.bits()).store(&mut sums[g * S::LANES..]);
    }
}
