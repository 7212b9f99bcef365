//! Calculates what depends on constants only.
//!
//! ```text
//! c = f32[2]{1.0, 2.0}
//! d = Neg(c)            d = f32[2]{-1.0, -2.0}
//! y = Add(x, d)    =>   y = Add(x, d)
//! ```
//!
//! Saves the node at every run. Exact: the result is that of the operator's definition.
//! Results over the limits `fold-bytes` and `fold-total-bytes` are left to run time.

use std::cell::Cell;

use kiln_ir::{Context, Decline, Edit, Graph, Limits, NodeId, Op, Operator, Rewrite, Verdict};
use kiln_tensor::Datum;

use super::expand_broadcast;

/// See the module.
pub struct Fold {
    context: Context,
    most: u64,
    left: Cell<u64>,
}

impl Fold {
    /// The rule under the limits' budget.
    pub fn new(limits: &Limits) -> Self {
        let tensor_bytes = limits.fold_bytes.min(limits.tensor_bytes);
        let loop_trips = limits.loop_trips.min(1 << 10);
        let context = Context::new(Limits { tensor_bytes, loop_trips, ..limits.clone() });
        let most = limits.fold_total_bytes;
        Self { context, most, left: Cell::new(most) }
    }
}

impl Rewrite for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn begin(&self) {
        self.left.set(self.most);
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            // What reads it may calculate in integers: `fold_dequantize` takes what is left.
            Op::Input(_) | Op::Const(_) | Op::DequantizeLinear(_) => Ok(None),
            _ => self.calculate(g, root),
        }
    }
}

impl Fold {
    /// The results of a node in its place, where all operands are constant.
    pub(crate) fn calculate(&self, g: &Graph, root: NodeId) -> Verdict {
        let op = g.op(root);
        if op.traits().random {
            return Ok(None);
        }
        let operands = g.inputs_of(root);
        if operands.iter().flatten().any(|v| g.constant_of(*v).is_none()) {
            return Ok(None);
        }
        let expands = op.name() == "Expand";
        if expands && g.readers(root.first()).any(|(n, _)| expand_broadcast::fires(g, n)) {
            return Ok(None);
        }
        let data: Vec<Option<Datum>> = (operands.iter())
            .map(|v| v.and_then(|v| g.constant_of(v)).map(|t| t.clone().into()))
            .collect();
        let seen: Vec<_> = data.iter().map(Option::as_ref).collect();
        // What fails here fails when the model runs, where the caller can see it.
        let failed =
            |_| Decline::new("its definition fails on these constants, or is over fold-bytes");
        let mut context = self.context.clone();
        context.limits.tensor_bytes = context.limits.tensor_bytes.min(self.left.get());
        let made = op.eval(&context, &seen).map_err(failed)?;
        let bytes = made.iter().map(|d| d.nbytes() as u64).sum::<u64>();
        if bytes > self.left.get() || bytes > self.context.limits.tensor_bytes {
            return Err(Decline::new("the result is over fold-bytes or fold-total-bytes"));
        }
        let mut e = Edit::default();
        for (v, d) in g.outputs_of(root).zip(made) {
            let Datum::Tensor(t) = d else {
                return Err(Decline::new("the result is no tensor"));
            };
            let c = e.constant(t);
            e.replace(v, c);
        }
        self.left.set(self.left.get() - bytes);
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn folds_a_chain() {
        check(
            &Fold::new(&Limits::default()),
            "c = f32[2]{1.0, -2.0}\nd = Neg(c)\ne = Relu(d)\ny = Add(x: f32[2], e)\nreturn y",
            expect![[r#"
                x: f32[2]
                e = f32[2]{0.0, 2.0}
                y = Add(x, e)
                return y
            "#]],
        );
    }

    #[test]
    fn leaves_errors_to_run_time() {
        check(
            &Fold::new(&Limits::default()),
            "a = i32[]{1}\nb = i32[]{0}\ny = Div(a, b)\nreturn y",
            expect![[r#"
                (unchanged)
                # fold @ y: its definition fails on these constants, or is over fold-bytes
            "#]],
        );
    }

    #[test]
    fn respects_the_budget() {
        let limits = Limits { fold_bytes: 7, ..Limits::default() };
        check(
            &Fold::new(&limits),
            "a = f32[2]{1.0, 2.0}\ny = Neg(a)\nreturn y",
            expect![[r#"
                (unchanged)
                # fold @ y: the result is over fold-bytes or fold-total-bytes
            "#]],
        );
    }
}
