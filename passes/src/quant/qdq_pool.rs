//! Means of quantized tensors as sums of integers.
//!
//! ```text
//! d = DequantizeLinear(x: u8[N,C,H,W], s, z)
//! p = GlobalAveragePool(d)
//! y = QuantizeLinear(p, u, r)
//!   => y = QLinearConv(x, s, z, 1: i8[C,1,H,W], 1 / (H * W), 0, u, r) {group=C}
//! ```
//!
//! Saves the floats on both sides. A mean is a convolution with ones, for which the standard has
//! an operator between integers. Not exact: the sum is rounded once; a result may be one step off.

use kiln_ir::ops::conv_quantized::QLinearConv;
use kiln_ir::ops::global_pool::GlobalPool;
use kiln_ir::ops::pool::PoolKind;
use kiln_ir::ops::window::{AutoPad, Window};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

use super::{dequantized, quantizes};

/// See the module.
pub struct QdqPool;

/// More ones than this are not worth it.
const MOST: usize = 1 << 18;

impl Rewrite for QdqPool {
    fn name(&self) -> &'static str {
        "qdq_pool"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(y) = quantizes(g, root) else { return Ok(None) };
        let Some(p) = g.input_of(root, 0) else { return Ok(None) };
        if !matches!(g.op(p.node), Op::GlobalPool(GlobalPool::Average) | Op::Pool(_)) {
            return Ok(None);
        }
        let Some(x) = g.input_of(p.node, 0).and_then(|d| dequantized(g, d)) else {
            return Ok(None);
        };
        let (x, y) = (x?, y?);
        let Some((channels, window)) = window(g, p.node, x.q)? else { return Ok(None) };
        if !x.is_byte() || x.dtype != y.dtype || x.single().is_none() || y.single().is_none() {
            return Err(Decline::new("no integer operator takes these types"));
        }
        let taps: i64 = window.kernel_shape.iter().product();
        let mut shape = vec![channels, 1];
        shape.extend(window.kernel_shape.iter().map(|&k| k as usize));
        let ones = vec![1i8; channels * taps as usize];
        let ones = Tensor::from_vec(&shape, ones).map_err(|_| Decline::new("no such weights"))?;
        let mut e = Edit::default();
        let mut inputs = vec![Source::from(x.q), x.scale(), x.zero(&mut e)];
        let (scale, zero) = (Tensor::scalar(1.0 / taps as f32), Tensor::scalar(0i8));
        inputs.extend([ones, scale, zero].map(|t| e.constant(t)));
        inputs.extend([y.scale(), y.zero(&mut e)]);
        let op = QLinearConv { window: Box::new(window), group: channels as i64 };
        let made = e.node(op, &inputs.into_iter().map(Some).collect::<Vec<_>>());
        e.replace(root.first(), made);
        e.absorb(p);
        Ok(Some(e))
    }
}

/// The channels and the window of a mean whose windows are all alike; nothing for another pool.
fn window(g: &Graph, pool: NodeId, x: Value) -> Result<Option<(usize, Window)>, Decline> {
    let ty = g.ty(x).as_tensor().map_err(|_| Decline::new("the input is no tensor"))?;
    let unknown = Decline::new("channels or window are not known")
        .advise("fix all symbols but the batch, with --dim NAME=N");
    let shape = ty.shape.as_deref().ok_or(unknown)?;
    let [_, channels, area @ ..] = shape else { return Ok(None) };
    let channels = channels.as_len().ok_or(unknown)?;
    let window = match g.op(pool) {
        Op::Pool(pool) => {
            let PoolKind::Average { count_include_pad } = pool.kind else { return Ok(None) };
            let padded = !pool.window.pads.is_empty() || pool.window.auto_pad != AutoPad::NotSet;
            if pool.ceil_mode || padded && !count_include_pad {
                return Err(Decline::new("windows at the border have fewer elements"));
            }
            (*pool.window).clone()
        }
        _ => Window {
            kernel_shape: area
                .iter()
                .map(|d| d.as_const())
                .collect::<Option<_>>()
                .ok_or(unknown)?,
            strides: vec![],
            pads: vec![],
            dilations: vec![],
            auto_pad: AutoPad::NotSet,
        },
    };
    let mut sizes = window.kernel_shape.iter().map(|&k| usize::try_from(k).ok());
    let ones = sizes.try_fold(channels, |n, k| n.checked_mul(k?));
    match ones {
        Some(1..=MOST) => Ok(Some((channels, window))),
        _ => Err(Decline::new("the window is too large to be weights")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn global_and_in_windows() {
        check(
            &QdqPool,
            "s = f32[]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N,2,2,2], s, z)\n\
             p = GlobalAveragePool(d)\na = QuantizeLinear(p, s, z)\n\
             q = AveragePool(d) {kernel_shape=[2,1], strides=[2,1]}\nb = QuantizeLinear(q, s, z)\n\
             return a, b",
            expect![[r#"
                x: u8[N,2,2,2]
                s = f32[]{0.5}
                z = u8[]{3}
                b/qdq_pool0 = i8[2,1,2,1]{1, 1, 1, 1}
                b/qdq_pool1 = f32[]{0.5}
                a/qdq_pool0 = i8[2,1,2,2]{1, 1, 1, 1, 1, 1, 1, 1}
                a/qdq_pool1 = f32[]{0.25}
                a/qdq_pool2 = i8[]{0}
                a = QLinearConv(x, s, z, a/qdq_pool0, a/qdq_pool1, a/qdq_pool2, s, z) {group=2,
                    kernel_shape=[2,2]}
                b/qdq_pool2 = i8[]{0}
                b = QLinearConv(x, s, z, b/qdq_pool0, b/qdq_pool1, b/qdq_pool2, s, z) {group=2,
                    kernel_shape=[2,1], strides=[2,1]}
                return a, b
            "#]],
        );
    }

    #[test]
    fn keeps_unknown_areas_and_borders() {
        check(
            &QdqPool,
            "s = f32[]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N,2,H,W], s, z)\n\
             p = GlobalAveragePool(d)\na = QuantizeLinear(p, s, z)\n\
             q = AveragePool(d) {kernel_shape=[2,2], pads=[1,1,0,0]}\n\
             b = QuantizeLinear(q, s, z)\nreturn a, b",
            expect![[r#"
                (unchanged)
                # qdq_pool @ a: channels or window are not known
                # qdq_pool @ b: windows at the border have fewer elements
            "#]],
        );
    }
}
