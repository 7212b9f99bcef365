//! Removes a quantizer that undoes what the dequantizer before did.
//!
//! ```text
//! d = DequantizeLinear(x, s, z)
//! y = QuantizeLinear(d, s, z)      =>   y = x
//! ```
//!
//! Saves both. Exact: a whole number of steps is rounded to itself.

use kiln_ir::{Edit, Graph, NodeId, Rewrite, Verdict};

use super::{dequantized, quantizes};

/// See the module.
pub struct QdqNoop;

impl Rewrite for QdqNoop {
    fn name(&self) -> &'static str {
        "qdq_noop"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(Ok(to)) = quantizes(g, root) else { return Ok(None) };
        let Some(Ok(from)) = g.input_of(root, 0).and_then(|d| dequantized(g, d)) else {
            return Ok(None);
        };
        Ok((to.is_byte() && from.same(&to)).then(|| Edit::replacing(root.first(), from.q)))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn removes_a_pair_with_the_same_steps() {
        check(
            &QdqNoop,
            "s = f32[]{0.5}\nt = f32[1]{0.5}\nz = u8[]{3}\nd = DequantizeLinear(x: u8[N], s, z)\n\
             q = QuantizeLinear(d, t, z)\ny = Neg(d)\nreturn q, y",
            expect![[r#"
                x: u8[N]
                s = f32[]{0.5}
                z = u8[]{3}
                d = DequantizeLinear(x, s, z)
                y = Neg(d)
                return q=x, y
            "#]],
        );
    }

    #[test]
    fn keeps_a_pair_with_other_steps() {
        check(
            &QdqNoop,
            "s = f32[]{0.5}\nz = u8[]{3}\nw = u8[]{4}\nd = DequantizeLinear(x: u8[N], s, z)\n\
             y = QuantizeLinear(d, s, w)\nreturn y",
            expect![["(unchanged)\n"]],
        );
    }
}
