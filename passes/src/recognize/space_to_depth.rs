//! Names blocks of pixels that become channels, and channels that become blocks.
//!
//! ```text
//! a = Reshape(x: f32[N,12,H,W], [N,2,2,3,H,W])
//! b = Transpose(a) {perm=[0,3,4,1,5,2]}
//! y = Reshape(b, [N,3,2*H,2*W])       =>   y = DepthToSpace(x) {blocksize=2}
//! ```
//!
//! Saves two nodes, and for every second pixel of each axis, sliced and joined (the "focus" of
//! detectors), all slices but one pass. Exact: elements are moved. Where the slices stand in
//! another order than blocks, a Gather orders the channels.

use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::gather::Gather;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::rearrange::{BlockMode, Rearrange};
use kiln_ir::{Decline, Dim, Edit, Graph, NodeId, Op, Rewrite, Value, Verdict};
use kiln_tensor::Tensor;

use crate::forms::{dims, sole_reader, transposed};
use crate::spans::spans;

/// See the module.
pub struct SpaceToDepth;

impl Rewrite for SpaceToDepth {
    fn name(&self) -> &'static str {
        "space_to_depth"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        match g.op(root) {
            Op::Layout(Layout::Reshape { .. }) => regrouped(g, root),
            Op::Concat(Concat::Join { axis: 1 | -3 }) => focused(g, root),
            _ => Ok(None),
        }
    }
}

/// The axes of six on which blocks lie, before they are put in the order `perm`.
fn regrouped(g: &Graph, root: NodeId) -> Verdict {
    let is_reshape = |n: NodeId| matches!(g.op(n), Op::Layout(Layout::Reshape { .. }));
    let Some(b) = g.input_of(root, 0) else { return Ok(None) };
    let Some((a, perm)) = transposed(g, b).filter(|(a, _)| is_reshape(a.node)) else {
        return Ok(None);
    };
    let Some(x) = g.input_of(a.node, 0) else { return Ok(None) };
    let (Some(from), Some(split), Some(to)) = (dims(g, x), dims(g, a), dims(g, root.first()))
    else {
        return Ok(None);
    };
    let [n, p, q, r, s, t] = split else { return Ok(None) };
    // Both sides of a block, the depth, the height and the width.
    let ([b0, b1, d, h, w], mode, gathers) = match perm[..] {
        [0, 3, 4, 1, 5, 2] => ([p, q, r, s, t], BlockMode::Dcr, false),
        [0, 1, 4, 2, 5, 3] => ([q, r, p, s, t], BlockMode::Crd, false),
        [0, 3, 5, 1, 2, 4] => ([r, t, p, q, s], BlockMode::Dcr, true),
        [0, 1, 3, 5, 2, 4] => ([r, t, p, q, s], BlockMode::Crd, true),
        _ => return Ok(None),
    };
    let Some(block) = b0.as_const().filter(|b| *b > 0 && b0 == b1) else { return Ok(None) };
    let deep = [n.clone(), d.clone() * b0.clone() * b0.clone(), h.clone(), w.clone()];
    let wide = [n.clone(), d.clone(), h.clone() * b0.clone(), w.clone() * b0.clone()];
    let (before, after) = if gathers { (wide, deep) } else { (deep, wide) };
    if before != from || after != to {
        return Err(Decline::new("the lengths are not known to be those of blocks")
            .advise("fix the symbols of the lengths with --dim NAME=N"));
    }
    let op = match (gathers, mode) {
        (false, mode) => Rearrange::DepthToSpace { block, mode },
        (true, BlockMode::Dcr) => Rearrange::SpaceToDepth { block, mode },
        (true, BlockMode::Crd) => {
            return Err(Decline::new(
                "SpaceToDepth puts the places in a block before the channels",
            )
            .advise("reorder the weights that follow, and export DCR"));
        }
    };
    let mut e = Edit::default();
    let y = e.node(op, &[Some(x.into())]);
    e.replace(root.first(), y);
    e.absorb(b);
    e.absorb(a);
    Ok(Some(e))
}

/// Every `block`-th pixel from each place of a block on, joined.
fn focused(g: &Graph, root: NodeId) -> Verdict {
    let parts: Vec<Value> = g.inputs_of(root).into_iter().flatten().collect();
    let block = parts.len().isqrt();
    if block < 2 || block * block != parts.len() {
        return Ok(None);
    }
    let found: Option<Vec<_>> = parts.iter().map(|&v| place(g, root, v, block)).collect();
    let Some(found) = found else { return Ok(None) };
    let x = found[0].0;
    let Some([_, c, ..]) = dims(g, x) else { return Ok(None) };
    if found.iter().any(|(v, _)| *v != x) {
        return Ok(None);
    }
    let places: Vec<usize> = found.iter().map(|(_, place)| *place).collect();
    if !(0..parts.len()).all(|p| places.contains(&p)) {
        return Ok(None);
    }
    let mut e = Edit::default();
    let op = Rearrange::SpaceToDepth { block: block as i64, mode: BlockMode::Dcr };
    let mut y = e.node(op, &[Some(x.into())]);
    if !places.is_sorted() {
        let c = c.as_len().ok_or(
            Decline::new("the number of channels is unknown")
                .advise("fix the symbols of the lengths with --dim NAME=N"),
        )?;
        let channels = places.iter().flat_map(|p| (0..c).map(move |i| (p * c + i) as i64));
        let channels = e.constant(Tensor::vector(channels.collect::<Vec<_>>()));
        y = e.node(Gather::Slices { axis: 1 }, &[Some(y), Some(channels)]);
    }
    e.replace(root.first(), y);
    Ok(Some(e))
}

/// What a slice takes every `block`-th pixel of, and from which place of a block on; `None` for
/// another slice, and for one that something beside `root` reads.
fn place(g: &Graph, root: NodeId, v: Value, block: usize) -> Option<(Value, usize)> {
    let (mut x, mut starts) = (v, [None; 2]);
    while let Some((inner, spans)) = spans(g, x.node).ok().flatten() {
        for s in &spans {
            let axis = s.axis.checked_sub(2)?;
            let run = s.run(dims(g, inner)?.get(s.axis).and_then(Dim::as_len)?)?;
            let whole = run.len * block == dims(g, inner)?[s.axis].as_len()?;
            if !whole || run.step != block as i64 || run.start >= block || starts[axis].is_some() {
                return None;
            }
            starts[axis] = Some(run.start);
        }
        x = inner;
        if starts.iter().all(Option::is_some) {
            break;
        }
    }
    let [Some(row), Some(column)] = starts else { return None };
    let fits = g.ty(x).rank() == Some(4) && sole_reader(g, v) == Some(root);
    fits.then_some((x, row * block + column))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn names_blocks_of_both_orders() {
        check(
            &SpaceToDepth,
            "s = i64[6]{0, 2, 2, 3, 5, 4}\na = Reshape(x: f32[N,12,5,4], s)\n\
             b = Transpose(a) {perm=[0,3,4,1,5,2]}\nt = i64[4]{-1, 3, 10, 8}\n\
             y = Reshape(b, t)\nu = i64[6]{0, 3, 2, 2, 5, 4}\nc = Reshape(x, u)\n\
             d = Transpose(c) {perm=[0,1,4,2,5,3]}\nz = Reshape(d, t)\n\
             v = i64[6]{0, 3, 5, 2, 4, 2}\ne = Reshape(i: f32[N,3,10,8], v)\n\
             f = Transpose(e) {perm=[0,3,5,1,2,4]}\nr = i64[4]{0, 12, 5, 4}\n\
             w = Reshape(f, r)\nreturn y, z, w",
            expect![[r#"
                x: f32[N,12,5,4]
                i: f32[N,3,10,8]
                z = DepthToSpace(x) {blocksize=2, mode="CRD"}
                w = SpaceToDepth(i) {blocksize=2}
                y = DepthToSpace(x) {blocksize=2}
                return y, z, w
            "#]],
        );
    }

    #[test]
    fn names_slices_of_every_second_pixel() {
        let slices = "o = i64[1]{0}\ni = i64[1]{1}\nn = i64[1]{99}\nh = i64[1]{2}\n\
                      w = i64[1]{3}\nt = i64[1]{2}\n\
                      e = Slice(x: f32[N,1,4,6], o, n, h, t)\nf = Slice(x, i, n, h, t)\n\
                      a = Slice(e, o, n, w, t)\nb = Slice(f, o, n, w, t)\n\
                      c = Slice(e, i, n, w, t)\nd = Slice(f, i, n, w, t)\n";
        check(
            &SpaceToDepth,
            &format!("{slices}y = Concat(a, b, c, d) {{axis=1}}\nreturn y"),
            expect![[r#"
                x: f32[N,1,4,6]
                y/space_to_depth0 = SpaceToDepth(x) {blocksize=2}
                y/space_to_depth1 = i64[4]{0, 2, 1, 3}
                y = Gather(y/space_to_depth0, y/space_to_depth1) {axis=1}
                return y
            "#]],
        );
        check(
            &SpaceToDepth,
            &format!("{slices}y = Concat(a, c, b, d) {{axis=1}}\nreturn y"),
            expect![[r#"
                x: f32[N,1,4,6]
                y = SpaceToDepth(x) {blocksize=2}
                return y
            "#]],
        );
        check(
            &SpaceToDepth,
            &format!("{slices}y = Concat(a, b, c, a) {{axis=1}}\nreturn y, d"),
            expect![[r#"
                (unchanged)
            "#]],
        );
    }

    #[test]
    fn keeps_channels_before_places_and_unknown_lengths() {
        check(
            &SpaceToDepth,
            "s = i64[6]{0, 3, 5, 2, 4, 2}\na = Reshape(x: f32[N,3,10,8], s)\n\
             b = Transpose(a) {perm=[0,1,3,5,2,4]}\nt = i64[4]{0, 12, 5, 4}\n\
             y = Reshape(b, t)\nu = i64[6]{0, 3, -1, 2, 4, 2}\nc = Reshape(i: f32[N,3,H,8], u)\n\
             d = Transpose(c) {perm=[0,3,5,1,2,4]}\nv = i64[4]{0, 12, -1, 4}\n\
             z = Reshape(d, v)\nreturn y, z",
            expect![[r#"
                (unchanged)
                # space_to_depth @ y: SpaceToDepth puts the places in a block before the channels
                # space_to_depth @ z: the lengths are not known to be those of blocks
            "#]],
        );
    }
}
