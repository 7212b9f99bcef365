//! Folds factors and summands per channel into the weights of the convolution before.
//!
//! ```text
//! c = Conv(x, w, b)
//! m = Mul(c, f: [1,M,1,1])
//! y = Add(m, s: [M,1,1])      =>   y = Conv(x, w * f, b * f + s)
//! ```
//!
//! Saves a pass over all of `c` for each. Not exact: the new weights are rounded once, the sums
//! at other places than before.

use kiln_ir::{Decline, Graph, NodeId, Rewrite, Verdict};

use crate::weights::{Step, into_conv, is_conv};

/// See the module.
pub struct ConvAffine;

impl Rewrite for ConvAffine {
    fn name(&self) -> &'static str {
        "conv_affine"
    }

    fn exact(&self) -> bool {
        false
    }

    fn slack(&self) -> f64 {
        16.0
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(step) = Step::at(g, root, |v| is_conv(g, v)) else { return Ok(None) };
        let rank = g.ty(step.x).rank().ok_or(Decline::new("the rank is unknown"))?;
        into_conv(g, root, step.x, |n| step.affine(n, 1, rank))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn folds_one_after_another() {
        check(
            &ConvAffine,
            "w = f32[2,1,1]{3.0, 8.0}\nb = f32[2]{1.0, 10.0}\nf = f32[1,2,1]{2.0, 0.5}\n\
             s = f32[]{1.0}\nq = f32[2,1]{4.0, 8.0}\nc = Conv(x: f32[N,1,5], w, b)\n\
             m = Mul(f, c)\na = Sub(m, s)\ny = Div(a, q)\nreturn y",
            expect![[r#"
                x: f32[N,1,5]
                y/conv_affine0 = f32[2,1,1]{1.5, 0.5}
                y/conv_affine1 = f32[2]{0.25, 0.5}
                y = Conv(x, y/conv_affine0, y/conv_affine1)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_differs_within_a_channel() {
        check(
            &ConvAffine,
            "w = f32[2,1,1]{3.0, 8.0}\nf = f32[2]{2.0, 0.5}\ng = f32[2,2]{1.0, 1.0, 1.0, 1.0}\n\
             c = Conv(x: f32[N,1,2], w)\ny = Mul(c, f)\nd = Conv(z: f32[N,1,2], w)\n\
             u = Sub(f, d)\nreturn y, u",
            expect![[r#"
                (unchanged)
                # conv_affine @ y: the constant differs within a channel
            "#]],
        );
    }
}
