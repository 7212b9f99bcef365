//! PNG: filtered rows, deflated, interlaced or not.

use kiln_tensor::DType;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::bytes::{Reader, sample, stretch};
use super::decode::Picture;
use crate::{Context, Result, invalid};

#[derive(Default)]
struct Header {
    width: usize,
    height: usize,
    bits: usize,
    colour: u8,
    interlaced: bool,
}

impl Header {
    fn read(mut r: Reader<'_>) -> Result<Self> {
        let (width, height) = (r.size()?, r.size()?);
        let (bits, colour) = (usize::from(r.u8()?), r.u8()?);
        let (packing, filter, interlaced) = (r.u8()?, r.u8()?, r.u8()?);
        let fine = match colour {
            0 => matches!(bits, 1 | 2 | 4 | 8 | 16),
            2 | 4 | 6 => matches!(bits, 8 | 16),
            3 => matches!(bits, 1 | 2 | 4 | 8),
            _ => false,
        };
        if !fine || packing != 0 || filter != 0 || interlaced > 1 || width == 0 || height == 0 {
            invalid!(
                "the PNG header says {width} x {height}, colour type {colour} of {bits} bits, \
                 compression {packing}, filter {filter}, interlace {interlaced}"
            );
        }
        Ok(Self { width, height, bits, colour, interlaced: interlaced == 1 })
    }

    /// Samples of a pixel.
    fn samples(&self) -> usize {
        [1, 0, 3, 1, 2, 0, 4][usize::from(self.colour)]
    }

    /// Bytes of a row of so many pixels.
    fn stride(&self, width: usize) -> usize {
        (width * self.samples() * self.bits).div_ceil(8)
    }

    /// The passes: the first pixel and the steps, across and down.
    fn passes(&self) -> &'static [[usize; 4]] {
        const ADAM7: &[[usize; 4]] = &[
            [0, 0, 8, 8],
            [4, 0, 8, 8],
            [0, 4, 4, 8],
            [2, 0, 4, 4],
            [0, 2, 2, 4],
            [1, 0, 2, 2],
            [0, 1, 1, 2],
        ];
        if self.interlaced { ADAM7 } else { &[[0, 0, 1, 1]] }
    }

    /// Columns and rows of a pass.
    fn pass_size(&self, [x, y, dx, dy]: [usize; 4]) -> (usize, usize) {
        let columns = self.width.saturating_sub(x).div_ceil(dx);
        let rows = self.height.saturating_sub(y).div_ceil(dy);
        if columns == 0 { (0, 0) } else { (columns, rows) }
    }
}

/// The checksum of a chunk.
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let (mut table, mut i) = ([0; 256], 0);
        while i < 256 {
            let (mut c, mut bit) = (i as u32, 0);
            while bit < 8 {
                c = if c & 1 == 1 { 0xedb8_8320 ^ c >> 1 } else { c >> 1 };
                bit += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |c, &b| TABLE[usize::from(c as u8 ^ b)] ^ c >> 8)
}

/// Decodes a PNG file; transparency is left out.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let mut r = Reader::big(data).seek(8);
    let (mut header, mut palette, mut packed) = (None, &[][..], Vec::new());
    loop {
        let n = r.size()?;
        let named = r.clone().take(n.saturating_add(4))?;
        let (kind, body) = named.split_at(4);
        r.take(named.len())?;
        let stored = r.u32()?;
        // What is not needed need not be whole.
        if kind[0].is_ascii_uppercase() && stored != crc(named) {
            invalid!("the PNG chunk `{}` is damaged: its checksum differs", kind.escape_ascii());
        }
        match kind {
            b"IHDR" => header = Some(Header::read(Reader::big(body))?),
            b"PLTE" => palette = body,
            b"IDAT" => packed.extend_from_slice(body),
            b"IEND" => break,
            _ => {}
        }
    }
    let Some(header) = header else { invalid!("the PNG image has no header") };
    unpack(cx, &header, palette, &packed)
}

fn unpack(cx: &Context, h: &Header, palette: &[u8], packed: &[u8]) -> Result<Picture> {
    let rows = h.passes().iter().map(|&p| h.pass_size(p));
    let needed: usize = rows.map(|(w, rows)| (h.stride(w) + 1).saturating_mul(rows)).sum();
    cx.numel(DType::U8, &[needed])?;
    let raw = match decompress_to_vec_zlib_with_limit(packed, needed) {
        Ok(raw) => raw,
        Err(e) => invalid!("the rows of the PNG image are damaged: {e}"),
    };
    if raw.len() != needed {
        invalid!("the PNG image ends early: {} of {needed} bytes of rows", raw.len());
    }
    let mut picture =
        Picture::new(cx, h.width, h.height, if h.samples() < 3 && h.colour != 3 { 1 } else { 3 })?;
    let mut raw = raw;
    let mut rest = &mut raw[..];
    for &pass in h.passes() {
        let (columns, rows) = h.pass_size(pass);
        let stride = h.stride(columns) + 1;
        let (these, more) = std::mem::take(&mut rest).split_at_mut(stride * rows);
        rest = more;
        unfilter(cx, these, stride, (h.samples() * h.bits).div_ceil(8))?;
        for (i, row) in these.chunks_exact(stride).enumerate() {
            place(h, palette, &row[1..], columns, &mut picture, pass, i)?;
        }
    }
    Ok(picture)
}

/// Undoes the filter of each row; `step` is the distance to the pixel on the left.
fn unfilter(cx: &Context, rows: &mut [u8], stride: usize, step: usize) -> Result<()> {
    let mut above = vec![0; stride - 1];
    for row in rows.chunks_exact_mut(stride) {
        cx.cancel.poll()?;
        let (kind, row) = (row[0], &mut row[1..]);
        for i in 0..row.len() {
            let (left, corner) = match i.checked_sub(step) {
                Some(j) => (row[j], above[j]),
                None => (0, 0),
            };
            let add = match kind {
                0 => break,
                1 => left,
                2 => above[i],
                3 => ((u16::from(left) + u16::from(above[i])) / 2) as u8,
                4 => paeth(left, above[i], corner),
                _ => invalid!("the PNG image has a row of filter {kind}: 0 to 4 are known"),
            };
            row[i] = row[i].wrapping_add(add);
        }
        above.copy_from_slice(row);
    }
    Ok(())
}

/// Whichever of three neighbours is nearest to `a + b - c`.
fn paeth(a: u8, b: u8, c: u8) -> u8 {
    let [x, y, z] = [a, b, c].map(i16::from);
    let (da, db, dc) = ((y - z).abs(), (x - z).abs(), (x + y - 2 * z).abs());
    if da <= db && da <= dc {
        a
    } else if db <= dc {
        b
    } else {
        c
    }
}

/// Sets the pixels of one row of a pass.
fn place(
    h: &Header,
    palette: &[u8],
    row: &[u8],
    columns: usize,
    picture: &mut Picture,
    [x, y, dx, dy]: [usize; 4],
    i: usize,
) -> Result<()> {
    let channels = picture.channels;
    let to = picture.row(y + i * dy);
    for column in 0..columns {
        let to = &mut to[(x + column * dx) * channels..][..channels];
        if h.colour == 3 {
            let index = usize::from(sample(row, column, h.bits));
            let Some(colour) = palette.get(index * 3..index * 3 + 3) else {
                invalid!("the PNG image asks for colour {index} of {}", palette.len() / 3);
            };
            to.copy_from_slice(colour);
            continue;
        }
        for (c, to) in to.iter_mut().enumerate() {
            *to = stretch(sample(row, column * h.samples() + c, h.bits), h.bits);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec_zlib;

    use super::*;

    fn chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
        let named = [kind, body].concat();
        let n = body.len() as u32;
        [&n.to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
    }

    fn file(size: [u32; 2], kind: [u8; 3], palette: &[u8], rows: &[u8]) -> Vec<u8> {
        let [bits, colour, interlaced] = kind;
        let size = size.map(u32::to_be_bytes).concat();
        let header = [&size[..], &[bits, colour, 0, 0, interlaced]].concat();
        let mut f = b"\x89PNG\r\n\x1a\n".to_vec();
        f.extend(chunk(b"IHDR", &header));
        f.extend(chunk(b"PLTE", palette));
        f.extend(chunk(b"IDAT", &compress_to_vec_zlib(rows, 1)));
        f.extend(chunk(b"IEND", b""));
        f
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn every_kind_of_row() {
        let cx = Context::default();
        for (name, f, channels, want) in [
            ("grey 1", file([3, 1], [1, 0, 0], b"", &[0, 0xa0]), 1, vec![255, 0, 255]),
            ("grey 2", file([2, 1], [2, 0, 0], b"", &[0, 0x60]), 1, vec![85, 170]),
            ("grey 4", file([2, 1], [4, 0, 0], b"", &[0, 0x1f]), 1, vec![17, 255]),
            ("grey 16", file([1, 1], [16, 0, 0], b"", &[0, 7, 9]), 1, vec![7]),
            (
                "palette",
                file([2, 1], [1, 3, 0], &[1, 2, 3, 4, 5, 6], &[0, 0x40]),
                3,
                vec![1, 2, 3, 4, 5, 6],
            ),
            ("grey alpha", file([1, 1], [8, 4, 0], b"", &[0, 7, 9]), 1, vec![7]),
            ("rgba", file([1, 1], [8, 6, 0], b"", &[0, 1, 2, 3, 4]), 3, vec![1, 2, 3]),
            ("woven", file([2, 2], [8, 0, 1], b"", &[0, 1, 0, 2, 0, 3, 4]), 1, vec![1, 2, 3, 4]),
            // None; left; up; the mean of both; Paeth's choice.
            (
                "filters",
                file([2, 5], [8, 0, 0], b"", &[0, 10, 20, 1, 1, 2, 2, 5, 6, 3, 1, 1, 4, 1, 1]),
                1,
                vec![10, 20, 1, 3, 6, 9, 4, 7, 5, 8],
            ),
        ] {
            let p = decode(&cx, &f).expect(name);
            assert_eq!((p.channels, p.data), (channels, want), "{name}");
        }
    }

    #[test]
    fn what_lies_is_an_error() {
        let fine = file([1, 1], [8, 0, 0], b"", &[0, 1]);
        let mut damaged = fine.clone();
        damaged[20] ^= 1;
        for f in [
            damaged,
            fine[..fine.len() - 20].to_vec(),
            file([2, 1], [8, 0, 0], b"", &[0, 1]),
            file([1, 1], [8, 0, 0], b"", &[0, 1, 2]),
            file([u32::MAX, u32::MAX], [16, 6, 0], b"", &[0, 1]),
            file([0, 1], [8, 0, 0], b"", &[0, 1]),
            file([1, 1], [3, 0, 0], b"", &[0, 1]),
            file([1, 1], [8, 0, 0], b"", &[5, 1]),
            file([1, 1], [8, 3, 0], b"abc", &[0, 1]),
        ] {
            assert!(decode(&Context::default(), &f).is_err(), "{f:?}");
        }
    }
}
