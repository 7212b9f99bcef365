//! Products of quantized matrices in integers, where the result goes on in real numbers.
//!
//! ```text
//! d = DequantizeLinear(a, s, z); e = DequantizeLinear(w, t)
//! y = MatMul(d, e)          =>   y = ai.kiln.MatMulIntegerToFloat(a, w, s * t, z)
//! y = Gemm(d, e, c)         =>   y = ai.kiln.MatMulIntegerToFloat(a, w, s * t, z, _, c)
//! ```
//!
//! Saves the floats of both operands, which are four times as large, and sums 8 bits at a time.
//! Where the result is quantized again, `qdq_matmul` and `qdq_gemm` take all of it. Not exact:
//! the sum is exact and rounded once, not at every product.

use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::ops::product_integer::IntegerProduct;
use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::{DType, Tensor};

use super::qdq_move::rearranges;
use super::{Linear, dequantized};

/// Longer sums of products of bytes may not fit into 32 bits.
const MOST_PRODUCTS: usize = 1 << 15;

/// See the module.
pub struct QdqMatMulFloat;

impl Rewrite for QdqMatMulFloat {
    fn name(&self) -> &'static str {
        "qdq_matmul_float"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let (trans_b, plain) = match *g.op(root) {
            Op::MatMul(op) if op == MatMul::PLAIN => (false, true),
            Op::Gemm(Gemm { alpha, beta, trans_a, trans_b }) => {
                (trans_b, !trans_a && (alpha, beta) == (1.0, 1.0))
            }
            _ => return Ok(None),
        };
        let (Some(d), Some(v)) = (g.input_of(root, 0), g.input_of(root, 1)) else {
            return Ok(None);
        };
        let (Some(a), Some(w)) = (dequantized(g, d), dequantized(g, v)) else { return Ok(None) };
        let (a, w) = (a?, w?);
        if goes_back(g, root.first()) {
            return Err(Decline::new("the result is quantized again"));
        }
        if !plain {
            return Err(Decline::new("the product is turned or has a factor"));
        }
        let weights = Weights::of(g, &a, &w, trans_b)?;
        let mut e = Edit::default();
        let b = weights.turned.map_or(Source::from(w.q), |t| e.constant(t));
        let scale = e.constant(weights.scale);
        let zero = a.zero(&mut e);
        let mut inputs = vec![Some(a.q.into()), Some(b), Some(scale), Some(zero)];
        let bias = g.input_of(root, 2);
        if bias.is_some() {
            inputs.extend([None, bias.map(Source::from)]);
        }
        let made = e.node(IntegerProduct::default(), &inputs);
        e.replace(root.first(), made);
        // What is saved is the weights in real numbers.
        e.absorb(v);
        Ok(Some(e))
    }
}

/// What an integer product needs of the weights.
struct Weights {
    /// The integers, where they must be turned.
    turned: Option<Tensor>,
    /// The factor of the sums.
    scale: Tensor,
}

impl Weights {
    fn of(g: &Graph, a: &Linear, w: &Linear, trans_b: bool) -> Result<Self, Decline> {
        let types = a.is_byte() && w.is_byte();
        if !types || (a.dtype, w.dtype) == (DType::I8, DType::U8) {
            return Err(Decline::new("no integer operator takes these types"));
        }
        let q = g.constant_of(w.q).filter(|t| t.rank() == 2);
        let q = q.ok_or(Decline::new("the weights are no constant matrix"))?;
        let by_column = if trans_b { matches!(w.axis, 0 | -2) } else { matches!(w.axis, 1 | -1) };
        let Some((s, _)) = a.single().filter(|_| w.single().is_some() || by_column) else {
            return Err(Decline::new("matrices are not scaled as a whole or by column"));
        };
        if w.zero.iter().any(|z| *z != 0) {
            return Err(Decline::new("the weights have a zero point"));
        }
        let (k, n) =
            if trans_b { (q.shape()[1], q.shape()[0]) } else { (q.shape()[0], q.shape()[1]) };
        if k > MOST_PRODUCTS {
            return Err(Decline::new("a sum may not fit into 32 bits"));
        }
        let scales: Vec<f32> = w.scale.iter().map(|t| s * t).collect();
        if !scales.iter().all(|s| s.is_normal()) {
            return Err(super::UNUSABLE);
        }
        let failed = |_| Decline::new("the weights cannot be turned");
        let places = || (0..k).flat_map(|p| (0..n).map(move |j| j * k + p));
        let turned = trans_b.then(|| q.take(&[k, n], places())).transpose().map_err(failed)?;
        let shape: &[usize] = if w.single().is_some() { &[] } else { &[n] };
        let scale = Tensor::from_vec(shape, scales).map_err(failed)?;
        Ok(Self { turned, scale })
    }
}

/// Whether a quantizer alone reads a value, or what bounds or another order make of it.
fn goes_back(g: &Graph, v: Value) -> bool {
    let mut v = v;
    while let Some(reader) = g.only_reader(v) {
        match g.op(reader) {
            Op::QuantizeLinear(_) => return true,
            Op::Unary(Unary::Relu) | Op::Select(Select::Clip) => v = reader.first(),
            op if rearranges(op) => v = reader.first(),
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    const HEAD: &str = "s = f32[]{0.5}\nz = u8[]{3}\nw = i8[1,2]{2, -3}\nt = f32[2]{0.5, 0.25}\n\
        o = i8[2]{0, 0}\nd = DequantizeLinear(x: u8[N,1], s, z)\n";

    #[test]
    fn fires_with_scales_by_column() {
        check(
            &QdqMatMulFloat,
            &format!("{HEAD}v = DequantizeLinear(w, t, o)\ny = MatMul(d, v)\nreturn y, d"),
            expect![[r#"
                x: u8[N,1]
                s = f32[]{0.5}
                z = u8[]{3}
                w = i8[1,2]{2, -3}
                d = DequantizeLinear(x, s, z)
                y/qdq_matmul_float0 = f32[2]{0.25, 0.125}
                y = ai.kiln.MatMulIntegerToFloat(x, w, y/qdq_matmul_float0, z)
                return y, d
            "#]],
        );
    }

    #[test]
    fn turns_the_weights_of_a_gemm_and_keeps_its_bias() {
        check(
            &QdqMatMulFloat,
            "s = f32[]{0.5}\nd = DequantizeLinear(x: u8[N,3], s)\n\
             w = i8[2,3]{1, 2, 3, 4, 5, 6}\nv = DequantizeLinear(w, s)\n\
             y = Gemm(d, v, c: f32[2]) {transB=1}\nreturn y",
            expect![[r#"
                x: u8[N,3]
                c: f32[2]
                y/qdq_matmul_float0 = i8[3,2]{1, 4, 2, 5, 3, 6}
                y/qdq_matmul_float1 = f32[]{0.25}
                y/qdq_matmul_float2 = u8[]{0}
                y = ai.kiln.MatMulIntegerToFloat(x, y/qdq_matmul_float0, y/qdq_matmul_float1,
                    y/qdq_matmul_float2, _, c)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_goes_back_to_integers_and_weights_with_a_zero_point() {
        check(
            &QdqMatMulFloat,
            &format!(
                "{HEAD}v = DequantizeLinear(w, t, o)\np = MatMul(d, v)\nr = Relu(p)\n\
                 y = QuantizeLinear(r, s, z)\ni = i8[]{{1}}\nu = DequantizeLinear(w, s, i)\n\
                 q = MatMul(d, u)\nreturn y, q"
            ),
            expect![[r#"
                (unchanged)
                # qdq_matmul_float @ p: the result is quantized again
                # qdq_matmul_float @ q: the weights have a zero point
            "#]],
        );
    }
}
