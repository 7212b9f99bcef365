//! BMP, PNG, PNM and WebP, by the crate `image`.

use std::io::Cursor;

use image::error::ImageError;
use image::{ColorType, ImageDecoder as _, ImageFormat, ImageReader, Limits};
use kiln_tensor::DType;

use super::decode::{Picture, high, narrow, opaque, wrong};
use crate::{Context, Error, Result, unsupported};

/// Decodes a file of a format; of a film, its first picture.
pub fn decode(cx: &Context, format: ImageFormat, data: &[u8]) -> Result<Picture> {
    let failed = |e| failed(format, e);
    let mut reader = ImageReader::with_format(Cursor::new(data), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(cx.limits.tensor_bytes.min(cx.limits.memory_bytes));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let size = [width as usize, height as usize];
    let colour = decoder.color_type();
    let channels = usize::from(colour.channel_count());
    // A decoder holds about as much as it makes.
    cx.numel(DType::U8, &[size[1], size[0], colour.bytes_per_pixel().into(), 2])?;
    let mut samples = cx.zeros::<u8>(&[size[1], size[0], colour.bytes_per_pixel().into()])?;
    decoder.read_image(&mut samples).map_err(failed)?;
    match colour {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => {}
        ColorType::L16 => samples = narrow(&samples, |v| v.min(255) as u8),
        _ if colour.bytes_per_pixel() == 2 * colour.channel_count() => {
            // Samples of PNM have a greatest value of their own, and are scaled by it.
            let scaled = |v: u16| ((u32::from(v) * 255 + 32767) / 65535) as u8;
            let each = if format == ImageFormat::Pnm { scaled } else { high };
            samples = narrow(&samples, each);
        }
        _ => unsupported!("{} of {colour:?} is not decoded: convert it to RGB", name(format)),
    }
    opaque(cx, size, channels, &samples)
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Bmp => "BMP",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        _ => "PNM",
    }
}

fn failed(format: ImageFormat, e: ImageError) -> Error {
    match e {
        ImageError::Limits(e) => {
            Error::limit("tensor-bytes", format!("the {} image: {e}", name(format)))
        }
        ImageError::Unsupported(e) => {
            Error::unsupported(format!("the {} image: {e}", name(format)))
                .help("convert it to RGB or grey of 8 bits")
        }
        e => wrong(name(format), e),
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::{bmp::BmpEncoder, png::PngEncoder, pnm::PnmEncoder, webp::WebPEncoder};
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;
    use crate::Limits;

    const SIZE: [u32; 2] = [2, 1];

    /// A file of 2 x 1 pixels.
    fn file(format: ImageFormat, colour: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
        let (mut f, [w, h]) = (vec![], SIZE);
        match format {
            ImageFormat::Bmp => BmpEncoder::new(&mut f).write_image(samples, w, h, colour),
            ImageFormat::Png => PngEncoder::new(&mut f).write_image(samples, w, h, colour),
            ImageFormat::WebP => {
                WebPEncoder::new_lossless(&mut f).write_image(samples, w, h, colour)
            }
            _ => PnmEncoder::new(&mut f).write_image(samples, w, h, colour),
        }
        .expect("it is written");
        f
    }

    fn words(v: &[u16]) -> Vec<u8> {
        v.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    #[test]
    fn samples_of_every_kind_become_bytes() {
        use ExtendedColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
        use ImageFormat::{Bmp, Png, Pnm, WebP};
        let grey = words(&[3, 700]);
        let wide = [0x1234u16, 0x12ff, 0xff00, 9, 0x80, 0xffff];
        let alpha = [&wide[..3], &[1], &wide[3..], &[2]].concat();
        for (format, colour, samples, want) in [
            (Png, L8, vec![3, 4], vec![3, 4]),
            (Png, La8, vec![3, 9, 4, 9], vec![3, 4]),
            (Png, Rgb8, vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]),
            (Png, Rgba8, vec![1, 2, 3, 9, 4, 5, 6, 0], vec![1, 2, 3, 4, 5, 6]),
            (Png, L16, grey, vec![3, 255]),
            (Png, La16, words(&[0x1234, 9, 0xff, 9]), vec![0x12, 0]),
            (Png, Rgb16, words(&wide), vec![0x12, 0x12, 0xff, 0, 0, 0xff]),
            (Png, Rgba16, words(&alpha), vec![0x12, 0x12, 0xff, 0, 0, 0xff]),
            (WebP, Rgb8, vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]),
            (WebP, Rgba8, vec![1, 2, 3, 9, 4, 5, 6, 7], vec![1, 2, 3, 4, 5, 6]),
            (Bmp, L8, vec![3, 4], vec![3, 3, 3, 4, 4, 4]),
            (Bmp, Rgb8, vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]),
            (Pnm, L8, vec![3, 4], vec![3, 4]),
            (Pnm, Rgb8, vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]),
        ] {
            let got = decode(&Context::default(), format, &file(format, colour, &samples));
            let got = got.unwrap_or_else(|e| panic!("{format:?} {colour:?}: {e:?}"));
            assert_eq!((got.width, got.height), (2, 1), "{format:?} {colour:?}");
            assert_eq!(got.data, want, "{format:?} {colour:?}");
        }
        // 0x80 is just over half a step of 257.
        let ppm = [&b"P6 2 1 65535\n"[..], &wide.map(u16::to_be_bytes).concat()].concat();
        let got = decode(&Context::default(), Pnm, &ppm).expect("decodes");
        assert_eq!(got.data, [0x12, 0x13, 0xfe, 0, 0, 0xff]);
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for format in [ImageFormat::Bmp, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Pnm] {
            let f = file(format, ExtendedColorType::Rgb8, &[1, 2, 3, 4, 5, 6]);
            for n in 0..f.len() - 16 {
                assert!(decode(&Context::default(), format, &f[..n]).is_err(), "{format:?} {n}");
            }
        }
    }

    #[test]
    fn what_is_too_large_is_not_made() {
        let cx = Context::new(Limits { tensor_bytes: 5, ..Limits::default() });
        let f = file(ImageFormat::Png, ExtendedColorType::Rgb8, &[1, 2, 3, 4, 5, 6]);
        let e = format!("{:?}", decode(&cx, ImageFormat::Png, &f).expect_err("6 bytes"));
        assert!(e.contains("tensor-bytes"), "{e}");
        let huge = b"P6 4000000000 4000000000 255\n";
        assert!(decode(&Context::default(), ImageFormat::Pnm, huge).is_err());
    }
}
