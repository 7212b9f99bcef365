//! Numbers that begin on a cache line.

/// A cache line.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; 16]);

/// A list of `f32` that begins on a cache line.
pub(crate) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

impl Lines {
    /// As many zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line::default(); len.div_ceil(16)], len }
    }
}

impl AsRef<[f32]> for Lines {
    fn as_ref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl AsMut<[f32]> for Lines {
    fn as_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
