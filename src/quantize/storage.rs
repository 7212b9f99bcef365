//! Weights in half floats: half the file, the same calculation.

use kiln_ir::ops::cast::{Cast, RoundMode};
use kiln_ir::{Graph, NodeId, Operator, Result};
use kiln_tensor::{DType, Scalar, Tensor, match_float};

use super::{Excluded, Layer, Quantized, is_idle};

/// Constants of fewer elements stay as they are.
const LEAST: usize = 64;

/// Stores the large constants in `dtype`, with a cast to f32 behind them. A constant that does
/// not fit, or that an excluded node reads, stays as it is.
pub(super) fn store(g: &Graph, dtype: DType, excluded: &Excluded) -> Result<Quantized> {
    let mut to = g.clone();
    let mut layers = Vec::new();
    for id in g.order()? {
        let Some(t) = g.constant_of(id.first()).filter(|t| t.dtype() == DType::F32) else {
            continue;
        };
        if t.len() < LEAST {
            continue;
        }
        let readers: Vec<NodeId> = g.readers(id.first()).map(|(n, _)| n).collect();
        let narrow = narrow(t, dtype)?;
        let left = match () {
            () if readers.iter().any(|&n| excluded.has(g, n)) => Some("it is excluded"),
            () if g.is_output(id.first()) => Some("it is an output"),
            () if narrow.is_none() => Some("a weight does not fit"),
            () => None,
        };
        if let (None, Some(t)) = (left, narrow) {
            widen(&mut to, id, t)?;
        }
        layers.push(Layer {
            name: g.node(id).name.to_string(),
            op: readers.first().map_or(String::new(), |&n| g.op(n).name().to_owned()),
            left: left.map(str::to_owned),
            loss: None,
        });
    }
    Ok(Quantized { graph: to, layers, loss: None })
}

/// Puts `t`, widened again, in the place of a constant.
fn widen(g: &mut Graph, id: NodeId, t: Tensor) -> Result<()> {
    let name = g.node(id).name.to_string();
    let stored = g.constant(&format!("{name}/stored"), t);
    let cast = Cast::Value { to: DType::F32, saturate: true, round: RoundMode::Up };
    let wide = g.add(&format!("{name}/wide"), cast, &[Some(stored)])?;
    g.replace(id.first(), wide.first());
    if is_idle(g, id) {
        g.remove(id)?;
    }
    Ok(())
}

/// The numbers in a narrower type; `None` where one becomes infinite.
fn narrow(t: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
    let numbers = t.as_slice::<f32>()?;
    match_float!(dtype, T => {
        let data: Vec<T> = numbers.iter().map(|&x| T::from_f64(f64::from(x))).collect();
        let fits = data.iter().zip(numbers).all(|(n, x)| n.to_f64().is_finite() || !x.is_finite());
        Ok(match fits {
            true => Some(Tensor::from_vec(t.shape(), data)?),
            false => None,
        })
    }, else Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left() {
        let t = |x: f32| Tensor::vector(vec![1.0f32, x]);
        let fits = |x, dtype| narrow(&t(x), dtype).expect("f32").is_some();
        assert!(fits(65504.0, DType::F16) && !fits(1e6, DType::F16) && fits(1e6, DType::BF16));
        assert!(fits(f32::INFINITY, DType::F16) && !fits(f32::MAX, DType::BF16));
    }
}
