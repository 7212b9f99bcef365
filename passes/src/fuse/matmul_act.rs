//! Applies an activation where a product makes its result.
//!
//! ```text
//! p = Gemm(a, b, c)
//! y = Relu(p)         =>   y = ai.kiln.MatMul(a, b, c) {activation="Relu"}
//! ```
//!
//! Saves one write and one read of `p`. Exact: the activation sees the same numbers.

use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::ops::product::Product;
use kiln_ir::ops::product_integer::IntegerProduct;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};

use crate::epilogue::{activation, is_candidate};
use crate::forms::sources;

/// See the module.
pub struct MatMulAct;

impl Rewrite for MatMulAct {
    fn name(&self) -> &'static str {
        "matmul_act"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !is_candidate(g.op(root)) {
            return Ok(None);
        }
        let Some(p) = g.input_of(root, 0) else { return Ok(None) };
        let matmul = match g.op(p.node) {
            Op::MatMul(m) => Some(*m),
            Op::Product(Product { matmul, activation: None }) => Some(*matmul),
            Op::IntegerProduct(IntegerProduct { activation: None }) => None,
            Op::Product(_) | Op::IntegerProduct(_) => {
                return Err(Decline::new("the product already has an activation"));
            }
            Op::Gemm(m) => Some(of_gemm(m, g.input_of(p.node, 2).is_some())?),
            _ => return Ok(None),
        };
        if !g.ty(p).as_tensor().is_ok_and(|t| t.dtype.is_float()) {
            return Ok(None);
        }
        let Some(activation) = activation(g, root) else {
            return Err(Decline::new("the product has no such activation"));
        };
        let inputs = sources(g, p.node);
        let activation = Some(activation);
        let product: Op = match matmul {
            Some(matmul) => Product { matmul, activation }.into(),
            None => IntegerProduct { activation }.into(),
        };
        let mut e = Edit::default();
        let y = e.node(product, &inputs);
        e.replace(root.first(), y);
        e.absorb(p);
        Ok(Some(e))
    }
}

/// The product of a `Gemm`, whose factor of C must be 1.
fn of_gemm(m: &Gemm, has_c: bool) -> Result<MatMul, Decline> {
    if has_c && m.beta != 1.0 {
        return Err(Decline::new("the bias has a factor"));
    }
    let Gemm { alpha, trans_a, trans_b, .. } = *m;
    Ok(MatMul { alpha, trans_a, trans_b, ..MatMul::PLAIN })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn ends_products_and_gemms() {
        check(
            &MatMulAct,
            "p = MatMul(x: f32[N,3], w: f32[3,4])\nq = Gelu(p)\n\
             r = Gemm(q, v: f32[2,4], b: f32[2]) {alpha=0.5,transB=1}\ny = Tanh(r)\nreturn y",
            expect![[r#"
                x: f32[N,3]
                w: f32[3,4]
                v: f32[2,4]
                b: f32[2]
                q = ai.kiln.MatMul(x, w) {activation="Gelu"}
                y = ai.kiln.MatMul(q, v, b) {activation="Tanh", alpha=0.5, transB=1}
                return y
            "#]],
        );
    }

    #[test]
    fn ends_products_of_bytes() {
        check(
            &MatMulAct,
            "p = ai.kiln.MatMulIntegerToFloat(x: u8[N,3], w: i8[3,4], s: f32[])\n\
             q = Gelu(p)\ny = Relu(q)\nreturn y",
            expect![[r#"
                x: u8[N,3]
                w: i8[3,4]
                s: f32[]
                q = ai.kiln.MatMulIntegerToFloat(x, w, s) {activation="Gelu"}
                y = Relu(q)
                return y
                # matmul_act @ y: the product already has an activation
            "#]],
        );
    }

    #[test]
    fn keeps_factors_of_the_bias_and_functions_that_are_none() {
        check(
            &MatMulAct,
            "p = MatMul(x: f32[N,3], w: f32[3,3])\nq = Sin(p)\n\
             r = Gemm(q, w, b: f32[3]) {beta=0.5}\ny = Relu(r)\nreturn y",
            expect![[r#"
                (unchanged)
                # matmul_act @ q: the product has no such activation
                # matmul_act @ y: the bias has a factor
            "#]],
        );
    }
}
