//! Adds a bias or a second branch where a product makes its result.
//!
//! ```text
//! p = MatMul(a, b)
//! q = Add(p, bias)
//! y = Add(q, z)       =>   y = ai.kiln.MatMul(a, b, bias, z)
//! ```
//!
//! Saves a pass over the product for each. Not exact: where the bias is added after the branch,
//! the two change their order.

use kiln_ir::ops::product::Product;
use kiln_ir::ops::product_integer::IntegerProduct;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};

use crate::forms::fits_into;

/// See the module.
pub struct MatMulAdd;

impl Rewrite for MatMulAdd {
    fn name(&self) -> &'static str {
        "matmul_add"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if g.op(root).name() != "Add" {
            return Ok(None);
        }
        let [Some(a), Some(b)] = [g.input_of(root, 0), g.input_of(root, 1)] else {
            return Ok(None);
        };
        let Some((p, t)) =
            [(a, b), (b, a)].into_iter().find(|(p, _)| open_product(g, *p).is_some())
        else {
            return Ok(None);
        };
        let Some(Open { product, mut inputs, bias, branch }) = open_product(g, p) else {
            return Ok(None);
        };
        if g.ty(p) != g.ty(root.first()) || !fits_into(g, t, p) {
            return Err(Decline::new("the summand stretches the product"));
        }
        let is_bias = g.constant_of(t).is_some() || g.ty(t).rank() == Some(1);
        let slot = match (is_bias && inputs[bias].is_none(), inputs[branch].is_none()) {
            (true, _) => bias,
            (false, true) if g.ty(t) == g.ty(p) => branch,
            _ => return Err(Decline::new("the product has a bias and a branch already")),
        };
        inputs[slot] = Some(t);
        let inputs: Vec<_> = inputs.into_iter().map(|v| v.map(Source::from)).collect();
        let mut e = Edit::default();
        let y = e.node(product, &inputs);
        e.replace(root.first(), y);
        e.absorb(p);
        Ok(Some(e))
    }
}

/// A product to which something may be added.
struct Open {
    product: Op,
    inputs: Vec<Option<Value>>,
    /// The places of the two that may be added.
    bias: usize,
    branch: usize,
}

/// A product of real numbers without activation that one node reads, with all its operands.
fn open_product(g: &Graph, v: Value) -> Option<Open> {
    g.only_reader(v)?;
    let (product, bias, branch): (Op, _, _) = match g.op(v.node) {
        Op::MatMul(matmul) => (Product { matmul: *matmul, activation: None }.into(), 2, 3),
        Op::Product(p) if p.activation.is_none() => ((*p).into(), 2, 3),
        Op::IntegerProduct(p) if p.activation.is_none() => {
            ((*p).into(), IntegerProduct::BIAS, IntegerProduct::BRANCH)
        }
        _ => return None,
    };
    g.ty(v).as_tensor().ok().filter(|t| t.dtype.is_float())?;
    let mut inputs = g.inputs_of(v.node);
    inputs.resize(branch + 1, None);
    let open = inputs[bias].is_none() || inputs[branch].is_none();
    open.then_some(Open { product, inputs, bias, branch })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn takes_a_bias_and_a_branch() {
        check(
            &MatMulAdd,
            "b = f32[4]{1.0, 2.0, 3.0, 4.0}\np = MatMul(x: f32[N,2,3], w: f32[3,4])\n\
             q = Add(b, p)\n\
             y = Add(q, z: f32[N,2,4])\nreturn y",
            expect![[r#"
                x: f32[N,2,3]
                w: f32[3,4]
                z: f32[N,2,4]
                b = f32[4]{1.0, 2.0, 3.0, 4.0}
                y = ai.kiln.MatMul(x, w, b, z)
                return y
            "#]],
        );
    }

    #[test]
    fn products_of_bytes_take_both() {
        check(
            &MatMulAdd,
            "b = f32[4]{1.0, 2.0, 3.0, 4.0}\n\
             p = ai.kiln.MatMulIntegerToFloat(x: u8[N,3], w: i8[3,4], s: f32[4])\n\
             q = Add(p, b)\ny = Add(q, z: f32[N,4])\nreturn y",
            expect![[r#"
                x: u8[N,3]
                w: i8[3,4]
                s: f32[4]
                z: f32[N,4]
                b = f32[4]{1.0, 2.0, 3.0, 4.0}
                y = ai.kiln.MatMulIntegerToFloat(x, w, s, _, _, b, z)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_stretches_or_is_too_much() {
        check(
            &MatMulAdd,
            "p = MatMul(x: f32[1,3], w: f32[3,4])\ny = Add(p, z: f32[N,4])\n\
             q = ai.kiln.MatMul(x, w, b: f32[4])\nr = Add(q, c: f32[4])\nreturn y, r",
            expect![[r#"
                (unchanged)
                # matmul_add @ y: the summand stretches the product
                # matmul_add @ r: the product has a bias and a branch already
            "#]],
        );
    }
}
