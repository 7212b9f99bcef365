//! Reading numbers off a file that may lie.

use crate::{Result, invalid};

/// A place in the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    /// The start of a file whose numbers begin with their high byte.
    pub fn big(data: &'a [u8]) -> Self {
        Self { data, at: 0, little: false }
    }

    /// The start of a file whose numbers begin with their low byte.
    pub fn little(data: &'a [u8]) -> Self {
        Self { data, at: 0, little: true }
    }

    /// The same file at another byte; reading beyond its end is an error.
    pub fn seek(mut self, at: usize) -> Self {
        self.at = at;
        self
    }

    /// How many bytes lie before this place.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes from here on.
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some(bytes) = self.rest().get(..n) else {
            invalid!("the image ends early: {n} bytes at {} of {}", self.at, self.data.len());
        };
        self.at += n;
        Ok(bytes)
    }

    fn number(&mut self, n: usize) -> Result<u32> {
        let bytes = self.take(n)?;
        let push = |v: u32, b: &u8| v << 8 | u32::from(*b);
        Ok(if self.little { bytes.iter().rev().fold(0, push) } else { bytes.iter().fold(0, push) })
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// The next 2 bytes as a number.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(self.number(2)? as u16)
    }

    /// The next 4 bytes as a number.
    pub fn u32(&mut self) -> Result<u32> {
        self.number(4)
    }

    /// The next 4 bytes as a length or a place.
    pub fn size(&mut self) -> Result<usize> {
        Ok(self.u32()? as usize)
    }
}

/// Sample `i` of a row whose samples have 1, 2, 4, 8 or 16 bits, high bits first.
/// Of 16 bits, stored big-endian, the high 8 are taken.
pub fn sample(row: &[u8], i: usize, bits: usize) -> u8 {
    let byte = |at: usize| row.get(at).copied().unwrap_or(0);
    match bits {
        8 => byte(i),
        16 => byte(2 * i),
        _ => {
            let shift = 8 - bits - i * bits % 8;
            byte(i * bits / 8) >> shift & ((1 << bits) - 1)
        }
    }
}

/// A sample of up to 8 bits, stretched to 0..=255.
pub fn stretch(sample: u8, bits: usize) -> u8 {
    match bits {
        1 => sample * 255,
        2 => sample * 85,
        4 => sample * 17,
        _ => sample,
    }
}
