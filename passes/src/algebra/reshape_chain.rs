//! Gives a value its last shape at once.
//!
//! ```text
//! a = Unsqueeze(x: f32[N,6], [0])
//! y = Reshape(a, [-1,2,3])          =>   y = Reshape(x, [-1,2,3])
//! ```
//!
//! Saves one of two views, and lets later rules see what feeds what. Exact: a view moves no
//! element. Fires where all lengths of the result but one are known.

use kiln_ir::ops::layout::Layout;
use kiln_ir::{Attrs, Decline, Dim, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;

/// See the module.
pub struct ReshapeChain;

impl Rewrite for ReshapeChain {
    fn name(&self) -> &'static str {
        "reshape_chain"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(middle) = viewed(g, root) else { return Ok(None) };
        let Some(x) = viewed(g, middle.node) else { return Ok(None) };
        // The last of many joins them from behind: the two before it may cancel.
        let last = g.only_reader(root.first()).filter(|&n| viewed(g, n) == Some(root.first()));
        if last.is_some_and(|n| shape_of(g, n).is_some()) {
            return Ok(None);
        }
        if g.ty(x) == g.ty(root.first()) && g.ty(x).rank().is_some() {
            return Ok(Some(Edit::replacing(root.first(), x)));
        }
        let shape = shape_of(g, root).ok_or(
            Decline::new("two lengths of the result are unknown")
                .advise("fix all symbols but one, with --dim NAME=N"),
        )?;
        let mut e = Edit::default();
        let shape = e.constant(Tensor::vector(shape));
        let y = e.call("Reshape", &[Some(Source::from(x)), Some(shape)], Attrs::default());
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

/// What a view is a view of.
fn viewed(g: &Graph, node: NodeId) -> Option<Value> {
    let is_view = matches!(
        g.op(node),
        Op::Layout(
            Layout::Reshape { .. } | Layout::Flatten { .. } | Layout::Squeeze | Layout::Unsqueeze
        )
    );
    g.input_of(node, 0).filter(|_| is_view)
}

/// The shape that a view gives, as `Reshape` takes it.
fn shape_of(g: &Graph, view: NodeId) -> Option<Vec<i64>> {
    target(g.ty(view.first()).as_tensor().ok()?.shape.as_deref()?)
}

/// The lengths as `Reshape` takes them: at most one is unknown, and none is 0.
fn target(dims: &[Dim]) -> Option<Vec<i64>> {
    let shape: Vec<i64> = dims.iter().map(|d| d.as_const().unwrap_or(-1)).collect();
    let unknown = shape.iter().filter(|n| **n < 0).count();
    (unknown <= 1 && shape.iter().all(|n| *n != 0)).then_some(shape)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_views_of_all_kinds() {
        check(
            &ReshapeChain,
            "o = i64[1]{0}\ns = i64[3]{-1, 2, 3}\na = Unsqueeze(x: f32[N,6], o)\n\
             b = Reshape(a, s)\ny = Flatten(b) {axis=2}\nreturn y",
            expect![[r#"
                x: f32[N,6]
                y/reshape_chain0 = i64[2]{-1, 3}
                y = Reshape(x, y/reshape_chain0)
                return y
            "#]],
        );
    }

    #[test]
    fn two_that_cancel_are_nothing() {
        check(
            &ReshapeChain,
            "o = i64[1]{0}\na = Unsqueeze(x: f32[N,M], o)\nb = Squeeze(a, o)\n\
             y = Relu(b)\nreturn y",
            expect![[r#"
                x: f32[N,M]
                y = Relu(x)
                return y
            "#]],
        );
    }

    #[test]
    fn the_last_two_that_cancel_leave_the_first() {
        check(
            &ReshapeChain,
            "o = i64[1]{0}\ne = i64[1]{-1}\na = Unsqueeze(x: f32[4], e)\n\
             b = Unsqueeze(a, o)\nc = Squeeze(b, o)\ny = Relu(c)\nreturn y",
            expect![[r#"
                x: f32[4]
                e = i64[1]{-1}
                a = Unsqueeze(x, e)
                y = Relu(a)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_what_two_symbols_shape() {
        check(
            &ReshapeChain,
            "o = i64[1]{0}\nt = i64[1]{2}\na = Unsqueeze(x: f32[N,M], o)\n\
             y = Unsqueeze(a, t)\nreturn y",
            expect![[r#"
                (unchanged)
                # reshape_chain @ y: two lengths of the result are unknown
            "#]],
        );
    }
}
