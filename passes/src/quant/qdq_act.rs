//! Drops bounds that the quantizer behind has anyway.
//!
//! ```text
//! r = Relu(x)
//! y = QuantizeLinear(r, s, 0: u8)      =>   y = QuantizeLinear(x, s, 0: u8)
//! ```
//!
//! Saves the activation, and lets the quantizer reach what feeds it. Exact: what the bounds cut
//! off saturates at the same integer.

use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};
use kiln_tensor::DType;

use super::{Linear, quantizes};
use crate::forms::{scalar, sources};

/// See the module.
pub struct QdqAct;

impl Rewrite for QdqAct {
    fn name(&self) -> &'static str {
        "qdq_act"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(Ok(to)) = quantizes(g, root) else { return Ok(None) };
        let Some(a) = g.input_of(root, 0) else { return Ok(None) };
        let bound = |i: usize, open: f64| match g.input_of(a.node, i) {
            Some(v) => scalar(g, v),
            None => Some(open),
        };
        let (low, high) = match g.op(a.node) {
            Op::Unary(Unary::Relu) => (0.0, f64::INFINITY),
            Op::Select(Select::Clip) => {
                let (low, high) = (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY));
                let bounds = low.zip(high).ok_or(Decline::new("the bounds are not constant"))?;
                // Bounds that cross are the upper one everywhere.
                if bounds.0 > bounds.1 {
                    return Ok(None);
                }
                bounds
            }
            _ => return Ok(None),
        };
        if !saturates(&to, low, high) {
            return Err(Decline::new("the quantizer holds numbers beyond the bounds"));
        }
        let Some(x) = g.input_of(a.node, 0) else { return Ok(None) };
        let mut inputs = sources(g, root);
        inputs[0] = Some(x.into());
        let mut e = Edit::default();
        let y = e.node(g.op(root).clone(), &inputs);
        e.replace(root.first(), y);
        e.absorb(a);
        Ok(Some(e))
    }
}

/// Whether both bounds are quantized to the ends of the type.
fn saturates(to: &Linear, low: f64, high: f64) -> bool {
    let (least, most) = match to.dtype {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        DType::U16 => (0, 65535),
        DType::I16 => (-32768, 32767),
        _ => return false,
    };
    to.scale.iter().zip(&to.zero).all(|(&s, &z)| {
        let q = |x: f64| (x as f32 / s).round_ties_even() + z as f32;
        q(low) <= least as f32 && q(high) >= most as f32
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn drops_bounds_of_the_type() {
        check(
            &QdqAct,
            "s = f32[]{0.03125}\nz = u8[]{0}\nl = f32[]{-1.0}\nu = f32[]{8.0}\n\
             r = Relu(x: f32[N])\na = QuantizeLinear(r, s, z)\nc = Clip(x, l, u)\n\
             b = QuantizeLinear(c, s, z)\nreturn a, b",
            expect![[r#"
                x: f32[N]
                s = f32[]{0.03125}
                z = u8[]{0}
                b = QuantizeLinear(x, s, z)
                a = QuantizeLinear(x, s, z)
                return a, b
            "#]],
        );
    }

    #[test]
    fn keeps_bounds_inside_the_type_and_what_others_read() {
        check(
            &QdqAct,
            "s = f32[]{0.03125}\nz = u8[]{128}\no = u8[]{0}\nu = f32[]{6.0}\n\
             r = Relu(x: f32[N])\na = QuantizeLinear(r, s, z)\nc = Clip(x, _, u)\n\
             b = QuantizeLinear(c, s, o)\nd = QuantizeLinear(r, s, o)\nreturn a, b, d",
            expect![[r#"
                (unchanged)
                # qdq_act @ a: the quantizer holds numbers beyond the bounds
                # qdq_act @ b: the quantizer holds numbers beyond the bounds
                # qdq_act @ d: an inner value has another reader
            "#]],
        );
    }
}
