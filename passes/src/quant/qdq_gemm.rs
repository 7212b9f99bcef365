//! `Gemm` of quantized matrices as a convolution of one position in integers.
//!
//! ```text
//! d = DequantizeLinear(x, s, z); v = DequantizeLinear(w, t, 0) {axis=0}
//! p = Gemm(d, v, b) {transB=1}
//! y = QuantizeLinear(p, u, r)
//!   => x1 = Unsqueeze(x, [2,3])
//!      c = QLinearConv(x1, s, z, w: [M,K,1,1], t, 0, u, r, b / (s * t))
//!      y = Squeeze(c, [2,3])
//! ```
//!
//! Saves the floats on both sides; the two views cost nothing. It is a convolution because no
//! standard product of integers has a bias. Not exact: as `qdq_conv`.

use kiln_ir::ops::conv_quantized::QLinearConv;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::window::{AutoPad, Window};
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};
use kiln_tensor::Tensor;

use super::{bias, check_types, dequantized, quantizes};

/// See the module.
pub struct QdqGemm;

impl Rewrite for QdqGemm {
    fn name(&self) -> &'static str {
        "qdq_gemm"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(y) = quantizes(g, root) else { return Ok(None) };
        let Some(p) = g.input_of(root, 0) else { return Ok(None) };
        let Op::Gemm(gemm) = g.op(p.node) else { return Ok(None) };
        let (Some(d), Some(v)) = (g.input_of(p.node, 0), g.input_of(p.node, 1)) else {
            return Ok(None);
        };
        let (Some(x), Some(w)) = (dequantized(g, d), dequantized(g, v)) else { return Ok(None) };
        let (x, w, y) = (x?, w?, y?);
        check_types(&x, &w, &y)?;
        let weights = g.constant_of(w.q).filter(|t| t.rank() == 2);
        let weights = weights.ok_or(Decline::new("the weights are not constant"))?;
        if gemm.trans_a || gemm.alpha != 1.0 || gemm.beta != 1.0 {
            return Err(Decline::new("the product is turned or has a factor"));
        }
        let by_output = if gemm.trans_b { w.axis == 0 } else { matches!(w.axis, 1 | -1) };
        let uniform = w.zero.iter().all(|z| *z == w.zero[0]);
        let (Some(xs), Some(ys)) = (x.single(), y.single()) else {
            return Err(Decline::new("data are scaled by channel"));
        };
        if w.single().is_none() && !(by_output && uniform) {
            return Err(Decline::new("the weights are not scaled by output channel"));
        }
        let filters = filters(weights, gemm.trans_b)?;
        let m = filters.shape()[0];
        let b = bias(g, g.input_of(p.node, 2), (xs.0, &w.scale, ys.0), m)?;
        let mut e = Edit::default();
        let axes = e.constant(Tensor::vector(vec![2i64, 3]));
        let wide = e.node(Layout::Unsqueeze, &[Some(x.q.into()), Some(axes)]);
        let mut inputs = vec![wide, x.scale(), x.zero(&mut e)];
        inputs.extend([e.constant(filters), w.scale(), w.zero(&mut e)]);
        inputs.extend([y.scale(), y.zero(&mut e)]);
        inputs.extend(b.map(|b| e.constant(b)));
        let inputs: Vec<Option<Source>> = inputs.into_iter().map(Some).collect();
        let made = e.node(QLinearConv { window: Box::new(point()), group: 1 }, &inputs);
        let made = e.node(Layout::Squeeze, &[Some(made), Some(axes)]);
        e.replace(root.first(), made);
        e.absorb(p);
        // Two views come: what is saved must be worth it.
        e.absorb(v);
        Ok(Some(e))
    }
}

/// A window of one position.
fn point() -> Window {
    Window {
        kernel_shape: vec![1, 1],
        strides: vec![],
        pads: vec![],
        dilations: vec![],
        auto_pad: AutoPad::NotSet,
    }
}

/// The weights as filters, one for each output.
fn filters(w: &Tensor, turned: bool) -> Result<Tensor, Decline> {
    let failed = |_| Decline::new("the weights cannot be turned");
    let (rows, columns) = (w.shape()[0], w.shape()[1]);
    if turned {
        return w.reshape(&[rows, columns, 1, 1]).map_err(failed);
    }
    let places = (0..columns).flat_map(|m| (0..rows).map(move |k| k * columns + m));
    w.take(&[columns, rows, 1, 1], places).map_err(failed)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const HEAD: &str = "s = f32[]{0.5}\nz = u8[]{3}\nt = f32[2]{0.5, 0.25}\n\
        d = DequantizeLinear(x: u8[N,3], s, z)\n";

    #[test]
    fn turns_the_weights() {
        check(
            &QdqGemm,
            &format!(
                "{HEAD}w = i8[3,2]{{1, 2, 3, 4, 5, 6}}\nv = DequantizeLinear(w, t)\n\
                 b = f32[2]{{1.0, -1.0}}\np = Gemm(d, v, b)\ny = QuantizeLinear(p, s, z)\nreturn y"
            ),
            expect![[r#"
                x: u8[N,3]
                s = f32[]{0.5}
                z = u8[]{3}
                t = f32[2]{0.5, 0.25}
                y/qdq_gemm0 = i64[2]{2, 3}
                y/qdq_gemm1 = Unsqueeze(x, y/qdq_gemm0)
                y/qdq_gemm2 = i8[2,3,1,1]{1, 3, 5, 2, 4, 6}
                y/qdq_gemm3 = i8[2]{0, 0}
                y/qdq_gemm4 = i32[2]{4, -8}
                y/qdq_gemm5 = QLinearConv(y/qdq_gemm1, s, z, y/qdq_gemm2, t, y/qdq_gemm3, s, z,
                    y/qdq_gemm4) {kernel_shape=[1,1]}
                y = Squeeze(y/qdq_gemm5, y/qdq_gemm0)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_a_product_with_a_factor_and_weights_that_others_read() {
        check(
            &QdqGemm,
            &format!(
                "{HEAD}w = i8[2,3]{{1, 2, 3, 4, 5, 6}}\nv = DequantizeLinear(w, t) {{axis=0}}\n\
                 p = Gemm(d, v) {{transB=1}}\ny = QuantizeLinear(p, s, z)\n\
                 q = Gemm(d, v) {{transB=1, alpha=2.0}}\nr = QuantizeLinear(q, s, z)\nreturn y, r"
            ),
            expect![[r#"
                (unchanged)
                # qdq_gemm @ y: an inner value has another reader
                # qdq_gemm @ r: the product is turned or has a factor
            "#]],
        );
    }
}
