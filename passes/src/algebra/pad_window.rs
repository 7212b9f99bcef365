//! Lets a window pad for itself.
//!
//! ```text
//! p = Pad(x, [0,0,1,1, 0,0,1,1])
//! y = Conv(p, w)                   =>   y = Conv(x, w) {pads=[1,1,1,1]}
//! ```
//!
//! Saves a copy of all of `x`. Exact: convolutions pad with zeros, too. The least number of a
//! `MaxPool` is no zero, so it keeps its `Pad`.

use kiln_ir::ops::pad::{Pad, PadMode};
use kiln_ir::ops::window::AutoPad;
use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Verdict};

use crate::forms::{ints, scalar, sources};

/// See the module.
pub struct PadWindow;

impl Rewrite for PadWindow {
    fn name(&self) -> &'static str {
        "pad_window"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Op::Conv(conv) = g.op(root) else { return Ok(None) };
        let Some(p) = g.input_of(root, 0).filter(|p| matches!(g.op(p.node), Op::Pad(_))) else {
            return Ok(None);
        };
        let (Some(x), Some(pads)) = (g.input_of(p.node, 0), g.input_of(p.node, 1)) else {
            return Ok(None);
        };
        let zeros = g.input_of(p.node, 2).is_none_or(|v| scalar(g, v).map(f64::to_bits) == Some(0));
        if !zeros || !is_constant(g.op(p.node)) {
            return Err(Decline::new("the padding is not zeros"));
        }
        if g.input_of(p.node, 3).is_some() || conv.window.auto_pad != AutoPad::NotSet {
            return Err(Decline::new("the axes or the padding of the window are not plain"));
        }
        let pads = ints(g, pads).ok_or(Decline::new("the padding is not constant"))?;
        let rank = pads.len() / 2;
        let outer = [0, 1, rank, rank + 1].iter().any(|&i| pads.get(i) != Some(&0));
        if rank < 3 || outer || pads.iter().any(|&n| n < 0) {
            return Err(Decline::new("more than spatial axes are padded, or some are cut"));
        }
        let spatial = rank - 2;
        let mut conv = conv.clone();
        conv.window.pads.resize(2 * spatial, 0);
        for i in 0..spatial {
            conv.window.pads[i] += pads[2 + i];
            conv.window.pads[spatial + i] += pads[rank + 2 + i];
        }
        let mut inputs = sources(g, root);
        inputs[0] = Some(x.into());
        let mut e = Edit::default();
        let y = e.node(conv, &inputs);
        e.replace(root.first(), y);
        Ok(Some(e))
    }
}

fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Pad(Pad::Ends(PadMode::Constant)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn adds_to_the_pads_of_the_window() {
        check(
            &PadWindow,
            "p = i64[8]{0,0,1,2, 0,0,3,4}\na = Pad(x: f32[N,2,5,5], p)\n\
             y = Conv(a, w: f32[3,2,2,2]) {pads=[1,0,0,0]}\nreturn y",
            expect![[r#"
                x: f32[N,2,5,5]
                w: f32[3,2,2,2]
                y = Conv(x, w) {pads=[2,2,3,4]}
                return y
            "#]],
        );
    }

    #[test]
    fn keeps_other_paddings() {
        check(
            &PadWindow,
            "p = i64[6]{0,1,0, 0,0,0}\nq = i64[6]{0,0,1, 0,0,0}\nv = f32[]{1.0}\n\
             a = Pad(x: f32[N,2,5], p)\nb = Pad(x, q, v)\nc = Pad(x, q) {mode=\"edge\"}\n\
             d = Conv(a, w: f32[3,3,2])\ne = Conv(b, u: f32[3,2,2])\nf = Conv(c, u)\n\
             return d, e, f",
            expect![[r#"
                (unchanged)
                # pad_window @ d: more than spatial axes are padded, or some are cut
                # pad_window @ e: the padding is not zeros
                # pad_window @ f: the padding is not zeros
            "#]],
        );
    }
}
