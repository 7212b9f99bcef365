//! Folds an activation into the convolution that feeds it.
//!
//! ```text
//! c = Conv(x, w, b)
//! y = Relu(c)        =>   y = ai.kiln.Conv(x, w, b) {activation="Relu"}
//! ```
//!
//! Saves one write and one read of `c`. Exact: the activation sees the same numbers.

use kiln_ir::ops::activation::Activation;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Verdict};

/// See the module.
pub struct ConvAct;

impl Rewrite for ConvAct {
    fn name(&self) -> &'static str {
        "conv_act"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Unary(unary) = g.op(root) else { return Ok(None) };
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        let Op::Conv(conv) = g.op(c.node) else { return Ok(None) };
        let Some(activation) = activation(*unary) else {
            return Err(Decline("the convolution has no such activation"));
        };
        if conv.activation.is_some() {
            return Err(Decline("the convolution already has an activation"));
        }
        let mut conv = conv.clone();
        conv.activation = Some(activation);
        let inputs: Vec<_> = g.inputs_of(c.node).into_iter().map(|v| v.map(Source::from)).collect();
        let mut e = Edit::default();
        let fused = e.node(conv, &inputs);
        e.replace(root.first(), fused);
        e.absorb(c);
        Ok(Some(e))
    }
}

/// The activation that a unary operator is, if the fused convolution knows it.
fn activation(unary: Unary) -> Option<Activation> {
    let params = match unary {
        Unary::Curve(_, a, b) => vec![a, b],
        _ => vec![],
    };
    Activation::new(unary.name(), &params).ok()
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
