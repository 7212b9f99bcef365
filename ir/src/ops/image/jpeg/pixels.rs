//! Coefficients to pixels: transform, interpolation, colours.

use super::{Component, Frame, Tables};
use crate::ops::image::decode::{Picture, from_cmyk};
use crate::{Context, Result, invalid, unsupported};

/// How the channels spell colours.
#[derive(Clone, Copy, PartialEq)]
enum Colours {
    Grey,
    Rgb,
    Ycc,
    /// Inverted where an Adobe program wrote it.
    Cmyk(bool),
    Ycck(bool),
}

fn colours(frame: &Frame, tables: &Tables) -> Colours {
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    match (ids.len(), tables.adobe) {
        (1, _) => Colours::Grey,
        (3, _) if tables.jfif => Colours::Ycc,
        (3, Some(transform)) => {
            if transform == 0 {
                Colours::Rgb
            } else {
                Colours::Ycc
            }
        }
        (3, None) => {
            if ids == *b"RGB" {
                Colours::Rgb
            } else {
                Colours::Ycc
            }
        }
        (_, Some(2)) => Colours::Ycck(true),
        (_, adobe) => Colours::Cmyk(adobe.is_some()),
    }
}

/// The samples of a channel in its own size, padded to whole blocks.
struct Plane {
    size: [usize; 2],
    stride: usize,
    /// How many pixels a sample spans, across and down.
    span: [usize; 2],
    data: Vec<u8>,
}

/// The picture that the coefficients stand for.
pub fn picture(cx: &Context, frame: Frame, tables: &Tables) -> Result<Picture> {
    let (colours, [width, height], most) = (colours(&frame, tables), frame.size, frame.most);
    let channels = if colours == Colours::Grey { 1 } else { 3 };
    let mut picture = Picture::new(cx, width, height, channels)?;
    let planes = frame.components.into_iter().map(|c| plane(cx, c, most));
    let planes = planes.collect::<Result<Vec<_>>>()?;
    let mut rows = vec![vec![0; width]; planes.len()];
    for y in 0..height {
        cx.cancel.poll()?;
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.row(y, row);
        }
        for (x, to) in picture.row(y).chunks_exact_mut(channels).enumerate() {
            let at = |i: usize| rows.get(i).map_or(0, |r| r[x]);
            match channels {
                1 => to[0] = at(0),
                _ => to.copy_from_slice(&rgb(colours, [at(0), at(1), at(2), at(3)])),
            }
        }
    }
    Ok(picture)
}

fn plane(cx: &Context, c: Component, most: [usize; 2]) -> Result<Plane> {
    let Some(factors) = c.factors else {
        invalid!("channel {} of the JPEG image has no scan, or no quantization table", c.id);
    };
    if (0..2).any(|i| !most[i].is_multiple_of(c.sampling[i])) {
        unsupported!("JPEG sampling factors {:?} beside {most:?} are not decoded", c.sampling);
    }
    let stride = c.blocks[0] * 8;
    let mut data = cx.zeros::<u8>(&[c.blocks[1] * 8, stride])?;
    for (i, block) in c.coefficients.chunks_exact(64).enumerate() {
        if i % (1 << 14) == 0 {
            cx.cancel.poll()?;
        }
        let at = i / c.blocks[0] * 8 * stride + i % c.blocks[0] * 8;
        for (row, eight) in transform(block, &factors).chunks_exact(8).enumerate() {
            data[at + row * stride..][..8].copy_from_slice(eight);
        }
    }
    let span = [most[0] / c.sampling[0], most[1] / c.sampling[1]];
    Ok(Plane { size: c.size, stride, span, data })
}

/// The inverse cosine transform of a block, in fixed point of 13 bits.
fn transform(block: &[i16], factors: &[u16; 64]) -> [u8; 64] {
    let mut v = [0i64; 64];
    for (v, (&c, &f)) in v.iter_mut().zip(block.iter().zip(factors)) {
        *v = i64::from(c) * i64::from(f);
    }
    // Columns keep 2 more bits for the rows.
    for x in 0..8 {
        let column = eight(std::array::from_fn(|y| v[y * 8 + x]));
        for (y, sum) in column.into_iter().enumerate() {
            v[y * 8 + x] = (sum + (1 << 10)) >> 11;
        }
    }
    let mut out = [0; 64];
    for y in 0..8 {
        let row = eight(std::array::from_fn(|x| v[y * 8 + x]));
        for (x, sum) in row.into_iter().enumerate() {
            out[y * 8 + x] = (((sum + (1 << 17)) >> 18) + 128).clamp(0, 255) as u8;
        }
    }
    out
}

/// The transform of 8 values by Loeffler, Ligtenberg and Moschytz, times 2^13.
fn eight(v: [i64; 8]) -> [i64; 8] {
    let turn = (v[2] + v[6]) * 4433;
    let (low, high) = (turn + v[2] * 6270, turn - v[6] * 15137);
    let (sum, gap) = ((v[0] + v[4]) << 13, (v[0] - v[4]) << 13);
    let even = [sum + low, gap + high, gap - high, sum - low];

    let both = (v[7] + v[3] + v[5] + v[1]) * 9633;
    let outer = (v[7] + v[1]) * -7373;
    let inner = (v[5] + v[3]) * -20995;
    let left = (v[7] + v[3]) * -16069 + both;
    let right = (v[5] + v[1]) * -3196 + both;
    let odd = [
        v[1] * 12299 + outer + right,
        v[3] * 25172 + inner + left,
        v[5] * 16819 + inner + right,
        v[7] * 2446 + outer + left,
    ];
    std::array::from_fn(|i| if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] })
}

impl Plane {
    fn line(&self, y: usize) -> &[u8] {
        &self.data[y.min(self.size[1] - 1) * self.stride..][..self.size[0]]
    }

    /// Row `y` of the picture: where a sample spans two pixels, a mix of 3 parts of it and
    /// 1 part of the neighbour on that side, rounded up and down in turns.
    fn row(&self, y: usize, to: &mut [u8]) {
        let [across, down] = self.span;
        let here = self.line(y / down);
        let smooth = across == 1 || across == 2 && self.size[0] > 2;
        let near = match (down, y % 2) {
            (2, 0) => self.line((y / 2).saturating_sub(1)),
            (2, _) => self.line(y / 2 + 1),
            _ => here,
        };
        let mix = |x: usize| u16::from(here[x]) * 3 + u16::from(near[x]);
        match (across, down) {
            (1, 1) => to.copy_from_slice(here),
            (1, 2) => {
                let bias = 1 + (y % 2) as u16;
                to.iter_mut().enumerate().for_each(|(x, t)| *t = ((mix(x) + bias) >> 2) as u8);
            }
            (2, 1) if smooth => widen(to, here.len(), |x| here[x].into(), [1, 2], 2),
            (2, 2) if smooth => widen(to, here.len(), mix, [8, 7], 4),
            _ => to.iter_mut().enumerate().for_each(|(x, t)| *t = here[x / across]),
        }
    }
}

/// Two pixels of each of `n` samples.
fn widen(to: &mut [u8], n: usize, at: impl Fn(usize) -> u16, bias: [u16; 2], shift: u32) {
    for (i, t) in to.iter_mut().enumerate() {
        let (x, side) = (i / 2, i % 2);
        let beside = if side == 0 { x.saturating_sub(1) } else { (x + 1).min(n - 1) };
        *t = ((at(x) * 3 + at(beside) + bias[side]) >> shift) as u8;
    }
}

fn rgb(colours: Colours, [a, b, c, k]: [u8; 4]) -> [u8; 3] {
    match colours {
        Colours::Grey => [a; 3],
        Colours::Rgb => [a, b, c],
        Colours::Ycc => from_ycc(a, b, c),
        Colours::Cmyk(inverted) => inks([a, b, c], k, inverted),
        Colours::Ycck(inverted) => inks(from_ycc(a, b, c).map(|v| 255 - v), k, inverted),
    }
}

fn inks(ink: [u8; 3], k: u8, inverted: bool) -> [u8; 3] {
    let turn = |v: u8| if inverted { 255 - v } else { v };
    from_cmyk(ink.map(turn), turn(k))
}

/// Fixed point of 16 bits.
fn from_ycc(y: u8, blue: u8, red: u8) -> [u8; 3] {
    let (y, blue, red) = (i32::from(y), i32::from(blue) - 128, i32::from(red) - 128);
    let half = 1 << 15;
    [
        y + ((91881 * red + half) >> 16),
        y + ((-22554 * blue - 46802 * red + half) >> 16),
        y + ((116_130 * blue + half) >> 16),
    ]
    .map(|v| v.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_alone_is_flat() {
        let mut block = [0; 64];
        (block[0], block[1]) = (16, 0);
        assert_eq!(transform(&block, &[2; 64]), [132; 64]);
        // Far out of range, it ends at white and black.
        block[0] = i16::MAX;
        assert_eq!(transform(&block, &[u16::MAX; 64]), [255; 64]);
        block[0] = i16::MIN;
        assert_eq!(transform(&block, &[u16::MAX; 64]), [0; 64]);
    }

    #[test]
    fn one_wave_is_a_cosine() {
        let mut block = [0; 64];
        block[8] = 100;
        let got = transform(&block, &[1; 64]);
        for y in 0..8 {
            let wave = f64::cos((2 * y + 1) as f64 * std::f64::consts::PI / 16.0);
            let want = 128.0 + 100.0 * wave / 32f64.sqrt();
            assert!((f64::from(got[y * 8]) - want).abs() < 0.51, "{y}: {} {want}", got[y * 8]);
        }
    }

    #[test]
    fn halves_are_rounded_in_turns() {
        let line = [10u8, 12, 20];
        let mut to = [0; 5];
        widen(&mut to, 3, |x| line[x].into(), [1, 2], 2);
        assert_eq!(to, [10, 11, 11, 14, 18]);
    }

    #[test]
    fn rows_between_rows() {
        let data = vec![0, 100];
        let plane = Plane { size: [1, 2], stride: 1, span: [1, 2], data };
        let row = |y: usize| {
            let mut to = [0];
            plane.row(y, &mut to);
            to[0]
        };
        assert_eq!([0, 1, 2, 3].map(row), [0, 25, 75, 100]);
    }

    #[test]
    fn colours_of_every_kind() {
        assert_eq!(rgb(Colours::Ycc, [76, 85, 255, 0]), [254, 0, 0]);
        assert_eq!(rgb(Colours::Ycc, [9, 128, 128, 0]), [9, 9, 9]);
        assert_eq!(rgb(Colours::Rgb, [1, 2, 3, 0]), [1, 2, 3]);
        assert_eq!(rgb(Colours::Cmyk(false), [255, 0, 0, 0]), [0, 255, 255]);
        assert_eq!(rgb(Colours::Cmyk(true), [0, 255, 255, 255]), [0, 255, 255]);
        assert_eq!(rgb(Colours::Cmyk(false), [0, 0, 0, 55]), [200, 200, 200]);
        assert_eq!(rgb(Colours::Ycck(false), [200, 128, 128, 0]), [200, 200, 200]);
    }
}
