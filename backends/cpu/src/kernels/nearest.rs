//! The first `k` of many numbers, kept while they come.

/// The order of TopK as integers: NaN is the greatest, both zeros are one.
#[inline(always)]
pub(super) fn key(x: f32) -> u32 {
    // Adding 0 to -0 gives 0.
    let bits = (x + 0.0).to_bits();
    let negative = bits >> 31 != 0;
    let ordered = if negative { !bits } else { bits | 1 << 31 };
    if x.is_nan() { u32::MAX } else { ordered }
}

/// The number of a key.
pub(super) fn number(key: u32) -> f32 {
    match (key, key >> 31) {
        (u32::MAX, _) => f32::NAN,
        (_, 0) => f32::from_bits(!key),
        _ => f32::from_bits(key & !(1 << 31)),
    }
}

/// Up to so many are kept in order; more are sorted out when there are twice as many.
const ORDERED: usize = 32;

/// The least entries of some rows, `k` of each: a key, then a place, in one integer.
pub(super) struct Best {
    k: usize,
    /// Room of a row.
    room: usize,
    entries: Vec<u64>,
    /// Entries of each row.
    counts: Vec<usize>,
    /// What an entry must be below.
    bounds: Vec<u64>,
}

impl Best {
    /// Nothing yet; `k` is not 0.
    pub fn new(rows: usize, k: usize) -> Self {
        let room = if k <= ORDERED { k } else { 2 * k };
        Self {
            k,
            room,
            entries: vec![u64::MAX; rows * room],
            counts: vec![0; rows],
            bounds: vec![u64::MAX; rows],
        }
    }

    /// Forgets what was kept.
    pub fn clear(&mut self) {
        self.entries.fill(u64::MAX);
        self.counts.fill(0);
        self.bounds.fill(u64::MAX);
    }

    /// The key that an entry of a row must not be above.
    #[inline(always)]
    pub fn bound(&self, row: usize) -> u32 {
        (self.bounds[row] >> 32) as u32
    }

    /// Takes an entry, if it is among the least so far; whether the bound has changed.
    pub fn take(&mut self, row: usize, key: u32, place: u32) -> bool {
        let entry = u64::from(key) << 32 | u64::from(place);
        if entry >= self.bounds[row] {
            return false;
        }
        let list = &mut self.entries[row * self.room..][..self.room];
        if self.k <= ORDERED {
            let mut at = self.k - 1;
            while at > 0 && list[at - 1] > entry {
                list[at] = list[at - 1];
                at -= 1;
            }
            list[at] = entry;
        } else {
            let count = &mut self.counts[row];
            list[*count] = entry;
            *count += 1;
            if *count < self.room {
                return false;
            }
            list.select_nth_unstable(self.k - 1);
            *count = self.k;
        }
        self.bounds[row] = list[self.k - 1];
        true
    }

    /// The keys and the places of a row, in order.
    pub fn finish(&mut self, row: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let count = if self.k <= ORDERED { self.k } else { self.counts[row] };
        let list = &mut self.entries[row * self.room..][..count];
        if self.k > ORDERED {
            list.sort_unstable();
        }
        list[..self.k.min(count)].iter().map(|e| ((e >> 32) as u32, *e as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_read_back() {
        let rising = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
        let keys = rising.map(key);
        assert!(keys.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(keys.map(number), rising);
        assert_eq!(key(-0.0), key(0.0));
        assert!(key(-f32::NAN) > keys[6] && number(key(f32::NAN)).is_nan());
    }

    #[test]
    fn the_least_by_sorting() {
        let numbers: Vec<u32> = (0..500u32).map(|i| i.wrapping_mul(2_654_435_761) % 97).collect();
        for k in [1, 5, 32, 33, 100, 500] {
            let mut best = Best::new(2, k);
            (0..500).for_each(|i| {
                best.take(1, numbers[i as usize], i);
            });
            let mut want: Vec<(u32, u32)> = numbers.iter().copied().zip(0..).collect();
            want.sort_unstable();
            assert_eq!(best.finish(1).collect::<Vec<_>>(), want[..k], "{k}");
        }
    }
}
