//! Rows of a table in lanes: what is done to a row is done to a vector of rows.

use crate::simd::Isa;

/// Lanes of a vector, at most.
const MOST: usize = 16;

/// Writes rows of `width` elements column by column: element `c` of row `r` to
/// `out[c * step + r]`. The rows come in whole vectors; lanes beyond the last row, and columns
/// beyond the last one, up to whole vectors, get anything.
///
/// # Panics
/// Where `out` has no room for whole vectors of columns.
#[inline(always)]
pub(crate) fn turn<S: Isa>(isa: S, x: &[f32], width: usize, out: &mut [f32], step: usize) {
    let rows = x.len() / width;
    for r in (0..rows).step_by(S::LANES) {
        for c in (0..width).step_by(S::LANES) {
            let (from, to) = (r * width + c, c * step + r);
            if from + (S::LANES - 1) * width + S::LANES <= x.len() {
                isa.turn(&x[from..], width, &mut out[to..], step);
                continue;
            }
            // Behind the last row, there is nothing to load.
            let mut own = [0.0; MOST * MOST];
            let n = S::LANES.min(width - c);
            for (own, x) in own.chunks_exact_mut(S::LANES).zip(x[from..].chunks(width)) {
                let n = n.min(x.len());
                own[..n].copy_from_slice(&x[..n]);
            }
            isa.turn(&own, S::LANES, &mut out[to..], step);
        }
    }
}

/// Rows that are turned at a time.
pub(crate) const ABREAST: usize = 64;

/// Room for `ABREAST` rows of `width` elements in columns, or for fewer where there are no more,
/// and how far apart these lie.
#[inline(always)]
pub(crate) fn room<S: Isa>(rows: usize, width: usize) -> (Vec<f32>, usize) {
    let step = rows.min(ABREAST).next_multiple_of(S::LANES);
    (vec![0.0; width.next_multiple_of(S::LANES) * step], step)
}

/// Writes rows of `width` elements from columns `step` apart, of which there are whole vectors, as
/// there are rows in each: the other way round.
///
/// # Panics
/// Where columns are missing.
#[inline(always)]
pub(crate) fn unturn<S: Isa>(isa: S, columns: &[f32], step: usize, out: &mut [f32], width: usize) {
    if width == 1 {
        let n = out.len();
        return out.copy_from_slice(&columns[..n]);
    }
    let mut square = [0.0; MOST * MOST];
    for (i, out) in out.chunks_mut(S::LANES * width).enumerate() {
        for c in (0..width).step_by(S::LANES) {
            let n = S::LANES.min(width - c);
            isa.turn(&columns[c * step + i * S::LANES..], step, &mut square, S::LANES);
            if width <= S::LANES {
                overlapping::<S>(&square, out, width);
                continue;
            }
            for (out, x) in out.chunks_exact_mut(width).zip(square.chunks_exact(S::LANES)) {
                out[c..c + n].copy_from_slice(&x[..n]);
            }
        }
    }
}

/// Copies the first `width` lanes of each vector, one behind the other: as whole vectors, whose
/// other lanes the next one covers, as long as there is room.
#[inline(always)]
fn overlapping<S: Isa>(from: &[f32], out: &mut [f32], width: usize) {
    for (r, x) in from.chunks_exact(S::LANES).take(out.len() / width).enumerate() {
        let out = &mut out[r * width..];
        match out.get_mut(..S::LANES) {
            Some(out) => out.copy_from_slice(x),
            None => out[..width].copy_from_slice(&x[..width]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, Work};

    struct Turned<'a>(&'a [f32], usize);

    impl Work for Turned<'_> {
        type Out = Vec<f32>;

        #[inline(always)]
        fn run<S: Isa>(self, isa: S) -> Vec<f32> {
            let mut out = vec![0.0; 48 * 64];
            turn(isa, self.0, self.1, &mut out, 64);
            let mut back = vec![0.0; self.0.len()];
            unturn(isa, &out, 64, &mut back, self.1);
            assert_eq!(back, self.0, "there and back");
            out
        }
    }

    #[test]
    fn every_width_and_every_number_of_rows() {
        let x: Vec<f32> = (0..64 * 33).map(|i| i as f32).collect();
        for &level in Level::all() {
            for (width, rows) in [(1, 64), (3, 17), (15, 1), (16, 33), (28, 40), (33, 64)] {
                let out = level.run(Turned(&x[..rows * width], width));
                for (i, x) in x[..rows * width].iter().enumerate() {
                    let place = i % width * 64 + i / width;
                    assert_eq!(out[place], *x, "{level:?}: {rows} rows of {width}, {i}");
                }
            }
        }
    }
}
