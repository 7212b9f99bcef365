//! Operands that broadcast, read in the order of a result.

use kiln_ir::{Error, Result};
use kiln_tensor::shape;

/// How an operand that broadcasts is read: lengths and strides, neighbours merged.
pub(super) struct Spread(Vec<(usize, usize)>);

impl Spread {
    /// How an operand of shape `from` is read in the order of a result of shape `to`.
    pub(super) fn new(from: &[usize], to: &[usize]) -> Result<Self> {
        if shape::broadcast(from, to)? != to {
            return Err(Error::invalid(format!("{from:?} does not broadcast to {to:?}")));
        }
        let mut dims: Vec<(usize, usize)> = Vec::new();
        for (&n, &s) in to.iter().zip(&shape::broadcast_strides(from, to)).filter(|(n, _)| **n != 1)
        {
            match dims.last_mut() {
                Some((m, t)) if *t == s * n => (*m, *t) = (*m * n, s),
                _ => dims.push((n, s)),
            }
        }
        if dims.is_empty() {
            dims.push((1, 0));
        }
        Ok(Self(dims))
    }

    /// After how many elements they begin anew, where that is so.
    pub(super) fn period(&self) -> Option<usize> {
        match self.0[..] {
            [(_, 0)] => Some(1),
            [(_, 0), ref rest @ ..] => Some(rest.iter().map(|(n, _)| n).product()),
            _ => None,
        }
    }

    /// Whether it is one row of `n` elements, again for every row of the result.
    pub(super) fn is_row(&self, n: usize) -> bool {
        matches!(self.0[..], [(m, 1)] | [(_, 0), (m, 1)] if m == n)
    }

    /// Reads the elements from place `start` on.
    pub(super) fn read<T: Copy>(
        &self,
        x: &[T],
        start: usize,
        out: &mut [f32],
        number: impl Fn(T) -> f32 + Copy,
    ) {
        let (&(len, stride), outer) = self.0.split_last().expect("invariant: never empty");
        let (mut row, mut at, mut done) = (start / len, start % len, 0);
        while done < out.len() {
            let mut rest = row;
            let mut base = 0;
            for &(n, s) in outer.iter().rev() {
                base += rest % n * s;
                rest /= n;
            }
            let count = (len - at).min(out.len() - done);
            let piece = &mut out[done..][..count];
            match stride {
                0 => piece.fill(number(x[base])),
                1 => (piece.iter_mut().zip(&x[base + at..])).for_each(|(y, &x)| *y = number(x)),
                _ => {
                    let x = x[base + at * stride..].iter().step_by(stride);
                    piece.iter_mut().zip(x).for_each(|(y, &x)| *y = number(x));
                }
            }
            (row, at, done) = (row + 1, 0, done + count);
        }
    }
}
