//! Sums of products of bytes, four at a time: `u8` times `i8` in `i32`.
//!
//! ```text
//! rows  [m][k / 4][4]          columns  [n / NR][k / 4][NR][4]         sums  [m][n]
//! ```
//! One of the two is unsigned, the other signed: a byte of the other kind is moved by 128, and so
//! is its zero point. Sums are exact, so every instruction set and every split gives the same.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

use super::math::Fma;
use super::widest::widest;

/// Rows of a tile.
pub(crate) const MR: usize = 12;
/// Columns of a tile.
pub(crate) const NR: usize = 32;
/// Products that are summed at a time.
pub(crate) const QUAD: usize = 4;
/// Between two bytes of the same bits, one signed and one not.
pub(crate) const SHIFT: u8 = 128;

/// The sums of a tile.
pub(crate) type Tile = [[i32; NR]; MR];

/// `tile[i][j] = rows[i] * columns[j]` for up to `MR` rows of `k` bytes each, one after another.
/// Where `signed`, the rows are signed and the columns are not; else the other way around.
pub(crate) fn tile(signed: bool, rows: &[u8], k: usize, columns: &[u8], tile: &mut Tile) {
    let count = rows.len().checked_div(k).map_or(MR, |rows| rows.min(MR));
    let rows = &rows[..count * k];
    match (signed, count) {
        (true, MR) => tile_of::<MR, true>(rows, columns, &mut tile[..]),
        (false, MR) => tile_of::<MR, false>(rows, columns, &mut tile[..]),
        (signed, _) => {
            let mut at = 0;
            while at < count {
                let some = &rows[at * k..];
                let left = count - at;
                let tile = &mut tile[at..];
                at += match (signed, left) {
                    (true, 4..) => part::<4, true>(&some[..4 * k], columns, tile),
                    (false, 4..) => part::<4, false>(&some[..4 * k], columns, tile),
                    (true, 2..) => part::<2, true>(&some[..2 * k], columns, tile),
                    (false, 2..) => part::<2, false>(&some[..2 * k], columns, tile),
                    (true, _) => part::<1, true>(&some[..k], columns, tile),
                    (false, _) => part::<1, false>(&some[..k], columns, tile),
                };
            }
        }
    }
}

fn part<const R: usize, const S: bool>(
    rows: &[u8],
    columns: &[u8],
    tile: &mut [[i32; NR]],
) -> usize {
    tile_of::<R, S>(rows, columns, tile);
    R
}

/// `R` rows by the widest instructions that the machine has.
fn tile_of<const R: usize, const S: bool>(rows: &[u8], columns: &[u8], tile: &mut [[i32; NR]]) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has AVX-512F and VNNI, which was just asked.
            #[allow(unsafe_code)]
            return unsafe { vnni::<R, S>(rows, columns, tile) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2, which was just asked.
            #[allow(unsafe_code)]
            return unsafe { avx2::<R, S>(rows, columns, tile) };
        }
    }
    portable::<R, S>(rows, columns, tile);
}

/// The rows as groups of four bytes.
#[inline(always)]
fn quads<const R: usize>(rows: &[u8]) -> [&[[u8; QUAD]]; R] {
    let (all, _) = rows.as_chunks::<QUAD>();
    let k = all.len() / R;
    std::array::from_fn(|i| &all[i * k..][..k])
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are read from a reference to 64 bytes; no alignment is asked for.
    #[allow(unsafe_code)]
    unsafe {
        _mm512_loadu_si512(x.as_ptr().cast())
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn vnni<const R: usize, const S: bool>(rows: &[u8], columns: &[u8], tile: &mut [[i32; NR]]) {
    let rows = quads::<R>(rows);
    let (columns, _) = columns.as_chunks::<64>();
    let mut sums = [[_mm512_setzero_si512(); 2]; R];
    let k = rows[0].len().min(columns.len() / 2);
    let (columns, rows) = (&columns[..2 * k], rows.map(|r| &r[..k]));
    for p in 0..k {
        let b = [load(&columns[2 * p]), load(&columns[2 * p + 1])];
        for i in 0..R {
            let a = _mm512_set1_epi32(i32::from_le_bytes(rows[i][p]));
            for h in 0..2 {
                sums[i][h] = match S {
                    true => _mm512_dpbusd_epi32(sums[i][h], b[h], a),
                    false => _mm512_dpbusd_epi32(sums[i][h], a, b[h]),
                };
            }
        }
    }
    for (row, sums) in tile.iter_mut().zip(&sums) {
        for (out, sums) in row.chunks_exact_mut(NR / 2).zip(sums) {
            // SAFETY: 16 numbers of 4 bytes are written where 16 are.
            #[allow(unsafe_code)]
            unsafe {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), *sums);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<const R: usize, const S: bool>(rows: &[u8], columns: &[u8], tile: &mut [[i32; NR]]) {
    let rows = quads::<R>(rows);
    let (columns, _) = columns.as_chunks::<16>();
    let k = rows[0].len();
    // Four columns at a time; pairs of products are summed in 32 bits, as 16 would overflow.
    for q in 0..NR / 4 {
        let mut sums = [_mm256_setzero_si256(); R];
        for p in 0..k {
            let b = widened::<false>(&columns[p * (NR / 4) + q], S);
            for i in 0..R {
                let a = rows[i][p];
                let a = std::array::from_fn(|j| a[j % QUAD]);
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(widened::<true>(&a, S), b));
            }
        }
        for (row, sums) in tile.iter_mut().zip(&sums) {
            let mut pairs = [0i32; 8];
            // SAFETY: 8 numbers of 4 bytes are written where 8 are.
            #[allow(unsafe_code)]
            unsafe {
                _mm256_storeu_si256(pairs.as_mut_ptr().cast(), *sums);
            }
            for j in 0..4 {
                row[q * 4 + j] = pairs[2 * j] + pairs[2 * j + 1];
            }
        }
    }
}

/// Bytes as 16 bits; those of rows are signed where `signed`, those of columns where not.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn widened<const ROW: bool>(x: &[u8; 16], signed: bool) -> __m256i {
    // SAFETY: 16 bytes are read from a reference to 16 bytes; no alignment is asked for.
    #[allow(unsafe_code)]
    let x = unsafe { _mm_loadu_si128(x.as_ptr().cast()) };
    if ROW == signed { _mm256_cvtepi8_epi16(x) } else { _mm256_cvtepu8_epi16(x) }
}

fn portable<const R: usize, const S: bool>(rows: &[u8], columns: &[u8], tile: &mut [[i32; NR]]) {
    let rows = quads::<R>(rows);
    let (columns, _) = columns.as_chunks::<QUAD>();
    let number = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
    for (sums, row_bytes) in tile.iter_mut().zip(rows) {
        *sums = [0; NR];
        for (a, b) in row_bytes.iter().zip(columns.chunks_exact(NR)) {
            for (s, b) in sums.iter_mut().zip(b) {
                *s += a.iter().zip(b).map(|(&a, &b)| number(a, S) * number(b, !S)).sum::<i32>();
            }
        }
    }
}

widest! {
    /// `out[4 * i + j] = rows[j][i] ^ flip`.
    pub(crate) fn interleave(rows: [&[u8]; 4], flip: u8, out: &mut [u8]) = interleave_text
}

#[inline(always)]
fn interleave_text(rows: [&[u8]; 4], flip: u8, out: &mut [u8], _: impl Fma) {
    let (out, _) = out.as_chunks_mut::<QUAD>();
    let n = out.len();
    let [a, b, c, d] = rows.map(|r| &r[..n]);
    for i in 0..n {
        out[i] = [a[i] ^ flip, b[i] ^ flip, c[i] ^ flip, d[i] ^ flip];
    }
}

/// Where bytes of a type become the other kind: what is added to each, as bits and as a number.
pub(crate) fn flip(signed: bool, wanted: bool) -> (u8, i32) {
    match (signed, wanted) {
        (true, false) => (SHIFT, 128),
        (false, true) => (SHIFT, -128),
        _ => (0, 0),
    }
}

/// How sums become bytes: `saturate(round(sum * scale) + zero)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub zero: f32,
    pub least: f32,
    pub most: f32,
}

widest! {
    /// Bytes of sums with one summand and one scale.
    pub(crate) fn requantize(x: &[i32], add: i32, scale: f32, ends: Ends, y: &mut [u8]) =
        requantize_text
}

widest! {
    /// Bytes of sums with a summand and a scale for each, and a summand for all.
    pub(crate) fn requantize_each(
        x: &[i32], each: (&[i32], &[f32]), add: i32, ends: Ends, y: &mut [u8]
    ) = requantize_each_text
}

#[inline(always)]
fn byte(x: i32, scale: f32, ends: Ends) -> u8 {
    // Beside this number, the lowest bit of a fraction counts 1.
    const MAGIC: f32 = 12_582_912.0;
    let v = (x as f32 * scale).round_ties_even() + ends.zero;
    let v = if v < ends.least { ends.least } else { v };
    let v = if v > ends.most { ends.most } else { v };
    (v + MAGIC).to_bits() as u8
}

#[inline(always)]
fn requantize_text(x: &[i32], add: i32, scale: f32, ends: Ends, y: &mut [u8], _: impl Fma) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = byte(x.wrapping_add(add), scale, ends));
}

#[inline(always)]
fn requantize_each_text(
    x: &[i32],
    (adds, scales): (&[i32], &[f32]),
    add: i32,
    ends: Ends,
    y: &mut [u8],
    _: impl Fma,
) {
    let each = adds.iter().zip(scales);
    for (y, (&x, (&each, &scale))) in y.iter_mut().zip(x.iter().zip(each)) {
        *y = byte(x.wrapping_add(add).wrapping_add(each), scale, ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..n).map(|_| random.u8(..)).collect()
    }

    /// Every set of instructions against plain loops, with the extremes of both types.
    #[test]
    fn every_kind_of_tile_gives_the_same_sums() {
        for (m, k) in [(12, 8), (7, 4), (1, 0), (3, 64), (12, 4)] {
            let (mut rows, mut columns) = (bytes(m * k, 1), bytes(k * NR, 2));
            rows.iter_mut().step_by(5).for_each(|x| *x = 255);
            columns.iter_mut().step_by(3).for_each(|x| *x = 128);
            for signed in [true, false] {
                let number =
                    |x: u8, signed: bool| if signed { i32::from(x as i8) } else { x.into() };
                let want = |i: usize, j: usize| -> i32 {
                    let at = |p: usize| columns[(p / QUAD * NR + j) * QUAD + p % QUAD];
                    (0..k).map(|p| number(rows[i * k + p], signed) * number(at(p), !signed)).sum()
                };
                let mut got = [[7; NR]; MR];
                tile(signed, &rows, k, &columns, &mut got);
                for (i, got) in got.iter().enumerate().take(m) {
                    let want: Vec<_> = (0..NR).map(|j| want(i, j)).collect();
                    assert_eq!(got[..], want, "{m}x{k}, row {i}, {signed}");
                }
                check_others(signed, &rows[..k], &columns, &got[0]);
            }
        }
    }

    fn check_others(signed: bool, row: &[u8], columns: &[u8], want: &[i32; NR]) {
        let mut got = [[7; NR]];
        match signed {
            true => portable::<1, true>(row, columns, &mut got),
            false => portable::<1, false>(row, columns, &mut got),
        }
        assert_eq!(got[0], *want);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            got = [[7; NR]];
            // SAFETY: the machine has AVX2, which was just asked.
            #[allow(unsafe_code)]
            unsafe {
                match signed {
                    true => avx2::<1, true>(row, columns, &mut got),
                    false => avx2::<1, false>(row, columns, &mut got),
                }
            }
            assert_eq!(got[0], *want);
        }
    }

    #[test]
    fn rows_are_interleaved() {
        let mut out = [0; 8];
        interleave([&[1, 2], &[3, 4], &[5, 6], &[7, 8]], 0, &mut out);
        assert_eq!(out, [1, 3, 5, 7, 2, 4, 6, 8]);
        interleave([&[1, 2], &[3, 4], &[5, 6], &[7, 8]], 128, &mut out);
        assert_eq!(out[0], 129);
    }

    #[test]
    fn sums_are_rounded_to_even_and_saturate() {
        let ends = Ends { zero: 3.0, least: 0.0, most: 255.0 };
        let mut y = [0; 5];
        requantize(&[1, 3, -1000, 1000, -5], 0, 0.5, ends, &mut y);
        assert_eq!(y, [3, 5, 0, 255, 1]);
        let ends = Ends { zero: -1.0, least: -128.0, most: 127.0 };
        let each = (&[0, 1, 2, 3, 4][..], &[1.0, 1.0, 0.5, 1.0, 1.0][..]);
        requantize_each(&[0, 0, 0, 0, -900], each, 2, ends, &mut y);
        assert_eq!(y.map(|y| y as i8), [1, 2, 1, 4, -128]);
    }
}
