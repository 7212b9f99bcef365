//! TIFF: the first picture of a file, in strips or tiles.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kiln_tensor::DType;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::bytes::{Reader, sample, stretch};
use super::decode::Picture;
use crate::{Context, Result, invalid, unsupported};

type Tags = BTreeMap<u16, Vec<u32>>;

struct Layout {
    width: usize,
    height: usize,
    bits: usize,
    samples: usize,
    packing: u32,
    /// 0: white is 0; 1: black is 0; 2: colours; 3: palette.
    meaning: u32,
    predictor: u32,
    /// Whether each channel lies on its own.
    planar: bool,
    /// Columns and rows of a strip or tile.
    chunk: [usize; 2],
    little: bool,
    palette: Vec<u32>,
}

/// Decodes a TIFF file.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let little = data.starts_with(b"II");
    let start = if little { Reader::little(data) } else { Reader::big(data) };
    let at = start.seek(4).size()?;
    let tags = tags(start, at)?;
    let layout = layout(&tags, little)?;
    let (starts, lengths) = if tags.contains_key(&324) { (324, 325) } else { (273, 279) };
    let list = |tag: u16| tags.get(&tag).map_or(&[][..], Vec::as_slice);
    let (starts, lengths) = (list(starts), list(lengths));
    let [columns, rows] = layout.chunk;
    let (across, down) = (layout.width.div_ceil(columns), layout.height.div_ceil(rows));
    let planes = if layout.planar { layout.samples } else { 1 };
    let chunks = across.saturating_mul(down).saturating_mul(planes);
    if starts.len() < chunks || lengths.len() < chunks {
        invalid!("the TIFF image has {} of {chunks} strips or tiles", starts.len());
    }
    let colours = if layout.meaning < 2 { 1 } else { 3 };
    let mut picture = Picture::new(cx, layout.width, layout.height, colours)?;
    for (i, (&start_at, &length)) in starts.iter().zip(lengths).take(chunks).enumerate() {
        cx.cancel.poll()?;
        let (plane, i) = (i / (across * down), i % (across * down));
        let corner = [i % across * columns, i / across * rows];
        // A strip may stop where the image does; a tile is always whole.
        let strip = columns >= layout.width && !tags.contains_key(&324);
        let rows = if strip { rows.min(layout.height - corner[1]) } else { rows };
        let packed = start.seek(start_at as usize).take(length as usize)?;
        let bytes = unpack(cx, &layout, packed, rows)?;
        place(&layout, &bytes, corner, rows, plane, &mut picture)?;
    }
    Ok(picture)
}

/// The numbers of the first directory; text and fractions are left out.
fn tags(start: Reader<'_>, at: usize) -> Result<Tags> {
    let mut r = start.seek(at);
    let mut tags = Tags::new();
    for _ in 0..r.u16()? {
        let (tag, kind, n, here) = (r.u16()?, r.u16()?, r.size()?, r);
        r.take(4)?;
        let each = match kind {
            1 => 1,
            3 => 2,
            4 => 4,
            _ => continue,
        };
        let mut values = here;
        if n.saturating_mul(each) > 4 {
            values = start.seek(values.size()?);
        }
        // What the file cannot hold is not made.
        values.clone().take(n.saturating_mul(each))?;
        let mut next = || match each {
            1 => values.u8().map(u32::from),
            2 => values.u16().map(u32::from),
            _ => values.u32(),
        };
        if let Entry::Vacant(first) = tags.entry(tag) {
            first.insert((0..n).map(|_| next()).collect::<Result<_>>()?);
        }
    }
    Ok(tags)
}

fn layout(tags: &Tags, little: bool) -> Result<Layout> {
    let or = |tag: u16, d: u32| tags.get(&tag).and_then(|v| v.first()).copied().unwrap_or(d);
    let (width, height) = (or(256, 0) as usize, or(257, 0) as usize);
    let (samples, meaning) = (or(277, 1) as usize, or(262, 1));
    let planar = or(284, 1) == 2 && samples > 1;
    let depths = tags.get(&258).cloned().unwrap_or_else(|| vec![1]);
    let bits = depths.first().copied().unwrap_or(1) as usize;
    if width == 0 || height == 0 || !(1..=64).contains(&samples) {
        invalid!("the TIFF image is {width} x {height} of {samples} channels");
    }
    let plain = matches!(bits, 1 | 2 | 4 | 8 | 16) && depths.iter().all(|&d| d as usize == bits);
    if !plain || meaning > 3 || or(339, 1) != 1 || or(266, 1) != 1 {
        unsupported!(
            "TIFF images of colour space {meaning}, sample format {}, fill order {} and {depths:?} \
             bits are not decoded: save it as unsigned RGB or grey",
            or(339, 1),
            or(266, 1)
        );
    }
    if meaning == 2 && samples < 3 {
        invalid!("the TIFF image has {samples} of 3 colours");
    }
    let predictor = or(317, 1);
    if predictor > 2 || predictor == 2 && bits < 8 {
        unsupported!("TIFF predictor {predictor} with {bits} bits is not decoded");
    }
    let chunk = match tags.contains_key(&324) {
        true => [or(322, 0), or(323, 0)].map(|n| n as usize),
        false => [width, (or(278, u32::MAX) as usize).min(height)],
    };
    if chunk.contains(&0) {
        invalid!("the TIFF image has empty strips or tiles");
    }
    let palette = tags.get(&320).cloned().unwrap_or_default();
    let packing = or(259, 1);
    Ok(Layout {
        width,
        height,
        bits,
        samples,
        packing,
        meaning,
        predictor,
        planar,
        chunk,
        little,
        palette,
    })
}

impl Layout {
    /// Channels that lie side by side.
    fn together(&self) -> usize {
        if self.planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a strip or tile.
    fn stride(&self) -> usize {
        self.chunk[0].saturating_mul(self.together() * self.bits).div_ceil(8)
    }
}

/// The bytes of `rows` rows of a strip or tile, 16-bit samples with their high byte first.
fn unpack(cx: &Context, l: &Layout, packed: &[u8], rows: usize) -> Result<Vec<u8>> {
    let stride = l.stride();
    let needed = cx.numel(DType::U8, &[rows, stride])?;
    let mut bytes = match l.packing {
        1 => packed.get(..needed).unwrap_or(packed).to_vec(),
        5 => lzw(packed, needed)?,
        8 | 32946 => match decompress_to_vec_zlib_with_limit(packed, needed) {
            Ok(bytes) => bytes,
            Err(e) => invalid!("a strip or tile of the TIFF image is damaged: {e}"),
        },
        32773 => pack_bits(packed, needed)?,
        other => unsupported!(
            "TIFF compression {other} is not decoded: save it with none, LZW, Deflate or PackBits"
        ),
    };
    if bytes.len() < needed {
        invalid!("a strip or tile of the TIFF image has {} of {needed} bytes", bytes.len());
    }
    bytes.truncate(needed);
    if l.bits == 16 && l.little {
        bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    if l.predictor == 2 {
        bytes.chunks_exact_mut(stride).for_each(|row| add_up(row, l.together(), l.bits));
    }
    Ok(bytes)
}

/// Turns differences to the pixel on the left into values.
fn add_up(row: &mut [u8], step: usize, bits: usize) {
    if bits == 8 {
        (step..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - step]));
        return;
    }
    for i in step..row.len() / 2 {
        let at = |j: usize| u16::from_be_bytes([row[2 * j], row[2 * j + 1]]);
        let sum = at(i).wrapping_add(at(i - step)).to_be_bytes();
        row[2 * i..2 * i + 2].copy_from_slice(&sum);
    }
}

fn pack_bits(packed: &[u8], needed: usize) -> Result<Vec<u8>> {
    let (mut r, mut out) = (Reader::big(packed), Vec::new());
    while out.len() < needed {
        match r.u8()? {
            n @ 0..=127 => out.extend_from_slice(r.take(usize::from(n) + 1)?),
            128 => {}
            n => out.resize(out.len() + 257 - usize::from(n), r.u8()?),
        }
    }
    Ok(out)
}

/// The words of TIFF's LZW: codes from the high bit, wider one code early.
fn lzw(packed: &[u8], needed: usize) -> Result<Vec<u8>> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    // Where a code's word lies in the output, and its length.
    let mut words: Vec<(usize, usize)> = Vec::new();
    let mut out: Vec<u8> = Vec::new();
    let (mut bits, mut held, mut input) = (0u32, 0u32, packed.iter());
    let mut last: Option<(usize, usize)> = None;
    while out.len() < needed {
        let width = (usize::BITS - (259 + words.len()).leading_zeros()).clamp(9, 12);
        while held < width {
            let Some(&b) = input.next() else { return Ok(out) };
            (bits, held) = (bits << 8 | u32::from(b), held + 8);
        }
        held -= width;
        let code = (bits >> held) as usize & ((1 << width) - 1);
        match code {
            CLEAR => {
                words.clear();
                last = None;
                continue;
            }
            END => return Ok(out),
            _ => {}
        }
        let start = out.len();
        // The newest word is the last one and the byte behind it.
        if let Some((at, n)) = last.filter(|_| words.len() < 4096 - 258) {
            words.push((at, n + 1));
        }
        if code < 256 {
            out.push(code as u8);
        } else {
            let Some(&(at, n)) = words.get(code - 258) else {
                invalid!("the TIFF image has an LZW code {code} that stands for nothing");
            };
            (at..at + n).for_each(|i| out.push(out[i]));
        }
        last = Some((start, out.len() - start));
    }
    Ok(out)
}

/// Sets the pixels of a strip or tile.
fn place(
    l: &Layout,
    bytes: &[u8],
    [left, top]: [usize; 2],
    rows: usize,
    plane: usize,
    picture: &mut Picture,
) -> Result<()> {
    let (channels, together) = (picture.channels, l.together());
    let columns = l.chunk[0].min(l.width - left);
    let firsts = if l.planar { plane..plane + 1 } else { 0..channels.min(l.samples) };
    for (y, row) in bytes.chunks_exact(l.stride()).take(rows.min(l.height - top)).enumerate() {
        let to = &mut picture.row(top + y)[left * channels..];
        for (x, to) in to.chunks_exact_mut(channels).take(columns).enumerate() {
            for c in firsts.clone().filter(|&c| c < channels) {
                let v = sample(row, x * together + c - firsts.start, l.bits);
                match l.meaning {
                    0 => to[c] = 255 - stretch(v, l.bits),
                    3 if c == 0 => to.copy_from_slice(&colour(l, v)?),
                    3 => {}
                    _ => to[c] = stretch(v, l.bits),
                }
            }
        }
    }
    Ok(())
}

/// The high bytes of a palette, which has all reds first.
fn colour(l: &Layout, index: u8) -> Result<[u8; 3]> {
    let n = l.palette.len() / 3;
    let i = usize::from(index);
    if i >= n {
        invalid!("the TIFF image asks for colour {i} of {n}");
    }
    Ok([0, n, 2 * n].map(|from| (l.palette[from + i] >> 8) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one strip of 2 x 1 pixels, or as the tags say; its pixels begin at byte 8.
    fn file(packed: &[u8], tags: &[(u16, u32)]) -> Vec<u8> {
        let defaults = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8)];
        let mut all = BTreeMap::from(defaults);
        all.insert(279, packed.len() as u32);
        all.extend(tags.iter().copied());
        let mut f = b"II*\0".to_vec();
        f.extend((8 + packed.len() as u32).to_le_bytes());
        f.extend(packed);
        f.extend((all.len() as u16).to_le_bytes());
        for (tag, v) in all {
            f.extend([tag, 4].map(u16::to_le_bytes).concat());
            f.extend([1, v].map(u32::to_le_bytes).concat());
        }
        f
    }

    #[test]
    fn packings_and_meanings() {
        let runs = [0xfe, 7, 0x80, 0, 8];
        // Clear, 65, the word "65 65", end: nine bits each.
        let words = [0b1000_0000, 0b0001_0000, 0b0110_0000, 0b0101_0000, 0b0001_0000];
        let rgb = [(277, 3), (262, 2)];
        for (name, f, want) in [
            ("plain", file(&[3, 4], &[]), vec![3, 4]),
            ("white is 0", file(&[3, 4], &[(262, 0)]), vec![252, 251]),
            ("bits", file(&[0x40], &[(258, 1)]), vec![0, 255]),
            ("16 bits", file(&[9, 3, 9, 4], &[(258, 16)]), vec![3, 4]),
            ("differences", file(&[3, 4], &[(317, 2)]), vec![3, 7]),
            ("runs", file(&runs, &[(259, 32773), (256, 4)]), vec![7, 7, 7, 8]),
            ("words", file(&words, &[(259, 5), (256, 3)]), vec![65, 65, 65]),
            ("colours", file(&[1, 2, 3, 4, 5, 6], &rgb), vec![1, 2, 3, 4, 5, 6]),
            (
                "tile",
                file(&[1, 2, 0, 3, 4, 0], &[(257, 2), (322, 3), (323, 2), (324, 8), (325, 6)]),
                vec![1, 2, 3, 4],
            ),
        ] {
            assert_eq!(decode(&Context::default(), &f).expect(name).data, want, "{name}");
        }
    }

    #[test]
    fn what_lies_is_an_error() {
        let most = u32::MAX;
        for tags in [
            &[(256, most), (257, most)][..],
            &[(256, 0)],
            &[(277, 0)],
            &[(273, most)],
            &[(279, 1)],
            &[(278, 0)],
            &[(322, most), (323, most), (324, 8), (325, 2)],
            &[(258, 7)],
            &[(259, 7)],
            &[(259, 5)],
            &[(259, 8)],
            &[(259, 32773), (256, 9)],
            &[(262, 2)],
            &[(262, 3)],
            &[(317, 3)],
        ] {
            assert!(decode(&Context::default(), &file(&[1, 2], tags)).is_err(), "{tags:?}");
        }
    }
}
