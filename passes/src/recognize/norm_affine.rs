//! Lets a normalization scale and shift.
//!
//! ```text
//! n = LayerNormalization(x, ones)
//! s = Mul(n, scale)
//! y = Add(s, bias)                    =>   y = LayerNormalization(x, scale, bias)
//! ```
//!
//! Saves two passes over `x` of three. Not exact for halves, which are rounded once instead of
//! thrice.

use kiln_ir::ops::layer_norm::LayerNorm;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

use crate::forms::uniform;

/// See the module.
pub struct NormAffine;

impl Rewrite for NormAffine {
    fn name(&self) -> &'static str {
        "norm_affine"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let product = match g.op(root).name() {
            "Mul" => true,
            "Add" => false,
            _ => return Ok(None),
        };
        let [Some(a), Some(b)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        let Some((n, c)) = [(a, b), (b, a)].into_iter().find(|(n, _)| is_norm(g, *n)) else {
            return Ok(None);
        };
        let Some(t) = g.constant_of(c) else {
            return Err(Decline::new("the factor or the summand is not constant"));
        };
        let inputs = g.inputs_of(n.node);
        let (Some(Some(x)), Some(Some(scale))) = (inputs.first(), inputs.get(1)) else {
            return Ok(None);
        };
        let biased = matches!(inputs.get(2), Some(Some(_)));
        let plain = uniform(g, *scale) == Some(1.0);
        if biased || product && !plain {
            return Err(Decline::new("the normalization scales or shifts already"));
        }
        if !product && !matches!(g.op(n.node), Op::LayerNorm(LayerNorm::Layer(_))) {
            return Err(Decline::new("this normalization has no bias"));
        }
        let shape = g.constant_of(*scale).map_or(&[][..], Tensor::shape);
        let Ok(t) = t.broadcast_to(shape) else {
            return Err(Decline::new("the constant is not of the shape that is normalized"));
        };
        let mut e = Edit::default();
        let t = e.constant(t);
        let mut inputs = vec![Some(Source::from(*x)), Some(Source::from(*scale))];
        match product {
            true => inputs[1] = Some(t),
            false => inputs.push(Some(t)),
        }
        let y = e.node(g.op(n.node).clone(), &inputs);
        e.replace(root.first(), y);
        e.absorb(n);
        Ok(Some(e))
    }
}

/// Whether a value is the first output of a normalization with a constant scale.
fn is_norm(g: &Graph, v: Value) -> bool {
    let is = matches!(g.op(v.node), Op::LayerNorm(LayerNorm::Layer(_) | LayerNorm::Rms(_)));
    is && v.slot() == 0 && g.input_of(v.node, 1).is_some_and(|s| g.constant_of(s).is_some())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_a_scale_then_a_bias() {
        check(
            &NormAffine,
            "one = f32[2]{1.0, 1.0}\ns = f32[2]{2.0, 3.0}\nb = f32[]{4.0}\n\
             n = LayerNormalization(x: f32[N,2], one)\nm = Mul(s, n)\ny = Add(m, b)\nreturn y",
            expect![[r#"
                x: f32[N,2]
                y/norm_affine0 = f32[2]{4.0, 4.0}
                m/norm_affine0 = f32[2]{2.0, 3.0}
                y, y#1, y#2 = LayerNormalization(x, m/norm_affine0, y/norm_affine0)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_does_not_fit() {
        check(
            &NormAffine,
            "one = f32[2]{1.0, 1.0}\ns = f32[2]{2.0, 3.0}\nw = f32[3,1]{1.0, 2.0, 3.0}\n\
             a = RMSNormalization(x: f32[3,2], one)\nb = Add(a, s)\n\
             c = LayerNormalization(x, s)\nd = Mul(c, s)\n\
             e = LayerNormalization(x, one)\nf = Mul(e, w)\nreturn b, d, f",
            expect![[r#"
                (unchanged)
                # norm_affine @ b: this normalization has no bias
                # norm_affine @ d: the normalization scales or shifts already
                # norm_affine @ f: the constant is not of the shape that is normalized
            "#]],
        );
    }
}
