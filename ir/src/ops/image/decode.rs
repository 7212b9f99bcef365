//! From the bytes of a file to its pixels, whatever the format.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::ImageFormat;

use super::{jpeg, jpeg2000, raster, tiff};
use crate::{Context, Error, Result, invalid};

/// Pixels: `height x width x channels` bytes, of 1 channel (grey) or 3 (red, green, blue).
#[derive(Debug, PartialEq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// The samples, row by row.
    pub data: Vec<u8>,
}

impl Picture {
    /// A black picture; an error where it has no pixel, or more than the limits allow.
    pub fn new(cx: &Context, width: usize, height: usize, channels: usize) -> Result<Self> {
        if width == 0 || height == 0 {
            invalid!("the image is {width} x {height}: it has no pixel");
        }
        let data = cx.zeros(&[height, width, channels])?;
        Ok(Self { height, width, channels, data })
    }

    /// The samples of row `y`.
    pub fn row(&mut self, y: usize) -> &mut [u8] {
        let n = self.width * self.channels;
        &mut self.data[y * n..][..n]
    }
}

const JP2: &[u8] = b"\0\0\0\x0cjP  \r\n\x87\n";
const CODESTREAM: &[u8] = b"\xff\x4f\xff\x51";

/// Decodes a file; its first bytes tell the format.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    // A panic of a decoder is the fault of a file whose numbers do not fit together.
    catch_unwind(AssertUnwindSafe(|| by_magic(cx, data)))
        .unwrap_or_else(|_| Err(wrong("", "its numbers contradict one another")))
}

fn by_magic(cx: &Context, data: &[u8]) -> Result<Picture> {
    let is = |magic: &[u8]| data.starts_with(magic);
    if is(b"\x89PNG\r\n\x1a\n") {
        raster::decode(cx, ImageFormat::Png, data)
    } else if is(b"\xff\xd8") {
        jpeg::decode(cx, data)
    } else if is(JP2) || is(CODESTREAM) {
        jpeg2000::decode(cx, data)
    } else if is(b"BM") {
        raster::decode(cx, ImageFormat::Bmp, data)
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|&m| is(m)) {
        tiff::decode(cx, data)
    } else if is(b"RIFF") && data.get(8..12) == Some(b"WEBP") {
        raster::decode(cx, ImageFormat::WebP, data)
    } else if matches!(data, [b'P', b'1'..=b'7', ..]) {
        raster::decode(cx, ImageFormat::Pnm, data)
    } else {
        let first = data.get(..8).unwrap_or(data).escape_ascii();
        Err(Error::invalid(format!("the bytes are no image that is known: `{first}`...")).help(
            "feed a whole file: BMP, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP; the tensor holds \
             its bytes, not its pixels",
        ))
    }
}

/// What the decoder of another crate said.
pub fn wrong(format: &str, e: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the {format} image cannot be decoded: {e}"))
        .help("the file is cut or damaged: check that the tensor holds all of its bytes")
}

/// The picture of samples that may have an alpha channel, which is left out.
pub fn opaque(cx: &Context, [w, h]: [usize; 2], from: usize, data: &[u8]) -> Result<Picture> {
    let keep = if from < 3 { 1 } else { 3 };
    let mut picture = Picture::new(cx, w, h, keep)?;
    for (to, from) in picture.data.chunks_exact_mut(keep).zip(data.chunks_exact(from)) {
        to.copy_from_slice(&from[..keep]);
    }
    Ok(picture)
}

/// Samples of 16 bits, in the order of this machine, as samples of 8.
pub fn narrow(samples: &[u8], each: impl Fn(u16) -> u8) -> Vec<u8> {
    samples.chunks_exact(2).map(|b| each(u16::from_ne_bytes([b[0], b[1]]))).collect()
}

/// The high 8 bits.
pub fn high(v: u16) -> u8 {
    (v >> 8) as u8
}

/// A sample of so many bits, spread over 0..=255; of 16, the high 8.
pub fn stretch(v: u16, bits: u8) -> u8 {
    match bits {
        1 => v as u8 * 255,
        2 => v as u8 * 85,
        4 => v as u8 * 17,
        16 => high(v),
        _ => v as u8,
    }
}

/// Red, green and blue of three inks and black, where 255 is all ink.
pub fn from_cmyk(ink: [u8; 3], k: u8) -> [u8; 3] {
    let light = 255 - i32::from(k);
    ink.map(|c| {
        let product = i32::from(c) * light + 128;
        (light - ((product + (product >> 8)) >> 8)).clamp(0, 255) as u8
    })
}
