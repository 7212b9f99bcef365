//! `ImageDecoder`: the pixels of an image file.
//!
//! What cannot be decoded is an error, never an empty tensor. The pixels are those of ONNX's
//! reference: transparency is left out, palettes are looked up, and where a file says how its
//! camera was held, that is not heeded. Samples of 16 bits are cut to their high 8, but grey alone
//! to 255 at most, as the reference does.

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::tensor;
use crate::{
    Attrs, Context, Dim, Fact, Infer, Operator, Result, Schema, attr_enum, attrs, invalid,
};

#[cfg(feature = "images")]
mod decode;
#[cfg(feature = "images")]
mod jpeg;
#[cfg(feature = "images")]
mod jpeg2000;
#[cfg(feature = "images")]
mod raster;
#[cfg(feature = "images")]
mod tiff;

attr_enum! {
    /// The channels of the pixels, in order.
    pub enum PixelFormat {
        /// Red, green, blue.
        Rgb = "RGB",
        /// Blue, green, red.
        Bgr = "BGR",
        /// Luma, by the weights of ITU-R 601.
        Grayscale = "Grayscale",
    }
}

attrs! {
    /// The pixels of an image file: bytes `[n]` in, `[height, width, channels]` out.
    #[derive(Copy)]
    pub struct ImageDecoder {
        /// The channels.
        pixel_format: PixelFormat = PixelFormat::Rgb,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "ImageDecoder",
    since: 20,
    build: |b| Ok(ImageDecoder::read(&mut b.attrs)?.into()),
}];

impl ImageDecoder {
    fn channels(self) -> usize {
        if self.pixel_format == PixelFormat::Grayscale { 1 } else { 3 }
    }

    #[cfg(not(feature = "images"))]
    fn decode(self, _: &Context, _: &[u8]) -> Result<Tensor> {
        Err(crate::Error::unsupported("this build decodes no images").help(
            "build kiln with `--features images`, or decode the image before and feed its pixels",
        ))
    }

    #[cfg(feature = "images")]
    fn decode(self, cx: &Context, data: &[u8]) -> Result<Tensor> {
        let picture = decode::decode(cx, data)?;
        let shape = [picture.height, picture.width, self.channels()];
        if picture.channels == 1 && self.pixel_format == PixelFormat::Grayscale {
            return Ok(Tensor::from_vec(&shape, picture.data)?);
        }
        let mut out = cx.zeros::<u8>(&shape)?;
        let pixels = picture.data.chunks_exact(picture.channels);
        for (to, p) in out.chunks_exact_mut(self.channels()).zip(pixels) {
            let [r, g, b] = if let [r, g, b] = *p { [r, g, b] } else { [p[0]; 3] };
            match self.pixel_format {
                PixelFormat::Rgb => to.copy_from_slice(&[r, g, b]),
                PixelFormat::Bgr => to.copy_from_slice(&[b, g, r]),
                PixelFormat::Grayscale => to[0] = luma([r, g, b]),
            }
        }
        Ok(Tensor::from_vec(&shape, out)?)
    }
}

/// 0.299 red, 0.587 green and 0.114 blue, in fixed point of 16 bits.
#[cfg(feature = "images")]
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + (1 << 15)) >> 16) as u8
}

impl Operator for ImageDecoder {
    fn name(&self) -> &str {
        "ImageDecoder"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, |d| d == DType::U8)?;
        if let Some(shape) = cx.shape(0)?.filter(|s| s.len() != 1) {
            invalid!("the bytes of an image are one row, not {} axes", shape.len());
        }
        let shape = vec![cx.fresh(), cx.fresh(), Dim::from(self.channels())];
        Ok(vec![Fact::tensor(DType::U8, Some(shape))])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let x = tensor(inputs, 0)?;
        if x.shape().len() != 1 {
            invalid!("the bytes of an image are one row, not {} axes", x.shape().len());
        }
        Ok(vec![self.decode(cx, x.as_slice::<u8>()?)?.into()])
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    fn decoded(format: &str, bytes: &[u8]) -> Result<Tensor> {
        let text = format!("y = ImageDecoder(x: u8[N]) {{pixel_format=\"{format}\"}}\nreturn y");
        run1(&text, &[Tensor::vector(bytes.to_vec())])
    }

    #[test]
    fn the_file_tells_the_format_and_the_attribute_the_channels() {
        let colour = b"P6 1 2 255\n\xff\0\0\x0a\x14\x1e";
        let grey = b"P5 2 1 255\n\x05\x06";
        for (format, file, shape, want) in [
            ("RGB", &colour[..], [2, 1, 3], vec![255u8, 0, 0, 10, 20, 30]),
            ("BGR", colour, [2, 1, 3], vec![0, 0, 255, 30, 20, 10]),
            ("Grayscale", colour, [2, 1, 1], vec![76, 18]),
            ("RGB", grey, [1, 2, 3], vec![5, 5, 5, 6, 6, 6]),
            ("Grayscale", grey, [1, 2, 1], vec![5, 6]),
        ] {
            let want = Tensor::from_vec(&shape, want).expect("lengths agree");
            assert_eq!(decoded(format, file).expect(format), want, "{format}");
        }
    }

    #[test]
    fn shapes_are_as_far_known_as_the_attribute_tells() {
        let text = "y = ImageDecoder(x: u8[N]) {pixel_format=\"Grayscale\"}\nreturn y";
        assert!(types(text).expect("types")[0].ends_with(",1]"), "{:?}", types(text));
        for wrong in [text.replace("u8[N]", "i8[N]"), text.replace("u8[N]", "u8[N,M]")] {
            assert!(types(&wrong).is_err(), "{wrong}");
        }
        assert!(types(&text.replace("Grayscale", "HSV")).is_err());
    }

    #[test]
    fn what_is_no_image_is_an_error_that_says_what_to_do() {
        let e = decoded("RGB", b"GIF89a").expect_err("no GIF");
        let help = format!("{e:?}");
        assert!(help.contains("BMP, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP"), "{help}");
        for cut in [&b"\xff\xd8"[..], b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"] {
            assert!(decoded("RGB", cut).is_err(), "{}", cut.escape_ascii());
        }
    }
}
