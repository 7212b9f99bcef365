//! WebP, by the crate `image-webp`.

#[cfg(feature = "webp")]
pub use present::decode;

#[cfg(not(feature = "webp"))]
pub fn decode(_: &crate::Context, _: &[u8]) -> crate::Result<super::decode::Picture> {
    Err(super::decode::absent("WebP", "webp"))
}

#[cfg(feature = "webp")]
mod present {
    use std::io::Cursor;

    use image_webp::WebPDecoder;

    use crate::ops::image::decode::{Picture, opaque, wrong};
    use crate::{Context, Result};

    /// Decodes a WebP file; of a film, its first picture.
    pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
        let wrong = |e| wrong("WebP", e);
        let mut decoder = WebPDecoder::new(Cursor::new(data)).map_err(wrong)?;
        let (width, height) = decoder.dimensions();
        let size = [width as usize, height as usize];
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let mut samples = cx.zeros::<u8>(&[size[1], size[0], channels])?;
        decoder.set_memory_limit(samples.len());
        decoder.read_image(&mut samples).map_err(wrong)?;
        opaque(cx, size, channels, &samples)
    }
}
