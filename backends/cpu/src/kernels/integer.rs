//! Sums of products of bytes, four at a time: `u8` times `i8` in `i32`.
//!
//! ```text
//! rows  [m / MR][k / 4][MR][4]     columns  [n / NR][k / 4][NR][4]     sums  [m][n]
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

/// How many rows a tile of at least `count` has, which are at most `MR`.
pub(crate) fn height(count: usize) -> usize {
    [1, 2, 4, 8].into_iter().find(|h| *h >= count).unwrap_or(MR)
}

/// `tile[i][j] = rows[i] * columns[j]` for `height` rows, quad by quad. Where `signed`, the rows
/// are signed and the columns are not; else the other way around.
pub(crate) fn tile(signed: bool, height: usize, rows: &[u8], columns: &[u8], tile: &mut Tile) {
    macro_rules! heights {
        ($($h:literal),*) => {
            match (signed, height) {
                $((true, $h) => tile_of::<$h, true>(rows, columns, tile),
                (false, $h) => tile_of::<$h, false>(rows, columns, tile),)*
                (true, _) => tile_of::<MR, true>(rows, columns, tile),
                (false, _) => tile_of::<MR, false>(rows, columns, tile),
            }
        };
    }
    heights!(1, 2, 4, 8);
}

/// `R` rows by the widest instructions that the machine has.
fn tile_of<const R: usize, const S: bool>(rows: &[u8], columns: &[u8], tile: &mut Tile) {
    let (rows, _) = rows.as_chunks::<QUAD>();
    let (rows, _) = rows.as_chunks::<R>();
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

/// Quads of the same four products of some rows.
type Rows<const R: usize> = [[u8; QUAD]; R];

/// Packs rows of `k` bytes, one after another, as tiles of `MR` rows and a last one of fewer;
/// each byte is flipped by `bits`, and what fills up the last quad is 0. Adds up each row.
pub(crate) fn pack_rows(x: &[u8], k: usize, bits: u8, packed: &mut Vec<u8>, sums: &mut Vec<i32>) {
    let quads = k.div_ceil(QUAD);
    packed.clear();
    sums.clear();
    for rows in x.chunks(MR * k.max(1)) {
        let height = height(rows.len() / k.max(1));
        let from = packed.len();
        packed.resize(from + height * quads * QUAD, 0);
        let (tile, _) = packed[from..].as_chunks_mut::<QUAD>();
        for (i, row) in rows.chunks_exact(k.max(1)).enumerate() {
            let mut sum = 0;
            let (whole, rest) = row.as_chunks::<QUAD>();
            for (quad, x) in tile.iter_mut().skip(i).step_by(height).zip(whole) {
                *quad = x.map(|x| x ^ bits);
                sum += quad.iter().map(|&x| i32::from(x)).sum::<i32>();
            }
            for (j, x) in rest.iter().enumerate() {
                tile[whole.len() * height + i][j] = x ^ bits;
                sum += i32::from(x ^ bits);
            }
            sums.push(sum);
        }
    }
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
fn vnni<const R: usize, const S: bool>(rows: &[Rows<R>], columns: &[u8], tile: &mut Tile) {
    let (columns, _) = columns.as_chunks::<64>();
    let (columns, _) = columns.as_chunks::<2>();
    let mut sums = [[_mm512_setzero_si512(); 2]; R];
    for (a, b) in rows.iter().zip(columns) {
        let b = [load(&b[0]), load(&b[1])];
        for i in 0..R {
            let a = _mm512_set1_epi32(i32::from_le_bytes(a[i]));
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
fn avx2<const R: usize, const S: bool>(rows: &[Rows<R>], columns: &[u8], tile: &mut Tile) {
    let (columns, _) = columns.as_chunks::<16>();
    let (columns, _) = columns.as_chunks::<{ NR / QUAD }>();
    // Four columns at a time; pairs of products are summed in 32 bits, as 16 would overflow.
    for q in 0..NR / QUAD {
        let mut sums = [_mm256_setzero_si256(); R];
        for (a, b) in rows.iter().zip(columns) {
            let b = widened::<false>(&b[q], S);
            for i in 0..R {
                let a = std::array::from_fn(|j| a[i][j % QUAD]);
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

fn portable<const R: usize, const S: bool>(rows: &[Rows<R>], columns: &[u8], tile: &mut Tile) {
    let (columns, _) = columns.as_chunks::<QUAD>();
    let (columns, _) = columns.as_chunks::<NR>();
    let number = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
    let mut sums = [[0; NR]; R];
    for (a, b) in rows.iter().zip(columns) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (s, b) in sums.iter_mut().zip(b) {
                *s += a.iter().zip(b).map(|(&a, &b)| number(a, S) * number(b, !S)).sum::<i32>();
            }
        }
    }
    tile[..R].copy_from_slice(&sums);
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
    /// Bytes of sums with a summand and a scale for each, and a summand for all.
    pub(crate) fn requantize(
        x: &[i32; NR], each: (&[i32; NR], &[f32; NR]), add: i32, ends: Ends
    ) -> [u8; NR] = requantize_text
}

#[inline(always)]
fn requantize_text(
    x: &[i32; NR],
    (adds, scales): (&[i32; NR], &[f32; NR]),
    add: i32,
    ends: Ends,
    _: impl Fma,
) -> [u8; NR] {
    // Beside this number, the lowest bit of a fraction counts 1.
    const MAGIC: f32 = 12_582_912.0;
    let mut y = [0; NR];
    for i in 0..NR {
        let sum = x[i].wrapping_add(add).wrapping_add(adds[i]);
        let v = (sum as f32 * scales[i]).round_ties_even() + ends.zero;
        let v = if v < ends.least { ends.least } else { v };
        let v = if v > ends.most { ends.most } else { v };
        y[i] = (v + MAGIC).to_bits() as u8;
    }
    y
}

widest! {
    /// Sums with a summand and a scale for each, and a summand for all, as real numbers.
    pub(crate) fn rescale(
        x: &[i32; NR], adds: &[i32; NR], scales: &[f32; NR], add: i32
    ) -> [f32; NR] = rescale_text
}

#[inline(always)]
fn rescale_text(
    x: &[i32; NR],
    adds: &[i32; NR],
    scales: &[f32; NR],
    add: i32,
    _: impl Fma,
) -> [f32; NR] {
    let mut y = [0.0; NR];
    for i in 0..NR {
        y[i] = x[i].wrapping_add(add).wrapping_add(adds[i]) as f32 * scales[i];
    }
    y
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
        for (m, k) in [(12usize, 8usize), (7, 4), (1, 0), (3, 62), (12, 5), (2, 3), (4, 1)] {
            let quads = k.div_ceil(QUAD);
            let (mut rows, mut columns) = (bytes(m * k, 1), bytes(quads * QUAD * NR, 2));
            rows.iter_mut().step_by(5).for_each(|x| *x = 255);
            columns.iter_mut().step_by(3).for_each(|x| *x = 128);
            let (mut packed, mut sums) = (vec![], vec![]);
            pack_rows(&rows, k, 0, &mut packed, &mut sums);
            for signed in [true, false] {
                let number =
                    |x: u8, signed: bool| if signed { i32::from(x as i8) } else { x.into() };
                let want = |i: usize, j: usize| -> i32 {
                    let at = |p: usize| columns[(p / QUAD * NR + j) * QUAD + p % QUAD];
                    (0..k).map(|p| number(rows[i * k + p], signed) * number(at(p), !signed)).sum()
                };
                let mut got = [[7; NR]; MR];
                tile(signed, height(m), &packed, &columns, &mut got);
                for (i, got) in got.iter().enumerate().take(m) {
                    let want: Vec<_> = (0..NR).map(|j| want(i, j)).collect();
                    assert_eq!(got[..], want, "{m}x{k}, row {i}, {signed}");
                }
                match height(m) {
                    12 => check_others::<12>(signed, &packed, &columns, &got),
                    8 => check_others::<8>(signed, &packed, &columns, &got),
                    _ => {}
                }
            }
        }
    }

    fn check_others<const R: usize>(signed: bool, rows: &[u8], columns: &[u8], want: &Tile) {
        let (rows, _) = rows.as_chunks::<QUAD>();
        let (rows, _) = rows.as_chunks::<R>();
        let mut got = [[7; NR]; MR];
        match signed {
            true => portable::<R, true>(rows, columns, &mut got),
            false => portable::<R, false>(rows, columns, &mut got),
        }
        assert_eq!(got[..R], want[..R]);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            got = [[7; NR]; MR];
            // SAFETY: the machine has AVX2, which was just asked.
            #[allow(unsafe_code)]
            unsafe {
                match signed {
                    true => avx2::<R, true>(rows, columns, &mut got),
                    false => avx2::<R, false>(rows, columns, &mut got),
                }
            }
            assert_eq!(got[..R], want[..R]);
        }
    }

    #[test]
    fn rows_are_packed_and_added_up() {
        let (mut packed, mut sums) = (vec![], vec![]);
        pack_rows(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 5, 128, &mut packed, &mut sums);
        let bytes = packed.iter().map(|x| x.wrapping_sub(128)).collect::<Vec<_>>();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 6, 7, 8, 9]);
        assert_eq!(packed[8..], [133, 0, 0, 0, 138, 0, 0, 0]);
        assert_eq!(sums, [15 + 5 * 128, 40 + 5 * 128]);
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
        let some = |x: &[i32]| std::array::from_fn(|i| x.get(i).copied().unwrap_or(0));
        let ends = Ends { zero: 3.0, least: 0.0, most: 255.0 };
        let x = some(&[1, 3, -1000, 1000, -5]);
        let y = requantize(&x, (&[0; NR], &[0.5; NR]), 0, ends);
        assert_eq!(y[..6], [3, 5, 0, 255, 1, 3]);
        let ends = Ends { zero: -1.0, least: -128.0, most: 127.0 };
        let y = requantize(&some(&[0, 0, -900]), (&some(&[0, 2, 4]), &[1.0; NR]), 2, ends);
        assert_eq!(y.map(|y| y as i8)[..4], [1, 3, -128, 1]);
    }
}
