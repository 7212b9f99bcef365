//! Joins bounds.
//!
//! ```text
//! a = Relu(x)
//! y = Clip(a, l, h)      =>   y = Clip(x, max(0, l), max(0, h))
//! ```
//!
//! Saves one of two passes over all elements; two of `Relu` and `Clip` in any order are one.
//! `min(max(x, l), h)` twice is the same with the inner bounds clipped by the outer ones. Not
//! exact in one point: a zero may change its sign.

use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Attrs, Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Verdict};
use kiln_tensor::{Scalar, Tensor, match_float};

/// See the module.
pub struct ClipChain;

impl Rewrite for ClipChain {
    fn name(&self) -> &'static str {
        "clip_chain"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(outer) = bounds(g, root)? else { return Ok(None) };
        let Some(middle) = g.input_of(root, 0) else { return Ok(None) };
        let Some(inner) = bounds(g, middle.node)? else { return Ok(None) };
        let (Some(x), Ok(ty)) = (g.input_of(middle.node, 0), g.ty(middle).as_tensor()) else {
            return Ok(None);
        };
        // A clip whose bounds cross gives the upper one.
        let clip = |x: f64, (low, high): (f64, f64)| x.max(low).min(high);
        let joined = (clip(inner.0, outer), clip(inner.1.max(inner.0.min(inner.1)), outer));
        if joined == inner {
            return Ok(Some(Edit::replacing(root.first(), middle)));
        }
        let dtype = ty.dtype;
        let number = |x: f64| {
            match_float!(dtype, T => {
                let x = <T as Scalar>::from_f64(x);
                Some(Tensor::scalar(x))
            }, else None)
        };
        let (Some(low), Some(high)) = (number(joined.0), number(joined.1)) else {
            return Err(Decline::new("bounds of integers are not joined"));
        };
        let mut e = Edit::default();
        let x = Some(Source::from(x));
        let y = if joined == (0.0, f64::INFINITY) {
            e.call("Relu", &[x], Attrs::default())
        } else {
            let (low, high) = (e.constant(low), e.constant(high));
            e.call("Clip", &[x, Some(low), Some(high)], Attrs::default())
        };
        e.replace(root.first(), y);
        e.absorb(middle);
        Ok(Some(e))
    }
}

/// The bounds that a node clips to; `None` for other operators.
fn bounds(g: &Graph, node: NodeId) -> Result<Option<(f64, f64)>, Decline> {
    let bound = |i, open| match g.input_of(node, i) {
        None => Ok(open),
        Some(v) => crate::forms::scalar(g, v).filter(|x| !x.is_nan()).ok_or(
            Decline::new("a bound is not constant").advise("export Clip with constant bounds"),
        ),
    };
    match g.op(node) {
        Op::Unary(Unary::Relu) => Ok(Some((0.0, f64::INFINITY))),
        Op::Select(Select::Clip) => {
            Ok(Some((bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn joins_two_of_a_kind_and_two_kinds() {
        check(
            &ClipChain,
            "h = f32[]{6.0}\nl = f32[]{-1.0}\na = Relu(x: f32[N])\nb = Clip(a, l, h)\n\
             c = Relu(b)\nd = Relu(z: f32[N])\ne = Relu(d)\nreturn c, e",
            expect![[r#"
                x: f32[N]
                z: f32[N]
                d = Relu(z)
                b/clip_chain0 = f32[]{0.0}
                b/clip_chain1 = f32[]{6.0}
                b = Clip(x, b/clip_chain0, b/clip_chain1)
                return c=b, e=d
            "#]],
        );
    }

    #[test]
    fn bounds_that_do_not_meet_give_one_number() {
        check(
            &ClipChain,
            "a = f32[]{1.0}\nb = f32[]{2.0}\nc = f32[]{3.0}\nd = f32[]{4.0}\n\
             p = Clip(x: f32[N], a, b)\ny = Clip(p, c, d)\nreturn y",
            expect![[r#"
                x: f32[N]
                y/clip_chain0 = f32[]{3.0}
                y/clip_chain1 = f32[]{3.0}
                y = Clip(x, y/clip_chain0, y/clip_chain1)
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_bounds_that_are_not_known() {
        check(
            &ClipChain,
            "a = Relu(x: f32[N])\ny = Clip(a, l: f32[])\nreturn y",
            expect![[r#"
                (unchanged)
                # clip_chain @ y: a bound is not constant
            "#]],
        );
    }
}
