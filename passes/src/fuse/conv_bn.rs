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

use kiln_ir::ops::batch_norm::BatchNorm;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::{DType, Scalar, Tensor, match_float};

/// See the module.
pub struct ConvBn;

impl Rewrite for ConvBn {
    fn name(&self) -> &'static str {
        "conv_bn"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::BatchNorm(norm) = g.op(root) else { return Ok(None) };
        let Some(c) = g.input_of(root, 0) else { return Ok(None) };
        let Some(group) = group(g.op(c.node))? else { return Ok(None) };
        if norm.training {
            return Err(Decline::new("the normalization is in training mode"));
        }
        let operand = |i| g.input_of(c.node, i);
        let (Some(x), Some(w)) = (operand(0), operand(1)) else { return Ok(None) };
        let w = constant(g, w)?;
        let (factor, shift) = affine(g, root, *norm)?;
        let bias = match operand(2) {
            Some(b) => values(constant(g, b)?)?,
            None => vec![0.0; factor.len()],
        };
        if bias.len() != factor.len() {
            return Err(Decline::new("the bias has another length than the statistics"));
        }
        let channels = channels(w.shape(), group, matches!(g.op(c.node), Op::ConvTranspose(_)));
        let weights = values(w)?;
        let scaled = weights.iter().enumerate().map(|(i, w)| w * factor[channels.of(i)]);
        let w = rounded(w.dtype(), w.shape(), scaled)?;
        let moved = bias.iter().zip(&factor).zip(&shift).map(|((b, f), s)| b * f + s);
        let b = rounded(w.dtype(), &[factor.len()], moved)?;
        let mut e = Edit::default();
        let (w, b) = (e.constant(w), e.constant(b));
        let folded = e.node(g.op(c.node).clone(), &[Some(Source::Old(x)), Some(w), Some(b)]);
        e.replace(root.first(), folded);
        e.absorb(c);
        Ok(Some(e))
    }
}

/// The number of groups of a plain convolution; `None` for other operators.
fn group(op: &Op) -> Result<Option<usize>, Decline> {
    match op {
        Op::Conv(c) if c.residual => Err(Decline::new("an addition lies between")),
        Op::Conv(c) if c.activation.is_some() => Err(Decline::new("an activation lies between")),
        Op::Conv(c) => Ok(usize::try_from(c.group).ok()),
        Op::ConvTranspose(c) => Ok(usize::try_from(c.group).ok()),
        _ => Ok(None),
    }
}

fn constant(g: &Graph, v: Value) -> Result<&Tensor, Decline> {
    g.constant_of(v).ok_or(Decline::new("the weights or statistics are not constant"))
}

fn values(t: &Tensor) -> Result<Vec<f64>, Decline> {
    t.to_vec::<f64>().map_err(|_| Decline::new("the weights are no floats"))
}

/// The normalization as `x * factor + shift`, per channel.
fn affine(g: &Graph, root: NodeId, norm: BatchNorm) -> Result<(Vec<f64>, Vec<f64>), Decline> {
    let parameter = |i| match g.input_of(root, i) {
        Some(v) => values(constant(g, v)?),
        None => Err(Decline::new("the weights or statistics are not constant")),
    };
    let [scale, shift, mean, var] = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let n = scale.len();
    if [&shift, &mean, &var].iter().any(|p| p.len() != n) {
        return Err(Decline::new("the statistics have different lengths"));
    }
    let factor: Vec<f64> =
        (scale.iter().zip(&var)).map(|(s, v)| s / (v + f64::from(norm.epsilon)).sqrt()).collect();
    let shift = (shift.iter().zip(&mean).zip(&factor)).map(|((s, m), f)| s - m * f).collect();
    Ok((factor, shift))
}

/// Which output channel an element of the weights belongs to.
struct Channels {
    /// Output channels in a group.
    outer: usize,
    /// Elements that share a channel, side by side.
    run: usize,
    /// Elements after which a new group begins.
    group: usize,
}

impl Channels {
    fn of(&self, i: usize) -> usize {
        i / self.group * self.outer + i / self.run % self.outer
    }
}

/// Weights are `[M, C/group, ..]`, those of a transposed convolution `[C, M/group, ..]`.
fn channels(shape: &[usize], group: usize, transposed: bool) -> Channels {
    let product = |s: &[usize]| s.iter().product::<usize>().max(1);
    let part = product(shape) / group.max(1);
    match transposed {
        true => Channels { outer: shape[1].max(1), run: product(&shape[2..]), group: part.max(1) },
        false => {
            let outer = (shape[0] / group.max(1)).max(1);
            Channels { outer, run: product(&shape[1..]), group: part.max(1) }
        }
    }
}

/// A tensor of rounded values, all of which must be finite.
fn rounded(
    dtype: DType,
    shape: &[usize],
    data: impl Iterator<Item = f64>,
) -> Result<Tensor, Decline> {
    const OVERFLOW: Decline = Decline::new("a folded weight would not be finite");
    match_float!(dtype, T => {
        let data: Vec<T> = data.map(T::from_f64).collect();
        if data.iter().any(|x| !x.to_f64().is_finite()) {
            return Err(OVERFLOW);
        }
        Tensor::from_vec(shape, data).map_err(|_| OVERFLOW)
    }, else Err(Decline::new("the weights are no floats")))
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
