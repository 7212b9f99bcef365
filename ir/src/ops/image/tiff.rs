//! TIFF: the first picture of a file, by the crate `tiff`.
//!
//! The crate knows no palettes: a file that has one is read as grey, and its samples are looked up.

use std::borrow::Cow;
use std::io::Cursor;

use tiff::decoder::{BufferLayoutPreference, Decoder, Limits};
use tiff::tags::{SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::decode::{Picture, from_cmyk, high, stretch, wrong};
use crate::{Context, Error, Result, invalid, unsupported};

/// Decodes a TIFF file.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let place = palette_tag(data);
    let data = place.map_or(Cow::Borrowed(data), |at| Cow::Owned(read_as_grey(data, at)));
    let mut decoder = Decoder::new(Cursor::new(&*data)).map_err(failed)?.with_limits(limits(cx));
    let (width, height) = decoder.dimensions().map_err(failed)?;
    let layout = decoder.image_buffer_layout().map_err(failed)?;
    let meaning = Meaning::read(&mut decoder, place.is_some())?;
    let bits = meaning.colour.bit_depth();
    if layout.sample_format != SampleFormat::Uint || !matches!(bits, 1 | 2 | 4 | 8 | 16) {
        unsupported!(
            "TIFF samples of {:?} of {bits} bits are not decoded: convert it to 8 bits",
            layout.sample_format
        );
    }
    let mut bytes = cx.zeros::<u8>(&[layout.complete_len])?;
    decoder.read_image_bytes(&mut bytes).map_err(failed)?;
    let samples = Samples { bytes: &bytes, layout: &layout, meaning: &meaning };
    upright(cx, &samples, [width as usize, height as usize])
}

/// The picture as it is to be looked at.
fn upright(cx: &Context, samples: &Samples<'_>, [width, height]: [usize; 2]) -> Result<Picture> {
    let (turn, channels) = (samples.meaning.orientation, samples.meaning.channels);
    let lies = turn >= 5;
    let [w, h] = if lies { [height, width] } else { [width, height] };
    let mut picture = Picture::new(cx, w, h, channels)?;
    for y in 0..h {
        cx.cancel.poll()?;
        for (x, to) in picture.row(y).chunks_exact_mut(channels).enumerate() {
            let [mut row, mut column] = if lies { [x, y] } else { [y, x] };
            if matches!(turn, 3 | 4 | 6 | 7) {
                row = height - 1 - row;
            }
            if matches!(turn, 2 | 3 | 7 | 8) {
                column = width - 1 - column;
            }
            samples.pixel(row, column, to)?;
        }
    }
    Ok(picture)
}

fn limits(cx: &Context) -> Limits {
    let most = cx.limits.tensor_bytes.min(cx.limits.memory_bytes);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut limits = Limits::unlimited();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size) = (most, most);
    limits.ifd_value_size = most;
    limits
}

fn failed(e: TiffError) -> Error {
    match e {
        TiffError::UnsupportedError(e) => Error::unsupported(format!("the TIFF image: {e}"))
            .help("save it without compression, or with LZW or Deflate"),
        TiffError::LimitsExceeded => Error::limit("tensor-bytes", "the TIFF image is too large"),
        e => wrong("TIFF", e),
    }
}

/// What the samples stand for.
struct Meaning {
    colour: ColorType,
    /// Channels of the picture.
    channels: usize,
    /// All reds, all greens, all blues; empty without a palette.
    palette: Vec<u16>,
    /// Whether the colours are multiplied by an alpha channel.
    multiplied: bool,
    /// 1: the first sample is the upper left; 2 to 8 as the tag says.
    orientation: u16,
}

impl Meaning {
    fn read(decoder: &mut Decoder<Cursor<&[u8]>>, indexed: bool) -> Result<Self> {
        let colour = decoder.colortype().map_err(failed)?;
        let channels = match colour {
            ColorType::Gray(_) if indexed => 3,
            ColorType::Gray(_) | ColorType::Multiband { .. } if !indexed => 1,
            ColorType::RGB(_) | ColorType::RGBA(_) | ColorType::CMYK(8) if !indexed => 3,
            _ => unsupported!("TIFF images of {colour:?} are not decoded: convert it to RGB"),
        };
        let palette = match indexed {
            true => decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)?,
            false => vec![],
        };
        let mut tag = |tag| decoder.find_tag_unsigned_vec::<u16>(tag).map_err(failed);
        let first = |v: Option<Vec<u16>>| v.and_then(|v| v.first().copied()).unwrap_or(0);
        let multiplied = colour == ColorType::RGBA(8) && first(tag(Tag::ExtraSamples)?) == 1;
        let orientation = first(tag(Tag::Orientation)?);
        Ok(Self { colour, channels, palette, multiplied, orientation })
    }
}

/// The samples as they are stored.
struct Samples<'a> {
    bytes: &'a [u8],
    layout: &'a BufferLayoutPreference,
    meaning: &'a Meaning,
}

impl Samples<'_> {
    fn pixel(&self, y: usize, x: usize, to: &mut [u8]) -> Result<()> {
        let (m, at) = (self.meaning, |channel| self.sample(y, x, channel));
        match (m.colour, &mut *to) {
            (ColorType::CMYK(_), to) => {
                let [c, m, y, k] = [0, 1, 2, 3].map(|i| at(i) as u8);
                to.copy_from_slice(&from_cmyk([c, m, y], k));
            }
            (ColorType::Gray(16), [grey]) => *grey = at(0).min(255) as u8,
            (ColorType::Gray(_), to) if to.len() == 3 => {
                let (third, i) = (m.palette.len() / 3, usize::from(at(0)));
                if i >= third {
                    invalid!("colour {i} of the TIFF image is none of the {third} of its palette");
                }
                to.iter_mut().enumerate().for_each(|(c, t)| *t = high(m.palette[c * third + i]));
            }
            (colour, to) => {
                to.iter_mut().enumerate().for_each(|(c, t)| *t = stretch(at(c), colour.bit_depth()))
            }
        }
        if m.multiplied && at(3) > 0 {
            let whole = |v: u8| (255 * u32::from(v) / u32::from(at(3))).min(255) as u8;
            to.iter_mut().for_each(|t| *t = whole(*t));
        }
        Ok(())
    }

    fn sample(&self, y: usize, x: usize, channel: usize) -> u16 {
        let stride = |n: Option<std::num::NonZeroUsize>| n.map_or(0, usize::from);
        let row = y * stride(self.layout.row_stride);
        let (at, i) = if self.layout.planes > 1 {
            (channel * stride(self.layout.plane_stride) + row, x)
        } else {
            (row, x * usize::from(self.meaning.colour.num_samples()) + channel)
        };
        let byte = |i: usize| self.bytes.get(at + i).copied().unwrap_or(0);
        match usize::from(self.meaning.colour.bit_depth()) {
            16 => u16::from_ne_bytes([byte(2 * i), byte(2 * i + 1)]),
            8 => byte(i).into(),
            bits => {
                let shift = 8 - bits - i * bits % 8;
                u16::from(byte(i * bits / 8) >> shift) & ((1 << bits) - 1)
            }
        }
    }
}

/// Where a file says that its samples are places in a palette.
fn palette_tag(data: &[u8]) -> Option<usize> {
    let number = |at: usize, n: usize| {
        let bytes = data.get(at..at.checked_add(n)?)?;
        let push = |v: usize, b: &u8| v << 8 | usize::from(*b);
        Some(match data[0] {
            b'I' => bytes.iter().rev().fold(0, push),
            _ => bytes.iter().fold(0, push),
        })
    };
    let start = number(4, 4)?;
    let entries = (0..number(start, 2)?).map(|i| start + 2 + 12 * i);
    let found = entries.into_iter().find(|&at| number(at, 2) == Some(262))?;
    (number(2, 2) == Some(42) && number(found + 8, 2) == Some(3)).then_some(found + 8)
}

/// The file with "black is 0" at the place that [`palette_tag`] found.
fn read_as_grey(data: &[u8], at: usize) -> Vec<u8> {
    let mut data = data.to_vec();
    let low = if data[0] == b'I' { at } else { at + 1 };
    data[low] = 1;
    data
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            let kind = if tag == 338 { 3 } else { 4 };
            f.extend([tag, kind].map(u16::to_le_bytes).concat());
            f.extend([1, v].map(u32::to_le_bytes).concat());
        }
        f.extend([0; 4]);
        f
    }

    /// A file of one pixel after another, 2 of 4 bits, that names a palette behind its end.
    fn indexed(packed: &[u8]) -> Vec<u8> {
        let mut f = file(packed, &[(258, 4), (262, 3)]);
        let (at, n) = (f.len() as u32 + 12, f[8 + packed.len()]);
        f[8 + packed.len()] = n + 1;
        f.truncate(f.len() - 4);
        f.extend([320, 3].map(u16::to_le_bytes).concat());
        f.extend([48, at].map(u32::to_le_bytes).concat());
        f.extend([0; 4]);
        f.extend((0..48u16).flat_map(|i| (i << 8 | 0xff).to_le_bytes()));
        f
    }

    #[test]
    fn packings_and_meanings() {
        let runs = [0xfe, 7, 0x80, 0, 8];
        // Clear, 65, the word "65 65", end: nine bits each.
        let words = [0b1000_0000, 0b0001_0000, 0b0110_0000, 0b0101_0000, 0b0001_0000];
        let rgb = [(277, 3), (262, 2)];
        let column = |turn| file(&[1, 2], &[(274, turn)]);
        for (name, f, shape, want) in [
            ("plain", file(&[3, 4], &[]), [1, 2], vec![3, 4]),
            ("white is 0", file(&[3, 4], &[(262, 0)]), [1, 2], vec![252, 251]),
            ("bits", file(&[0x40], &[(258, 1)]), [1, 2], vec![0, 255]),
            ("2 bits", file(&[0x60], &[(258, 2)]), [1, 2], vec![85, 170]),
            ("16 bits", file(&[3, 0, 4, 9], &[(258, 16)]), [1, 2], vec![3, 255]),
            ("differences", file(&[3, 4], &[(317, 2)]), [1, 2], vec![3, 7]),
            ("runs", file(&runs, &[(259, 32773), (256, 4)]), [1, 4], vec![7, 7, 7, 8]),
            ("words", file(&words, &[(259, 5), (256, 3)]), [1, 3], vec![65, 65, 65]),
            ("grey, alpha", file(&[3, 9, 4, 9], &[(277, 2)]), [1, 2], vec![3, 4]),
            ("mirrored", column(2), [1, 2], vec![2, 1]),
            ("on its side", column(6), [2, 1], vec![1, 2]),
            ("on the other", column(8), [2, 1], vec![2, 1]),
            ("colours", file(&[1, 2, 3, 4, 5, 6], &rgb), [1, 2], vec![1, 2, 3, 4, 5, 6]),
            ("palette", indexed(&[0x2f]), [1, 2], vec![2, 18, 34, 15, 31, 47]),
            (
                "tile",
                file(&[1, 2, 0, 3, 4, 0], &[(257, 2), (322, 16), (323, 16), (324, 8), (325, 6)]),
                [0, 0],
                vec![],
            ),
            (
                "multiplied",
                file(&[1, 2, 9, 4, 5, 6, 7, 0], &[(277, 4), (262, 2), (338, 1)]),
                [1, 2],
                vec![63, 127, 255, 5, 6, 7],
            ),
            (
                "inks",
                file(&[255, 0, 0, 0, 0, 0, 0, 55], &[(277, 4), (262, 5)]),
                [1, 2],
                vec![0, 255, 255, 200, 200, 200],
            ),
        ] {
            let got = decode(&Context::default(), &f);
            if want.is_empty() {
                assert!(got.is_err(), "{name}: the tile has too few bytes");
                continue;
            }
            let got = got.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(([got.height, got.width], got.data), (shape, want), "{name}");
        }
    }

    #[test]
    fn what_lies_is_an_error() {
        for f in [
            file(&[3, 4], &[(256, 0)]),
            file(&[3, 4], &[(258, 7)]),
            file(&[3, 4], &[(262, 3)]),
            file(&[3, 4], &[(262, 6)]),
            file(&[3, 4], &[(273, 8000)]),
            file(&[3, 4], &[(339, 3)]),
            file(&[3, 4], &[(259, 7)]),
            file(&[3, 4], &[(256, u32::MAX), (257, u32::MAX)]),
            b"II*\0".to_vec(),
            b"MM\0*\xff\xff\xff\xff".to_vec(),
        ] {
            assert!(decode(&Context::default(), &f).is_err(), "{}", f.escape_ascii());
        }
    }
}
