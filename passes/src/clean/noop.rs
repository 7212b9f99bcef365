//! Removes nodes whose first output is their first input.
//!
//! ```text
//! a = Identity(x)
//! y = Relu(a)      =>   y = Relu(x)
//! ```
//!
//! Saves a copy. Exact to the bit: `x + 0.0` is kept, for it turns -0.0 into 0.0.

use kiln_ir::{Attr, Edit, Graph, NodeId, Op, Operator, Rewrite, Type, Value, Verdict};
use kiln_tensor::Tensor;

/// See the module.
pub struct Noop;

impl Rewrite for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        if matches!(g.op(root), Op::Input(_) | Op::Const(_)) {
            return Ok(None);
        }
        let Some(x) = g.input_of(root, 0) else { return Ok(None) };
        let others_read = g.outputs_of(root).skip(1).any(|v| g.is_read(v));
        if others_read || !does_nothing(g, root, x) {
            return Ok(None);
        }
        Ok(Some(Edit::replacing(root.first(), x)))
    }
}

fn does_nothing(g: &Graph, root: NodeId, x: Value) -> bool {
    let (from, to) = (g.ty(x), g.ty(root.first()));
    let operand = |i: usize| g.input_of(root, i).and_then(|v| g.constant_of(v));
    let same = || from == to && from.rank().is_some();
    match g.op(root).name() {
        "Identity" => true,
        "Cast" | "CastLike" => same_dtype(from, to),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" => same(),
        "Transpose" => keeps_order(g, root, from),
        "Concat" | "Sum" | "Max" | "Min" | "Mean" => g.inputs_of(root).len() == 1,
        "Slice" => same() && (g.input_of(root, 4).is_none() || operand(4).is_some_and(ones)),
        "Tile" => operand(1).is_some_and(ones),
        "Pad" => operand(1).is_some_and(|t| all(t, 0.0)),
        "Mul" | "Div" => from == to && operand(1).is_some_and(ones),
        "Pow" => from == to && operand(1).is_some_and(ones),
        "Sub" => from == to && operand(1).is_some_and(positive_zeros),
        "Dropout" => operand(2).is_none_or(|t| all(t, 0.0)) && g.input_of(root, 2).is_none(),
        _ => false,
    }
}

fn same_dtype(a: &Type, b: &Type) -> bool {
    matches!((a, b), (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype)
}

fn keeps_order(g: &Graph, root: NodeId, from: &Type) -> bool {
    match g.op(root).attrs().get("perm") {
        Some(Attr::Ints(p)) => p.iter().enumerate().all(|(i, &p)| p == i as i64),
        _ => from.rank().is_some_and(|r| r <= 1),
    }
}

fn all(t: &Tensor, want: f64) -> bool {
    t.to_vec::<f64>().is_ok_and(|v| v.iter().all(|&x| x == want))
}

fn ones(t: &Tensor) -> bool {
    all(t, 1.0)
}

/// `x - 0.0` is `x`, `x - -0.0` turns -0.0 into 0.0.
fn positive_zeros(t: &Tensor) -> bool {
    t.to_vec::<f64>().is_ok_and(|v| v.iter().all(|x| x.to_bits() == 0))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn removes_what_changes_nothing() {
        check(
            &Noop,
            "one = f32[]{1.0}\ns = i64[2]{-1, 3}\na = Identity(x: f32[N,3])\nb = Mul(a, one)\n\
             c = Transpose(b) {perm=[0,1]}\nd = Reshape(c, s)\ny = Relu(d)\nreturn y",
            expect![[r#"
                x: f32[N,3]
                y = Relu(x)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_broadcasts_or_touches_zeros() {
        check(
            &Noop,
            "one = f32[2,1]{1.0, 1.0}\nzero = f32[]{0.0}\na = Mul(x: f32[3], one)\n\
             b = Add(a, zero)\nreturn b",
            expect!["(unchanged)\n"],
        );
    }
}
