//! Multiplies a value by several weights at once.
//!
//! ```text
//! a = MatMul(x, v: f32[K,M])
//! b = MatMul(x, w: f32[K,N])   =>   a, b = Split(MatMul(x, v and w side by side), [M,N])
//! ```
//!
//! Saves reading `x` for every product but one. Fires only where that is more than the Split
//! moves, as with the small products of single heads. Each product may have a constant bias
//! behind it. Exact: every element of the product is the same sum.

use kiln_ir::cost::elements;
use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::{Context, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::{Datum, Tensor};

use crate::forms::{dims, sole_reader};

/// See the module.
pub struct MatMulMerge;

/// A product by a constant matrix, perhaps with a bias behind.
struct Part<'a> {
    weight: &'a Tensor,
    bias: Option<&'a Tensor>,
    /// What the product, or the bias behind it, gives.
    out: Value,
}

impl Rewrite for MatMulMerge {
    fn name(&self) -> &'static str {
        "matmul_merge"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::MatMul(m) = g.op(root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0).filter(|&x| weight(g, root, x, *m).is_some()) else {
            return Ok(None);
        };
        let mut nodes: Vec<NodeId> = g.readers(x).filter(|r| r.1 == 0).map(|r| r.0).collect();
        nodes.sort();
        nodes.retain(|&n| weight(g, n, x, *m).is_some());
        if nodes.len() < 2 || nodes[0] != root {
            return Ok(None);
        }
        let parts: Option<Vec<Part>> = nodes.iter().map(|&n| part(g, n, x, *m)).collect();
        let parts = parts.ok_or(Decline::new("what follows is taken by a single product"))?;
        let Some(lengths) = worth_it(g, x, *m, &parts)? else { return Ok(None) };
        let Some(joined) = joined(*m, &parts) else { return Ok(None) };
        let mut e = Edit::default();
        let w = e.constant(joined.0);
        let mut y = e.node(*m, &[Some(x.into()), Some(w)]);
        if let Some(bias) = joined.1 {
            let bias = e.constant(bias);
            y = e.node(Binary::Add, &[Some(y), Some(bias)]);
        }
        let split = Concat::Split { axis: -1, parts: parts.len() as u32 };
        let lengths = e.constant(Tensor::vector(lengths));
        let split = e.node(split, &[Some(y), Some(lengths)]);
        parts.iter().enumerate().for_each(|(i, p)| e.replace(p.out, split.slot(i)));
        Ok(Some(e))
    }
}

/// The constant matrix by which a node multiplies `x`, where nothing else reads the matrix.
fn weight(g: &Graph, node: NodeId, x: Value, m: MatMul) -> Option<&Tensor> {
    let same =
        matches!(g.op(node), Op::MatMul(o) if *o == m && !m.trans_batch_a && !m.trans_batch_b);
    let w = g.input_of(node, 1).filter(|&w| same && g.input_of(node, 0) == Some(x) && w != x)?;
    let many = dims(g, x).is_some_and(|d| d.len() >= 2) && g.constant_of(x).is_none();
    g.constant_of(w).filter(|t| many && t.rank() == 2 && g.only_reader(w) == Some(node))
}

/// A product with what follows it; `None` where something follows that it takes by itself.
fn part(g: &Graph, node: NodeId, x: Value, m: MatMul) -> Option<Part<'_>> {
    let weight = weight(g, node, x, m)?;
    let plain = Part { weight, bias: None, out: node.first() };
    let Some(reader) = sole_reader(g, node.first()) else { return Some(plain) };
    let other = |i| g.input_of(reader, i).filter(|&v| v != node.first());
    let constant = [0, 1].into_iter().find_map(|i| g.constant_of(other(i)?));
    match (g.op(reader), constant) {
        (Op::Binary(Binary::Add), Some(bias)) if bias.shape() == [columns(weight, m)] => {
            Some(Part { weight, bias: Some(bias), out: reader.first() })
        }
        (Op::Binary(_), Some(_)) | (Op::Unary(_), _) => None,
        _ => Some(plain),
    }
}

fn columns(weight: &Tensor, m: MatMul) -> usize {
    weight.shape()[usize::from(!m.trans_b)]
}

/// The columns of each product, where joining them is possible and moves less.
fn worth_it(
    g: &Graph,
    x: Value,
    m: MatMul,
    parts: &[Part<'_>],
) -> Result<Option<Vec<i64>>, Decline> {
    if parts.iter().any(|p| p.bias.is_some() != parts[0].bias.is_some()) {
        return Err(Decline::new("some products have a bias and others none"));
    }
    let alike = |p: &Part<'_>| {
        let rows = |p: &Part<'_>| p.weight.shape()[usize::from(m.trans_b)];
        rows(p) == rows(&parts[0]) && p.weight.dtype() == parts[0].weight.dtype()
    };
    if !parts.iter().all(alike) {
        return Ok(None);
    }
    let others = parts.len() as i64 - 1;
    let saved = elements(g, x).saturating_mul(others);
    let results = parts.iter().map(|p| elements(g, p.out)).fold(0, i64::saturating_add);
    // The Split reads and writes every result, and reads the lengths.
    if saved <= results.saturating_mul(2).saturating_add(2 * parts.len() as i64) {
        return Err(Decline::new("the Split would move more than reading the operand once saves"));
    }
    Ok(Some(parts.iter().map(|p| columns(p.weight, m) as i64).collect()))
}

/// The weights side by side, and the biases.
fn joined(m: MatMul, parts: &[Part<'_>]) -> Option<(Tensor, Option<Tensor>)> {
    let join = |axis: i64, all: Vec<&Tensor>| {
        let all: Vec<Datum> = all.into_iter().map(|t| t.clone().into()).collect();
        let all: Vec<_> = all.iter().map(Some).collect();
        let made = Concat::Join { axis }.eval(&Context::default(), &all).ok()?;
        made.into_iter().next()?.as_tensor().ok().cloned()
    };
    let weights = join(i64::from(!m.trans_b), parts.iter().map(|p| p.weight).collect())?;
    let biases: Option<Vec<&Tensor>> = parts.iter().map(|p| p.bias).collect();
    match biases {
        None => Some((weights, None)),
        Some(biases) => Some((weights, Some(join(0, biases)?))),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn small_products_are_one() {
        check(
            &MatMulMerge,
            "v = f32[5,1]{1.0, 1.0, 1.0, 1.0, 1.0}\nw = f32[5,1]{2.0, 2.0, 2.0, 2.0, 2.0}\n\
             a = MatMul(x: f32[N,5,5], v)\nb = MatMul(x, w)\ny = Sub(a, b)\nreturn y",
            expect![[r#"
                x: f32[N,5,5]
                a/matmul_merge0 = f32[5,2]{1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0}
                a/matmul_merge1 = MatMul(x, a/matmul_merge0)
                a/matmul_merge2 = i64[2]{1, 1}
                b, b#1 = Split(a/matmul_merge1, a/matmul_merge2) {axis=-1, num_outputs=2}
                y = Sub(b, b#1)
                return y
            "#]],
        );
    }

    #[test]
    fn biases_come_along() {
        check(
            &MatMulMerge,
            "v = f32[1,5]{1.0, 1.0, 1.0, 1.0, 1.0}\nw = f32[1,5]{2.0, 2.0, 2.0, 2.0, 2.0}\n\
             p = f32[1]{0.5}\nq = f32[1]{0.25}\n\
             a = com.microsoft.FusedMatMul(x: f32[9,5], v) {transB=1}\n\
             b = com.microsoft.FusedMatMul(x, w) {transB=1}\nc = Add(p, a)\nd = Add(b, q)\n\
             return c, d",
            expect![[r#"
                x: f32[9,5]
                a/matmul_merge0 = f32[2,5]{1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0}
                a/matmul_merge1 = com.microsoft.FusedMatMul(x, a/matmul_merge0) {transB=1}
                a/matmul_merge2 = f32[2]{0.5, 0.25}
                a/matmul_merge3 = Add(a/matmul_merge1, a/matmul_merge2)
                a/matmul_merge4 = i64[2]{1, 1}
                d, d#1 = Split(a/matmul_merge3, a/matmul_merge4) {axis=-1, num_outputs=2}
                return c=d, d=d#1
            "#]],
        );
    }

    #[test]
    fn keeps_wide_products_and_what_single_ones_take() {
        check(
            &MatMulMerge,
            "v = f32[2,2]{1.0, 1.0, 1.0, 1.0}\nw = f32[2,2]{2.0, 2.0, 2.0, 2.0}\n\
             t = f32[2,2]{3.0, 3.0, 3.0, 3.0}\nu = f32[2,2]{4.0, 4.0, 4.0, 4.0}\n\
             a = MatMul(x: f32[N,2], v)\nb = MatMul(x, w)\nc = MatMul(z: f32[N,2], t)\n\
             d = MatMul(z, u)\ne = Relu(c)\nreturn a, b, d, e",
            expect![[r#"
                (unchanged)
                # matmul_merge @ a: the Split would move more than reading the operand once saves
                # matmul_merge @ c: what follows is taken by a single product
            "#]],
        );
    }
}
