//! `RotaryEmbedding` of `f32` with caches of its own shape: rows over threads.

use kiln_ir::ops::rotary::RotaryEmbedding;
use kiln_ir::{Graph, NodeId, Op, Result, invalid};

use super::all_f32;
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "rotary_f32",
    what: "RotaryEmbedding of rank 4 without position_ids: rows in parallel",
    graphs: &[
        "y = RotaryEmbedding(x: f32[2,3,4,6], c: f32[2,4,3], s: f32[2,4,3])\nreturn y",
        "y = RotaryEmbedding(x: f32[1,2,5,8], c: f32[1,5,2], s: f32[1,5,2]) \
         {interleaved=1, rotary_embedding_dim=4}\nreturn y",
        "y = RotaryEmbedding(x: f32[2,3,0,4], c: f32[2,0,2], s: f32[2,0,2])\nreturn y",
    ],
    in_place: true,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::RotaryEmbedding(op) = g.op(id) else { return None };
    let rank = |i| g.input_of(id, i).and_then(|v| g.ty(v).rank());
    let takes = g.inputs_of(id).len() == 3 && all_f32(g, id);
    (takes && rank(0) == Some(4) && rank(1) == Some(3)).then(|| Box::new(*op) as Box<dyn Kernel>)
}

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 13;

impl Kernel for RotaryEmbedding {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let &[batch, heads, rows, size] = args.shape else { invalid!("x has another rank than 4") };
        let (shape, cos) = args.input(1)?;
        let (other, sin) = args.input(2)?;
        let pairs = shape.last().copied().unwrap_or(0);
        let turned = match self.rotary_embedding_dim {
            0 => size,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        if shape != [batch, rows, pairs] || other != shape {
            invalid!("the caches have shapes {shape:?} and {other:?}, x {:?}", args.shape);
        }
        if turned != pairs.saturating_mul(2) || turned > size {
            invalid!("{turned} of {size} elements turn, there are angles for {pairs} pairs");
        }
        if args.out.is_empty() {
            return Ok(());
        }
        let x = args.input(0)?.1;
        let some = (JOB / size).max(1);
        team::each(args.out.chunks_mut(some * size).enumerate(), |(q, y)| {
            if !args.in_place {
                y.copy_from_slice(&x[q * some * size..][..y.len()]);
            }
            for (i, y) in y.chunks_exact_mut(size).enumerate() {
                let at = q * some + i;
                let (b, s) = (at / (heads * rows), at % rows);
                let angles = (b * rows + s) * pairs..(b * rows + s + 1) * pairs;
                turn(&mut y[..turned], &cos[angles.clone()], &sin[angles], self.interleaved);
            }
        });
        Ok(())
    }
}

/// Turns the pairs of one row.
fn turn(y: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
    if interleaved {
        for ((y, c), s) in y.chunks_exact_mut(2).zip(cos).zip(sin) {
            (y[0], y[1]) = (c * y[0] - s * y[1], s * y[0] + c * y[1]);
        }
        return;
    }
    let (low, high) = y.split_at_mut(cos.len());
    for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
    }
}
