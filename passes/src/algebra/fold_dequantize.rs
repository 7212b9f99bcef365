//! Calculates weights that are kept as integers, where no integer operator has taken them.
//!
//! ```text
//! w = i8[2]{1, -2}
//! v = DequantizeLinear(w, 0.5)      v = f32[2]{0.5, -1.0}
//! y = Add(x, v)                =>   y = Add(x, v)
//! ```
//!
//! Saves the node at every run; the weights take four times as much memory. Exact: the result is
//! that of the operator's definition. As `fold`, but after the rules that look for dequantizers.

use kiln_ir::{Graph, Limits, NodeId, Op, Rewrite, Verdict};

use crate::clean::fold::Fold;

/// See the module.
pub struct FoldDequantize(Fold);

impl FoldDequantize {
    /// The rule under the limits' budget.
    pub fn new(limits: &Limits) -> Self {
        Self(Fold::new(limits))
    }
}

impl Rewrite for FoldDequantize {
    fn name(&self) -> &'static str {
        "fold_dequantize"
    }

    fn begin(&self) {
        self.0.begin();
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::DequantizeLinear(_) => self.0.calculate(g, root),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn folds_weights_only() {
        check(
            &FoldDequantize::new(&Limits::default()),
            "s = f32[]{0.5}\nw = i8[2]{1, -2}\nv = DequantizeLinear(w, s)\nn = Neg(s)\n\
             d = DequantizeLinear(x: i8[2], n)\ny = Add(d, v)\nreturn y",
            expect![[r#"
                x: i8[2]
                s = f32[]{0.5}
                n = Neg(s)
                d = DequantizeLinear(x, n)
                v = f32[2]{0.5, -1.0}
                y = Add(d, v)
                return y
            "#]],
        );
    }

    #[test]
    fn respects_the_budget() {
        let limits = Limits { fold_bytes: 7, ..Limits::default() };
        check(
            &FoldDequantize::new(&limits),
            "s = f32[]{0.5}\nw = i8[2]{1, -2}\ny = DequantizeLinear(w, s)\nreturn y",
            expect![[r#"
                (unchanged)
                # fold_dequantize @ y: its definition fails on these constants, or is over fold-bytes
            "#]],
        );
    }
}
