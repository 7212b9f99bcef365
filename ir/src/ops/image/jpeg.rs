//! JPEG: sequential and progressive, Huffman-coded, 8 bits.
//!
//! ```text
//! segments ── scan ──> coefficients ── pixels ──> planes ──> rows of the picture
//! ```
//! The arithmetic is that of libjpeg (accurate integer transform, interpolated colours), which
//! ONNX asks for: the pixels are equal to the last bit.

mod bytes;
mod huffman;
mod pixels;
mod scan;

use huffman::Huffman;
use scan::Scan;

use super::decode::Picture;
use crate::{Context, Result, invalid, unsupported};
use bytes::Reader;

/// More scans than any encoder writes.
const MOST_SCANS: usize = 500;

/// Where coefficient `k` of a stream lies in its block.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// What the segments before a scan set.
#[derive(Default)]
struct Tables {
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// MCUs between restarts; 0: none.
    restart: usize,
    jfif: bool,
    /// The colour transform that Adobe's segment names.
    adobe: Option<u8>,
}

/// One colour channel.
struct Component {
    id: u8,
    /// Sampling factors, across and down.
    sampling: [usize; 2],
    quant: usize,
    /// The factors of the first scan.
    factors: Option<[u16; 64]>,
    /// Samples that count, across and down.
    size: [usize; 2],
    /// Blocks that are stored, across and down: whole MCUs.
    blocks: [usize; 2],
    coefficients: Vec<i16>,
}

/// The picture as it is coded.
struct Frame {
    progressive: bool,
    size: [usize; 2],
    /// The largest sampling factors.
    most: [usize; 2],
    components: Vec<Component>,
}

/// Decodes a JPEG file.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let mut r = Reader::new(data).seek(2);
    let (mut tables, mut frame, mut scans) = (Tables::default(), None, 0);
    while let Some(marker) = marker(&mut r) {
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if marker == 0xd9 {
            return finish(cx, frame, &tables);
        }
        let n = usize::from(r.u16()?).saturating_sub(2);
        let segment = Reader::new(r.take(n)?);
        match marker {
            0xc4 => tables.huffman(segment)?,
            0xdb => tables.quant(segment)?,
            0xdd => tables.restart = usize::from(segment.clone().u16()?),
            0xe0 => tables.jfif |= segment.rest().starts_with(b"JFIF\0"),
            0xee if segment.rest().starts_with(b"Adobe") => {
                tables.adobe = segment.rest().get(11).copied();
            }
            0xc0..=0xc2 if frame.is_none() => frame = Some(Frame::read(cx, segment, marker)?),
            0xc0..=0xc2 => invalid!("the JPEG image has two frames"),
            0xc3 | 0xc5..=0xcf => unsupported!(
                "JPEG process {marker:#04x} is not decoded: save it as baseline or progressive"
            ),
            0xda => {
                scans += 1;
                let Some(frame) = frame.as_mut().filter(|_| scans <= MOST_SCANS) else {
                    invalid!("scan {scans} of the JPEG image has no frame, or is one too many");
                };
                let behind = r.position();
                r = r.seek(behind + Scan::read(segment, frame, &tables)?.run(cx, frame, r.rest())?);
            }
            _ => {}
        }
    }
    // A sequential image is whole without its last marker.
    finish(cx, frame.filter(|f| !f.progressive), &tables)
}

/// The code of the next marker.
fn marker(r: &mut Reader<'_>) -> Option<u8> {
    let rest = r.rest();
    let found = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff))?;
    *r = r.seek(r.position() + found + 2);
    Some(rest[found + 1])
}

fn finish(cx: &Context, frame: Option<Frame>, tables: &Tables) -> Result<Picture> {
    let Some(frame) = frame else { invalid!("the JPEG image ends early") };
    pixels::picture(cx, frame, tables)
}

impl Tables {
    fn huffman(&mut self, mut r: Reader<'_>) -> Result<()> {
        while !r.rest().is_empty() {
            let place = r.u8()?;
            let counts = r.take(16)?;
            let n = counts.iter().map(|&c| usize::from(c)).sum();
            let table = Huffman::new(counts, r.take(n)?)?;
            let tables = if place >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            match tables.get_mut(usize::from(place & 15)) {
                Some(to) if place < 32 => *to = Some(table),
                _ => invalid!("the JPEG image has a Huffman table {place:#04x}"),
            }
        }
        Ok(())
    }

    fn quant(&mut self, mut r: Reader<'_>) -> Result<()> {
        while !r.rest().is_empty() {
            let place = r.u8()?;
            let mut factors = [0; 64];
            for &at in &ZIGZAG {
                let wide = place >> 4 != 0;
                factors[usize::from(at)] = if wide { r.u16()? } else { u16::from(r.u8()?) };
            }
            match self.quant.get_mut(usize::from(place & 15)) {
                Some(to) => *to = Some(factors),
                None => invalid!("the JPEG image has a quantization table {place:#04x}"),
            }
        }
        Ok(())
    }
}

impl Frame {
    fn read(cx: &Context, mut r: Reader<'_>, marker: u8) -> Result<Self> {
        let bits = r.u8()?;
        let (height, width) = (usize::from(r.u16()?), usize::from(r.u16()?));
        let n = usize::from(r.u8()?);
        if bits != 8 || !matches!(n, 1 | 3 | 4) {
            unsupported!("JPEG images of {n} channels of {bits} bits are not decoded: save as RGB");
        }
        if height == 0 || width == 0 {
            invalid!("the JPEG image is {width} x {height}: it has no pixel");
        }
        let mut components = Vec::new();
        for _ in 0..n {
            let (id, sampling, quant) = (r.u8()?, r.u8()?, usize::from(r.u8()?));
            let sampling = [sampling >> 4, sampling & 15].map(usize::from);
            if sampling.iter().any(|s| !(1..=4).contains(s)) || quant > 3 {
                invalid!("channel {id} of the JPEG image has sampling factors {sampling:?}");
            }
            components.push(Component {
                id,
                sampling,
                quant,
                factors: None,
                size: [0; 2],
                blocks: [0; 2],
                coefficients: vec![],
            });
        }
        let most = [0, 1].map(|i| components.iter().map(|c| c.sampling[i]).max().unwrap_or(1));
        let mut frame =
            Self { progressive: marker == 0xc2, size: [width, height], most, components };
        let mcus = frame.mcus();
        for c in &mut frame.components {
            c.size = [0, 1].map(|i| (frame.size[i] * c.sampling[i]).div_ceil(most[i]));
            c.blocks = [0, 1].map(|i| mcus[i] * c.sampling[i]);
            c.coefficients = cx.zeros(&[c.blocks[1], c.blocks[0], 64])?;
        }
        Ok(frame)
    }

    /// MCUs across and down.
    fn mcus(&self) -> [usize; 2] {
        [0, 1].map(|i| self.size[i].div_ceil(8 * self.most[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        let n = (body.len() + 2) as u16;
        [&[0xff, marker][..], &n.to_be_bytes(), body].concat()
    }

    /// A table whose first code, `0`, is `a` and whose second, `10`, is `b`.
    fn codes(place: u8, a: u8, b: u8) -> Vec<u8> {
        let mut body = [0; 19];
        (body[0], body[1], body[2], body[17], body[18]) = (place, 1, 1, a, b);
        segment(0xc4, &body)
    }

    /// An 8 x 8 grey image of one table of ones; what lies behind its frame is given.
    fn file(frame: u8, rest: &[Vec<u8>]) -> Vec<u8> {
        let ones = [&[0][..], &[1; 64]].concat();
        let head = [8, 0, 8, 0, 8, 1, 1, 0x11, 0];
        [&b"\xff\xd8"[..], &segment(0xdb, &ones), &segment(frame, &head), &rest.concat()].concat()
    }

    fn scan(band: [u8; 3], bits: &[u8]) -> Vec<u8> {
        [&segment(0xda, &[&[1, 1, 0][..], &band].concat()), bits].concat()
    }

    const END: &[u8] = b"\xff\xd9";

    #[test]
    fn a_flat_block() {
        // `0` and 5 bits `10000`: 16, an eighth of which is 2; `0`: no more.
        let f = file(0xc0, &[codes(0, 5, 0), codes(0x10, 0, 1), scan([0, 63, 0], &[0x41])]);
        let p = decode(&Context::default(), &f).expect("decodes without its last marker");
        assert_eq!((p.width, p.height, p.channels, p.data), (8, 8, 1, vec![130; 64]));
        let cut = &f[..f.len() - 1];
        assert!(decode(&Context::default(), cut).is_err(), "the bits are missing");
    }

    #[test]
    fn bits_that_come_later() {
        let dc =
            [codes(0, 4, 0), scan([0, 0, 1], &[0x47]), scan([0, 0, 0x10], &[0xbf]), END.into()];
        // 8, one bit lower; then the bit 1: 17 in all, an eighth of which is 2.
        let p = decode(&Context::default(), &file(0xc2, &dc)).expect("decodes");
        assert_eq!(p.data, [130; 64]);
        // Coefficient 1 is 1 one bit lower, then refined to 3, and 2 gets its first bit, -1.
        let ac = [
            codes(0, 0, 4),
            scan([0, 0, 0], &[0x7f]),
            codes(0x10, 0x01, 0x00),
            scan([1, 63, 1], &[0b0110_1111]),
            scan([1, 63, 0x10], &[0b0011_0111]),
            END.into(),
        ];
        let got = decode(&Context::default(), &file(0xc2, &ac)).expect("decodes").data;
        let wave =
            |k: f64, i: usize| f64::cos((2 * i + 1) as f64 * k * std::f64::consts::PI / 16.0);
        for (i, &v) in got.iter().enumerate() {
            let want = 128.0 + (3.0 * wave(1.0, i % 8) - wave(1.0, i / 8)) / 32f64.sqrt();
            assert!((f64::from(v) - want).abs() < 0.51, "{i}: {v} {want}");
        }
    }

    #[test]
    fn what_lies_is_an_error() {
        let tables = || [codes(0, 5, 0), codes(0x10, 0, 1)].concat();
        for f in [
            file(0xc3, &[]),
            file(0xc0, &[scan([0, 63, 0], &[0x41])]),
            file(0xc0, &[tables(), scan([0, 63, 0], &[0xff, 0xd9])]),
            file(0xc0, &[tables(), scan([0, 63, 0], &[0xff, 0x00])]),
            file(0xc2, &[tables(), scan([0, 63, 0], &[0x41])]),
            file(0xc2, &[tables(), scan([1, 64, 0], &[0x41])]),
            file(0xc2, &[tables(), scan([0, 0, 0x0e], &[0x41])]),
            file(0xc0, &[segment(0xc0, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0])]),
            [&b"\xff\xd8"[..], &segment(0xc0, &[8, 0, 0, 0, 8, 1, 1, 0x11, 0])].concat(),
            [&b"\xff\xd8"[..], &segment(0xc0, &[8, 0, 8, 0, 8, 1, 1, 0x51, 0])].concat(),
            [&b"\xff\xd8"[..], &segment(0xc4, &[0; 3])].concat(),
            [&b"\xff\xd8"[..], &segment(0xdb, &[4; 65])].concat(),
        ] {
            assert!(decode(&Context::default(), &f).is_err(), "{}", f.escape_ascii());
        }
        // More codes of one bit than there are.
        let three = [&[0, 3][..], &[0; 15], &[1, 2, 3]].concat();
        assert!(Tables::default().huffman(Reader::new(&three)).is_err());
    }
}
