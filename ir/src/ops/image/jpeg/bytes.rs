//! Reading numbers off a file that may lie.

use crate::{Result, invalid};

/// A place in the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The start of a file.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
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

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// The next 2 bytes as a number, the high one first.
    pub fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from(bytes[0]) << 8 | u16::from(bytes[1]))
    }
}
