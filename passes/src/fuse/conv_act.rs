//! Folds an activation into the convolution that feeds it.
//!
//! ```text
//! c = Conv(x, w, b)
//! y = Relu(c)        =>   y = ai.kiln.Conv(x, w, b) {activation="Relu"}
//! ```
//!
//! Saves one write and one read of `c`. Exact: the activation sees the same numbers.

use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};

use crate::epilogue::{activation, is_candidate};
use crate::forms::sources;

/// See the module.
pub struct ConvAct;

impl Rewrite for ConvAct {
    fn name(&self) -> &'static str {
        "conv_act"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if !is_candidate(g.op(root)) {
            return Ok(None);
        }
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        let Op::Conv(conv) = g.op(c.node) else { return Ok(None) };
        let Some(activation) = activation(g, root) else {
            return Err(Decline::new("the convolution has no such activation"));
        };
        if conv.activation.is_some() {
            return Err(Decline::new("the convolution already has an activation"));
        }
        let mut conv = conv.clone();
        conv.activation = Some(activation);
        let inputs = sources(g, c.node);
        let mut e = Edit::default();
        let fused = e.node(conv, &inputs);
        e.replace(root.first(), fused);
        e.absorb(c);
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn fuses_with_and_without_parameters() {
        check(
            &ConvAct,
            "c = Conv(x: f32[N,3,8,8], w: f32[4,3,1,1])\nr = Relu(c)\n\
             d = Conv(r, v: f32[4,4,1,1])\ny = LeakyRelu(d) {alpha=0.5}\nreturn y",
            expect![[r#"
                x: f32[N,3,8,8]
                w: f32[4,3,1,1]
                v: f32[4,4,1,1]
                r = ai.kiln.Conv(x, w) {activation="Relu"}
                y = ai.kiln.Conv(r, v) {activation="LeakyRelu", activation_params=[0.5]}
                return y
            "#]],
        );
    }

    #[test]
    fn fuses_constant_bounds_only() {
        check(
            &ConvAct,
            "l = f32[]{0.0}\nu = f32[]{6.0}\nc = Conv(x: f32[N,3,8,8], w: f32[4,3,1,1])\n\
             r = Clip(c, l, u)\nd = Conv(r, v: f32[4,4,1,1])\ns = Clip(d, l)\n\
             e = Conv(s, v)\ny = Clip(e, q: f32[])\nreturn y",
            expect![[r#"
                x: f32[N,3,8,8]
                w: f32[4,3,1,1]
                v: f32[4,4,1,1]
                q: f32[]
                r = ai.kiln.Conv(x, w) {activation="Clip", activation_params=[0.0,6.0]}
                s = ai.kiln.Conv(r, v) {activation="Clip", activation_params=[0.0,inf]}
                e = Conv(s, v)
                y = Clip(e, q)
                return y
                # conv_act @ y: the convolution has no such activation
            "#]],
        );
    }

    #[test]
    fn keeps_a_convolution_that_is_also_an_output() {
        check(
            &ConvAct,
            "c = Conv(x: f32[N,3,8,8], w: f32[4,3,1,1])\ny = Relu(c)\nreturn y, c",
            expect![[r#"
                (unchanged)
                # conv_act @ y: an inner value is an output of the graph
            "#]],
        );
    }
}
