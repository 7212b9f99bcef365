//! Normalizes a sum while it is made.
//!
//! ```text
//! s = Add(a, b)
//! y = LayerNormalization(s, scale, bias)
//!     =>   y, s = ai.kiln.SkipLayerNormalization(a, b, scale, bias)
//! ```
//!
//! Saves a pass over `s`, which stays for its other readers. Exact: the same sums.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::layer_norm::LayerNorm;
use kiln_ir::ops::skip_norm::SkipNorm as Skip;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};

/// See the module.
pub struct SkipNorm;

impl Rewrite for SkipNorm {
    fn name(&self) -> &'static str {
        "skip_norm"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::LayerNorm(norm) = g.op(root) else { return Ok(None) };
        let rms = match norm {
            LayerNorm::Layer(_) => false,
            LayerNorm::Rms(_) => true,
            LayerNorm::Simplified(_) => return Ok(None),
        };
        let inputs = g.inputs_of(root);
        let Some(Some(sum)) = inputs.first().copied() else { return Ok(None) };
        if !matches!(g.op(sum.node), Op::Binary(Binary::Add)) {
            return Ok(None);
        }
        let [Some(a), Some(b)] = [g.input_of(sum.node, 0), g.input_of(sum.node, 1)] else {
            return Ok(None);
        };
        if g.ty(a) != g.ty(b) || g.ty(a) != g.ty(sum) {
            return Err(Decline::new("the summands have different shapes"));
        }
        if g.outputs_of(root).skip(1).any(|v| g.is_read(v)) {
            return Err(Decline::new("the mean or the deviation is read"));
        }
        // They might depend on the sum.
        if inputs.iter().skip(1).flatten().any(|p| g.constant_of(*p).is_none()) {
            return Err(Decline::new("scale or bias are not constant"));
        }
        let t = norm.trailing();
        let op = Skip { axis: t.axis, epsilon: t.epsilon, rms };
        let mut operands = vec![Some(Source::from(a)), Some(b.into())];
        operands.extend(inputs.iter().skip(1).map(|v| v.map(Source::from)));
        let mut e = Edit::default();
        let y = e.node(op, &operands);
        e.replace(root.first(), y);
        e.replace(sum, y.slot(1));
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn keeps_the_sum_for_its_readers() {
        check(
            &SkipNorm,
            "w = f32[2]{2.0, 3.0}\ns = Add(a: f32[N,2], b: f32[N,2])\n\
             n = LayerNormalization(s, w, w) {epsilon=0.5}\nt = Add(n, s)\n\
             y = RMSNormalization(t, w)\nreturn y",
            expect![[r#"
                a: f32[N,2]
                b: f32[N,2]
                w = f32[2]{2.0, 3.0}
                s = Add(a, b)
                s.2, s.2#1 = ai.kiln.SkipLayerNormalization(a, b, w, w) {epsilon=0.5}
                t, t#1 = ai.kiln.SkipLayerNormalization(s.2, s.2#1, w) {rms=1}
                t.2 = Add(s.2, s.2#1)
                return y=t
            "#]],
        );
    }

    #[test]
    fn keeps_what_broadcasts_or_tells_the_mean() {
        check(
            &SkipNorm,
            "w = f32[2]{2.0, 3.0}\ns = Add(a: f32[N,2], w)\nn = LayerNormalization(s, w)\n\
             t = Add(a, n)\nu, m, v = LayerNormalization(t, w)\nr = Add(u, u)\n\
             q = RMSNormalization(r, z: f32[2])\nreturn q, m",
            expect![[r#"
                (unchanged)
                # skip_norm @ n: the summands have different shapes
                # skip_norm @ u: the mean or the deviation is read
                # skip_norm @ q: scale or bias are not constant
            "#]],
        );
    }
}
