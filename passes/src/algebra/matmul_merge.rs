//! Multiplies a value by several weights at once.
//!
//! ```text
//! a = MatMul(x, v: f32[K,M])
//! b = MatMul(x, w: f32[K,N])   =>   a, b = Split(MatMul(x, v and w side by side), [M,N])
//! ```
//!
//! Saves reading `x` for every product but one. Fires only where that is more than the Split
//! moves, as with the small products of single heads. Each product may have a constant bias
//! behind it, and each Gemm one as its own. Exact: every element of the product is the same sum.

use kiln_ir::cost::elements;
use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::matmul::{Gemm, MatMul};
use kiln_ir::{Context, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::{Datum, Tensor};

use crate::forms::{dims, sole_reader};

/// See the module.
pub struct MatMulMerge;

/// An operator that multiplies by its second operand.
#[derive(Clone, Copy, PartialEq)]
enum Product {
    MatMul(MatMul),
    Gemm(Gemm),
}

impl Product {
    fn of(g: &Graph, node: NodeId) -> Option<Self> {
        match g.op(node) {
            Op::MatMul(m) if !m.trans_batch_a && !m.trans_batch_b => Some(Self::MatMul(*m)),
            Op::Gemm(m) => Some(Self::Gemm(*m)),
            _ => None,
        }
    }

    fn trans_b(self) -> bool {
        match self {
            Self::MatMul(m) => m.trans_b,
            Self::Gemm(m) => m.trans_b,
        }
    }
}

/// A product by a constant matrix, perhaps with a bias behind, or as its own.
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
        let Some(m) = Product::of(g, root) else { return Ok(None) };
        let Some(x) = g.input_of(root, 0).filter(|&x| weight(g, root, x, m).is_some()) else {
            return Ok(None);
        };
        let mut nodes: Vec<NodeId> = g.readers(x).filter(|r| r.1 == 0).map(|r| r.0).collect();
        nodes.sort();
        nodes.retain(|&n| weight(g, n, x, m).is_some());
        if nodes.len() < 2 || nodes[0] != root {
            return Ok(None);
        }
        let parts: Option<Vec<Part>> = nodes.iter().map(|&n| part(g, n, x, m)).collect();
        let parts = parts.ok_or(Decline::new("what follows is taken by a single product"))?;
        let Some(lengths) = worth_it(g, x, m, &parts)? else { return Ok(None) };
        let Some(joined) = joined(m, &parts) else { return Ok(None) };
        let mut e = Edit::default();
        let mut operands = vec![Some(x.into()), Some(e.constant(joined.0))];
        let bias = joined.1.map(|bias| e.constant(bias));
        let y = match (m, bias) {
            (Product::MatMul(m), None) => e.node(m, &operands),
            (Product::MatMul(m), bias) => {
                let y = e.node(m, &operands);
                e.node(Binary::Add, &[Some(y), bias])
            }
            (Product::Gemm(m), bias) => {
                operands.extend(bias.map(Some));
                e.node(m, &operands)
            }
        };
        let split = Concat::Split { axis: -1, parts: parts.len() as u32 };
        let lengths = e.constant(Tensor::vector(lengths));
        let split = e.node(split, &[Some(y), Some(lengths)]);
        parts.iter().enumerate().for_each(|(i, p)| e.replace(p.out, split.slot(i)));
        Ok(Some(e))
    }
}

/// The constant matrix by which a node multiplies `x`, where nothing else reads the matrix.
fn weight(g: &Graph, node: NodeId, x: Value, m: Product) -> Option<&Tensor> {
    let same = Product::of(g, node) == Some(m);
    let w = g.input_of(node, 1).filter(|&w| same && g.input_of(node, 0) == Some(x) && w != x)?;
    let many = dims(g, x).is_some_and(|d| d.len() >= 2) && g.constant_of(x).is_none();
    g.constant_of(w).filter(|t| many && t.rank() == 2 && g.only_reader(w) == Some(node))
}

/// A product with what follows it; `None` where something follows that it takes by itself.
fn part(g: &Graph, node: NodeId, x: Value, m: Product) -> Option<Part<'_>> {
    let weight = weight(g, node, x, m)?;
    // Behind a Gemm without one, a bias stays where it is.
    let is_gemm = matches!(m, Product::Gemm(_));
    let of_columns = |t: &&Tensor| t.shape() == [columns(weight, m)];
    let own = match g.input_of(node, 2) {
        Some(c) => Some(g.constant_of(c).filter(of_columns)?),
        None => None,
    };
    let plain = Part { weight, bias: own, out: node.first() };
    let Some(reader) = sole_reader(g, node.first()) else { return Some(plain) };
    let other = |i| g.input_of(reader, i).filter(|&v| v != node.first());
    let constant = [0, 1].into_iter().find_map(|i| g.constant_of(other(i)?));
    match (g.op(reader), constant) {
        (Op::Binary(Binary::Add), Some(bias)) if !is_gemm && of_columns(&bias) => {
            Some(Part { weight, bias: Some(bias), out: reader.first() })
        }
        (Op::Binary(_), Some(_)) | (Op::Unary(_), _) => None,
        _ => Some(plain),
    }
}

fn columns(weight: &Tensor, m: Product) -> usize {
    weight.shape()[usize::from(!m.trans_b())]
}

/// The columns of each product, where joining them is possible and moves less.
fn worth_it(
    g: &Graph,
    x: Value,
    m: Product,
    parts: &[Part<'_>],
) -> Result<Option<Vec<i64>>, Decline> {
    if parts.iter().any(|p| p.bias.is_some() != parts[0].bias.is_some()) {
        return Err(Decline::new("some products have a bias and others none"));
    }
    let alike = |p: &Part<'_>| {
        let rows = |p: &Part<'_>| p.weight.shape()[usize::from(m.trans_b())];
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
fn joined(m: Product, parts: &[Part<'_>]) -> Option<(Tensor, Option<Tensor>)> {
    let join = |axis: i64, all: Vec<&Tensor>| {
        let all: Vec<Datum> = all.into_iter().map(|t| t.clone().into()).collect();
        let all: Vec<_> = all.iter().map(Some).collect();
        let made = Concat::Join { axis }.eval(&Context::default(), &all).ok()?;
        made.into_iter().next()?.as_tensor().ok().cloned()
    };
    let weights = join(i64::from(!m.trans_b()), parts.iter().map(|p| p.weight).collect())?;
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
                a/matmul_merge1 = f32[2]{0.5, 0.25}
                a/matmul_merge2 = com.microsoft.FusedMatMul(x, a/matmul_merge0) {transB=1}
                a/matmul_merge3 = Add(a/matmul_merge2, a/matmul_merge1)
                a/matmul_merge4 = i64[2]{1, 1}
                d, d#1 = Split(a/matmul_merge3, a/matmul_merge4) {axis=-1, num_outputs=2}
                return c=d, d=d#1
            "#]],
        );
    }

    #[test]
    fn products_of_gemm_are_one() {
        check(
            &MatMulMerge,
            "v = f32[1,5]{1.0, 1.0, 1.0, 1.0, 1.0}\nw = f32[1,5]{2.0, 2.0, 2.0, 2.0, 2.0}\n\
             p = f32[1]{0.5}\nq = f32[1]{0.25}\n\
             a = Gemm(x: f32[9,5], v, p) {alpha=0.5, transB=1}\n\
             b = Gemm(x, w, q) {alpha=0.5, transB=1}\nreturn a, b",
            expect![[r#"
                x: f32[9,5]
                a/matmul_merge0 = f32[2,5]{1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0}
                a/matmul_merge1 = f32[2]{0.5, 0.25}
                a/matmul_merge2 = Gemm(x, a/matmul_merge0, a/matmul_merge1) {alpha=0.5, transB=1}
                a/matmul_merge3 = i64[2]{1, 1}
                b, b#1 = Split(a/matmul_merge2, a/matmul_merge3) {axis=-1, num_outputs=2}
                return a=b, b=b#1
            "#]],
        );
        check(
            &MatMulMerge,
            "v = f32[1,5]{1.0, 1.0, 1.0, 1.0, 1.0}\nw = f32[1,5]{2.0, 2.0, 2.0, 2.0, 2.0}\n\
             p = f32[1]{0.5}\nq = f32[9,1]{0, 1, 2, 3, 4, 5, 6, 7, 8}\n\
             a = Gemm(x: f32[9,5], v, p) {transB=1}\nb = Gemm(x, w, q) {transB=1}\nreturn a, b",
            expect![[r#"
                (unchanged)
                # matmul_merge @ a: what follows is taken by a single product
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
