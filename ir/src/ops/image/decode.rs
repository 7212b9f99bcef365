//! From the bytes of a file to its pixels, whatever the format.

use super::{bmp, jpeg, png, pnm, tiff};
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
    let is = |magic: &[u8]| data.starts_with(magic);
    if is(b"\x89PNG\r\n\x1a\n") {
        png::decode(cx, data)
    } else if is(b"\xff\xd8") {
        jpeg::decode(cx, data)
    } else if is(JP2) || is(CODESTREAM) {
        super::jpeg2000::decode(cx, data)
    } else if is(b"BM") {
        bmp::decode(cx, data)
    } else if is(b"II*\0") || is(b"MM\0*") {
        tiff::decode(cx, data)
    } else if is(b"RIFF") && data.get(8..12) == Some(b"WEBP") {
        super::webp::decode(cx, data)
    } else if matches!(data, [b'P', b'1'..=b'6', ..]) {
        pnm::decode(cx, data)
    } else {
        let first = data.get(..8).unwrap_or(data).escape_ascii();
        Err(Error::invalid(format!("the bytes are no image that is known: `{first}`...")).help(
            "feed a whole file: BMP, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP; the tensor holds \
             its bytes, not its pixels",
        ))
    }
}

/// That a format's decoder is not part of this build.
#[cfg(not(all(feature = "jpeg2000", feature = "webp")))]
pub fn absent(format: &str, feature: &str) -> Error {
    Error::unsupported(format!("this build decodes no {format} images"))
        .help(format!("build kiln with `--features {feature}`, or convert the image to PNG"))
}

/// What the decoder of another crate said.
#[cfg(any(feature = "jpeg2000", feature = "webp"))]
pub fn wrong(format: &str, e: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the {format} image cannot be decoded: {e}"))
        .help("the file is cut or damaged: check that the tensor holds all of its bytes")
}

/// The picture of samples that may have an alpha channel, which is left out.
#[cfg(any(feature = "jpeg2000", feature = "webp"))]
pub fn opaque(cx: &Context, [w, h]: [usize; 2], from: usize, data: &[u8]) -> Result<Picture> {
    let keep = if from < 3 { 1 } else { 3 };
    let mut picture = Picture::new(cx, w, h, keep)?;
    for (to, from) in picture.data.chunks_exact_mut(keep).zip(data.chunks_exact(from)) {
        to.copy_from_slice(&from[..keep]);
    }
    Ok(picture)
}
