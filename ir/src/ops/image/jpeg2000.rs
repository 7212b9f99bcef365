//! JPEG 2000, by the crate `hayro-jpeg2000`.

use hayro_jpeg2000::{ColorSpace, DecodeSettings, Image};
use kiln_tensor::DType;

use super::decode::{Picture, opaque, wrong};
use crate::{Context, Result, unsupported};

/// Decodes a JP2 file or a bare codestream.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let wrong = |e| wrong("JPEG 2000", e);
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(data, &settings).map_err(wrong)?;
    let size = [image.width() as usize, image.height() as usize];
    let colours = usize::from(image.color_space().num_channels());
    if matches!(image.color_space(), ColorSpace::CMYK) || !matches!(colours, 1 | 3) {
        unsupported!("JPEG 2000 images of {colours} colours are not decoded: convert it to RGB")
    }
    let channels = colours + usize::from(image.has_alpha());
    // The coefficients are floats, held beside the samples.
    cx.numel(DType::F32, &[size[1], size[0], channels, 2])?;
    opaque(cx, size, channels, &image.decode().map_err(wrong)?)
}
