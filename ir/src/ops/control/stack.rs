//! Pieces of equal shape, side by side along a new axis.

use kiln_tensor::{DType, Datum, Tensor, match_element};

use crate::{Context, Dim, Result, Type, invalid};

/// The pieces of one scan output.
#[derive(Default)]
pub(crate) struct Stack(Vec<Tensor>);

impl Stack {
    /// Adds a piece; an error where it differs in type or shape from the ones before.
    pub(crate) fn push(&mut self, piece: Datum) -> Result<()> {
        let Datum::Tensor(t) = piece else { invalid!("a scan output is a {}", piece.kind()) };
        match self.0.first() {
            Some(f) if (f.dtype(), f.shape()) != (t.dtype(), t.shape()) => invalid!(
                "the steps of a scan output differ: {}{:?}, then {}{:?}",
                f.dtype(),
                f.shape(),
                t.dtype(),
                t.shape()
            ),
            _ => self.0.push(t),
        }
        Ok(())
    }

    /// The pieces.
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.0
    }

    /// Turns the order of the pieces round.
    pub(crate) fn reverse(&mut self) {
        self.0.reverse();
    }

    /// The pieces along a new axis. Without pieces, what is known of one (`ty`) gives the type
    /// and the other lengths; unknown ones are 0.
    pub(crate) fn finish(self, cx: &Context, axis: i64, ty: &Type) -> Result<Tensor> {
        if self.0.is_empty() {
            let t = ty.as_tensor()?;
            let Some(dims) = &t.shape else { return Ok(Tensor::zeros(t.dtype, &[0])?) };
            let mut shape: Vec<usize> = dims.iter().map(|d| d.as_len().unwrap_or(0)).collect();
            shape.insert(kiln_tensor::shape::axis(axis, shape.len() + 1)?, 0);
            return Ok(Tensor::zeros(t.dtype, &shape)?);
        }
        stack(cx, &self.0, axis)
    }
}

/// The type of pieces of type `ty` along a new axis.
pub(crate) fn stacked(ty: &Type, axis: i64, length: Dim) -> Result<Type> {
    let t = ty.as_tensor()?;
    let Some(mut shape) = t.shape.clone() else { return Ok(Type::tensor(t.dtype, None)) };
    shape.insert(kiln_tensor::shape::axis(axis, shape.len() + 1)?, length);
    Ok(Type::tensor(t.dtype, Some(shape)))
}

/// Tensors of one type and shape, at least one, along a new axis.
pub(crate) fn stack(cx: &Context, pieces: &[Tensor], axis: i64) -> Result<Tensor> {
    let Some(first) = pieces.first() else { invalid!("there is nothing to stack") };
    let axis = kiln_tensor::shape::axis(axis, first.rank() + 1)?;
    let mut shape = first.shape().to_vec();
    shape.insert(axis, pieces.len());
    cx.numel(first.dtype(), &shape)?;
    let inner: usize = first.shape()[axis..].iter().product();
    let outer = first.len().checked_div(inner).unwrap_or(0);
    let runs = (0..outer).flat_map(|o| pieces.iter().map(move |p| (o * inner, p)));
    if first.dtype() == DType::String {
        let mut data = Vec::with_capacity(outer * inner * pieces.len());
        for (at, p) in runs {
            data.extend_from_slice(&p.strings()?[at..at + inner]);
        }
        return Ok(Tensor::from_strings(&shape, data)?);
    }
    match_element!(first.dtype(), T => {
        let mut data = Vec::with_capacity(outer * inner * pieces.len());
        for (at, p) in runs {
            data.extend_from_slice(&p.as_slice::<T>()?[at..at + inner]);
        }
        Ok(Tensor::from_vec(&shape, data)?)
    }, else invalid!("{} does not stack", first.dtype()))
}

/// Step `i` of a tensor along `axis`, without that axis; both must be in range.
pub(crate) fn select(x: &Tensor, axis: usize, i: usize) -> Result<Tensor> {
    let mut shape = x.shape().to_vec();
    let length = shape.remove(axis);
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let outer: usize = x.shape()[..axis].iter().product();
    let indices = (0..outer).flat_map(|o| {
        let at = (o * length + i) * inner;
        at..at + inner
    });
    Ok(x.take(&shape, indices)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacking_undoes_selecting() {
        let x = Tensor::from_vec(&[2, 3, 2], (0..12i32).collect()).expect("2x3x2");
        for axis in 0..3 {
            let pieces: Vec<_> =
                (0..x.shape()[axis]).map(|i| select(&x, axis, i).expect("in range")).collect();
            let back = stack(&Context::default(), &pieces, axis as i64).expect("alike");
            assert_eq!(back, x);
        }
        assert_eq!(select(&x, 1, 2).expect("in range").to_vec::<i32>(), Ok(vec![4, 5, 10, 11]));
        let s = Tensor::from_strings(&[1], vec!["a".into()]).expect("one");
        let back = stack(&Context::default(), &[s.clone(), s], -1).expect("alike");
        assert_eq!(back.shape(), [1, 2]);
    }
}
