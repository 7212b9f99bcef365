//! Portable bitmaps, greymaps and pixmaps, in digits or in bytes.

use super::bytes::{Reader, sample};
use super::decode::Picture;
use crate::{Context, Result, invalid};

/// Decodes `P1` to `P6`.
pub fn decode(cx: &Context, data: &[u8]) -> Result<Picture> {
    let mut r = Reader::big(data).seek(1);
    let kind = r.u8()?;
    let (width, height) = (number(&mut r)?, number(&mut r)?);
    let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
    let most = if matches!(kind, b'1' | b'4') { 1 } else { number(&mut r)? };
    if !(1..=65535).contains(&most) {
        invalid!("the PNM header says that samples go up to {most}: 1 to 65535 is allowed");
    }
    let scaled = |v: usize| ((v.min(most) * 510 + most) / (2 * most)) as u8;
    let samples = width.saturating_mul(height).saturating_mul(channels);
    let each = if most > 255 { 2 } else { 1 };
    let stride =
        if kind == b'4' { width.div_ceil(8) } else { width.saturating_mul(channels * each) };
    if matches!(kind, b'1'..=b'3') {
        // A digit each, at least: no more is made than the file can hold.
        r.clone().take(samples)?;
        let mut picture = Picture::new(cx, width, height, channels)?;
        for (i, to) in picture.data.iter_mut().enumerate() {
            if i % (1 << 20) == 0 {
                cx.cancel.poll()?;
            }
            *to = if kind == b'1' { 255 - bit(&mut r)? * 255 } else { scaled(number(&mut r)?) };
        }
        return Ok(picture);
    }
    let rows = r.take(stride.saturating_mul(height))?;
    let mut picture = Picture::new(cx, width, height, channels)?;
    for (y, row) in rows.chunks_exact(stride).enumerate() {
        cx.cancel.poll()?;
        for (i, to) in picture.row(y).iter_mut().enumerate() {
            *to = match (kind, each) {
                (b'4', _) => 255 - sample(row, i, 1) * 255,
                (_, 1) => scaled(row[i].into()),
                _ => scaled(u16::from_be_bytes([row[2 * i], row[2 * i + 1]]).into()),
            };
        }
    }
    Ok(picture)
}

/// The first byte behind spaces and comments.
fn visible(r: &mut Reader<'_>) -> Result<u8> {
    loop {
        match r.u8()? {
            b'#' => while !matches!(r.u8()?, b'\n' | b'\r') {},
            b if b.is_ascii_whitespace() => {}
            b => return Ok(b),
        }
    }
}

fn bit(r: &mut Reader<'_>) -> Result<u8> {
    match visible(r)? {
        b @ (b'0' | b'1') => Ok(b - b'0'),
        b => invalid!("the PNM image has `{}` where 0 or 1 is due", b.escape_ascii()),
    }
}

/// A number in digits, and the one byte that ends it.
fn number(r: &mut Reader<'_>) -> Result<usize> {
    let (mut b, mut n) = (visible(r)?, 0usize);
    loop {
        if !b.is_ascii_digit() {
            invalid!("the PNM image has `{}` where a number is due", b.escape_ascii());
        }
        n = n.saturating_mul(10).saturating_add(usize::from(b - b'0'));
        if n > u32::MAX as usize {
            invalid!("the PNM image has a number above {}", u32::MAX);
        }
        match r.rest().first() {
            None => return Ok(n),
            Some(c) if c.is_ascii_whitespace() => {
                r.u8()?;
                return Ok(n);
            }
            Some(_) => b = r.u8()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes() {
        for (file, channels, want) in [
            (&b"P1 # bits\n3 1\n10 1"[..], 1, vec![0, 255, 0]),
            (b"P2 2 1 3 1 # a third\n3", 1, vec![85, 255]),
            (b"P3 1 1 510 255 510 0", 3, vec![128, 255, 0]),
            (b"P4 9 1\n\x40\x80", 1, vec![255, 0, 255, 255, 255, 255, 255, 255, 0]),
            (b"P5 2 1 256\n\x00\x80\x01\x00", 1, vec![128, 255]),
            (b"P6 1 1 255\n\x01\x02\x03", 3, vec![1, 2, 3]),
        ] {
            let p = decode(&Context::default(), file).expect("decodes");
            assert_eq!((p.channels, p.data), (channels, want), "{}", file.escape_ascii());
        }
    }

    #[test]
    fn what_lies_is_an_error() {
        for file in [
            &b"P6 1 1 255\n\x01\x02"[..],
            b"P6 0 1 255\n",
            b"P6 1 1 0\n\0\0\0",
            b"P5 99999999999999999999 1 255\n",
            b"P5 4294967295 4294967295 255\n",
            b"P2 4294967295 4294967295 255 1",
            b"P2 1 1 255 x",
            b"P1 1 1 2",
        ] {
            assert!(decode(&Context::default(), file).is_err(), "{}", file.escape_ascii());
        }
    }
}
