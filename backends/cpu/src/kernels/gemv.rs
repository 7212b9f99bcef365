//! Products with few rows: every element of B is read once, straight from where it lies.
//!
//! Bound by the memory that B takes: packing it would read it, write it and read it again.

use super::widest::widest;
use crate::team;

/// Rows up to which packing B costs more than it gives.
pub(crate) const FEW: usize = 4;
/// Partial sums of a product of two vectors, enough to hide the latency of an addition.
const LANES: usize = 64;
/// Columns that one thread takes at a time.
const COLUMNS: usize = 256;
/// Below this many multiplications, threads cost more than they give.
const PARALLEL: usize = 1 << 16;

/// `C = A * B'` for `B` of `n` rows of `k` elements; `c` is `[m, n]`.
pub(crate) fn times_rows(k: usize, n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    for (a, c) in a.chunks_exact(k.max(1)).zip(c.chunks_exact_mut(n.max(1))) {
        let block = |(i, c): (usize, &mut [f32])| {
            for (j, c) in c.iter_mut().enumerate() {
                *c = dot(a, &b[(i * COLUMNS + j) * k..][..k]);
            }
        };
        each_block(k, c, block);
    }
}

/// `C = A * B` for `B` of `k` rows of `n` elements; `c` is `[m, n]`.
pub(crate) fn times_columns(k: usize, n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    for (a, c) in a.chunks_exact(k.max(1)).zip(c.chunks_exact_mut(n.max(1))) {
        let block = |(i, c): (usize, &mut [f32])| {
            c.fill(0.0);
            for (p, &a) in a.iter().enumerate() {
                add_scaled(a, &b[p * n + i * COLUMNS..][..c.len()], c);
            }
        };
        each_block(k, c, block);
    }
}

fn each_block(k: usize, c: &mut [f32], block: impl Fn((usize, &mut [f32])) + Sync + Send) {
    match k * c.len() < PARALLEL {
        true => c.chunks_mut(COLUMNS).enumerate().for_each(block),
        false => team::each(c.chunks_mut(COLUMNS).enumerate(), block),
    }
}

widest! {
    /// The sum of the products of elements.
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_loop
}

widest! {
    /// `y += a * x`.
    fn add_scaled(a: f32, x: &[f32], y: &mut [f32]) = add_scaled_loop
}

#[inline(always)]
fn dot_loop(a: &[f32], b: &[f32], fma: impl Fn(f32, f32, f32) -> f32 + Copy) -> f32 {
    let mut sums = [0f32; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = whole_a.remainder().iter().zip(whole_b.remainder());
    for (a, b) in whole_a.zip(whole_b) {
        for (s, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *s = fma(a, b, *s);
        }
    }
    let tail = rest.fold(0.0, |s, (&a, &b)| fma(a, b, s));
    // Halves are added to halves, which rounds less than one long sum.
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            sums[i] += sums[i + n];
        }
    }
    sums[0] + tail
}

#[inline(always)]
fn add_scaled_loop(a: f32, x: &[f32], y: &mut [f32], fma: impl Fn(f32, f32, f32) -> f32 + Copy) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = fma(a, x, *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::small;

    #[test]
    fn both_orders_of_b_agree_with_the_definition() {
        for (m, k, n) in [(1, 1, 1), (3, 70, 5), (2, 300, 600), (4, 0, 3), (1, 64, 256)] {
            let a: Vec<f32> = (0..m * k).map(small).collect();
            let b: Vec<f32> = (0..k * n).map(|i| small(i + 3)).collect();
            let turned: Vec<f32> = (0..k * n).map(|i| b[i % k.max(1) * n + i / k.max(1)]).collect();
            let mut c = [vec![0.0; m * n], vec![0.0; m * n]];
            times_columns(k, n, &a, &b, &mut c[0]);
            times_rows(k, n, &a, &turned, &mut c[1]);
            for i in 0..m * n {
                let want: f32 = (0..k).map(|p| a[i / n * k + p] * b[p * n + i % n]).sum();
                assert_eq!([c[0][i], c[1][i]], [want; 2], "{m}x{k}x{n} at {i}");
            }
        }
    }
}
