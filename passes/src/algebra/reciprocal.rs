//! Divides instead of multiplying by a reciprocal.
//!
//! ```text
//! r = Reciprocal(x)
//! y = Mul(z, r)       =>   y = Div(z, x)
//! ```
//!
//! Saves a pass over the elements of `x`. `Div(1, x)` is a reciprocal, too. Not exact: two
//! roundings become one.

use kiln_ir::ops::binary::Binary;
use kiln_ir::{Edit, Graph, NodeId, Rewrite, Source, Verdict};

use crate::forms::Forms;

/// See the module.
pub struct Reciprocal(Forms);

impl Reciprocal {
    /// The rule with its forms.
    pub fn new() -> Self {
        Self(Forms::new(&["Mul(z, [Reciprocal(x) | Div(1, x)])"]))
    }
}

impl Default for Reciprocal {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewrite for Reciprocal {
    fn name(&self) -> &'static str {
        "reciprocal"
    }

    fn exact(&self) -> bool {
        false
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(m) = self.0.find(g, root) else { return Ok(None) };
        let (Some(z), Some(x)) = (m.get("z"), m.get("x")) else { return Ok(None) };
        // Of integers, a reciprocal is 0 or 1.
        if !g.ty(x).as_tensor().is_ok_and(|t| t.dtype.is_float()) {
            return Ok(None);
        }
        let mut e = Edit::default();
        let y = e.node(Binary::Div, &[Some(Source::from(z)), Some(x.into())]);
        e.replace(root.first(), y);
        e.absorb_below(m.nodes());
        Ok(Some(e))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn divides_by_what_is_under_the_bar() {
        check(
            &Reciprocal::new(),
            "one = f32[]{1.0}\nr = Reciprocal(x: f32[N,1])\ny = Mul(r, z: f32[N,3])\n\
             d = Div(one, y)\nw = Mul(x, d)\nreturn w",
            expect![[r#"
                x: f32[N,1]
                z: f32[N,3]
                y = Div(z, x)
                w = Div(x, y)
                return w
            "#]],
        );
    }

    #[test]
    fn keeps_integers_and_what_others_read() {
        check(
            &Reciprocal::new(),
            "one = i64[]{1}\nd = Div(one, i: i64[N])\nv = Mul(d, i)\nr = Reciprocal(x: f32[N])\n\
             y = Mul(r, z: f32[N])\nreturn v, y, r",
            expect![[r#"
                (unchanged)
                # reciprocal @ y: an inner value is an output of the graph
            "#]],
        );
    }
}
