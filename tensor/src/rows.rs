//! Some rows of a tensor, and rows put together: pieces along the first axis.

use std::ops::Range;

use crate::{DType, Error, Result, Tensor, match_element};

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

    /// Rows below one another; all parts have the type and the other axes of the first.
    ///
    /// An error: no part, or parts that do not fit.
    pub fn stack(parts: &[Tensor]) -> Result<Self> {
        let Some(first) = parts.first().filter(|p| p.rank() > 0) else {
            return Err(Error::Length { shape: vec![], want: 1, got: 0 });
        };
        let mut shape = first.shape().to_vec();
        shape[0] = parts.iter().filter_map(|p| p.shape().first()).sum();
        for p in parts {
            if p.dtype() != first.dtype() {
                return Err(Error::DType { want: first.dtype(), got: p.dtype() });
            }
            if p.rank() != first.rank() || p.shape()[1..] != shape[1..] {
                return Err(Error::Length { shape, want: first.len(), got: p.len() });
            }
        }
        match_element!(first.dtype(), T => {
            let all: Result<Vec<&[T]>> = parts.iter().map(Tensor::as_slice::<T>).collect();
            Self::from_vec(&shape, all?.concat())
        }, else {
            let all: Result<Vec<&[String]>> = parts.iter().map(Tensor::strings).collect();
            Self::from_strings(&shape, all?.concat())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_the_data_and_go_together_again() {
        let x = Tensor::from_vec(&[4, 3], (0..12).map(|i| i as f32).collect()).expect("4x3");
        let parts = [0..1, 1..1, 1..4].map(|r| x.rows(r).expect("rows"));
        assert_eq!(parts[2].as_slice::<f32>().expect("floats")[..3], [3.0, 4.0, 5.0]);
        assert_eq!(parts[2].bytes().as_ptr(), x.bytes()[12..].as_ptr());
        assert_eq!(parts[1].shape(), [0, 3]);
        assert_eq!(parts[2].rows(2..3).expect("rows"), x.rows(3..4).expect("rows"));
        assert_eq!(Tensor::stack(&parts).expect("parts"), x);
        let words = ["a", "b", "c"].map(str::to_owned).to_vec();
        let s = Tensor::from_strings(&[3], words).expect("3");
        let parts = [0..2, 2..3].map(|r| s.rows(r).expect("rows"));
        assert_eq!(Tensor::stack(&parts).expect("parts"), s);
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
        assert!(Tensor::stack(&[]).is_err());
        assert!(Tensor::stack(&[x.clone(), Tensor::vector(vec![1i64])]).is_err());
        let wide = Tensor::from_vec(&[1, 2], vec![1.0f32, 2.0]).expect("1x2");
        assert!(Tensor::stack(&[wide, x]).is_err());
    }
}
