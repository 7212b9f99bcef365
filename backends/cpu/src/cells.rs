//! A matrix whose pieces different threads write.

use std::marker::PhantomData;

/// Rows of a matrix, `stride` elements apart. Who shares a copy must not ask for pieces that
/// overlap while another holds them.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    data: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a borrowed slice of numbers, whose pieces are handed out one by one.
#[allow(unsafe_code)]
unsafe impl Send for Cells<'_> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Cells<'_> {}

impl<'a> Cells<'a> {
    /// The first `columns` elements of each of `rows` rows.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn new(data: &'a mut [f32], stride: usize, rows: usize, columns: usize) -> Self {
        let needed = rows.checked_sub(1).map_or(0, |last| last * stride + columns);
        assert!(
            needed <= data.len() && columns <= stride.max(columns),
            "invariant: all rows are there"
        );
        assert!(rows < 2 || columns <= stride, "invariant: rows do not overlap");
        Self { data: data.as_mut_ptr(), stride, rows, columns, life: PhantomData }
    }

    /// `columns` columns, from `first` on.
    ///
    /// # Panics
    /// Where they are not there.
    pub fn part(self, first: usize, columns: usize) -> Self {
        assert!(first + columns <= self.columns, "invariant: columns of the matrix");
        let data = self.data.wrapping_add(first);
        Self { data, columns, ..self }
    }

    /// Some whole rows, where they lie one behind the other.
    ///
    /// # Panics
    /// Where they are not there.
    #[allow(unsafe_code)]
    pub fn dense(&self, row: usize, rows: usize) -> Option<&'a mut [f32]> {
        assert!(row + rows <= self.rows, "invariant: rows of the matrix");
        let at = row * self.stride;
        // SAFETY: the rows lie in the slice, as `new` and the line above assert; that no other
        // holds a piece of them is what the type asks of its users.
        (self.stride == self.columns).then(|| unsafe {
            std::slice::from_raw_parts_mut(self.data.add(at), rows * self.columns)
        })
    }

    /// `n` elements of a row.
    ///
    /// # Panics
    /// Where they are not there.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn piece(&self, row: usize, column: usize, n: usize) -> &'a mut [f32] {
        assert!(row < self.rows && column + n <= self.columns, "invariant: a piece of a row");
        // SAFETY: the piece lies in the slice, as `new` and the line above assert; that no other
        // holds it is what the type asks of its users.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + column), n) }
    }
}
