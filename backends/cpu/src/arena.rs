//! One block of memory, lent out in slices that cannot overlap.

use kiln_ir::{Error, Result};
use kiln_plan::Span;

/// A cache line: what the block is made of, so that every span is aligned.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

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

    /// The elements of a span.
    pub fn read(&self, span: Span) -> &[f32] {
        let all: &[f32] = bytemuck::cast_slice(&self.0);
        &all[span.offset / 4..][..span.bytes / 4]
    }

    /// One span for writing and others for reading; an error where they overlap.
    pub fn split(&mut self, write: Span, reads: &[Span]) -> Result<(&mut [f32], Vec<&[f32]>)> {
        let all: &mut [f32] = bytemuck::cast_slice_mut(&mut self.0);
        let (before, rest) = all.split_at_mut(write.offset / 4);
        let (out, after) = rest.split_at_mut(write.bytes / 4);
        let end = write.offset + write.bytes;
        let reads: Option<Vec<&[f32]>> = (reads.iter())
            .map(|r| match r.offset {
                o if o >= end => after.get((o - end) / 4..)?.get(..r.bytes / 4),
                o => before.get(o / 4..)?.get(..r.bytes / 4),
            })
            .collect();
        let reads = reads.ok_or_else(|| Error::bug("a kernel reads where it writes"))?;
        Ok((out, reads))
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
        assert!(a.split(span(64, 64), &[span(0, 64), span(128, 64)]).is_ok());
        assert!(a.split(span(64, 64), &[span(64, 64)]).is_err());
        assert!(a.split(span(64, 64), &[span(0, 128)]).is_err());
    }
}
