//! Replaces integers that inference knows by constants.
//!
//! ```text
//! s = Shape(x: f32[2,3])
//! y = Reshape(z, s)   =>   s = i64[2]{2, 3}
//!                          y = Reshape(z, s)
//! ```
//!
//! Saves the sub-graphs that exporters write to calculate shapes, and shows later rules that
//! these shapes are constant. Exact.

use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Type, Verdict};
use kiln_tensor::{DType, Tensor};

/// See the module.
pub struct FoldShape;

impl Rewrite for FoldShape {
    fn name(&self) -> &'static str {
        "fold_shape"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if matches!(g.op(root), Op::Input(_) | Op::Const(_)) {
            return Ok(None);
        }
        let mut e = Edit::default();
        let mut found = false;
        for v in g.outputs_of(root).filter(|&v| g.is_read(v)) {
            if let Some(t) = known(g, v) {
                let c = e.constant(t);
                e.replace(v, c);
                found = true;
            }
        }
        Ok(found.then_some(e))
    }
}

/// The tensor that a value is known to be.
fn known(g: &Graph, v: kiln_ir::Value) -> Option<Tensor> {
    let fact = g.fact(v);
    let numbers: Option<Vec<i64>> = fact.dims.as_ref()?.iter().map(|d| d.as_const()).collect();
    let Type::Tensor(ty) = &fact.ty else { return None };
    if ty.dtype != DType::I64 {
        return None;
    }
    Tensor::from_vec(&ty.static_shape()?, numbers?).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn a_known_shape_becomes_a_constant() {
        check(
            &FoldShape,
            "s = Shape(x: f32[2,3])\nreturn s",
            expect![[r#"
                x: f32[2,3]
                s = i64[2]{2, 3}
                return s
            "#]],
        );
    }

    #[test]
    fn a_symbol_stays() {
        check(&FoldShape, "s = Shape(x: f32[N,3])\nreturn s", expect!["(unchanged)\n"]);
    }
}
