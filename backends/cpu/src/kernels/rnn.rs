//! RNN, LSTM and GRU of `f32`: one product for the inputs of all steps, one for each state.
//!
//! ```text
//! gates [steps * batch, g * h] = x * w' + b      state * r' is added step by step
//! ```

use std::sync::OnceLock;

use kiln_ir::ops::rnn::{Activation, Rnn, RnnKind};
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Graph, NodeId, Op, Result, invalid};

use super::gemm::{Ending, Left};
use super::matmul::{Packed, Right, product};
use super::{all_f32, math};
use crate::kernel::{Args, FLOATS, Kernel, Row};

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "rnn_f32",
    what: "RNN, LSTM and GRU with their own activations: products by packed panels",
    graphs: &[
        "y, h, c = LSTM(x: f32[5,2,6], w: f32[1,28,6], r: f32[1,28,7], b: f32[1,56]) \
         {hidden_size=7}\nreturn y, h, c",
        "y, h, c = LSTM(x: f32[4,9,6], w: f32[2,20,6], r: f32[2,20,5], b: f32[2,40], _, \
         p: f32[2,9,5], q: f32[2,9,5]) {hidden_size=5, direction=\"bidirectional\"}\n\
         return y, c",
        "y, h = GRU(x: f32[3,2,6], w: f32[1,15,6], r: f32[1,15,5], b: f32[1,30]) \
         {hidden_size=5, linear_before_reset=1}\nreturn y",
        "y, h = GRU(x: f32[3,7,6], w: f32[1,15,6], r: f32[1,15,5]) {hidden_size=5, \
         direction=\"reverse\"}\na = Neg(y)\nreturn a, h",
        "y, h = RNN(x: f32[3,7,6], w: f32[1,5,6], r: f32[1,5,5], b: f32[1,10]) \
         {hidden_size=5}\nreturn y, h",
        "y, h = RNN(x: f32[0,2,6], w: f32[1,5,6], r: f32[1,5,5], _, _, p: f32[1,2,5]) \
         {hidden_size=5}\nreturn y, h",
    ],
    in_place: false,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Rnn(op) = g.op(id) else { return None };
    let layer = &op.layer;
    let defaults = op.kind.activations();
    let own = (layer.activations.iter().zip(defaults.iter().cycle()))
        .all(|(a, &shape)| *a == Activation::new(shape));
    let plain = own && layer.clip.is_none() && !layer.batch_first && !layer.input_forget;
    let inputs = g.inputs_of(id);
    // Neither lengths of sequences nor weights of cells in gates.
    let bare = [4, 7].iter().all(|&i| inputs.get(i).copied().flatten().is_none());
    (plain && bare && all_f32(g, id)).then(|| Box::new(op.clone()) as Box<dyn Kernel>)
}

/// The lengths of a run.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    directions: usize,
}

/// One direction of a layer.
struct Direction<'a> {
    op: &'a Rnn,
    sizes: Sizes,
    index: usize,
    w: &'a [f32],
    r: &'a [f32],
    /// Of the inputs, then of the states; may be empty.
    bias: &'a [f32],
}

/// The part of `x` that belongs to direction `i` of `n`.
fn part(x: &[f32], i: usize, n: usize) -> &[f32] {
    let size = x.len() / n;
    &x[i * size..][..size]
}

/// `y = a * b'` for `b` of `n` rows of `k` elements.
fn times(a: &[f32], k: usize, b: &[f32], packed: Option<&Packed>, y: &mut [f32]) {
    let n = b.len().checked_div(k).unwrap_or(0);
    let m = y.len().checked_div(n).unwrap_or(0);
    let right = Right { data: b, turned: true, packed };
    let a = Left { data: a, stride: k, rows: m };
    product(a, (k, n), right, y, Ending::default());
}

fn sigmoid(y: &mut [f32]) {
    math::unary(Unary::Function(Function::Sigmoid), y);
}

fn tanh(y: &mut [f32]) {
    math::unary(Unary::Function(Function::Tanh), y);
}

fn add(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

impl Direction<'_> {
    fn width(&self) -> usize {
        self.op.kind.gates() * self.sizes.hidden
    }

    /// What the inputs and the biases give to the gates of every step.
    fn inputs(&self, x: &[f32]) -> Vec<f32> {
        let (s, width) = (self.sizes, self.width());
        let mut gates = vec![0.0; s.steps * s.batch * width];
        let mut bias = vec![0.0; width];
        if !self.bias.is_empty() {
            let (input, state) = self.bias.split_at(width);
            // The reset scales the last gate's second bias, too.
            let late = if self.op.layer.linear_before_reset { s.hidden } else { 0 };
            add(&mut bias, input);
            add(&mut bias[..width - late], state);
        }
        times(x, s.input, self.w, None, &mut gates);
        gates.chunks_exact_mut(width.max(1)).for_each(|g| add(g, &bias));
        gates
    }

    /// Runs all steps; `h` and `c` are the first states, then the last.
    fn run(&self, args: &mut Args<'_>, x: &[f32], h: &mut [f32], c: &mut [f32]) -> Result<()> {
        let (s, size) = (self.sizes, self.sizes.batch * self.width());
        let mut gates = self.inputs(x);
        let packed = [OnceLock::new(), OnceLock::new()];
        let mut spare = vec![0.0; size];
        let reverse = self.op.layer.direction.is_reverse(self.index);
        for i in 0..s.steps {
            args.cancel.poll()?;
            let step = if reverse { s.steps - 1 - i } else { i };
            let gates = &mut gates[step * size..][..size];
            match self.op.kind {
                RnnKind::Gru => self.gru(gates, h, &packed, &mut spare),
                kind => {
                    times(h, s.hidden, self.r, Some(&packed[0]), &mut spare);
                    add(gates, &spare);
                    if kind == RnnKind::Lstm {
                        self.lstm(gates, h, c);
                    } else {
                        tanh(gates);
                        h.copy_from_slice(gates);
                    }
                }
            }
            let at = (step * s.directions + self.index) * h.len();
            args.out[at..][..h.len()].copy_from_slice(h);
        }
        Ok(())
    }

    /// The gates are input, output, forget and the cell.
    fn lstm(&self, gates: &mut [f32], h: &mut [f32], c: &mut [f32]) {
        let n = self.sizes.hidden;
        let rows = h.chunks_exact_mut(n).zip(c.chunks_exact_mut(n));
        for ((h, c), gates) in rows.zip(gates.chunks_exact_mut(4 * n)) {
            let (smooth, cell) = gates.split_at_mut(3 * n);
            sigmoid(smooth);
            tanh(cell);
            for j in 0..n {
                c[j] = smooth[2 * n + j] * c[j] + smooth[j] * cell[j];
            }
            h.copy_from_slice(c);
            tanh(h);
            h.iter_mut().zip(&smooth[n..]).for_each(|(h, o)| *h *= o);
        }
    }

    /// The gates are update, reset and hidden.
    fn gru(&self, gates: &mut [f32], h: &mut [f32], packed: &[Packed; 2], spare: &mut [f32]) {
        let (n, batch) = (self.sizes.hidden, self.sizes.batch);
        let (early, late) = self.r.split_at(2 * n * n);
        let (first, second) = spare.split_at_mut(2 * n * batch);
        times(h, n, early, Some(&packed[0]), first);
        for (g, f) in gates.chunks_exact_mut(3 * n).zip(first.chunks_exact(2 * n)) {
            add(&mut g[..2 * n], f);
            sigmoid(&mut g[..2 * n]);
        }
        if self.op.layer.linear_before_reset {
            times(h, n, late, Some(&packed[1]), second);
            let bias = self.bias.get(5 * n..).unwrap_or_default();
            for (g, s) in gates.chunks_exact_mut(3 * n).zip(second.chunks_exact_mut(n)) {
                add(s, bias);
                (0..n).for_each(|j| g[2 * n + j] += g[n + j] * s[j]);
            }
        } else {
            let scaled = &mut first[..n * batch];
            let rows = scaled.chunks_exact_mut(n).zip(h.chunks_exact(n));
            for ((y, h), g) in rows.zip(gates.chunks_exact(3 * n)) {
                (0..n).for_each(|j| y[j] = g[n + j] * h[j]);
            }
            times(scaled, n, late, Some(&packed[1]), second);
            for (g, s) in gates.chunks_exact_mut(3 * n).zip(second.chunks_exact(n)) {
                add(&mut g[2 * n..], s);
            }
        }
        for (h, g) in h.chunks_exact_mut(n).zip(gates.chunks_exact_mut(3 * n)) {
            tanh(&mut g[2 * n..]);
            (0..n).for_each(|j| h[j] = (1.0 - g[j]) * g[2 * n + j] + g[j] * h[j]);
        }
    }
}

/// The first states, or zeros.
fn states(given: Option<&[f32]>, n: usize) -> Result<Vec<f32>> {
    match given {
        Some(v) if v.len() != n => invalid!("there are {} first states, not {n}", v.len()),
        Some(v) => Ok(v.to_vec()),
        None => Ok(vec![0.0; n]),
    }
}

impl Kernel for Rnn {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let ((shape, x), (_, w), (r_shape, r)) = (args.input(0)?, args.input(1)?, args.input(2)?);
        let (&[steps, batch, input], &[directions, width, hidden]) = (shape, r_shape) else {
            invalid!("x is {shape:?} and r is {r_shape:?}: both must have rank 3");
        };
        let bias = args.floats(3).map_or(&[][..], |(_, b)| b);
        let sizes = Sizes { steps, batch, input, hidden, directions };
        let each = batch * hidden;
        let gates = self.kind.gates() * hidden;
        if directions == 0
            || width != gates
            || w.len() != directions * gates * input
            || !bias.is_empty() && bias.len() != directions * 2 * gates
            || args.out.len() != steps * directions * each
        {
            invalid!("the weights do not fit x {shape:?} and a state of {hidden}");
        }
        let given = |i: usize| args.floats(i).map(|(_, v)| v);
        let mut h = states(given(5), directions * each)?;
        let mut c = states(given(6), directions * each)?;
        for index in 0..directions {
            let [w, r, bias] = [w, r, bias].map(|v| part(v, index, directions));
            let direction = Direction { op: self, sizes, index, w, r, bias };
            let range = index * each..(index + 1) * each;
            if each > 0 {
                direction.run(&mut args, x, &mut h[range.clone()], &mut c[range])?;
            }
        }
        for (more, state) in args.more.into_iter().zip([h, c]) {
            if let Some((_, out)) = more {
                out.copy_from_slice(&state);
            }
        }
        Ok(())
    }
}
