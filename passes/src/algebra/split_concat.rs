//! Leaves out a Split and a Concat that undo one another.
//!
//! ```text
//! a, b = Split(x) {axis=1}
//! y = Concat(a, b) {axis=1}    =>   y = x
//! c = Concat(p: f32[N,2], q: f32[N,3]) {axis=1}
//! d, e = Split(c, [2,3]) {axis=1}                 =>   d = p, e = q
//! ```
//!
//! Saves both copies of all elements, where nothing else reads the parts or the whole. Exact.

use kiln_ir::ops::concat::Concat;
use kiln_ir::{Decline, Dim, Edit, Graph, NodeId, Op, Rewrite, Source, Value, Verdict};
use kiln_tensor::shape::axis;

use crate::forms::dims;

/// See the module.
pub struct SplitConcat;

impl Rewrite for SplitConcat {
    fn name(&self) -> &'static str {
        "split_concat"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::Concat(Concat::Join { axis }) => Ok(joined(g, root, *axis)),
            Op::Concat(Concat::Split { axis, .. }) => taken(g, root, *axis),
            _ => Ok(None),
        }
    }
}

/// A Concat that reads all parts of a Split in order reads what is split.
fn joined(g: &Graph, root: NodeId, along: i64) -> Option<Edit> {
    let operands: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
    let rank = dims(g, root.first())?.len();
    let along = axis(along, rank).ok()?;
    let whole = |rest: &[Value]| {
        let split = rest.first()?.node;
        let Op::Concat(Concat::Split { axis: cut, .. }) = g.op(split) else { return None };
        let parts: Vec<Value> = g.outputs_of(split).collect();
        let (all, n) = (rest.starts_with(&parts), parts.len());
        let x = g.input_of(split, 0).filter(|&x| dims(g, x).is_some_and(|d| d.len() == rank))?;
        (all && axis(*cut, rank).ok() == Some(along)).then_some((x, n))
    };
    let mut inputs: Vec<Option<Source>> = Vec::new();
    let mut at = 0;
    while at < operands.len() {
        let (v, n) = whole(&operands[at..]).unwrap_or((operands[at], 1));
        inputs.push(Some(v.into()));
        at += n;
    }
    let mut e = Edit::default();
    let y = match inputs[..] {
        _ if inputs.len() == operands.len() && whole(&operands).is_none() => return None,
        [Some(x)] => x,
        _ => e.node(Concat::Join { axis: along as i64 }, &inputs),
    };
    e.replace(root.first(), y);
    Some(e)
}

/// The parts of a Split of a Concat that are operands of it.
fn taken(g: &Graph, root: NodeId, cut: i64) -> Verdict {
    let Some(c) = g.input_of(root, 0) else { return Ok(None) };
    let Op::Concat(Concat::Join { axis: along }) = g.op(c.node) else { return Ok(None) };
    let rank = dims(g, c).map_or(0, <[_]>::len);
    let (Ok(cut), Ok(along)) = (axis(cut, rank), axis(*along, rank)) else { return Ok(None) };
    if cut != along {
        return Ok(None);
    }
    let operands: Vec<Value> = g.inputs_of(c.node).into_iter().flatten().collect();
    let (Some(parts), Some(operands)) =
        (places(g, g.outputs_of(root), cut), places(g, operands.into_iter(), cut))
    else {
        return Ok(None);
    };
    let mut e = Edit::default();
    let mut any = false;
    for (v, from, to) in parts.into_iter().filter(|p| g.is_read(p.0)) {
        if let Some((w, ..)) = operands.iter().find(|o| o.1 == from && o.2 == to) {
            e.replace(v, *w);
            any = true;
        }
    }
    match any {
        true => Ok(Some(e)),
        false => Err(Decline::new("no part is known to be an operand of the Concat")
            .advise("fix the symbols of the lengths with --dim NAME=N")),
    }
}

/// Values one after the other along an axis, with the places where each begins and ends.
fn places(
    g: &Graph,
    values: impl Iterator<Item = Value>,
    along: usize,
) -> Option<Vec<(Value, Dim, Dim)>> {
    let mut at = Dim::from(0i64);
    values
        .map(|v| {
            let from = at.clone();
            at = from.clone() + dims(g, v)?.get(along)?.clone();
            Some((v, from, at.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn all_parts_in_order_are_the_whole() {
        check(
            &SplitConcat,
            "a, b = Split(x: f32[N,M]) {axis=1, num_outputs=2}\nc = Concat(a, b) {axis=-1}\n\
             d = Concat(x, a, b, x) {axis=1}\ny = Relu(c)\nreturn y, d",
            expect![[r#"
                x: f32[N,M]
                d = Concat(x, x, x) {axis=1}
                y = Relu(x)
                return y, d
            "#]],
        );
    }

    #[test]
    fn parts_that_are_operands_are_read_as_such() {
        check(
            &SplitConcat,
            "k = i64[3]{2, 1, 2}\nc = Concat(p: f32[N,2], q: f32[N,3]) {axis=1}\n\
             d, e, f = Split(c, k) {axis=1}\ny = Relu(d)\nz = Relu(e)\n\
             m = Concat(u: f32[N], v: f32[N]) {axis=0}\ns, t = Split(m)\nw = Sub(t, s)\n\
             return y, z, w",
            expect![[r#"
                p: f32[N,2]
                q: f32[N,3]
                u: f32[N]
                v: f32[N]
                k = i64[3]{2, 1, 2}
                c = Concat(p, q) {axis=1}
                d, d#1, d#2 = Split(c, k) {axis=1, num_outputs=3}
                y = Relu(p)
                z = Relu(d#1)
                w = Sub(v, u)
                return y, z, w
            "#]],
        );
    }

    #[test]
    fn keeps_other_orders_and_other_borders() {
        check(
            &SplitConcat,
            "a, b = Split(x: f32[N,4]) {axis=1, num_outputs=2}\nc = Concat(b, a) {axis=1}\n\
             k = i64[2]{1, 4}\np = Concat(u: f32[2], v: f32[3]) {axis=0}\nd, e = Split(p, k)\n\
             y = Relu(d)\nreturn c, y",
            expect![[r#"
                (unchanged)
                # split_concat @ d: no part is known to be an operand of the Concat
            "#]],
        );
    }
}
