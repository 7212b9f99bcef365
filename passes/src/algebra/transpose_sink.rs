//! Moves transpositions behind what does not care about the order of axes.
//!
//! ```text
//! a = Transpose(x) {perm=[0,2,3,1]}
//! b = Transpose(z) {perm=[0,2,3,1]}      c = Add(x, z)
//! y = Add(a, b)                     =>   y = Transpose(c) {perm=[0,2,3,1]}
//! ```
//!
//! Saves all moves but one where several operands are transposed alike. A single one moves only
//! where it meets, behind operators that feed nothing else, another one or what reads across
//! itself. A reduction takes the axes as they were before, so that what is left to be moved is
//! its result; a Concat of operands that are transposed alike is the transposition of one. Exact:
//! sums are taken in the same order, else the rule declines. Lengths may be symbols.

use kiln_ir::ops::arg::{Arg, ArgAttrs};
use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::reduce::Reduce;
use kiln_ir::{Attrs, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Source, Value, Verdict};
use kiln_tensor::Tensor;
use kiln_tensor::shape::{axis, offsets, strides};

use crate::forms::{dims, element_size, ints, sole_reader, transposed};

/// See the module.
pub struct TransposeSink;

impl Rewrite for TransposeSink {
    fn name(&self) -> &'static str {
        "transpose_sink"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::Reduce(r) => reduced(g, root, *r),
            Op::Arg(a) => searched(g, root, *a),
            Op::Concat(Concat::Join { axis }) => joined(g, root, *axis),
            _ if is_elementwise(g, root) => elementwise(g, root),
            _ => Ok(None),
        }
    }
}

/// Constants of more elements are not stored in two orders.
const SHARED: usize = 1 << 12;
/// How far a chain of operators is followed.
const FAR: usize = 64;

const OTHERWISE: Decline = Decline::new("an operand is not transposed alike");

fn is_elementwise(g: &Graph, node: NodeId) -> bool {
    let op = g.op(node);
    op.traits().elementwise
        && !op.traits().random
        && !matches!(op, Op::Region(_) | Op::Custom(_))
        && g.outputs_of(node).count() == 1
}

/// The transposition behind an elementwise operator instead of before.
fn elementwise(g: &Graph, root: NodeId) -> Verdict {
    let operands = g.inputs_of(root);
    let own = |v: Value| transposed(g, v).filter(|_| sole_reader(g, v) == Some(root));
    let Some((_, perm)) = operands.iter().flatten().find_map(|&v| own(v)) else {
        return Ok(None);
    };
    let alike = |v: &Value| own(*v).is_some_and(|(_, p)| p == perm);
    let mut private: Vec<Value> = operands.iter().flatten().copied().filter(alike).collect();
    private.sort();
    private.dedup();
    if private.len() < 2 && !meets(g, root, &perm) {
        return Ok(None);
    }
    let out = root.first();
    if !private.iter().any(|&v| pays_for(g, v, out)) {
        return Err(Decline::new("there would be more to move behind than before"));
    }
    operands.iter().flatten().try_for_each(|&v| can_turn(g, v, &perm))?;
    let mut e = Edit::default();
    let inputs: Vec<_> = operands.iter().map(|v| v.map(|v| turn(g, v, &perm, &mut e))).collect();
    let y = e.node(g.op(root).clone(), &inputs);
    let y = e.node(transpose(&perm), &[Some(y)]);
    e.replace(out, y);
    Ok(Some(e))
}

/// Whether moving `v` is at least as much work as moving `out`.
fn pays_for(g: &Graph, v: Value, out: Value) -> bool {
    let shape = dims(g, v);
    shape.is_some() && shape == dims(g, out) && element_size(g, v) >= element_size(g, out)
}

fn is_one(g: &Graph, v: Value, rank: usize) -> bool {
    dims(g, v).is_some_and(|d| d.len() <= rank && d.iter().all(|n| n.as_const() == Some(1)))
}

/// Whether an operand can be read in the order of axes before `perm`.
fn can_turn(g: &Graph, v: Value, perm: &[usize]) -> Result<(), Decline> {
    let alike = transposed(g, v).is_some_and(|(_, p)| p == perm);
    if alike || is_one(g, v, perm.len()) {
        return Ok(());
    }
    let t = g.constant_of(v).filter(|t| t.rank() <= perm.len()).ok_or(OTHERWISE)?;
    match t.len() <= SHARED || sole_reader(g, v).is_some() {
        true => Ok(()),
        false => Err(Decline::new("a constant that others read would be stored twice")),
    }
}

/// The operand in the order of axes before `perm`, which [`can_turn`] has found possible.
fn turn(g: &Graph, v: Value, perm: &[usize], e: &mut Edit) -> Source {
    match (transposed(g, v), g.constant_of(v)) {
        (Some((x, p)), _) if p == perm => x.into(),
        (_, Some(t)) if t.len() != 1 => match turned_back(t, perm) {
            Some(t) => e.constant(t),
            None => v.into(),
        },
        _ => v.into(),
    }
}

/// The tensor whose transposition by `perm` is `t`, given axes of length 1 in front.
fn turned_back(t: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let mut shape = vec![1; perm.len().checked_sub(t.rank())?];
    shape.extend(t.shape());
    let own = strides(&shape);
    let (mut lengths, mut steps) = (shape.clone(), own.clone());
    for (i, &p) in perm.iter().enumerate() {
        lengths[p] = shape[i];
        steps[p] = own[i];
    }
    let t = t.take(&lengths, offsets(&lengths, &steps)).ok()?;
    let plain = lengths.iter().take_while(|&&n| n == 1).count();
    t.reshape(&lengths[plain..]).ok()
}

fn transpose(perm: &[usize]) -> Layout {
    Layout::Transpose { perm: Some(perm.iter().map(|&p| p as i64).collect()) }
}

/// Whether a transposition behind `node` comes, step by step, to where it is less work.
fn meets(g: &Graph, node: NodeId, perm: &[usize]) -> bool {
    let mut v = node.first();
    for _ in 0..FAR {
        let Some(reader) = sole_reader(g, v) else { return all_cross(g, v, perm) };
        if welcomes(g, reader, v, perm) {
            return true;
        }
        let follows = is_elementwise(g, reader)
            && pays_for(g, v, reader.first())
            && others(g, reader, v).all(|w| can_turn(g, w, perm).is_ok());
        if !follows {
            return false;
        }
        v = reader.first();
    }
    false
}

fn others(g: &Graph, node: NodeId, v: Value) -> impl Iterator<Item = Value> {
    g.inputs_of(node).into_iter().flatten().filter(move |&w| w != v)
}

/// Whether several readers of a value, and nothing else, take its transposition into themselves.
fn all_cross(g: &Graph, v: Value, perm: &[usize]) -> bool {
    let crosses = |n: NodeId| {
        matches!(g.op(n), Op::Layout(_) | Op::MatMul(_) | Op::Gemm(_)) && welcomes(g, n, v, perm)
    };
    !g.is_output(v) && g.readers(v).all(|(n, _)| crosses(n)) && g.is_read(v)
}

/// Whether a node needs less work where its operand `v` is a transposition.
fn welcomes(g: &Graph, node: NodeId, v: Value, perm: &[usize]) -> bool {
    let slot = |i| g.input_of(node, i) == Some(v);
    let rank = perm.len();
    let crossed = || {
        let kept = perm.iter().rev().skip(2).rev().enumerate().all(|(i, &p)| i == p);
        rank >= 2 && kept && perm[rank - 1] == rank - 2
    };
    match g.op(node) {
        Op::Layout(Layout::Transpose { .. }) => true,
        Op::MatMul(m) => {
            crossed() && !(slot(0) && m.trans_batch_a) && !(slot(1) && m.trans_batch_b)
        }
        Op::Gemm(_) => crossed() && !slot(2),
        Op::Reduce(_) => slot(0) && across(g, node, v, perm).is_ok_and(|a| a.is_some()),
        Op::Arg(_) => slot(0),
        _ if is_elementwise(g, node) && pays_for(g, v, node.first()) => {
            let turns = |w| can_turn(g, w, perm).is_ok() || rises(g, w, perm);
            let gains = |w| rises(g, w, perm);
            others(g, node, v).all(turns) && others(g, node, v).any(gains)
        }
        _ => false,
    }
}

/// Whether a private value is a transposition by `perm`, or comes from one by operators that
/// feed nothing else.
fn rises(g: &Graph, v: Value, perm: &[usize]) -> bool {
    let mut v = v;
    for _ in 0..FAR {
        if sole_reader(g, v).is_none() {
            return false;
        }
        if let Some((_, p)) = transposed(g, v) {
            return p == perm;
        }
        if !is_elementwise(g, v.node) {
            return false;
        }
        let mut open = others(g, v.node, v).filter(|&w| !is_plain(g, w, perm));
        let (Some(next), None) = (open.next(), open.next()) else { return false };
        if !pays_for(g, next, v) {
            return false;
        }
        v = next;
    }
    false
}

/// Whether an operand turns without being a transposition.
fn is_plain(g: &Graph, v: Value, perm: &[usize]) -> bool {
    transposed(g, v).is_none() && can_turn(g, v, perm).is_ok()
}

/// The axes that a node reduces, in order, and those that they were before `perm`.
struct Across {
    axes: Vec<usize>,
    before: Vec<usize>,
}

/// What a node reduces of its operand 0, where that is transposed; nothing where it reduces none.
fn across(g: &Graph, node: NodeId, v: Value, perm: &[usize]) -> Result<Option<Across>, Decline> {
    let known = match (g.op(node), g.input_of(node, 1)) {
        (Op::Arg(a), _) => vec![a.fields().axis],
        (_, None) => vec![],
        (_, Some(axes)) => ints(g, axes).ok_or(Decline::new("the axes are not constant"))?,
    };
    let all = known.is_empty();
    let none = all && matches!(g.op(node), Op::Reduce(r) if r.noop_with_empty_axes);
    // Moving nothing is no work.
    let empty = dims(g, v).is_none_or(|d| d.iter().any(|n| n.as_const() == Some(0)));
    if none || empty {
        return Ok(None);
    }
    let found: Result<Vec<usize>, _> = known.iter().map(|&a| axis(a, perm.len())).collect();
    let Ok(mut axes) = found else { return Ok(None) };
    if all {
        axes = (0..perm.len()).collect();
    }
    axes.sort_unstable();
    axes.dedup();
    let before: Vec<usize> = axes.iter().map(|&a| perm[a]).collect();
    match before.is_sorted() {
        true => Ok(Some(Across { axes, before })),
        false => Err(Decline::new("the elements would be taken together in another order")),
    }
}

/// A private transposition that a node reads first.
fn before(g: &Graph, root: NodeId) -> Option<(Value, Value, Vec<usize>)> {
    let v = g.input_of(root, 0).filter(|&v| sole_reader(g, v) == Some(root))?;
    let (x, perm) = transposed(g, v)?;
    Some((v, x, perm))
}

fn reduced(g: &Graph, root: NodeId, r: Reduce) -> Verdict {
    let Some((v, x, perm)) = before(g, root) else { return Ok(None) };
    let Some(across) = across(g, root, v, &perm)? else { return Ok(None) };
    let axes: Vec<i64> = across.before.iter().map(|&a| a as i64).collect();
    let mut e = Edit::default();
    let axes = e.constant(Tensor::vector(axes));
    let kept = r.keepdims && left(&perm, &across.axes).is_some();
    let y = e.node(Reduce { keepdims: kept, ..r }, &[Some(x.into()), Some(axes)]);
    let y = behind(&mut e, y, &perm, &across.axes, r.keepdims);
    e.replace(root.first(), y);
    Ok(Some(e))
}

fn searched(g: &Graph, root: NodeId, arg: Arg) -> Verdict {
    let Some((v, x, perm)) = before(g, root) else { return Ok(None) };
    let Some(across) = across(g, root, v, &perm)? else { return Ok(None) };
    let [axis] = across.before[..] else { return Ok(None) };
    let order = left(&perm, &across.axes);
    let long = || dims(g, x)?.get(axis)?.as_const();
    let (wide, narrow) = (element_size(g, root.first()), element_size(g, v));
    let (Some(wide), Some(narrow)) = (wide, narrow) else { return Ok(None) };
    if order.is_some() && long().is_none_or(|n| n.saturating_mul(narrow as i64) < wide as i64) {
        return Err(Decline::new("there would be more to move behind than before")
            .advise("fix the length that is searched with --dim NAME=N"));
    }
    let keepdims = arg.fields().keepdims;
    let kept = keepdims && order.is_some();
    let attrs = ArgAttrs { axis: axis as i64, keepdims: kept, ..*arg.fields() };
    let arg = match arg {
        Arg::Max(_) => Arg::Max(attrs),
        Arg::Min(_) => Arg::Min(attrs),
    };
    let mut e = Edit::default();
    let y = e.node(arg, &[Some(Source::from(x))]);
    let y = behind(&mut e, y, &perm, &across.axes, keepdims);
    e.replace(root.first(), y);
    Ok(Some(e))
}

/// How the axes that are not reduced are to be ordered behind; `None` where they are in order.
fn left(perm: &[usize], axes: &[usize]) -> Option<Vec<usize>> {
    let rest: Vec<usize> = (0..perm.len()).filter(|a| !axes.contains(a)).map(|a| perm[a]).collect();
    if rest.is_sorted() {
        return None;
    }
    Some(rest.iter().map(|p| rest.iter().filter(|q| *q < p).count()).collect())
}

/// What a reduction of what was transposed by `perm` gives, made from `y`, that of what was there
/// before; `y` has its axes where they are to be reordered.
fn behind(e: &mut Edit, y: Source, perm: &[usize], axes: &[usize], keepdims: bool) -> Source {
    match (left(perm, axes), keepdims) {
        (None, false) => y,
        (None, true) => {
            let axes = e.constant(Tensor::vector(axes.iter().map(|&a| a as i64).collect()));
            e.call("Unsqueeze", &[Some(y), Some(axes)], Attrs::default())
        }
        (Some(_), true) => e.node(transpose(perm), &[Some(y)]),
        (Some(order), false) => e.node(transpose(&order), &[Some(y)]),
    }
}

/// The transposition of a Concat of what its operands were before.
fn joined(g: &Graph, root: NodeId, along: i64) -> Verdict {
    let operands: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
    let before: Vec<_> = operands.iter().filter_map(|&v| transposed(g, v)).collect();
    if before.len() < 2 {
        return Ok(None);
    }
    let perm = &before[0].1;
    if before.len() < operands.len() || before.iter().any(|(_, p)| p != perm) {
        return Err(OTHERWISE);
    }
    let mut distinct = operands.clone();
    distinct.sort();
    distinct.dedup();
    let private = operands.iter().all(|&v| sole_reader(g, v) == Some(root));
    if !private || distinct.len() < operands.len() {
        return Err(Decline::new("a transposition is read more than once"));
    }
    let Ok(along) = axis(along, perm.len()) else { return Ok(None) };
    let inputs: Vec<_> = before.iter().map(|(x, _)| Some(Source::from(*x))).collect();
    let mut e = Edit::default();
    let y = e.node(Concat::Join { axis: perm[along] as i64 }, &inputs);
    let y = e.node(transpose(perm), &[Some(y)]);
    e.replace(root.first(), y);
    Ok(Some(e))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn two_become_one_and_constants_are_transposed_once() {
        check(
            &TransposeSink,
            "c = f32[2,1]{1.0, 2.0}\na = Transpose(x: f32[N,3,2]) {perm=[0,2,1]}\n\
             b = Transpose(z: f32[N,3,2]) {perm=[0,2,1]}\nd = Sum(a, c, b)\nreturn d",
            expect![[r#"
                x: f32[N,3,2]
                z: f32[N,3,2]
                d/transpose_sink0 = f32[2]{1.0, 2.0}
                d/transpose_sink1 = Sum(x, d/transpose_sink0, z)
                d = Transpose(d/transpose_sink1) {perm=[0,2,1]}
                return d
            "#]],
        );
    }

    #[test]
    fn one_moves_to_where_it_meets_another() {
        check(
            &TransposeSink,
            "h = f32[]{0.5}\na = Transpose(x: f32[N,3,2]) {perm=[0,2,1]}\nb = Relu(a)\n\
             c = Mul(b, h)\ny = Transpose(c) {perm=[0,2,1]}\nd = Transpose(z: f32[N,3,2])\n\
             w = Relu(d)\nreturn y, w",
            expect![[r#"
                x: f32[N,3,2]
                z: f32[N,3,2]
                h = f32[]{0.5}
                d = Transpose(z)
                w = Relu(d)
                b/transpose_sink0 = Relu(x)
                c/transpose_sink0 = Mul(b/transpose_sink0, h)
                c = Transpose(c/transpose_sink0) {perm=[0,2,1]}
                y = Transpose(c) {perm=[0,2,1]}
                return y, w
            "#]],
        );
    }

    #[test]
    fn branches_that_meet_move_both() {
        check(
            &TransposeSink,
            "a = Transpose(x: f32[N,3]) {perm=[1,0]}\nb = Relu(a)\n\
             c = Transpose(z: f32[N,3]) {perm=[1,0]}\nd = Tanh(c)\ny = Sub(b, d)\nreturn y",
            expect![[r#"
                x: f32[N,3]
                z: f32[N,3]
                d/transpose_sink0 = Tanh(z)
                b/transpose_sink0 = Relu(x)
                y/transpose_sink0 = Sub(b/transpose_sink0, d/transpose_sink0)
                y = Transpose(y/transpose_sink0) {perm=[1,0]}
                return y
            "#]],
        );
    }

    #[test]
    fn reductions_take_the_axes_that_were() {
        check(
            &TransposeSink,
            "a = i64[2]{1, 2}\nt = Transpose(x: f32[N,C,H,W]) {perm=[0,2,3,1]}\n\
             y = ReduceMean(t, a)\nb = i64[1]{-1}\n\
             u = Transpose(v: f32[N,C,H,W]) {perm=[0,3,2,1]}\n\
             z = ReduceSum(u, b) {keepdims=0}\nreturn y, z",
            expect![[r#"
                x: f32[N,C,H,W]
                v: f32[N,C,H,W]
                z/transpose_sink0 = i64[1]{1}
                z/transpose_sink1 = ReduceSum(v, z/transpose_sink0) {keepdims=0}
                z = Transpose(z/transpose_sink1) {perm=[0,2,1]}
                y/transpose_sink0 = i64[2]{2, 3}
                y/transpose_sink1 = ReduceMean(x, y/transpose_sink0) {keepdims=0}
                y/transpose_sink2 = i64[2]{1, 2}
                y = Unsqueeze(y/transpose_sink1, y/transpose_sink2)
                return y, z
            "#]],
        );
    }

    #[test]
    fn searches_and_joins_move_as_well() {
        check(
            &TransposeSink,
            "t = Transpose(x: f32[N,4,M]) {perm=[0,2,1]}\ny = ArgMax(t) {axis=2, keepdims=0}\n\
             a = Transpose(p: f32[N,2,3]) {perm=[1,0,2]}\n\
             b = Transpose(q: f32[N,2,5]) {perm=[1,0,2]}\nz = Concat(a, b) {axis=-1}\nreturn y, z",
            expect![[r#"
                x: f32[N,4,M]
                p: f32[N,2,3]
                q: f32[N,2,5]
                z/transpose_sink0 = Concat(p, q) {axis=2}
                z = Transpose(z/transpose_sink0) {perm=[1,0,2]}
                y = ArgMax(x) {axis=1, keepdims=0}
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_other_orders_and_what_others_read() {
        check(
            &TransposeSink,
            "a = Transpose(x: f32[N,2,2]) {perm=[0,2,1]}\n\
             b = Transpose(z: f32[N,2,2]) {perm=[0,2,1]}\nc = Sum(a, b, w: f32[N,2,2])\n\
             o = i64[2]{0, 1}\nt = Transpose(w) {perm=[1,0,2]}\nr = ReduceSum(t, o)\n\
             u = Transpose(w) {perm=[2,0,1]}\nv = Transpose(z) {perm=[1,0,2]}\n\
             d = Concat(u, v) {axis=0}\nreturn c, r, d",
            expect![[r#"
                (unchanged)
                # transpose_sink @ c: an operand is not transposed alike
                # transpose_sink @ r: the elements would be taken together in another order
                # transpose_sink @ d: an operand is not transposed alike
            "#]],
        );
    }
}
