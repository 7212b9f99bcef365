//! Adds a second branch where the convolution makes its result.
//!
//! ```text
//! c = Conv(x, w, b)
//! y = Add(c, z)       =>   y = ai.kiln.Conv(x, w, b, z)
//! ```
//!
//! Saves one write and one read of `c`. Exact: the same sums.

use crate::forms::sources;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};

/// See the module.
pub struct ConvAdd;

impl Rewrite for ConvAdd {
    fn name(&self) -> &'static str {
        "conv_add"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if g.op(root).name() != "Add" {
            return Ok(None);
        }
        let [Some(a), Some(b)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        let pairs = [(a, b), (b, a)];
        let is_conv = |v: Value| matches!(g.op(v.node), Op::Conv(_));
        let Some(&(c, z)) = pairs
            .iter()
            .find(|(c, _)| is_free(g, *c))
            .or_else(|| pairs.iter().find(|(c, _)| is_conv(*c)))
        else {
            return Ok(None);
        };
        let Op::Conv(conv) = g.op(c.node) else { return Ok(None) };
        if conv.activation.is_some() || conv.residual {
            return Err(Decline::new("the convolution has an activation or a residual already"));
        }
        if g.constant_of(z).is_some() {
            return Ok(None);
        }
        if g.ty(z) != g.ty(c) || g.ty(c) != g.ty(root.first()) {
            return Err(Decline::new("the other branch has another shape"));
        }
        let mut conv = conv.clone();
        conv.residual = true;
        let mut inputs = sources(g, c.node);
        inputs.resize(3, None);
        inputs.push(Some(z.into()));
        let mut e = Edit::default();
        let y = e.node(conv, &inputs);
        e.replace(root.first(), y);
        e.absorb(c);
        Ok(Some(e))
    }
}

/// Whether a value is that of a plain convolution that only one node reads.
fn is_free(g: &Graph, v: Value) -> bool {
    let plain = matches!(g.op(v.node), Op::Conv(c) if c.activation.is_none() && !c.residual);
    plain && g.only_reader(v).is_some()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_the_branch_that_only_the_sum_reads() {
        check(
            &ConvAdd,
            "a = Conv(x: f32[N,2,5], w: f32[2,2,1])\nb = Conv(x, v: f32[2,2,1])\ny = Add(a, b)\n\
             z = Relu(a)\nreturn y, z",
            expect![[r#"
                x: f32[N,2,5]
                w: f32[2,2,1]
                v: f32[2,2,1]
                a = Conv(x, w)
                z = Relu(a)
                y = ai.kiln.Conv(x, v, _, a)
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_shapes_and_activations() {
        check(
            &ConvAdd,
            "a = Conv(x: f32[N,2,5], w: f32[2,2,1])\nb = Add(a, c: f32[2,1])\n\
             d = ai.kiln.Conv(x, w) {activation=\"Relu\"}\ny = Add(x, d)\nreturn b, y",
            expect![[r#"
                (unchanged)
                # conv_add @ b: the other branch has another shape
                # conv_add @ y: the convolution has an activation or a residual already
            "#]],
        );
    }
}
