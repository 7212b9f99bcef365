//! Removes nodes that nothing reads.
//!
//! ```text
//! a = Relu(x)
//! b = Neg(x)
//! return b      =>   b = Neg(x)
//!                    return b
//! ```
//!
//! Saves the whole node. Exact.

use kiln_ir::{Edit, Graph, NodeId, Op, Rewrite, Verdict};

/// See the module.
pub struct Dead;

impl Rewrite for Dead {
    fn name(&self) -> &'static str {
        "dead"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let read = g.outputs_of(root).any(|v| g.is_read(v));
        // The engine removes the root of every edit that leaves it unread.
        Ok((!read && !matches!(g.op(root), Op::Input(_))).then(Edit::default))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn removes_a_chain_that_nothing_reads() {
        check(
            &Dead,
            "a = Relu(x: f32[N])\nb = Exp(a)\nc = Neg(x)\nreturn c",
            expect![[r#"
                x: f32[N]
                c = Neg(x)
                return c
            "#]],
        );
    }

    #[test]
    fn maps_and_labels_that_nothing_reads_go() {
        check(
            &Dead,
            "l, p = ai.onnx.ml.LinearClassifier(x: f32[N,1]) {coefficients=[1.0], \
             intercepts=[0.5], classlabels_ints=[3,4]}\n\
             n = ai.onnx.ml.Normalizer(p)\n\
             z = ai.onnx.ml.ZipMap(n) {classlabels_int64s=[3,4]}\n\
             s = ai.onnx.ml.LabelEncoder(l) {keys_int64s=[3,4], values_strings=[\"a\",\"b\"]}\n\
             return p",
            expect![[r#"
                x: f32[N,1]
                l, l#1 = ai.onnx.ml.LinearClassifier(x) {classlabels_ints=[3,4], coefficients=[1.0],
                    intercepts=[0.5]}
                return p=l#1
            "#]],
        );
    }

    #[test]
    fn keeps_inputs_and_what_is_read() {
        check(&Dead, "x: f32[N]\nb = Neg(y: f32[N])\nreturn b", expect!["(unchanged)\n"]);
    }
}
