//! Folds factors, differences and normalizations by column into the weights of the product before.
//!
//! ```text
//! p = MatMul(x, w: [K,N])
//! m = Mul(p, f: [N])
//! y = Sub(m, s: [1,N])      =>   y = ai.kiln.MatMul(x, w * f, -s)
//! ```
//!
//! A `BatchNormalization` of the matrix that a product gives is such a factor and difference.
//! Saves a pass over all of `p` for each. Not exact: the new weights are rounded once, the sums
//! at other places than before.

use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::ops::product::Product;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

use crate::forms::per_channel;
use crate::weights::{Affine, Step, constant, rounded, values};

/// See the module.
pub struct MatMulAffine;

impl Rewrite for MatMulAffine {
    fn name(&self) -> &'static str {
        "matmul_affine"
    }

    fn exact(&self) -> bool {
        false
    }

    fn slack(&self) -> f64 {
        16.0
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if let Op::BatchNorm(norm) = g.op(root) {
            let Some(p) = g.input_of(root, 0).filter(|p| is_product(g, *p)) else {
                return Ok(None);
            };
            // Channels of more axes lie along the second, and columns along the last.
            if norm.training || g.ty(p).rank() != Some(2) {
                return Err(Decline::new("the normalization is not by column, or is in training"));
            }
            return into_product(g, root, p, |_| Affine::of_norm(g, root, *norm));
        }
        let Some(step) = Step::at(g, root, |v| is_product(g, v)) else { return Ok(None) };
        // A first summand is what a product takes as its bias.
        if step.is_sum() && bias(g, step.x.node).is_none() {
            return Ok(None);
        }
        let rank = g.ty(step.x).rank().ok_or(Decline::new("the rank is unknown"))?;
        into_product(g, root, step.x, |n| step.affine(n, rank - 1, rank))
    }
}

/// Whether a value is a product to which nothing has been done that is no bias.
fn is_product(g: &Graph, v: Value) -> bool {
    match g.op(v.node) {
        Op::Product(p) => p.activation.is_none() && g.input_of(v.node, 3).is_none(),
        Op::MatMul(_) | Op::Gemm(_) => g.ty(v).rank().is_some_and(|n| n >= 2),
        _ => false,
    }
}

/// What is added to the product, for operators that have such an operand.
fn bias(g: &Graph, p: NodeId) -> Option<Value> {
    g.input_of(p, 2)
}

/// Folds what happens at `root` to the product `p` into its weights and bias; `affine` is told
/// the number of columns.
fn into_product(
    g: &Graph,
    root: NodeId,
    p: Value,
    affine: impl FnOnce(usize) -> Result<Affine, Decline>,
) -> Verdict {
    let (matmul, beta) = match g.op(p.node) {
        Op::MatMul(m) | Op::Product(Product { matmul: m, .. }) => (*m, 1.0),
        Op::Gemm(Gemm { alpha, beta, trans_a, trans_b }) => {
            let (trans_a, trans_b) = (*trans_a, *trans_b);
            (MatMul { alpha: *alpha, trans_a, trans_b, ..MatMul::PLAIN }, *beta)
        }
        _ => return Ok(None),
    };
    let (Some(x), Some(w)) = (g.input_of(p.node, 0), g.input_of(p.node, 1)) else {
        return Ok(None);
    };
    let w = constant(g, w)?;
    let [rows, columns] = *w.shape() else {
        return Err(Decline::new("the weights are no matrix"));
    };
    let n = if matmul.trans_b { rows } else { columns };
    let Affine { factor, shift } = affine(n)?;
    if factor.len() != n || shift.len() != n {
        return Err(Decline::new("there are more or fewer factors than columns"));
    }
    let added = match bias(g, p.node) {
        Some(b) => moved(constant(g, b)?, n, f64::from(beta))?,
        None => vec![0.0; n],
    };
    let column = |i: usize| if matmul.trans_b { i / columns } else { i % columns };
    let scaled = values(w)?.into_iter().enumerate().map(|(i, w)| w * factor[column(i)]);
    let scaled = rounded(w.dtype(), w.shape(), scaled)?;
    let added: Vec<f64> =
        added.iter().zip(&factor).zip(&shift).map(|((b, f), s)| b * f + s).collect();
    let mut e = Edit::default();
    let mut inputs = vec![Some(Source::Old(x)), Some(e.constant(scaled))];
    let made = if added.iter().all(|b| *b == 0.0) {
        e.node(matmul, &inputs)
    } else {
        inputs.push(Some(e.constant(rounded(w.dtype(), &[n], added.into_iter())?)));
        e.node(Product { matmul, activation: None }, &inputs)
    };
    e.replace(root.first(), made);
    e.absorb(p);
    Ok(Some(e))
}

/// A constant bias, one number a column, times its factor.
fn moved(b: &Tensor, n: usize, beta: f64) -> Result<Vec<f64>, Decline> {
    let b = per_channel(b, n, b.rank().saturating_sub(1), b.rank().max(1));
    let b = b.ok_or(Decline::new("the bias differs within a column"))?;
    Ok(b.into_iter().map(|b| b * beta).collect())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn folds_factors_and_differences() {
        check(
            &MatMulAffine,
            "w = f32[1,2]{3.0, 8.0}\nf = f32[2]{2.0, 0.5}\ns = f32[1,2]{1.0, 4.0}\n\
             b = f32[2]{1.0, 10.0}\np = ai.kiln.MatMul(x: f32[N,3,1], w, b)\nm = Mul(f, p)\n\
             d = Sub(m, s)\ny = Div(d, f)\nreturn y",
            expect![[r#"
                x: f32[N,3,1]
                y/matmul_affine0 = f32[1,2]{3.0, 8.0}
                y/matmul_affine1 = f32[2]{0.5, 2.0}
                y = ai.kiln.MatMul(x, y/matmul_affine0, y/matmul_affine1)
                return y
            "#]],
        );
    }

    #[test]
    fn folds_normalizations_of_matrices() {
        check(
            &MatMulAffine,
            "s = f32[2]{4.0, 1.0}\nb = f32[2]{0.0, 1.0}\nm = f32[2]{1.0, 0.0}\n\
             v = f32[2]{4.0, 4.0}\nw = f32[2,1]{3.0, 8.0}\nc = f32[]{1.0}\n\
             p = Gemm(x: f32[N,1], w, c) {beta=2.0, transB=1}\n\
             y = BatchNormalization(p, s, b, m, v) {epsilon=0.0}\nreturn y",
            expect![[r#"
                x: f32[N,1]
                y/matmul_affine0 = f32[2,1]{6.0, 4.0}
                y/matmul_affine1 = f32[2]{2.0, 2.0}
                y = ai.kiln.MatMul(x, y/matmul_affine0, y/matmul_affine1) {transB=1}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_differs_within_a_column() {
        check(
            &MatMulAffine,
            "f = f32[2,1]{2.0, 0.5}\nw = f32[1,2]{3.0, 8.0}\np = MatMul(x: f32[2,1], w)\n\
             y = Mul(p, f)\nq = MatMul(x, z: f32[1,2])\nd = f32[2]{1.0, 2.0}\nu = Mul(q, d)\n\
             return y, u",
            expect![[r#"
                (unchanged)
                # matmul_affine @ y: the constant differs within a channel
                # matmul_affine @ u: the weights or statistics are not constant
            "#]],
        );
    }
}
