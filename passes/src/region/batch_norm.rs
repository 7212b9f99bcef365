//! Runs a normalization by given statistics as the factor and summand per channel that it is.
//!
//! ```text
//! y = BatchNormalization(x, scale, shift, mean, var)   =>   y = ai.kiln.Region(x, f, b)
//!
//! f = scale / sqrt(var + epsilon)                           b = shift - mean * f
//! ```
//!
//! Saves two of four numbers per channel, and lets the elementwise operators around it join. Not
//! exact: factors and summands are rounded once, the results at other places than before.

use std::sync::Arc;

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::region::Region;
use kiln_ir::{Decline, Dim, Edit, Graph, NodeId, Op, Result, Rewrite, Source, Type, Verdict};
use kiln_tensor::DType;

use crate::weights::{Affine, rounded};

/// See the module.
pub struct BatchNorm;

impl Rewrite for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn exact(&self) -> bool {
        false
    }

    fn slack(&self) -> f64 {
        16.0
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::BatchNorm(norm) = g.op(root) else { return Ok(None) };
        if norm.training {
            return Err(Decline::new("the normalization is in training mode"));
        }
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let Some(dims) = g.ty(x).as_tensor().ok().and_then(|t| t.shape.as_deref()) else {
            return Err(Decline::new("the rank is unknown"));
        };
        let Affine { factor, shift } = Affine::of_norm(g, root, *norm)?;
        if g.ty(x).as_tensor().is_ok_and(|t| t.dtype != DType::F32)
            || dims.get(1).and_then(Dim::as_len) != Some(factor.len())
        {
            return Err(Decline::new("the values are no f32 with a known number of channels"));
        }
        let mut shape = vec![1; dims.len() - 1];
        shape[0] = factor.len();
        let mut e = Edit::default();
        let mut constant = |data: Vec<f64>| -> Result<_, Decline> {
            Ok(Some(e.constant(rounded(DType::F32, &shape, data.into_iter())?)))
        };
        let inputs = [Some(Source::from(x)), constant(factor)?, constant(shift)?];
        let body = body().map_err(|_| Decline::new("the body does not stand"))?;
        let y = e.node(body, &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// `x0 * x1 + x2`.
fn body() -> Result<Region> {
    let mut body = Graph::new();
    let [x, f, b] = ["x0", "x1", "x2"].map(|n| body.input(n, Type::tensor(DType::F32, None)));
    let scaled = body.add("v1", Binary::Mul, &[Some(x), Some(f)])?.first();
    let y = body.add("v2", Binary::Add, &[Some(scaled), Some(b)])?.first();
    body.set_outputs(vec![("y".into(), y)]);
    Region::new(Arc::new(body))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn becomes_a_region() {
        check(
            &BatchNorm,
            "s = f32[2]{4.0, 1.0}\nb = f32[2]{0.0, 1.0}\nm = f32[2]{1.0, 0.0}\n\
             v = f32[2]{4.0, 4.0}\n\
             y = BatchNormalization(x: f32[N,2,H], s, b, m, v) {epsilon=0.0}\nreturn y",
            expect![[r#"
                x: f32[N,2,H]
                y/batch_norm0 = f32[2,1]{2.0, 0.5}
                y/batch_norm1 = f32[2,1]{-2.0, 1.0}
                y = ai.kiln.Region(x, y/batch_norm0, y/batch_norm1) {body=graph {
                  x0: f32[..]
                  x1: f32[..]
                  x2: f32[..]
                  v1 = Mul(x0, x1)
                  v2 = Add(v1, x2)
                  return y=v2
                }}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_statistics_that_vary() {
        check(
            &BatchNorm,
            "s = f32[2]{4.0, 1.0}\n\
             y = BatchNormalization(x: f32[N,2,H], s, s, m: f32[2], v: f32[2])\n\
             z = BatchNormalization(u: f32[N,C,H], s, s, s, s)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # batch_norm @ y: the weights or statistics are not constant
                # batch_norm @ z: the values are no f32 with a known number of channels
            "#]],
        );
    }
}
