//! Bits of a scan, and the codes that they spell.

use crate::{Result, invalid};

/// A table of codes.
pub struct Huffman {
    /// For the next 8 bits: the code's length and its symbol; length 0: it is longer.
    short: Vec<(u8, u8)>,
    /// By length: the first code, how many there are, and where their symbols begin.
    lengths: [(u32, u32, usize); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// The table with `counts[i]` codes of `i + 1` bits.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Result<Self> {
        let (mut code, mut at, mut lengths) = (0u32, 0, [(0, 0, 0); 17]);
        let mut short = vec![(0, 0); 256];
        for (n, &count) in (1..=16).zip(counts) {
            lengths[n] = (code, u32::from(count), at);
            for &symbol in symbols.iter().skip(at).take(usize::from(count)) {
                if code >> n != 0 {
                    invalid!("the JPEG image has more codes of {n} bits than there are");
                }
                if n <= 8 {
                    let span = 1 << (8 - n);
                    let from = code as usize * span;
                    short[from..from + span].fill((n as u8, symbol));
                }
                code += 1;
            }
            at += usize::from(count);
            code <<= 1;
        }
        Ok(Self { short, lengths, symbols: symbols.to_vec() })
    }
}

/// The bits of a scan up to the next marker.
pub struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// How many of the held bits lie beyond the end.
    made_up: u32,
}

impl<'a> Bits<'a> {
    /// The start of a scan.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0, made_up: 0 }
    }

    /// How many bytes are taken.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next 16 bits, zeros beyond the end.
    fn peek(&mut self) -> u32 {
        while self.count < 16 {
            let byte = match self.data.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                Some([b, ..]) if *b != 0xff => {
                    self.at += 1;
                    *b
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
        (self.held >> (self.count - 16)) as u32 & 0xffff
    }

    fn skip(&mut self, n: u32) -> Result<()> {
        self.count -= n;
        if self.count < self.made_up {
            invalid!("the JPEG image ends early: a scan has too few bits");
        }
        Ok(())
    }

    /// The next `n` bits as a number, 16 at most.
    pub fn bits(&mut self, n: u32) -> Result<i32> {
        let v = self.peek() >> (16 - n.min(16));
        self.skip(n.min(16))?;
        Ok(v as i32)
    }

    /// A number of `n` bits whose upper half is positive.
    pub fn signed(&mut self, n: u32) -> Result<i32> {
        if n == 0 {
            return Ok(0);
        }
        let v = self.bits(n)?;
        Ok(if v < 1 << (n - 1) { v - (1 << n) + 1 } else { v })
    }

    /// The symbol of the next code.
    pub fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let next = self.peek();
        let (n, symbol) = table.short[(next >> 8) as usize];
        if n > 0 {
            self.skip(n.into())?;
            return Ok(symbol);
        }
        for n in 9..=16 {
            let (first, count, at) = table.lengths[n];
            let i = (next >> (16 - n)).wrapping_sub(first);
            if i < count
                && let Some(&symbol) = table.symbols.get(at + i as usize)
            {
                self.skip(n as u32)?;
                return Ok(symbol);
            }
        }
        invalid!("the JPEG image has bits that are no code of its table");
    }

    /// Goes behind the restart marker that is due.
    pub fn restart(&mut self) -> Result<()> {
        (self.held, self.count, self.made_up) = (0, 0, 0);
        let rest = self.data.get(self.at..).unwrap_or_default();
        let found = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff));
        match found {
            Some(i) if matches!(rest[i + 1], 0xd0..=0xd7) => self.at += i + 2,
            _ => invalid!("the JPEG image lacks a restart marker"),
        }
        Ok(())
    }
}
