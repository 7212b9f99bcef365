//! Joins constants that follow one another.
//!
//! ```text
//! a = Mul(x, 2)                a = Add(x, 1)
//! y = Div(a, 8)   =>           y = Sub(a, 3)   =>
//! y = Mul(x, 0.25)             y = Add(x, -2)
//! ```
//!
//! Saves one of two passes over all elements; a single division by a constant becomes a product.
//! Not exact: two roundings become one. Constants have one element, and types are floats.

use kiln_ir::ops::binary::Binary;
use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::{Scalar, Tensor, match_float};

use crate::forms::{fits_into, scalar};

/// See the module.
pub struct ScalarChain;

/// A step: the value, whether it is multiplied, by what or what is added.
pub(super) struct Step {
    pub x: Value,
    pub product: bool,
    pub by: f64,
    divided: bool,
}

impl Rewrite for ScalarChain {
    fn name(&self) -> &'static str {
        "scalar_chain"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(outer) = step(g, root) else { return Ok(None) };
        let inner = step(g, outer.x.node).filter(|s| s.product == outer.product);
        let (x, by) = match (&inner, outer.product) {
            (Some(inner), true) => (inner.x, inner.by * outer.by),
            (Some(inner), false) => (inner.x, inner.by + outer.by),
            (None, _) if outer.divided => (outer.x, outer.by),
            (None, _) => return Ok(None),
        };
        let Ok(ty) = g.ty(x).as_tensor() else { return Ok(None) };
        let dtype = ty.dtype;
        let c = match_float!(dtype, T => {
            let c = <T as Scalar>::from_f64(by);
            // What under- or overflows was no joint step before.
            let back = <T as Scalar>::to_f64(c);
            (back.is_finite() && (back != 0.0) == (by != 0.0)).then(|| Tensor::scalar(c))
        }, else None);
        let Some(c) = c else { return Ok(None) };
        let mut e = Edit::default();
        let c = e.constant(c);
        let op = if outer.product { Binary::Mul } else { Binary::Add };
        let y = e.node(op, &[Some(Source::from(x)), Some(c)]);
        e.replace(root.first(), y);
        if inner.is_some() {
            e.absorb(outer.x);
        }
        Ok(Some(e))
    }
}

/// The step that a node is: a value, and a constant that leaves its shape alone.
pub(super) fn step(g: &Graph, node: NodeId) -> Option<Step> {
    let (product, inverse) = match g.op(node) {
        Op::Binary(Binary::Mul) => (true, false),
        Op::Binary(Binary::Div) => (true, true),
        Op::Binary(Binary::Add) => (false, false),
        Op::Binary(Binary::Sub) => (false, true),
        _ => return None,
    };
    let (a, b) = (g.input_of(node, 0)?, g.input_of(node, 1)?);
    let given = |x: Value, c: Value| Some((x, scalar(g, c).filter(|_| fits_into(g, c, x))?));
    let (x, c) = match given(a, b) {
        Some(found) => found,
        None if inverse => return None,
        None => given(b, a)?,
    };
    if g.constant_of(x).is_some() || !g.ty(x).as_tensor().ok()?.dtype.is_float() {
        return None;
    }
    let by = match (product, inverse) {
        (true, true) => 1.0 / c,
        (false, true) => -c,
        _ => c,
    };
    by.is_finite().then_some(Step { x, product, by, divided: product && inverse })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_products_and_sums() {
        check(
            &ScalarChain,
            "two = f32[]{2.0}\neight = f32[1]{8.0}\na = Mul(x: f32[N], two)\nb = Div(a, eight)\n\
             c = Add(b, two)\ny = Sub(c, eight)\nreturn y",
            expect![[r#"
                x: f32[N]
                y/scalar_chain0 = f32[]{-6.0}
                b/scalar_chain0 = f32[]{0.25}
                b = Mul(x, b/scalar_chain0)
                y = Add(b, y/scalar_chain0)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_constants_on_the_left_of_a_difference_and_integers() {
        check(
            &ScalarChain,
            "two = f32[]{2.0}\nn = i64[]{2}\na = Sub(two, x: f32[N])\nb = Div(two, a)\n\
             c = Div(i: i64[N], n)\nd = Div(c, n)\nreturn b, d",
            expect!["(unchanged)\n"],
        );
    }
}
