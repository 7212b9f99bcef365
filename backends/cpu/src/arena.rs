//! One block of memory, lent out in slices that cannot overlap.

use kiln_ir::{Error, Result};
use kiln_plan::Span;

use crate::lines::Line;

/// Slices for writing and slices for reading.
pub(crate) type Slices<'a> = (Vec<&'a mut [f32]>, Vec<&'a [f32]>);

/// The block. It grows to the largest plan that it has served.
#[derive(Default)]
pub(crate) struct Arena(Vec<Line>);

impl Arena {
    /// Makes room for `bytes`; an error where there is no memory.
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let lines = bytes.div_ceil(size_of::<Line>());
        if let Some(more) = lines.checked_sub(self.0.len()) {
            self.0.try_reserve_exact(more).map_err(|_| {
                Error::limit("memory-bytes", format!("no memory for an arena of {bytes} bytes"))
            })?;
            self.0.resize(lines, Line::default());
        }
        Ok(())
    }

    /// Some spans for writing and others for reading; an error where they overlap.
    pub fn split(&mut self, writes: &[Span], reads: &[Span]) -> Result<Slices<'_>> {
        if writes.is_empty() && reads.is_empty() {
            return Ok((vec![], vec![]));
        }
        let overlap = || Error::bug("a kernel reads or writes where it writes");
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by_key(|&i| (writes[i].offset, writes[i].bytes));
        let mut rest: &mut [f32] = bytemuck::cast_slice_mut(&mut self.0);
        let mut at = 0;
        let mut out: Vec<(usize, &mut [f32])> = Vec::with_capacity(writes.len());
        let mut gaps: Vec<(usize, &[f32])> = Vec::with_capacity(writes.len() + 1);
        for i in order {
            let Span { offset, bytes } = writes[i];
            let skip = offset.checked_sub(at).ok_or_else(overlap)?;
            let (gap, tail) = rest.split_at_mut(skip / 4);
            let (mine, tail) = tail.split_at_mut(bytes / 4);
            gaps.push((at, gap));
            out.push((i, mine));
            (at, rest) = (offset + bytes, tail);
        }
        gaps.push((at, rest));
        let find = |r: &Span| {
            let inside = |(from, gap): &(usize, &'_ [f32])| {
                let start = r.offset.checked_sub(*from)? / 4;
                (start + r.bytes / 4 <= gap.len()).then_some(start)
            };
            let (k, start) =
                gaps.iter().enumerate().find_map(|(k, gap)| Some((k, inside(gap)?)))?;
            Some(&gaps[k].1[start..][..r.bytes / 4])
        };
        let none = |r: &Span| (r.bytes == 0).then_some(&[][..]);
        let reads: Option<Vec<&[f32]>> =
            reads.iter().map(|r| none(r).or_else(|| find(r))).collect();
        out.sort_by_key(|(i, _)| *i);
        Ok((out.into_iter().map(|(_, s)| s).collect(), reads.ok_or_else(overlap)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_spans_are_refused() {
        let span = |offset, bytes| Span { offset, bytes };
        let mut a = Arena::default();
        a.reserve(256).expect("memory");
        let (one, two) = (span(64, 64), span(192, 64));
        assert!(a.split(&[one], &[span(0, 64), span(128, 64)]).is_ok());
        assert!(a.split(&[one], &[one]).is_err());
        assert!(a.split(&[one], &[span(0, 128)]).is_err());
        assert!(a.split(&[one, span(96, 64)], &[]).is_err());
        let (writes, reads) = a.split(&[two, one], &[span(128, 64), span(64, 0)]).expect("apart");
        assert_eq!([writes.len(), writes[0].len(), reads[0].len(), reads[1].len()], [2, 16, 16, 0]);
    }

    #[test]
    fn spans_are_written_in_the_order_given() {
        let span = |offset, bytes| Span { offset, bytes };
        let mut a = Arena::default();
        a.reserve(256).expect("memory");
        let (mut writes, _) = a.split(&[span(128, 64), span(0, 64)], &[]).expect("apart");
        writes[0].fill(1.0);
        writes[1].fill(2.0);
        let (_, reads) = a.split(&[], &[span(128, 4), span(0, 4)]).expect("apart");
        assert_eq!(reads, [[1.0], [2.0]]);
    }
}
