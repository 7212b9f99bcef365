//! Windows bitmaps: palettes, bit fields, run lengths.

use super::bytes::{Reader, sample};
use super::decode::Picture;
use crate::{Context, Result, invalid, unsupported};

struct Header {
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    packing: u32,
    /// Where the pixels begin.
    pixels: usize,
    palette: Vec<[u8; 3]>,
    masks: [u32; 3],
}

/// Decodes a bitmap.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let h = header(data)?;
    match (h.packing, h.bits) {
        (0 | 3 | 6, _) => rows(cx, &h, data),
        (1, 8) | (2, 4) => run_lengths(cx, &h, data),
        (p, bits) => unsupported!("BMP compression {p} with {bits} bits is not decoded"),
    }
}

fn header(data: &[u8]) -> Result<Header> {
    let mut r = Reader::little(data).seek(10);
    let (pixels, length) = (r.size()?, r.size()?);
    let core = length == 12;
    let (width, height) = match core {
        true => (i64::from(r.u16()?), i64::from(r.u16()?)),
        false => (i64::from(r.u32()? as i32), i64::from(r.u32()? as i32)),
    };
    let (_planes, bits) = (r.u16()?, usize::from(r.u16()?));
    if !core && length < 40 || width < 1 || height == 0 || !matches!(bits, 1 | 4 | 8 | 16 | 24 | 32)
    {
        invalid!("a BMP header of {length} bytes says {width} x {height} of {bits} bits");
    }
    let (mut packing, mut colours) = (0, 0);
    if !core {
        packing = r.u32()?;
        colours = r.seek(46).size()?;
    }
    let masks = masks(data, packing, bits)?;
    let fields = if packing == 3 && length == 40 { 12 } else { 0 };
    let at = 14usize.saturating_add(length).saturating_add(fields);
    let palette = palette(Reader::little(data).seek(at), bits, colours, if core { 3 } else { 4 });
    let (top_down, height) = (height < 0, height.unsigned_abs() as usize);
    let (width, palette) = (width as usize, palette?);
    Ok(Header { width, height, top_down, bits, packing, pixels, palette, masks })
}

fn masks(data: &[u8], packing: u32, bits: usize) -> Result<[u32; 3]> {
    Ok(match (packing, bits) {
        (3 | 6, 16 | 32) => {
            let mut r = Reader::little(data).seek(54);
            [r.u32()?, r.u32()?, r.u32()?]
        }
        (_, 16) => [0x7c00, 0x03e0, 0x001f],
        _ => [0x00ff_0000, 0xff00, 0xff],
    })
}

fn palette(mut r: Reader<'_>, bits: usize, colours: usize, each: usize) -> Result<Vec<[u8; 3]>> {
    if bits > 8 {
        return Ok(vec![]);
    }
    let n = if colours == 0 { 1 << bits } else { colours.min(1 << bits) };
    let bytes = r.take(n * each)?;
    Ok(bytes.chunks_exact(each).map(|c| [c[2], c[1], c[0]]).collect())
}

/// One channel of a pixel, stretched to 0..=255.
fn channel(pixel: u32, mask: u32) -> u8 {
    if mask == 0 {
        return 0;
    }
    let most = u64::from(mask >> mask.trailing_zeros());
    let value = u64::from((pixel & mask) >> mask.trailing_zeros());
    (value * 255 / most) as u8
}

fn rows(cx: &Context, h: &Header, data: &[u8]) -> Result<Picture> {
    let stride = (h.width * h.bits).div_ceil(32) * 4;
    let mut r = Reader::little(data).seek(h.pixels);
    // The last row may lack its padding.
    let needed = stride.saturating_mul(h.height - 1).saturating_add((h.width * h.bits).div_ceil(8));
    let rows = r.take(needed)?;
    let mut picture = Picture::new(cx, h.width, h.height, 3)?;
    for (y, row) in rows.chunks(stride).enumerate() {
        cx.cancel.poll()?;
        let y = if h.top_down { y } else { h.height - 1 - y };
        for (x, to) in picture.row(y).chunks_exact_mut(3).enumerate() {
            to.copy_from_slice(&pixel(h, row, x));
        }
    }
    Ok(picture)
}

fn pixel(h: &Header, row: &[u8], x: usize) -> [u8; 3] {
    let wide = |n: usize| {
        let bytes = row.get(x * n..x * n + n).unwrap_or_default();
        bytes.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b))
    };
    match h.bits {
        16 | 24 | 32 => h.masks.map(|m| channel(wide(h.bits / 8), m)),
        bits => colour(h, sample(row, x, bits)),
    }
}

fn colour(h: &Header, index: u8) -> [u8; 3] {
    h.palette.get(usize::from(index)).copied().unwrap_or_default()
}

/// Runs of one or two alternating colours; what is skipped stays at colour 0.
fn run_lengths(cx: &Context, h: &Header, data: &[u8]) -> Result<Picture> {
    let mut picture = Picture::new(cx, h.width, h.height, 3)?;
    picture.data.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&colour(h, 0)));
    let mut r = Reader::little(data).seek(h.pixels);
    let (mut x, mut y) = (0usize, 0usize);
    while y < h.height {
        cx.cancel.poll()?;
        let (n, b) = (usize::from(r.u8()?), r.u8()?);
        let (n, bytes) = match (n, b) {
            (0, 0) => {
                (x, y) = (0, y + 1);
                continue;
            }
            (0, 1) => break,
            (0, 2) => {
                (x, y) = (x + usize::from(r.u8()?), y + usize::from(r.u8()?));
                continue;
            }
            (0, n) => (usize::from(n), r.take((usize::from(n) * h.bits).div_ceil(16) * 2)?),
            (n, _) => (n, &[b][..]),
        };
        for i in 0..n.min(h.width.saturating_sub(x)) {
            let at = if bytes.len() == 1 { i % (8 / h.bits) } else { i };
            let to = &mut picture.row(h.height - 1 - y)[(x + i) * 3..][..3];
            to.copy_from_slice(&colour(h, sample(bytes, at, h.bits)));
        }
        x += n;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a header of 40 bytes.
    fn file(
        width: i32,
        height: i32,
        bits: u16,
        packing: u32,
        colours: u32,
        rest: &[u8],
    ) -> Vec<u8> {
        let mut f = b"BM\0\0\0\0\0\0\0\0".to_vec();
        let palette = if packing == 3 { 12 } else { colours * 4 };
        for v in [54 + palette, 40, width as u32, height as u32, 1 | u32::from(bits) << 16] {
            f.extend(v.to_le_bytes());
        }
        for v in [packing, 0, 0, 0, colours, 0] {
            f.extend(v.to_le_bytes());
        }
        f.extend(rest);
        f
    }

    fn pixels(file: &[u8]) -> Result<Vec<u8>> {
        Ok(decode(&Context::default(), file)?.data)
    }

    #[test]
    fn rows_of_every_depth() {
        let two = [9, 8, 7, 0, 3, 2, 1, 0];
        let with = |rest: &[u8]| [&two[..], rest].concat();
        let fields = [0x00f0u32, 0x0f00, 0x0001].map(u32::to_le_bytes).concat();
        for (name, f, want) in [
            ("24", file(1, 2, 24, 0, 0, &[1, 2, 3, 0, 4, 5, 6, 0]), vec![6, 5, 4, 3, 2, 1]),
            ("down", file(1, -2, 24, 0, 0, &[1, 2, 3, 0, 4, 5, 6]), vec![3, 2, 1, 6, 5, 4]),
            ("32", file(1, 1, 32, 0, 0, &[1, 2, 3, 4]), vec![3, 2, 1]),
            ("16", file(1, 1, 16, 0, 0, &[0x1f, 0x40, 0, 0]), vec![131, 0, 255]),
            ("8", file(2, 1, 8, 0, 2, &with(&[1, 0, 0, 0])), vec![1, 2, 3, 7, 8, 9]),
            ("4", file(2, 1, 4, 0, 2, &with(&[0x10, 0, 0, 0])), vec![1, 2, 3, 7, 8, 9]),
            ("1", file(2, 1, 1, 0, 2, &with(&[0x40, 0, 0, 0])), vec![7, 8, 9, 1, 2, 3]),
            (
                "fields",
                file(1, 1, 16, 3, 0, &[&fields[..], &[0x51, 0x0f, 0, 0]].concat()),
                vec![85, 255, 255],
            ),
        ] {
            assert_eq!(pixels(&f).expect(name), want, "{name}");
        }
    }

    #[test]
    fn runs() {
        let two = [9, 8, 7, 0, 3, 2, 1, 0];
        let (a, b) = ([7, 8, 9], [1, 2, 3]);
        let with = |rest: &[u8]| [&two[..], rest].concat();
        // Two of 1, end of line, three as they are, end.
        let f = file(3, 2, 8, 1, 2, &with(&[2, 1, 0, 0, 0, 3, 0, 1, 0, 0, 0, 1]));
        assert_eq!(pixels(&f).expect("8 bits"), [a, b, a, b, b, a].concat());
        // Five in turns; then a skip of one column and one row.
        let f = file(5, 1, 4, 2, 2, &with(&[5, 0x01, 0, 2, 1, 1]));
        assert_eq!(pixels(&f).expect("4 bits"), [a, b, a, b, a].concat());
    }

    #[test]
    fn what_lies_is_an_error() {
        for f in [
            file(i32::MAX, i32::MIN, 32, 0, 0, &[0; 8]),
            file(-1, 1, 24, 0, 0, &[0; 8]),
            file(1, 1, 5, 0, 0, &[0; 8]),
            file(2, 2, 24, 0, 0, &[0; 8]),
            file(1, 1, 24, 4, 0, &[0; 8]),
            file(2, 2, 8, 1, 0, &[0; 8]),
        ] {
            assert!(pixels(&f).is_err(), "{f:?}");
        }
    }
}
