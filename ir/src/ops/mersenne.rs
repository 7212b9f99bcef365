//! The Mersenne Twister MT19937, seeded as NumPy seeds it: a seed gives the numbers of the
//! reference.

/// The generator.
pub(crate) struct Mersenne {
    state: [u32; Self::N],
    at: usize,
}

impl Mersenne {
    const N: usize = 624;

    pub(crate) fn new(seed: u64) -> Self {
        let mut state = [seed as u32; Self::N];
        for i in 1..Self::N {
            let last = state[i - 1];
            state[i] = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, at: Self::N }
    }

    fn twist(&mut self) {
        for i in 0..Self::N {
            let next = self.state[(i + 1) % Self::N];
            let y = (self.state[i] & 0x8000_0000) | (next & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % Self::N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    fn next(&mut self) -> u32 {
        if self.at == Self::N {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number of 53 bits in `0.0..1.0`.
    pub(crate) fn uniform(&mut self) -> f64 {
        let (high, low) = (self.next() >> 5, self.next() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twister_is_numpys() {
        let mut random = Mersenne::new(0);
        let got = [random.uniform(), random.uniform()];
        assert_eq!(got, [0.548_813_503_927_324_8, 0.715_189_366_372_419_5]);
    }
}
