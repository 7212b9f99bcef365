//! Arithmetic of concrete shapes: products that cannot overflow, strides, broadcasting.

use crate::{Error, Result};

/// The number of elements; an error where the product does not fit `isize`.
pub fn numel(shape: &[usize]) -> Result<usize> {
    // A zero anywhere makes the tensor empty, however large the other lengths are.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| Error::TooLarge(shape.to_vec()))
}

/// Row-major strides in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i].saturating_mul(shape[i]);
    }
    out
}

/// The multidirectional broadcast of two shapes.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::Broadcast(a.to_vec(), b.to_vec())),
        })
        .collect()
}

/// Strides that read a tensor of shape `from` as if it had the broadcast shape `to`.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    (0..to.len()).map(|i| if i < lead || from[i - lead] == 1 { 0 } else { own[i - lead] }).collect()
}

/// Turns an axis in `-rank..rank` into `0..rank`.
pub fn axis(axis: i64, rank: usize) -> Result<usize> {
    let n = rank as i64;
    let k = if axis < 0 { axis.checked_add(n) } else { Some(axis) };
    match k {
        Some(k) if (0..n).contains(&k) => Ok(k as usize),
        _ => Err(Error::Axis { axis, rank }),
    }
}

/// The flat offsets, under `strides`, of every position of `shape` in row-major order.
pub fn offsets(shape: &[usize], strides: &[usize]) -> Offsets {
    let left = if shape.contains(&0) { 0 } else { shape.iter().product() };
    Offsets {
        shape: shape.to_vec(),
        strides: strides.to_vec(),
        at: vec![0; shape.len()],
        offset: 0,
        left,
    }
}

/// The iterator that [`offsets`] makes.
pub struct Offsets {
    shape: Vec<usize>,
    strides: Vec<usize>,
    at: Vec<usize>,
    offset: usize,
    left: usize,
}

impl Iterator for Offsets {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let out = self.offset;
        for i in (0..self.shape.len()).rev() {
            self.at[i] += 1;
            self.offset += self.strides[i];
            if self.at[i] < self.shape[i] {
                break;
            }
            self.offset -= self.strides[i] * self.shape[i];
            self.at[i] = 0;
        }
        Some(out)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Offsets {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_checked() {
        assert_eq!(numel(&[2, 3]), Ok(6));
        assert_eq!(numel(&[]), Ok(1));
        assert_eq!(numel(&[usize::MAX, 0]), Ok(0));
        assert!(numel(&[usize::MAX, 2]).is_err());
    }

    #[test]
    fn broadcasting() {
        assert_eq!(broadcast(&[2, 1], &[3]), Ok(vec![2, 3]));
        assert_eq!(broadcast(&[0], &[1]), Ok(vec![0]));
        assert!(broadcast(&[2], &[3]).is_err());
        assert_eq!(broadcast_strides(&[2, 1], &[4, 2, 3]), [0, 1, 0]);
        let read: Vec<_> = offsets(&[2, 3], &[1, 0]).collect();
        assert_eq!(read, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn axes() {
        assert_eq!(axis(-1, 3), Ok(2));
        assert!(axis(3, 3).is_err());
        assert!(axis(i64::MIN, 3).is_err());
    }
}
