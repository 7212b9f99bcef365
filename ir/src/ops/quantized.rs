//! What the quantized operators share: zero points, scales, rounding into small integers.
//!
//! ```text
//! real = (q - zero_point) * scale          q = saturate(round(real / scale) + zero_point)
//! ```

use kiln_tensor::{DType, Number, Scalar, Tensor, match_scalar};

use crate::{Result, invalid};

/// Whether a quantized product takes the type.
pub(crate) fn is_quantized(d: DType) -> bool {
    use DType::{F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, I8, U8};
    matches!(d, I8 | U8 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ)
}

/// A scale or a zero point, one for all or a vector along `axis`, shaped so that it broadcasts
/// to a tensor of rank `rank`.
pub(crate) fn along(p: &Tensor, axis: usize, rank: usize) -> Result<Tensor> {
    match p.shape() {
        [] => Ok(p.clone()),
        [1] => Ok(p.reshape(&[])?),
        [n] => {
            let mut shape = vec![1; rank];
            let Some(length) = shape.get_mut(axis) else {
                invalid!("a tensor of rank {rank} has no axis {axis} for {n} parameters");
            };
            *length = *n;
            Ok(p.reshape(&shape)?)
        }
        _ => Ok(p.clone()),
    }
}

/// `q - zero_point` in the type to sum in; a vector of zero points runs along `axis`.
pub(crate) fn center<T: Number>(
    q: &Tensor,
    zero_point: Option<&Tensor>,
    axis: usize,
) -> Result<Vec<T>> {
    let mut data = q.to_vec::<T>()?;
    let Some(z) = zero_point else { return Ok(data) };
    let z = along(z, axis, q.rank())?;
    if z.len() == 1 {
        let z = z.to_scalar::<T>()?;
        data.iter_mut().for_each(|q| *q = q.minus(z));
    } else {
        let z = z.broadcast_to(q.shape())?.to_vec::<T>()?;
        data.iter_mut().zip(z).for_each(|(q, z)| *q = q.minus(z));
    }
    Ok(data)
}

/// The quantized form of `values`, which are already divided by the scale.
pub(crate) fn saturate(
    dtype: DType,
    shape: &[usize],
    values: impl Iterator<Item = f32>,
    zero_point: impl Iterator<Item = f32>,
) -> Result<Tensor> {
    let round = dtype.is_integer();
    match_scalar!(dtype, T => {
        let q = |(v, z): (f32, f32)| {
            let v = if round { v.round_ties_even() } else { v };
            T::from_f64(f64::from(v) + f64::from(z))
        };
        Ok(Tensor::from_vec::<T>(shape, values.zip(zero_point).map(q).collect())?)
    }, else invalid!("values are not quantized to {dtype}"))
}

/// The elements of a parameter broadcast to `shape`.
pub(crate) fn spread(p: &Tensor, axis: usize, shape: &[usize]) -> Result<Vec<f32>> {
    Ok(along(p, axis, shape.len())?.broadcast_to(shape)?.to_vec::<f32>()?)
}
