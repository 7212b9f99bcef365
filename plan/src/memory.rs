//! Places in one arena for values that live at different times.
//!
//! Greedy by size: the largest value first, each at the lowest offset where no value that is
//! alive at the same time lies.

/// A value's need: bytes, and the steps from which and to which it lives, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Bytes.
    pub bytes: usize,
    /// The step that makes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

/// A slice of the arena, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins; a multiple of [`ALIGN`].
    pub offset: usize,
    /// How long it is.
    pub bytes: usize,
}

/// Every span begins at a multiple of this: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// Places every value; returns the spans in the order of `lives`, and the arena's bytes.
pub fn place(lives: &[Life]) -> (Vec<Span>, usize) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].bytes), lives[i].first));
    let mut spans = vec![Span { offset: 0, bytes: 0 }; lives.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let life = lives[i];
        let size = life.bytes.next_multiple_of(ALIGN);
        let mut taken: Vec<Span> = (placed.iter())
            .filter(|&&j| lives[j].first <= life.last && life.first <= lives[j].last)
            .map(|&j| spans[j])
            .collect();
        taken.sort_by_key(|s| s.offset);
        let mut offset = 0;
        for s in taken {
            if s.offset >= offset + size {
                break;
            }
            offset = offset.max((s.offset + s.bytes).next_multiple_of(ALIGN));
        }
        spans[i] = Span { offset, bytes: life.bytes };
        total = total.max(offset + size);
        placed.push(i);
    }
    (spans, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(bytes: usize, first: usize, last: usize) -> Life {
        Life { bytes, first, last }
    }

    #[test]
    fn a_chain_needs_two_values() {
        let lives: Vec<_> = (0..10).map(|i| life(64, i, i + 1)).collect();
        assert_eq!(place(&lives).1, 128);
    }

    #[test]
    fn values_alive_together_do_not_overlap() {
        let lives: Vec<_> =
            (0..40).map(|i| life(1 + (i * 37) % 300, i % 7, i % 7 + i % 5)).collect();
        let (spans, total) = place(&lives);
        for (i, a) in lives.iter().enumerate() {
            assert!(spans[i].offset % ALIGN == 0 && spans[i].offset + a.bytes <= total);
            for (j, b) in lives.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = spans[i].offset + a.bytes <= spans[j].offset
                    || spans[j].offset + b.bytes <= spans[i].offset;
                assert!(!together || apart, "{i} and {j}");
            }
        }
    }
}
