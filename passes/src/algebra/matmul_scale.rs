//! Scales a product by its own factor.
//!
//! ```text
//! p = MatMul(a, b)
//! y = Mul(p, 0.125)     =>   y = com.microsoft.FusedMatMul(a, b) {alpha=0.125}
//! ```
//!
//! Saves a pass over the product, or over an operand that is scaled before. Not exact: sums are
//! scaled and not their terms.

use kiln_ir::ops::matmul::MatMul;
use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Value, Verdict};
use kiln_tensor::DType;

use super::scalar_chain::step;
use crate::forms::sources;

/// See the module.
pub struct MatMulScale;

impl Rewrite for MatMulScale {
    fn name(&self) -> &'static str {
        "matmul_scale"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if let Op::MatMul(m) = g.op(root) {
            return Ok(scaled_operand(g, root, *m));
        }
        let Some((p, c)) = scaled(g, root.first()) else { return Ok(None) };
        let Op::MatMul(m) = g.op(p.node) else { return Ok(None) };
        let Some(alpha) = factor(g, root, *m, c) else { return Ok(None) };
        let mut e = Edit::default();
        let y = e.node(MatMul { alpha, ..*m }, &sources(g, p.node));
        e.replace(root.first(), y);
        e.absorb(p);
        Ok(Some(e))
    }
}

/// The factor of a product that is scaled once more; one that its attribute holds.
fn factor(g: &Graph, root: NodeId, m: MatMul, by: f64) -> Option<f32> {
    let alpha = f64::from(m.alpha) * by;
    let rounds = f64::from(alpha as f32) != alpha;
    let wide = g.ty(root.first()).as_tensor().is_ok_and(|t| t.dtype == DType::F64);
    Some(alpha as f32).filter(|a| a.is_normal() && !(rounds && wide))
}

/// The product with the factor of an operand as its own.
fn scaled_operand(g: &Graph, root: NodeId, m: MatMul) -> Option<Edit> {
    let inputs = g.inputs_of(root);
    let (i, (x, c)) = (0..2).find_map(|i| Some((i, scaled(g, (*inputs.get(i)?)?)?)))?;
    let scaled = inputs[i]?;
    let private = |v: Value| g.only_reader(v).is_some();
    // What is a product itself takes the factor as its own.
    if !private(scaled) || matches!(g.op(x.node), Op::MatMul(_)) && private(x) {
        return None;
    }
    let alpha = factor(g, root, m, c)?;
    let mut inputs = sources(g, root);
    inputs[i] = Some(x.into());
    let mut e = Edit::default();
    let y = e.node(MatMul { alpha, ..m }, &inputs);
    e.replace(root.first(), y);
    e.absorb(scaled);
    Some(e)
}

/// What is scaled, and by how much.
fn scaled(g: &Graph, v: Value) -> Option<(Value, f64)> {
    step(g, v.node).filter(|s| s.product).map(|s| (s.x, s.by))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_factors_from_before_and_behind() {
        check(
            &MatMulScale,
            "h = f32[]{0.5}\nf = f32[]{4.0}\ns = Mul(h, a: f32[N,2,3])\n\
             p = MatMul(s, b: f32[N,3,4])\n\
             y = Div(p, f)\nreturn y",
            expect![[r#"
                a: f32[N,2,3]
                b: f32[N,3,4]
                y = com.microsoft.FusedMatMul(a, b) {alpha=0.125}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_vectors_and_operands_that_others_read() {
        check(
            &MatMulScale,
            "v = f32[3]{1.0, 2.0, 3.0}\nh = f32[]{0.5}\ns = Mul(a: f32[N,2,3], v)\n\
             r = Mul(c: f32[N,3,4], h)\n\
             y = MatMul(s, r)\nz = Relu(r)\nreturn y, z",
            expect!["(unchanged)\n"],
        );
    }
    #[test]
    fn keeps_factors_that_the_attribute_would_round() {
        check(
            &MatMulScale,
            "h = f64[]{0.1}\np = MatMul(a: f64[N,2], b: f64[2,3])\ny = Mul(p, h)\nreturn y",
            expect!["(unchanged)\n"],
        );
    }
}
