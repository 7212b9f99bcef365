//! Convolutions of quantized tensors in integers.
//!
//! ```text
//! d = DequantizeLinear(x, s, z); v = DequantizeLinear(w, t, 0) {axis=0}
//! c = Conv(d, v, b)
//! y = QuantizeLinear(c, u, r)      =>   y = QLinearConv(x, s, z, w, t, 0, u, r, b / (s * t))
//! ```
//!
//! Saves the floats on both sides, which are four times as large, and sums 8 bits at a time. Not
//! exact: the sum is rounded once, not at every product, and the bias to steps of `s * t`; a
//! result may be one step off.

use kiln_ir::ops::conv_quantized::QLinearConv;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};

use super::{bias, check_types, dequantized, quantizes};

/// See the module.
pub struct QdqConv;

impl Rewrite for QdqConv {
    fn name(&self) -> &'static str {
        "qdq_conv"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(y) = quantizes(g, root) else { return Ok(None) };
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        let Op::Conv(conv) = g.op(c.node) else { return Ok(None) };
        let operand = |i| g.input_of(c.node, i).and_then(|v| dequantized(g, v));
        let (Some(x), Some(w), false) = (operand(0), operand(1), conv.is_fused()) else {
            return Ok(None);
        };
        let (x, w, y) = (x?, w?, y?);
        check_types(&x, &w, &y)?;
        let ((Some(xs), Some(ys)), Some(m)) = ((x.single(), y.single()), outputs(g, w.q)) else {
            return Err(Decline::new("data are scaled by channel"));
        };
        // Runtimes ask that all filters have one zero point.
        if w.scale.len() > 1 && (w.axis != 0 || w.zero.iter().any(|z| *z != w.zero[0])) {
            return Err(Decline::new("the weights are not scaled by output channel"));
        }
        let b = bias(g, g.input_of(c.node, 2), (xs.0, &w.scale, ys.0), m)?;
        let mut e = Edit::default();
        let mut inputs = vec![Source::from(x.q), x.scale(), x.zero(&mut e)];
        inputs.extend([Source::from(w.q), w.scale(), w.zero(&mut e)]);
        inputs.extend([y.scale(), y.zero(&mut e)]);
        inputs.extend(b.map(|b| e.constant(b)));
        let op = QLinearConv { window: conv.window.clone(), group: conv.group };
        let made = e.node(op, &inputs.into_iter().map(Some).collect::<Vec<_>>());
        e.replace(root.first(), made);
        e.absorb(c);
        Ok(Some(e))
    }
}

/// How many channels the weights make.
fn outputs(g: &Graph, w: kiln_ir::Value) -> Option<usize> {
    g.ty(w).as_tensor().ok()?.shape.as_ref()?.first()?.as_len()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const HEAD: &str = "s = f32[]{0.5}\nz = u8[]{3}\nw = i8[2,1,1]{2, -3}\nt = f32[2]{0.5, 0.25}\n\
        o = i8[2]{0, 0}\nu = f32[]{1.0}\nd = DequantizeLinear(x: u8[N,1,4], s, z)\n\
        v = DequantizeLinear(w, t, o) {axis=0}\n";

    #[test]
    fn fires_with_a_bias_of_either_kind() {
        check(
            &QdqConv,
            &format!(
                "{HEAD}i = i32[2]{{4, 8}}\nk = f32[2]{{0.25, 0.125}}\nb = DequantizeLinear(i, k) \
                 {{axis=0}}\nc = Conv(d, v, b)\ny = QuantizeLinear(c, u, z)\n\
                 f = f32[2]{{1.0, -1.0}}\ne = Conv(d, v, f)\nq = QuantizeLinear(e, u)\n\
                 return y, q"
            ),
            expect![[r#"
                x: u8[N,1,4]
                s = f32[]{0.5}
                z = u8[]{3}
                w = i8[2,1,1]{2, -3}
                t = f32[2]{0.5, 0.25}
                o = i8[2]{0, 0}
                u = f32[]{1.0}
                q/qdq_conv0 = u8[]{0}
                q/qdq_conv1 = i32[2]{4, -8}
                q = QLinearConv(x, s, z, w, t, o, u, q/qdq_conv0, q/qdq_conv1)
                y/qdq_conv0 = i32[2]{4, 8}
                y = QLinearConv(x, s, z, w, t, o, u, z, y/qdq_conv0)
                return y, q
            "#]],
        );
    }

    #[test]
    fn keeps_what_is_read_in_floats_or_coarser_than_the_result() {
        check(
            &QdqConv,
            &format!(
                "{HEAD}c = Conv(d, v)\na = QuantizeLinear(c, u, z)\nr = Relu(c)\n\
                 f = f32[2]{{1.0, 1.0}}\nk = f32[]{{0.125}}\ne = Conv(d, v, f)\n\
                 b = QuantizeLinear(e, k, z)\nreturn r, a, b"
            ),
            expect![[r#"
                (unchanged)
                # qdq_conv @ a: an inner value has another reader
                # qdq_conv @ b: the steps of the products are coarser than those of the result
            "#]],
        );
    }
}
