//! `C = A * B`, blocked: panels of A of `MR` rows, panels of B of `NR` columns.
//!
//! ```text
//! A [m, k] packed as [m / MR][k][MR]       B [k, n] packed as [n / NR][k][NR]
//! ```
//! Each element of C is one sum over k in rising order, whatever the number of threads.

use super::widest::widest;
use crate::team;

/// Rows of a tile.
pub(crate) const MR: usize = 6;
/// Columns of a tile.
pub(crate) const NR: usize = 32;
/// Columns that are packed at a time, so that a block of B stays in the cache.
pub(crate) const NC: usize = 16 * NR;
/// Below this many multiplications, threads cost more than they give.
const PARALLEL: usize = 1 << 16;

/// Rows of A in panels; the last panel is filled with zeros.
pub(crate) struct PackedA {
    m: usize,
    k: usize,
    panels: Vec<f32>,
}

impl PackedA {
    /// Packs an `m` by `k` matrix whose element `(i, p)` is `at(i, p)`.
    pub fn new(m: usize, k: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let mut panels = vec![0.0; m.div_ceil(MR) * k * MR];
        for i in 0..m {
            let panel = &mut panels[i / MR * k * MR..];
            for p in 0..k {
                panel[p * MR + i % MR] = at(i, p);
            }
        }
        Self { m, k, panels }
    }
}

/// Packs a panel of `NR` columns of a row-major matrix, from column `j` on.
pub(crate) fn pack_b(panel: &mut [f32], b: &[f32], n: usize, j: usize) {
    let width = NR.min(n - j);
    for (p, row) in panel.chunks_exact_mut(NR).enumerate() {
        row[..width].copy_from_slice(&b[p * n + j..][..width]);
        row[width..].fill(0.0);
    }
}

/// Packs the same panel of a matrix that is stored as `[n, k]`.
pub(crate) fn pack_turned(panel: &mut [f32], b: &[f32], (k, n): (usize, usize), j: usize) {
    let width = NR.min(n - j);
    for (q, column) in b[j * k..][..width * k].chunks_exact(k).enumerate() {
        for (row, &x) in panel.chunks_exact_mut(NR).zip(column) {
            row[q] = x;
        }
    }
    for row in panel.chunks_exact_mut(NR) {
        row[width..].fill(0.0);
    }
}

/// What is done with a piece of a row of the result: the row, the first column, the sums.
pub(crate) type Finish<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// `C[.., j..j + width] = A * B` for a block of packed columns; `finish` sees each row's piece
/// when it is done.
///
/// `c` is row-major with `n` columns; `b` holds panels for `width` columns.
pub(crate) fn multiply(
    a: &PackedA,
    b: &[f32],
    c: &mut [f32],
    (n, j, width): (usize, usize, usize),
    finish: Finish<'_>,
) {
    let rows = |(panel, c): (usize, &mut [f32])| {
        let a_panel = &a.panels[panel * a.k * MR..][..a.k * MR];
        for (q, b_panel) in b.chunks_exact(a.k.max(1) * NR).enumerate() {
            let mut tile = [[0f32; NR]; MR];
            tile_kernel(a_panel, b_panel, &mut tile);
            let from = q * NR;
            let cols = NR.min(width - from);
            for (row, t) in c.chunks_mut(n).zip(&tile) {
                row[j + from..][..cols].copy_from_slice(&t[..cols]);
            }
        }
        for (i, row) in c.chunks_mut(n).enumerate() {
            finish(panel * MR + i, j, &mut row[j..j + width]);
        }
    };
    if a.k == 0 {
        c.chunks_mut(n).enumerate().for_each(|(i, row)| {
            row[j..j + width].fill(0.0);
            finish(i, j, &mut row[j..j + width]);
        });
    } else if a.m * a.k * width < PARALLEL {
        c.chunks_mut(MR * n).enumerate().for_each(rows);
    } else {
        team::each(c.chunks_mut(MR * n).enumerate(), rows);
    }
}

widest! {
    /// One tile.
    fn tile_kernel(a: &[f32], b: &[f32], tile: &mut [[f32; NR]; MR]) = tile_loop
}

/// The loop text of every tile: `tile[i][j] += a[p][i] * b[p][j]` for every p in order.
#[inline(always)]
fn tile_loop(
    a: &[f32],
    b: &[f32],
    tile: &mut [[f32; NR]; MR],
    fma: impl Fn(f32, f32, f32) -> f32 + Copy,
) {
    // Half a panel at a time, so that the sums stay in registers on AVX2, too.
    const HALF: usize = NR / 2;
    for half in 0..2 {
        let mut sums = [[0f32; HALF]; MR];
        for (a, b) in a.chunks_exact(MR).zip(b.chunks_exact(NR)) {
            let b: &[f32] = &b[half * HALF..][..HALF];
            for i in 0..MR {
                for j in 0..HALF {
                    sums[i][j] = fma(a[i], b[j], sums[i][j]);
                }
            }
        }
        for (t, s) in tile.iter_mut().zip(&sums) {
            t[half * HALF..][..HALF].copy_from_slice(s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::small;

    #[test]
    fn agrees_with_the_definition_on_odd_sizes() {
        for (m, k, n) in [(1, 1, 1), (5, 3, 33), (7, 0, 4), (13, 64, 65), (6, 9, 600)] {
            let (a, b): (Vec<f32>, Vec<f32>) =
                ((0..m * k).map(small).collect(), (0..k * n).map(|i| small(i + 3)).collect());
            let packed = PackedA::new(m, k, |i, p| a[i * k + p]);
            let mut c = vec![f32::NAN; m * n];
            for j in (0..n).step_by(NC) {
                let width = NC.min(n - j);
                let mut panels = vec![0.0; width.div_ceil(NR) * k * NR];
                for (q, panel) in panels.chunks_exact_mut((k * NR).max(1)).enumerate() {
                    pack_b(panel, &b, n, j + q * NR);
                }
                multiply(&packed, &panels, &mut c, (n, j, width), &|_, _, _| {});
            }
            for i in 0..m * n {
                let want: f32 = (0..k).map(|p| a[i / n * k + p] * b[p * n + i % n]).sum();
                assert_eq!(c[i], want, "{m}x{k}x{n} at {i}");
            }
        }
    }
}
