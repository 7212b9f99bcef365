//! The middle of a tensor, cut out or set among zeros.
//!
//! ```text
//! y = CenterCropPad(x: f32[N,C], shape: i64[2])     y: f32[shape]
//! ```

use std::ops::RangeInclusive;

use kiln_tensor::shape::axis;
use kiln_tensor::{DType, Datum, Tensor, match_element};

use crate::eval::tensor;
use crate::ops::layout::{lengths, target_shape};
use crate::ops::resize::copy;
use crate::{Attrs, Context, Fact, Infer, Operator, Result, Schema, attrs, invalid};

attrs! {
    /// Cuts or pads axes at both ends; inputs `x shape`.
    pub struct CenterCropPad {
        /// The axes that the shape speaks of; all where there are none.
        axes: Option<Vec<i64>> = None,
    }
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[Schema {
    name: "CenterCropPad",
    since: 18,
    build: |b| Ok(CenterCropPad::read(&mut b.attrs)?.into()),
}];

impl CenterCropPad {
    fn axes(&self, rank: usize, lengths: usize) -> Result<Vec<usize>> {
        let axes: Vec<usize> = match &self.axes {
            None => (0..rank).collect(),
            Some(axes) => axes.iter().map(|&a| Ok(axis(a, rank)?)).collect::<Result<_>>()?,
        };
        if axes.len() != lengths {
            invalid!("{} axes have {lengths} lengths", axes.len());
        }
        Ok(axes)
    }
}

/// Where each element of an axis comes from: `None` is padding.
fn sources(n: usize, out: usize) -> Vec<Option<usize>> {
    let (cut, pad) = (n.saturating_sub(out) / 2, out.saturating_sub(n) / 2);
    (0..out).map(|i| (i + cut).checked_sub(pad).filter(|&i| i < n)).collect()
}

/// Cuts and pads elements along axes of these lengths.
fn run<T: Clone + Default>(
    cx: &Context,
    x: &Tensor,
    data: &[T],
    plan: &[(usize, usize)],
) -> Result<Vec<T>> {
    let (mut shape, mut y) = (x.shape().to_vec(), data.to_vec());
    for &(axis, out) in plan {
        cx.cancel.poll()?;
        let n = std::mem::replace(&mut shape[axis], out);
        cx.numel(x.dtype(), &shape)?;
        let mut before = shape.clone();
        before[axis] = n;
        y = copy(&y, &before, axis, &sources(n, out), &T::default())?;
    }
    Ok(y)
}

impl Operator for CenterCropPad {
    fn name(&self) -> &str {
        "CenterCropPad"
    }

    fn attrs(&self) -> Attrs {
        self.write()
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        let dtype = cx.dtype(0)?;
        cx.dtype_in(1, |d| matches!(d, DType::I64 | DType::I32))?;
        let Some(x) = cx.shape(0)? else { return Ok(vec![Fact::tensor(dtype, None)]) };
        let mut shape = x.to_vec();
        let count = self.axes.as_ref().map_or(x.len(), Vec::len);
        let lengths = match target_shape(cx, 1)? {
            Some(lengths) => lengths,
            None => cx.fresh_shape(count),
        };
        for (a, length) in self.axes(x.len(), lengths.len())?.into_iter().zip(lengths) {
            shape[a] = length;
        }
        Ok(vec![Fact::shaped(dtype, shape)])
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let (x, lengths) = (tensor(inputs, 0)?, lengths(tensor(inputs, 1)?)?);
        let axes = self.axes(x.rank(), lengths.len())?;
        let mut shape = x.shape().to_vec();
        axes.iter().zip(&lengths).for_each(|(&a, &n)| shape[a] = n);
        let mut plan: Vec<(usize, usize)> = axes.into_iter().zip(lengths).collect();
        if cx.numel(x.dtype(), &shape)? == 0 || x.is_empty() {
            return Ok(vec![Tensor::zeros(x.dtype(), &shape)?.into()]);
        }
        // What is cut goes first: fewer elements are made on the way.
        plan.sort_by_key(|&(a, n)| n > x.shape()[a]);
        let y = match x.dtype() {
            DType::String => Tensor::from_strings(&shape, run(cx, x, x.strings()?, &plan)?)?,
            d => match_element!(d, T => {
                Tensor::from_vec::<T>(&shape, run(cx, x, x.as_slice::<T>()?, &plan)?)?
            }, else invalid!("CenterCropPad takes no {d}")),
        };
        Ok(vec![y.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{run1, types};

    #[test]
    fn odd_differences_go_to_the_right() {
        let crop = |n: usize, out: usize| {
            let text = format!("s = i64[1]{{{out}}}\ny = CenterCropPad(x: i32[{n}], s)\nreturn y");
            let x = Tensor::vector((1..=n as i32).collect());
            run1(&text, &[x]).expect("runs").to_vec::<i64>().expect("integers")
        };
        assert_eq!(crop(5, 2), [2, 3]);
        assert_eq!(crop(4, 2), [2, 3]);
        assert_eq!(crop(2, 5), [0, 1, 2, 0, 0]);
        assert_eq!(crop(3, 3), [1, 2, 3]);
        assert_eq!(crop(0, 2), [0, 0]);
    }

    #[test]
    fn some_axes() {
        let text = "s = i64[2]{1,4}\ny = CenterCropPad(x: str[2,2], s) {axes=[-1,0]}\nreturn y";
        let x = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let y = run1(text, &[Tensor::from_strings(&[2, 2], x).expect("2x2")]).expect("runs");
        assert_eq!(y.shape(), [4, 1]);
        assert_eq!(y.strings().expect("text"), ["", "a", "c", ""]);
        assert_eq!(types(text).expect("types"), ["str[4,1]"]);
        let wrong = "s = i64[1]{1}\ny = CenterCropPad(x: f32[2,2], s)\nreturn y";
        assert!(types(wrong).is_err());
        let wrong = "s = i64[1]{-1}\ny = CenterCropPad(x: f32[2], s)\nreturn y";
        assert!(types(wrong).is_err());
    }
}
