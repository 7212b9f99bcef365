//! Products of quantized matrices in integers.
//!
//! ```text
//! d = DequantizeLinear(a, s, z); e = DequantizeLinear(b, t, v)
//! p = MatMul(d, e)
//! y = QuantizeLinear(p, u, r)      =>   y = QLinearMatMul(a, s, z, b, t, v, u, r)
//! ```
//!
//! Saves the floats on both sides, which are four times as large, and sums 8 bits at a time. Not
//! exact: the sum is rounded once, not at every product; a result may be one step off.

use kiln_ir::ops::matmul::MatMul;
use kiln_ir::ops::matmul_quantized::QLinearMatMul;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};

use super::{check_types, dequantized, quantizes};

/// See the module.
pub struct QdqMatMul;

impl Rewrite for QdqMatMul {
    fn name(&self) -> &'static str {
        "qdq_matmul"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(y) = quantizes(g, root) else { return Ok(None) };
        let Some(p) = g.input_of(root, 0) else { return Ok(None) };
        let Op::MatMul(op) = g.op(p.node) else { return Ok(None) };
        let operand = |i| g.input_of(p.node, i).and_then(|v| dequantized(g, v));
        let (Some(a), Some(b), true) = (operand(0), operand(1), *op == MatMul::PLAIN) else {
            return Ok(None);
        };
        let (a, b, y) = (a?, b?, y?);
        check_types(&a, &b, &y)?;
        let single = a.single().is_some() && y.single().is_some();
        let by_column = g.ty(b.q).rank() == Some(2) && matches!(b.axis, 1 | -1);
        if !single || b.single().is_none() && !by_column {
            return Err(Decline::new("matrices are not scaled as a whole or by column"));
        }
        let mut e = Edit::default();
        let mut inputs = vec![Some(Source::from(a.q)), Some(a.scale()), Some(a.zero(&mut e))];
        inputs.extend([Some(b.q.into()), Some(b.scale()), Some(b.zero(&mut e))]);
        inputs.extend([Some(y.scale()), Some(y.zero(&mut e))]);
        let made = e.node(QLinearMatMul, &inputs);
        e.replace(root.first(), made);
        e.absorb(p);
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn fires_with_scales_by_column() {
        check(
            &QdqMatMul,
            "s = f32[]{0.5}\nz = u8[]{3}\nw = i8[1,2]{2, -3}\nt = f32[2]{0.5, 0.25}\n\
             o = i8[2]{0, 1}\nd = DequantizeLinear(x: u8[N,1], s, z)\n\
             v = DequantizeLinear(w, t, o)\np = MatMul(d, v)\ny = QuantizeLinear(p, s, z)\n\
             return y",
            expect![[r#"
                x: u8[N,1]
                s = f32[]{0.5}
                z = u8[]{3}
                w = i8[1,2]{2, -3}
                t = f32[2]{0.5, 0.25}
                o = i8[2]{0, 1}
                y = QLinearMatMul(x, s, z, w, t, o, s, z)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_scales_by_row_of_the_second_matrix() {
        check(
            &QdqMatMul,
            "s = f32[]{0.5}\nz = u8[]{3}\nw = i8[2,1]{2, -3}\nt = f32[2]{0.5, 0.25}\n\
             d = DequantizeLinear(x: u8[N,2], s, z)\nv = DequantizeLinear(w, t) {axis=0}\n\
             p = MatMul(d, v)\ny = QuantizeLinear(p, s, z)\nreturn y",
            expect![[r#"
                (unchanged)
                # qdq_matmul @ y: matrices are not scaled as a whole or by column
            "#]],
        );
    }
}
