//! Some rows of a tensor: pieces along the first axis.

use std::ops::Range;

use crate::{DType, Error, Result, Tensor};

impl Tensor {
    /// The rows of a range, which share the data; strings are copied.
    ///
    /// An error: a scalar, or a range that is not among the rows.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        let Some((&count, rest)) = self.shape().split_first() else {
            return Err(Error::Length { shape: vec![], want: range.end, got: 1 });
        };
        if range.start > range.end || range.end > count {
            return Err(Error::Length {
                shape: self.shape().to_vec(),
                want: range.end,
                got: count,
            });
        }
        let row: usize = rest.iter().product();
        let mut shape = self.shape().to_vec();
        shape[0] = range.len();
        if self.dtype() == DType::String {
            let part = &self.strings()?[range.start * row..range.end * row];
            return Self::from_strings(&shape, part.to_vec());
        }
        if range.is_empty() || row == 0 {
            return Self::zeros(self.dtype(), &shape);
        }
        Ok(self.part(&shape, range.start * row * self.dtype().size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_the_data() {
        let x = Tensor::from_vec(&[4, 3], (0..12).map(|i| i as f32).collect()).expect("4x3");
        let parts = [0..1, 1..1, 1..4].map(|r| x.rows(r).expect("rows"));
        assert_eq!(parts[2].as_slice::<f32>().expect("floats")[..3], [3.0, 4.0, 5.0]);
        assert_eq!(parts[2].bytes().as_ptr(), x.bytes()[12..].as_ptr());
        assert_eq!(parts[1].shape(), [0, 3]);
        assert_eq!(parts[2].rows(2..3).expect("rows"), x.rows(3..4).expect("rows"));
        let all = parts.iter().flat_map(|p| p.as_slice::<f32>().expect("floats"));
        assert!(all.eq(x.as_slice::<f32>().expect("floats")));
        let words = ["a", "b", "c"].map(str::to_owned).to_vec();
        let s = Tensor::from_strings(&[3], words).expect("3");
        let parts = [0..2, 2..3].map(|r| s.rows(r).expect("rows"));
        let all = parts.iter().flat_map(|p| p.strings().expect("strings"));
        assert!(all.eq(s.strings().expect("strings")));
    }

    #[test]
    fn writing_to_rows_leaves_the_whole() {
        let x = Tensor::from_vec(&[2, 2], vec![1i64, 2, 3, 4]).expect("2x2");
        let mut row = x.rows(1..2).expect("rows");
        row.as_mut_slice::<i64>().expect("integers")[0] = 9;
        assert_eq!(row.as_slice::<i64>().expect("integers"), [9, 4]);
        assert_eq!(x.as_slice::<i64>().expect("integers"), [1, 2, 3, 4]);
    }

    #[test]
    fn errors() {
        let x = Tensor::vector(vec![1.0f32, 2.0]);
        assert!(x.rows(1..3).is_err());
        assert!(Tensor::scalar(1.0f32).rows(0..1).is_err());
    }
}
