//! One scan: bits to coefficients.

use super::bytes::Reader;
use super::huffman::{Bits, Huffman};
use super::{Frame, Tables, ZIGZAG};
use crate::{Context, Result, invalid};

/// One channel of a scan.
struct Part<'a> {
    component: usize,
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
    /// The last DC value.
    before: i32,
}

/// A scan's header.
pub struct Scan<'a> {
    parts: Vec<Part<'a>>,
    progressive: bool,
    /// The coefficients that it holds, first and last.
    band: [usize; 2],
    /// Whether it adds one bit to what is known.
    refines: bool,
    /// The bit that it ends at.
    low: u32,
    restart: usize,
    /// How many blocks from here on have no more in this band.
    empty: i32,
}

impl<'a> Scan<'a> {
    /// Reads a header; the channels' factors are those that hold at their first scan.
    pub fn read(mut r: Reader<'_>, frame: &mut Frame, tables: &'a Tables) -> Result<Self> {
        let mut parts: Vec<Part<'a>> = Vec::new();
        for _ in 0..r.u8()? {
            let (id, places) = (r.u8()?, r.u8()?);
            let found = frame.components.iter().position(|c| c.id == id);
            let Some(component) = found.filter(|&f| parts.iter().all(|p| p.component != f)) else {
                invalid!("a scan of the JPEG image names channel {id}, unknown or twice");
            };
            let c = &mut frame.components[component];
            c.factors = c.factors.or(tables.quant[c.quant]);
            let at = |all: &'a [Option<Huffman>; 4], i: u8| all.get(usize::from(i))?.as_ref();
            let (dc, ac) = (at(&tables.dc, places >> 4), at(&tables.ac, places & 15));
            parts.push(Part { component, dc, ac, before: 0 });
        }
        let (mut band, bits) = ([r.u8()?, r.u8()?].map(usize::from), r.u8()?);
        let (mut high, mut low) = (u32::from(bits >> 4), u32::from(bits & 15));
        if !frame.progressive {
            (band, high, low) = ([0, 63], 0, 0);
        }
        let fine = match band {
            [0, last] => !frame.progressive || last == 0,
            [first, last] => first <= last && last < 64 && parts.len() == 1,
        };
        if parts.is_empty() || !fine || low > 13 || high != 0 && high != low + 1 {
            invalid!("a scan of the JPEG image holds band {band:?} of {} channels", parts.len());
        }
        let (progressive, restart) = (frame.progressive, tables.restart);
        Ok(Self { parts, progressive, band, refines: high != 0, low, restart, empty: 0 })
    }

    /// Reads the scan's bits into the coefficients; returns how many bytes it took.
    pub fn run(mut self, cx: &Context, frame: &mut Frame, data: &[u8]) -> Result<usize> {
        let mut bits = Bits::new(data);
        let single = self.parts.len() == 1;
        let [across, down] = match single {
            true => frame.components[self.parts[0].component].size.map(|n| n.div_ceil(8)),
            false => frame.mcus(),
        };
        for y in 0..down {
            cx.cancel.poll()?;
            for x in 0..across {
                let i = y * across + x;
                if self.restart > 0 && i > 0 && i % self.restart == 0 {
                    bits.restart()?;
                    self.empty = 0;
                    self.parts.iter_mut().for_each(|p| p.before = 0);
                }
                for p in 0..self.parts.len() {
                    let c = &mut frame.components[self.parts[p].component];
                    let [h, v] = if single { [1, 1] } else { c.sampling };
                    for j in 0..h * v {
                        let (bx, by) = (x * h + j % h, y * v + j / h);
                        let at = (by * c.blocks[0] + bx) * 64;
                        self.block(&mut bits, p, &mut c.coefficients[at..at + 64])?;
                    }
                }
            }
        }
        Ok(bits.position())
    }

    fn block(&mut self, bits: &mut Bits<'_>, part: usize, block: &mut [i16]) -> Result<()> {
        if self.band[0] == 0 {
            self.dc(bits, part, block)?;
        }
        match (self.progressive, self.band[1]) {
            (_, 0) => Ok(()),
            (true, _) if self.refines => self.refine(bits, part, block),
            _ => self.ac(bits, part, block),
        }
    }

    fn dc(&mut self, bits: &mut Bits<'_>, part: usize, block: &mut [i16]) -> Result<()> {
        if self.refines {
            block[0] |= (bits.bits(1)? << self.low) as i16;
            return Ok(());
        }
        let part = &mut self.parts[part];
        let n = bits.symbol(given(part.dc)?)?;
        if n > 15 {
            invalid!("the JPEG image has a difference of {n} bits: 15 at most");
        }
        part.before = part.before.wrapping_add(bits.signed(n.into())?);
        block[0] = (part.before << self.low) as i16;
        Ok(())
    }

    /// The band's coefficients, or their high bits.
    fn ac(&mut self, bits: &mut Bits<'_>, part: usize, block: &mut [i16]) -> Result<()> {
        if self.empty > 0 {
            self.empty -= 1;
            return Ok(());
        }
        let table = given(self.parts[part].ac)?;
        let mut k = self.band[0].max(1);
        while k <= self.band[1] {
            let symbol = bits.symbol(table)?;
            let (zeros, n) = (symbol >> 4, symbol & 15);
            if n > 0 {
                k += usize::from(zeros);
                let v = bits.signed(n.into())?;
                let Some(&at) = ZIGZAG.get(k) else {
                    invalid!("a block of the JPEG image has more than 64 coefficients");
                };
                block[usize::from(at)] = (v << self.low) as i16;
                k += 1;
            } else if zeros == 15 {
                k += 16;
            } else {
                if self.progressive {
                    self.empty = (1 << zeros) - 1 + bits.bits(zeros.into())?;
                }
                break;
            }
        }
        Ok(())
    }

    /// One more bit of the band's coefficients.
    fn refine(&mut self, bits: &mut Bits<'_>, part: usize, block: &mut [i16]) -> Result<()> {
        let one = 1i16 << self.low;
        let mut k = self.band[0];
        while self.empty == 0 && k <= self.band[1] {
            let symbol = bits.symbol(given(self.parts[part].ac)?)?;
            let (zeros, n) = (symbol >> 4, symbol & 15);
            if n == 0 && zeros < 15 {
                self.empty = (1 << zeros) + bits.bits(zeros.into())?;
                break;
            }
            let new = match n {
                0 => 0,
                _ if bits.bits(1)? == 1 => one,
                _ => -one,
            };
            k = self.touch(bits, block, k, Some((zeros, new)))?;
        }
        if self.empty > 0 {
            self.touch(bits, block, k, None)?;
            self.empty -= 1;
        }
        Ok(())
    }

    /// Refines what is not zero from `k` on, and sets the zero behind so many others;
    /// returns the place behind it.
    fn touch(
        &self,
        bits: &mut Bits<'_>,
        block: &mut [i16],
        k: usize,
        new: Option<(u8, i16)>,
    ) -> Result<usize> {
        let one = 1i16 << self.low;
        let mut left = new.map(|(zeros, _)| zeros);
        for k in k..=self.band[1] {
            let c = &mut block[usize::from(ZIGZAG[k])];
            if *c != 0 {
                if bits.bits(1)? == 1 && *c & one == 0 {
                    *c = c.wrapping_add(if *c > 0 { one } else { -one });
                }
            } else if left == Some(0) {
                *c = new.map_or(0, |(_, v)| v);
                return Ok(k + 1);
            } else {
                left = left.map(|n| n - 1);
            }
        }
        Ok(self.band[1] + 1)
    }
}

fn given(table: Option<&Huffman>) -> Result<&Huffman> {
    match table {
        Some(t) => Ok(t),
        None => invalid!("a scan of the JPEG image names a Huffman table that is not there"),
    }
}
