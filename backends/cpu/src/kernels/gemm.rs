//! `C = A * B`: rows of A as they lie, columns of B in panels.
//!
//! ```text
//! A [m, k]    rows, `stride` elements apart
//! B [k, n]    [panel][k][width], a panel is one to four vectors wide
//! tile        up to 14 rows by a panel, its sums in registers
//! block       columns and a part of k, whose panels stay in the second cache
//! ```
//! Each element of C is one sum over k in rising order, whatever the tile and the number of
//! threads: a row gets the same bits in every company.

use crate::cells::Cells;
use crate::lines::Lines;
use crate::simd::{Floats, Isa, Level, Work};
use crate::team;

/// Vectors of a panel, at most.
const VECTORS: usize = 4;
/// Lanes of a vector, at most.
const LANES: usize = 16;
/// Elements of B that a block holds: half of a second cache of 1 MiB.
const BLOCK: usize = 1 << 17;
/// Steps of k in a block.
const STEPS: usize = 512;
/// Bytes of B beyond which threads share its columns, not the rows of A.
const LARGE: usize = 1 << 20;
/// Below this many multiplications, threads cost more than they give.
const PARALLEL: usize = 1 << 16;

/// Rows of A.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    /// The elements from the first row on.
    pub data: &'a [f32],
    /// From row to row.
    pub stride: usize,
    /// The number of rows.
    pub rows: usize,
}

/// How the columns of a `k` by `n` matrix fall into panels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    level: Level,
    /// Columns of a panel; the last one has whole vectors for what is left.
    pub width: usize,
    pub k: usize,
    pub n: usize,
}

impl Layout {
    /// For the widest instructions there are.
    pub fn new(k: usize, n: usize) -> Self {
        Self::of(Level::best(), k, n)
    }

    fn of(level: Level, k: usize, n: usize) -> Self {
        let (lanes, most) = match level {
            Level::Avx512 => (16, VECTORS),
            Level::Avx2 | Level::Scalar => (8, 2),
        };
        // Panels of like width, not full ones and a narrow rest.
        let vectors = n.div_ceil(lanes).max(1);
        let width = vectors.div_ceil(vectors.div_ceil(most)) * lanes;
        Self { level, width, k, n }
    }

    /// The elements of all panels.
    pub fn len(&self) -> usize {
        let lanes = if self.level == Level::Avx512 { 16 } else { 8 };
        self.n.next_multiple_of(lanes) * self.k
    }

    /// The number of panels.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    /// The panels of `data`, with the number of each.
    pub fn split<'a>(&self, data: &'a mut [f32]) -> impl Iterator<Item = (usize, &'a mut [f32])> {
        data[..self.len()].chunks_mut((self.width * self.k).max(1)).enumerate()
    }

    /// Fills panel `q` from a matrix, stored as `[k, n]`, or `[n, k]` where it is `turned`.
    pub fn pack(&self, q: usize, b: &[f32], turned: bool, panel: &mut [f32]) {
        let (k, n, first) = (self.k, self.n, q * self.width);
        let Some(width) = panel.len().checked_div(k) else { return };
        let own = width.min(n - first);
        if turned {
            for (c, column) in b[first * k..][..own * k].chunks_exact(k).enumerate() {
                for (row, &x) in panel.chunks_exact_mut(width).zip(column) {
                    row[c] = x;
                }
            }
        }
        for (p, row) in panel.chunks_exact_mut(width).enumerate() {
            if !turned {
                row[..own].copy_from_slice(&b[p * n + first..][..own]);
            }
            row[own..].fill(0.0);
        }
    }

    /// All panels of a matrix.
    pub fn pack_all(&self, b: &[f32], turned: bool) -> Lines {
        let mut panels = Lines::zeros(self.len());
        team::each(self.split(panels.as_mut()), |(q, panel)| self.pack(q, b, turned, panel));
        panels
    }
}

/// Is given the row, the first column and the numbers of a finished piece of a row, or of several
/// whole rows that lie one behind the other.
pub(crate) type Then<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// What becomes of the sums before they are stored, in this order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ending<'a> {
    /// A factor.
    pub scale: Option<f32>,
    /// Added to every row: a number per column.
    pub columns: Option<&'a [f32]>,
    /// Added to every column: a number per row.
    pub rows: Option<&'a [f32]>,
    /// The least and the greatest.
    pub bounds: Option<(f32, f32)>,
    /// What else is done.
    pub then: Option<Then<'a>>,
}

impl Ending<'_> {
    /// Ends a piece of a row by itself.
    pub fn finish(&self, row: usize, first: usize, y: &mut [f32]) {
        if let Some(scale) = self.scale {
            y.iter_mut().for_each(|y| *y *= scale);
        }
        if let Some(bias) = self.columns {
            y.iter_mut().zip(&bias[first..]).for_each(|(y, b)| *y += b);
        }
        if let Some(bias) = self.rows {
            y.iter_mut().for_each(|y| *y += bias[row]);
        }
        if let Some((least, most)) = self.bounds {
            super::math::clip(y, least, most);
        }
        if let Some(then) = self.then {
            then(row, first, y);
        }
    }
}

/// A product: A, the panels of B and how they lie, what becomes of the sums.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub a: Left<'a>,
    pub b: &'a [f32],
    pub layout: Layout,
    pub ending: Ending<'a>,
}

impl Product<'_> {
    /// Writes the rows of C, `stride` elements apart, shared among threads.
    pub fn run(&self, c: &mut [f32], stride: usize) {
        let (m, Layout { k, n, .. }) = (self.a.rows, self.layout);
        let cells = Cells::new(c, stride, m, n);
        let (panels, threads) = (self.layout.panels(), team::threads());
        let all = Part { rows: (0, m), panels: (0, panels), product: self, cells };
        if threads == 1 || m * k * n < PARALLEL {
            return self.layout.level.run(all);
        }
        let by_columns = k * n * size_of::<f32>() > LARGE && panels >= 2 * threads;
        let by_columns = by_columns || m < 4 * threads;
        let jobs = 4 * threads;
        let share = |of: usize, i: usize| (i * of / jobs, (i + 1) * of / jobs);
        let parts = (0..jobs).map(|i| match by_columns {
            true => Part { panels: share(panels, i), ..all },
            false => Part { rows: share(m, i), ..all },
        });
        let parts = parts.filter(|p| p.rows.0 < p.rows.1 && p.panels.0 < p.panels.1);
        team::each(parts, |part| part.product.layout.level.run(part));
    }

    /// The same on this thread alone.
    pub fn run_on(&self, cells: Cells<'_>) {
        let (rows, panels) = ((0, self.a.rows), (0, self.layout.panels()));
        self.layout.level.run(Part { rows, panels, product: self, cells });
    }
}

/// Some rows of C by some panels.
#[derive(Clone, Copy)]
struct Part<'a> {
    rows: (usize, usize),
    panels: (usize, usize),
    product: &'a Product<'a>,
    cells: Cells<'a>,
}

/// A part of k.
#[derive(Clone, Copy)]
struct Steps {
    from: usize,
    to: usize,
}

impl Work for Part<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let Layout { k, width, .. } = self.product.layout;
        let steps = if k <= 2 * STEPS { k.max(1) } else { STEPS };
        let block = (BLOCK / (steps * width)).max(1);
        let mut q = self.panels.0;
        while q < self.panels.1 {
            let panels = (q, self.panels.1.min(q + block));
            for from in (0..k.max(1)).step_by(steps) {
                let part = Part { panels, ..self };
                part.block(isa, Steps { from, to: k.min(from + steps) });
            }
            q = panels.1;
        }
    }
}

/// The most rows of a tile of panels of `vectors` vectors.
const fn most_rows<S: Isa>(vectors: usize) -> usize {
    let rows = (S::REGISTERS - vectors - 1) / vectors;
    if rows > 14 { 14 } else { rows }
}

/// Calls a method for a number of rows, known when it is compiled.
macro_rules! by_rows {
    ($rows:expr, $self:ident.$tile:ident::<$S:ty, $V:literal>$args:tt) => {
        by_rows!(
            $rows, $self.$tile::<$S, $V>$args;
            1 2 3 4 5 6 7 8 9 10 11 12 13 14
        )
    };
    ($rows:expr, $self:ident.$tile:ident::<$S:ty, $V:literal>$args:tt; $($R:literal)*) => {
        match $rows {
            $($R if $R <= const { most_rows::<$S>($V) } => $self.$tile::<$S, $R, $V>$args,)*
            _ => unreachable!("invariant: no tile has so many rows"),
        }
    };
}

impl Part<'_> {
    /// All tiles of a block, row by row: their rows of A stay in the first cache.
    #[inline(always)]
    fn block<S: Isa>(self, isa: S, steps: Steps) {
        let Layout { k, n, width, .. } = self.product.layout;
        let m = self.rows.1 - self.rows.0;
        let most = most_rows::<S>(width / S::LANES);
        let tiles = m.div_ceil(most);
        let (first, last) = (self.panels.0 * width, n.min(self.panels.1 * width));
        for t in 0..tiles {
            // Tiles of like height, not full ones and a low rest.
            let row = self.rows.0 + t * m / tiles;
            let rows = self.rows.0 + (t + 1) * m / tiles - row;
            for q in self.panels.0..self.panels.1 {
                let at = (row, q);
                match (n.min((q + 1) * width) - q * width).div_ceil(S::LANES) {
                    1 => by_rows!(rows, self.tile::<S, 1>(isa, at, steps)),
                    2 => by_rows!(rows, self.tile::<S, 2>(isa, at, steps)),
                    3 => by_rows!(rows, self.tile::<S, 3>(isa, at, steps)),
                    _ => by_rows!(rows, self.tile::<S, 4>(isa, at, steps)),
                }
            }
            let Some(then) = self.product.ending.then.filter(|_| steps.to == k) else { continue };
            match self.cells.dense(row, rows).filter(|_| (first, last) == (0, n)) {
                Some(whole) => then(row, 0, whole),
                None => (row..row + rows)
                    .for_each(|r| then(r, first, self.cells.piece(r, first, last - first))),
            }
        }
    }

    /// `R` rows by `V` vectors.
    #[inline(always)]
    fn tile<S: Isa, const R: usize, const V: usize>(
        self,
        isa: S,
        (row, q): (usize, usize),
        steps: Steps,
    ) {
        let Product { a, b, layout: Layout { k, n, width, .. }, ending } = *self.product;
        let column = q * width;
        let columns = (V * S::LANES).min(n - column);
        let mut sums = [[isa.splat(0.0); V]; R];
        if steps.from > 0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                let c = self.cells.piece(row + r, column, columns);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = some(isa, c, v);
                }
            }
        }
        let step = V * S::LANES;
        let b = &b[column * k + steps.from * step..][..(steps.to - steps.from) * step];
        let a = &a.data[row * a.stride + steps.from..];
        self.sums::<S, R, V>(isa, a, b, &mut sums);
        let ending = if steps.to == k { ending } else { Ending::default() };
        let bias = ending.columns.map(|b| &b[column..column + columns]);
        for (r, sums) in sums.iter().enumerate() {
            let c = self.cells.piece(row + r, column, columns);
            for (v, &sum) in sums.iter().enumerate() {
                let mut y = sum;
                if let Some(scale) = ending.scale {
                    y = y * isa.splat(scale);
                }
                if let Some(bias) = bias {
                    y = y + some(isa, bias, v);
                }
                if let Some(bias) = ending.rows {
                    y = y + isa.splat(bias[row + r]);
                }
                if let Some((least, most)) = ending.bounds {
                    y = isa.splat(most).min(isa.splat(least).max(y));
                }
                put::<S>(y, c, v);
            }
        }
    }

    /// Adds the products to the sums.
    #[inline(always)]
    fn sums<S: Isa, const R: usize, const V: usize>(
        self,
        isa: S,
        a: &[f32],
        b: &[f32],
        sums: &mut [[S::F; V]; R],
    ) {
        let stride = self.product.a.stride;
        assert!(
            (R - 1) * stride + b.len() / (V * S::LANES) <= a.len(),
            "invariant: rows are whole"
        );
        let mut own = *sums;
        for (p, b) in b.chunks_exact(V * S::LANES).enumerate() {
            let mut of = [isa.splat(0.0); V];
            for (v, of) in of.iter_mut().enumerate() {
                *of = isa.load(&b[v * S::LANES..]);
            }
            for (r, own) in own.iter_mut().enumerate() {
                // SAFETY: `p` is below the number of steps, so this lies in row `r`, as asserted.
                #[allow(unsafe_code)]
                let x = isa.splat(unsafe { *a.get_unchecked(r * stride + p) });
                for (own, of) in own.iter_mut().zip(&of) {
                    *own = x.mul_add(*of, *own);
                }
            }
        }
        *sums = own;
    }
}

/// Vector `v` of some numbers, filled up with zeros.
#[inline(always)]
fn some<S: Isa>(isa: S, x: &[f32], v: usize) -> S::F {
    let x = &x[v * S::LANES..];
    if x.len() >= S::LANES {
        return isa.load(x);
    }
    let mut own = [0.0; LANES];
    own[..x.len()].copy_from_slice(x);
    isa.load(&own)
}

/// Stores what there is room for.
#[inline(always)]
fn put<S: Isa>(y: S::F, to: &mut [f32], v: usize) {
    let to = &mut to[v * S::LANES..];
    if to.len() >= S::LANES {
        return y.store(to);
    }
    let mut own = [0.0; LANES];
    y.store(&mut own);
    let n = to.len();
    to.copy_from_slice(&own[..n]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::small;

    #[test]
    fn agrees_with_the_definition_on_odd_sizes_by_every_instruction_set() {
        for (m, k, n) in
            [(1, 1, 1), (5, 3, 33), (7, 0, 4), (13, 64, 65), (6, 9, 600), (29, 1300, 80)]
        {
            let a: Vec<f32> = (0..m * k).map(small).collect();
            let b: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
            let turned: Vec<f32> = (0..k * n).map(|i| b[i % k.max(1) * n + i / k.max(1)]).collect();
            let (columns, rows): (Vec<f32>, Vec<f32>) =
                ((0..n).map(small).collect(), (0..m).map(|i| small(i + 5)).collect());
            for &level in Level::all() {
                let layout = Layout::of(level, k, n);
                for (b, turned) in [(&b, false), (&turned, true)] {
                    let panels = layout.pack_all(b, turned);
                    let a = Left { data: &a, stride: k, rows: m };
                    let double =
                        |_: usize, _: usize, y: &mut [f32]| y.iter_mut().for_each(|y| *y *= 2.0);
                    let ending = Ending {
                        scale: Some(1.0),
                        columns: Some(&columns),
                        rows: Some(&rows),
                        bounds: Some((-9.0, 1e6)),
                        then: Some(&double),
                    };
                    let mut c = vec![f32::NAN; m * (n + 1)];
                    Product { a, b: panels.as_ref(), layout, ending }.run(&mut c, n + 1);
                    for i in 0..m * n {
                        let (r, j) = (i / n, i % n);
                        let row = &a.data[r * k..][..k];
                        let sum: f32 = (0..k).map(|p| row[p] * at(b, turned, (k, n), p, j)).sum();
                        let want = (sum + columns[j] + rows[r]).clamp(-9.0, 1e6) * 2.0;
                        assert_eq!(c[r * (n + 1) + j], want, "{level:?} {m}x{k}x{n} at {i}");
                    }
                    assert!(c.chunks_exact(n + 1).all(|row| row[n].is_nan()), "beyond the row");
                }
            }
        }
    }

    fn at(b: &[f32], turned: bool, (k, n): (usize, usize), p: usize, j: usize) -> f32 {
        if turned { b[j * k + p] } else { b[p * n + j] }
    }

    #[test]
    fn a_row_gets_the_same_bits_in_every_company() {
        let (m, k, n) = (23, 700, 90);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.11).cos()).collect();
        for &level in Level::all() {
            let layout = Layout::of(level, k, n);
            let panels = layout.pack_all(&b, false);
            let rows = |from: usize, rows: usize| {
                let a = Left { data: &a[from * k..], stride: k, rows };
                let mut c = vec![0.0; rows * n];
                let ending = Ending::default();
                Product { a, b: panels.as_ref(), layout, ending }.run(&mut c, n);
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let alone: Vec<u32> = (0..m).flat_map(|i| rows(i, 1)).collect();
            assert_eq!(rows(0, m), alone, "{level:?}");
        }
    }
}
