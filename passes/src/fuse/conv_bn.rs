//! Folds a batch normalization into the weights of the convolution that feeds it.
//!
//! ```text
//! c = Conv(x, w, b)
//! y = BatchNormalization(c, scale, shift, mean, var)   =>   y = Conv(x, w', b')
//!
//! f = scale / sqrt(var + epsilon)       w'[m] = w[m] * f[m]       b' = (b - mean) * f + shift
//! ```
//!
//! Saves a node that reads and writes all of `c`. Not exact: the new weights are calculated in
//! `f64` and rounded once; the sums are rounded at other places than before.

use kiln_ir::{Decline, Graph, NodeId, Op, Rewrite, Verdict};

use crate::weights::{Affine, into_conv, is_conv};

/// See the module.
pub struct ConvBn;

impl Rewrite for ConvBn {
    fn name(&self) -> &'static str {
        "conv_bn"
    }

    fn exact(&self) -> bool {
        false
    }

    fn slack(&self) -> f64 {
        16.0
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::BatchNorm(norm) = g.op(root) else { return Ok(None) };
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        if norm.training && is_conv(g, c) {
            return Err(Decline::new("the normalization is in training mode"));
        }
        into_conv(g, root, c, |_| Affine::of_norm(g, root, *norm))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    /// Statistics of two channels: factors 2 and 0.5, shifts -2 and 1.
    const STATISTICS: &str = "s = f32[2]{4.0, 1.0}\nb = f32[2]{0.0, 1.0}\n\
                              m = f32[2]{1.0, 0.0}\nv = f32[2]{4.0, 4.0}\n";

    #[test]
    fn folds_into_weights_and_bias() {
        check(
            &ConvBn,
            &format!(
                "{STATISTICS}w = f32[2,1,1]{{3.0, 8.0}}\nk = f32[2]{{1.0, 10.0}}\n\
                 c = Conv(x: f32[N,1,5], w, k)\n\
                 y = BatchNormalization(c, s, b, m, v) {{epsilon=0.0}}\nreturn y"
            ),
            expect![[r#"
                x: f32[N,1,5]
                y/conv_bn0 = f32[2,1,1]{6.0, 4.0}
                y/conv_bn1 = f32[2]{0.0, 6.0}
                y = Conv(x, y/conv_bn0, y/conv_bn1)
                return y
            "#]],
        );
    }

    #[test]
    fn folds_grouped_and_transposed() {
        check(
            &ConvBn,
            &format!(
                "{STATISTICS}w = f32[2,1,2]{{1.0, 2.0, 3.0, 4.0}}\n\
                 c = ConvTranspose(x: f32[N,2,5], w) {{group=2}}\n\
                 d = BatchNormalization(c, s, b, m, v) {{epsilon=0.0}}\n\
                 u = f32[1,2,1]{{1.0, 2.0}}\ne = ConvTranspose(z: f32[N,1,5], u)\n\
                 y = BatchNormalization(e, s, b, m, v) {{epsilon=0.0}}\nreturn d, y"
            ),
            expect![[r#"
                x: f32[N,2,5]
                z: f32[N,1,5]
                y/conv_bn0 = f32[1,2,1]{2.0, 1.0}
                y/conv_bn1 = f32[2]{-2.0, 1.0}
                y = ConvTranspose(z, y/conv_bn0, y/conv_bn1)
                d/conv_bn0 = f32[2,1,2]{2.0, 4.0, 1.5, 2.0}
                d/conv_bn1 = f32[2]{-2.0, 1.0}
                d = ConvTranspose(x, d/conv_bn0, d/conv_bn1) {group=2}
                return d, y
            "#]],
        );
    }

    #[test]
    fn refuses_what_it_cannot_fold() {
        check(
            &ConvBn,
            &format!(
                "{STATISTICS}w = f32[2,1,1]{{3.0, 8.0}}\nc = Conv(x: f32[N,1,5], w)\n\
                 y = BatchNormalization(c, s, b, m, q: f32[2])\n\
                 d = ai.kiln.Conv(x, w) {{activation=\"Relu\"}}\n\
                 z = BatchNormalization(d, s, b, m, v)\nn = f32[2]{{-1.0, 1.0}}\n\
                 e = Conv(x, w)\nt = BatchNormalization(e, s, b, m, n)\nreturn y, z, t"
            ),
            expect![[r#"
                (unchanged)
                # conv_bn @ y: the weights or statistics are not constant
                # conv_bn @ z: an activation lies between
                # conv_bn @ t: a folded weight would not be finite
            "#]],
        );
    }
}
