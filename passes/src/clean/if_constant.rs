//! Puts the branch that runs in the place of an If.
//!
//! ```text
//! c = bool[]{true}
//! y = If(c, a) {then_branch=graph { a -> Relu(a) }, ..}   =>   y = Relu(a)
//! ```
//!
//! Saves the choice and the branch that never runs, and shows later rules what is inside. Exact.

use std::collections::HashMap;

use kiln_ir::ops::control::inline;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Result, Rewrite, Source, Type, Value, Verdict};

/// See the module.
pub struct IfConstant;

impl Rewrite for IfConstant {
    fn name(&self) -> &'static str {
        "if_constant"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::If(op) = g.op(root) else { return Ok(None) };
        let condition = g.input_of(root, 0).and_then(|c| g.constant_of(c));
        let Some(condition) = condition.and_then(|c| c.to_scalar::<bool>().ok()) else {
            return Ok(None);
        };
        let [then, other] = op.branches();
        let body = if condition { then } else { other };
        let inputs: Option<Vec<Value>> = g.inputs_of(root).into_iter().skip(1).collect();
        let inputs = inputs.filter(|i| i.len() == body.inputs().len());
        let inputs = inputs.filter(|i| fits(g, root, body, i)).ok_or(
            Decline::new("the branch fails on the types of what it reads")
                .advise("see the types with `kiln check`"),
        )?;
        match inlined(g, root, body, &inputs) {
            Ok(edit) => Ok(Some(edit)),
            Err(_) => Err(Decline::new("the branch has a cycle")),
        }
    }
}

/// Whether the nodes of a body take operands of these types and give the types of the root.
fn fits(g: &Graph, root: NodeId, body: &Graph, inputs: &[Value]) -> bool {
    let mut trial = Graph::new();
    let inputs: Vec<Value> = inputs.iter().map(|&v| trial.input("x", g.ty(v).clone())).collect();
    let Ok(outputs) = inline(&mut trial, body, &inputs) else { return false };
    outputs.len() == g.outputs_of(root).count()
        && outputs.iter().zip(g.outputs_of(root)).all(|(&a, b)| alike(trial.ty(a), g.ty(b)))
}

fn alike(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) => {
            let fits = |(p, q): (&kiln_ir::Dim, &kiln_ir::Dim)| {
                p == q || p.as_const().is_none() || q.as_const().is_none()
            };
            let ranks = match (&a.shape, &b.shape) {
                (Some(s), Some(t)) => s.len() == t.len() && s.iter().zip(t).all(fits),
                _ => true,
            };
            a.dtype == b.dtype && ranks
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// The nodes of a body, reading `inputs`, in the place of the root.
fn inlined(g: &Graph, root: NodeId, body: &Graph, inputs: &[Value]) -> Result<Edit> {
    let mut e = Edit::default();
    let mut made: HashMap<Value, Source> =
        body.inputs().zip(inputs.iter().map(|&v| Source::from(v))).collect();
    for id in body.order()? {
        let first = match body.op(id) {
            Op::Input(_) => continue,
            Op::Const(c) => e.constant((*c.0).clone()),
            op => {
                let operands = body.inputs_of(id).into_iter();
                let operands: Vec<_> = operands.map(|v| v.map(|v| made[&v])).collect();
                e.node(op.clone(), &operands)
            }
        };
        made.extend(body.outputs_of(id).map(|v| (v, first.slot(v.slot()))));
    }
    for (old, (_, new)) in g.outputs_of(root).zip(body.outputs()) {
        e.replace(old, made[new]);
    }
    Ok(e)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn the_branch_that_runs_takes_the_place() {
        check(
            &IfConstant,
            "c = bool[1]{0}\ny, z = If(c, x: f32[N,2], w: f32[2]) {captures=2, \
             then_branch=graph {\n a: f32[N,2]\n b: f32[2]\n d = Neg(a)\n return d, b\n}, \
             else_branch=graph {\n a: f32[N,2]\n b: f32[2]\n \
             p, q = Split(a) {axis=1, num_outputs=2}\n m = Sub(q, p)\n s = Mul(m, b)\n \
             return s, a\n}}\n\
             r = Relu(y)\nreturn r, z",
            expect![[r#"
                x: f32[N,2]
                w: f32[2]
                y/if_constant0, y/if_constant0#1 = Split(x) {axis=1, num_outputs=2}
                y/if_constant1 = Sub(y/if_constant0#1, y/if_constant0)
                y/if_constant2 = Mul(y/if_constant1, w)
                r = Relu(y/if_constant2)
                return r, z=x
            "#]],
        );
    }

    #[test]
    fn keeps_conditions_that_the_data_decides() {
        check(
            &IfConstant,
            "y = If(c: bool[], x: f32[N]) {captures=1, \
             then_branch=graph {\n a: f32[N]\n d = Neg(a)\n return d\n}, \
             else_branch=graph {\n a: f32[N]\n d = Exp(a)\n return d\n}}\nreturn y",
            expect!["(unchanged)\n"],
        );
    }

    #[test]
    fn keeps_a_branch_that_cannot_run() {
        check(
            &IfConstant,
            "c = bool[]{1}\nt = i64[1]{3}\nx = Reshape(w: f32[3], t)\n\
             y = If(c, x) {captures=1, \
             then_branch=graph {\n a: f32[..]\n k = f32[2]{1.0, 2.0}\n d = Add(a, k)\n \
             return d\n}, \
             else_branch=graph {\n a: f32[..]\n d = Exp(a)\n return d\n}}\nreturn y",
            expect![[r#"
                (unchanged)
                # if_constant @ y: the branch fails on the types of what it reads
            "#]],
        );
    }
}
