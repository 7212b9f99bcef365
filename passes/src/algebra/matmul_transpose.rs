//! Reads an operand of a product across instead of transposing it.
//!
//! ```text
//! t = Transpose(b) {perm=[0,2,1]}
//! y = MatMul(a, t)                   =>   y = com.microsoft.FusedMatMul(a, b) {transB=1}
//! ```
//!
//! Saves a move of all elements of the operand. Exact: the same products in the same order.

use crate::forms::sources;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::matmul::Gemm;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};

/// See the module.
pub struct MatMulTranspose;

impl Rewrite for MatMulTranspose {
    fn name(&self) -> &'static str {
        "matmul_transpose"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let mut inputs = sources(g, root);
        let op: Op = match g.op(root) {
            Op::MatMul(m) => {
                let mut m = *m;
                let flags = [(&mut m.trans_a, m.trans_batch_a), (&mut m.trans_b, m.trans_batch_b)];
                match turned(g, root, flags, &mut inputs)? {
                    true => m.into(),
                    false => return Ok(None),
                }
            }
            Op::Gemm(m) => {
                let mut m: Gemm = *m;
                let flags = [(&mut m.trans_a, false), (&mut m.trans_b, false)];
                match turned(g, root, flags, &mut inputs)? {
                    true => m.into(),
                    false => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let mut e = Edit::default();
        let y = e.node(op, &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// Turns the flags of operands that are transpositions, and reads what these read.
fn turned(
    g: &Graph,
    root: NodeId,
    flags: [(&mut bool, bool); 2],
    inputs: &mut [Option<Source>],
) -> Result<bool, Decline> {
    let mut any = false;
    for (i, (flag, batch)) in flags.into_iter().enumerate() {
        let Some(x) = g.input_of(root, i).and_then(|v| crossed(g, v)) else { continue };
        if batch {
            return Err(Decline::new("the batch axis of the operand is moved, too"));
        }
        *flag = !*flag;
        inputs[i] = Some(x.into());
        any = true;
    }
    Ok(any)
}

/// What a value is the transposition of, where just its last two axes change places.
fn crossed(g: &Graph, v: Value) -> Option<Value> {
    let Op::Layout(Layout::Transpose { perm }) = g.op(v.node) else { return None };
    let x = g.input_of(v.node, 0)?;
    let rank = g.ty(x).rank().filter(|r| *r >= 2)?;
    let mut want: Vec<i64> = (0..rank as i64).collect();
    want.swap(rank - 2, rank - 1);
    let is = match perm {
        Some(perm) => *perm == want,
        None => rank == 2,
    };
    is.then_some(x)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn turns_flags_of_products_and_gemms() {
        check(
            &MatMulTranspose,
            "t = Transpose(b: f32[N,4,3]) {perm=[0,2,1]}\ny = MatMul(a: f32[N,2,3], t)\n\
             u = Transpose(c: f32[4,3])\nz = Gemm(u, d: f32[4,5])\nreturn y, z",
            expect![[r#"
                b: f32[N,4,3]
                a: f32[N,2,3]
                c: f32[4,3]
                d: f32[4,5]
                z = Gemm(c, d) {transA=1}
                y = com.microsoft.FusedMatMul(a, b) {transB=1}
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_orders() {
        check(
            &MatMulTranspose,
            "t = Transpose(b: f32[4,N,3]) {perm=[1,2,0]}\ny = MatMul(a: f32[N,2,3], t)\nreturn y",
            expect!["(unchanged)\n"],
        );
    }
}
