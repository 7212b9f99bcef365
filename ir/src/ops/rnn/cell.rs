//! One step of a recurrent cell, and its run along the sequences of a batch.

use kiln_tensor::shape::numel;

use super::curve::Activation;
use super::{Recurrent, RnnKind};
use crate::ops::matmul::{multiply, product};
use crate::ops::real::{Real, Ticks, axpy};
use crate::{Context, Result};

/// The lengths of a run. Rows of the input lie by step, then by place in the batch, or the
/// other way round.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub steps: usize,
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
    pub directions: usize,
    pub batch_first: bool,
}

impl Sizes {
    /// The row of the input for a step of one sequence.
    fn row(&self, step: usize, place: usize) -> usize {
        match self.batch_first {
            true => place * self.steps + step,
            false => step * self.batch + place,
        }
    }

    /// The vector of the output for a step of one sequence.
    fn output(&self, step: usize, place: usize, direction: usize) -> usize {
        match self.batch_first {
            true => (place * self.steps + step) * self.directions + direction,
            false => (step * self.directions + direction) * self.batch + place,
        }
    }

    /// The vector of a state of one sequence.
    pub fn state(&self, place: usize, direction: usize) -> usize {
        match self.batch_first {
            true => place * self.directions + direction,
            false => direction * self.batch + place,
        }
    }
}

/// The weights of one direction, transposed: columns are gates.
pub(super) struct Weights<'a, R> {
    pub input: Vec<R>,
    pub recurrent: Vec<R>,
    /// The bias of the input, then of the recurrence; may be empty.
    pub bias: &'a [R],
    /// The weights of the cell in the gates; may be empty.
    pub peephole: &'a [R],
}

/// `rows * columns` elements, transposed.
pub(super) fn transposed<R: Real>(x: &[R], rows: usize, columns: usize) -> Vec<R> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
}

/// One direction of a layer at work.
pub(super) struct Direction<'a, R> {
    pub op: &'a Recurrent,
    pub kind: RnnKind,
    pub sizes: Sizes,
    pub index: usize,
    pub weights: Weights<'a, R>,
    pub activations: &'a [Activation],
    /// How many steps each sequence of the batch has.
    pub lengths: &'a [usize],
}

/// What a layer writes: every hidden state, and the last states.
pub(super) struct Output<R> {
    pub y: Vec<R>,
    pub h: Vec<R>,
    pub c: Vec<R>,
}

impl<R: Real> Direction<'_, R> {
    /// Runs along every sequence; the states in `out` are the first ones, then the last.
    pub fn run(&self, cx: &Context, x: &[R], out: &mut Output<R>) -> Result<()> {
        let (s, width) = (self.sizes, self.width());
        let rows = [s.steps * s.batch, s.input];
        let (_, mut gates) = product(cx, (&rows, x), (&[s.input, width], &self.weights.input))?;
        self.add_bias(&mut gates);
        let mut ticks = Ticks::new(cx);
        let work = s.hidden.saturating_mul(width);
        let mut spare = vec![R::ZERO; s.hidden * 2];
        for (place, &length) in self.lengths.iter().enumerate() {
            let state = s.state(place, self.index) * s.hidden;
            for i in 0..length {
                let step = if self.is_reverse() { length - 1 - i } else { i };
                let gates = &mut gates[s.row(step, place) * width..][..width];
                let h = &mut out.h[state..state + s.hidden];
                let c = out.c.get_mut(state..state + s.hidden).unwrap_or_default();
                self.step(&mut ticks, gates, h, c, &mut spare)?;
                let y = s.output(step, place, self.index) * s.hidden;
                out.y[y..y + s.hidden].copy_from_slice(h);
                ticks.add(work.max(1))?;
            }
        }
        Ok(())
    }

    fn width(&self) -> usize {
        self.kind.gates() * self.sizes.hidden
    }

    fn is_reverse(&self) -> bool {
        self.op.direction.is_reverse(self.index)
    }

    /// Adds both biases to the gates, but the hidden gate's second one where the reset comes
    /// after it.
    fn add_bias(&self, gates: &mut [R]) {
        let width = self.width();
        if self.weights.bias.is_empty() || width == 0 {
            return;
        }
        let (input, recurrent) = self.weights.bias.split_at(width);
        let early = match self.op.linear_before_reset {
            true => width - self.sizes.hidden,
            false => width,
        };
        for row in gates.chunks_exact_mut(width) {
            row.iter_mut().zip(input).for_each(|(g, &b)| *g += b);
            row.iter_mut().zip(&recurrent[..early]).for_each(|(g, &b)| *g += b);
        }
    }

    fn step(
        &self,
        ticks: &mut Ticks<'_>,
        gates: &mut [R],
        h: &mut [R],
        c: &mut [R],
        spare: &mut [R],
    ) -> Result<()> {
        let (n, width) = (h.len(), self.width());
        match self.kind {
            RnnKind::Rnn => {
                multiply(ticks, [1, n, width], h, &self.weights.recurrent, gates)?;
                h.iter_mut().zip(gates).for_each(|(h, g)| *h = self.activate(0, *g));
            }
            RnnKind::Lstm => {
                multiply(ticks, [1, n, width], h, &self.weights.recurrent, gates)?;
                self.lstm(gates, h, c);
            }
            RnnKind::Gru => self.gru(gates, h, spare),
        }
        Ok(())
    }

    /// An activation of the clipped sum.
    fn activate(&self, i: usize, x: R) -> R {
        let x = match self.op.clip.map(|c| R::of(c.into())) {
            Some(clip) if x > clip => clip,
            Some(clip) if x < -clip => -clip,
            _ => x,
        };
        self.activations[i].apply(x)
    }

    /// The weight by which the cell's element `j` enters a gate: 0 input, 1 output, 2 forget.
    fn peephole(&self, gate: usize, j: usize) -> R {
        self.weights.peephole.get(gate * self.sizes.hidden + j).copied().unwrap_or(R::ZERO)
    }

    fn lstm(&self, gates: &[R], h: &mut [R], c: &mut [R]) {
        let n = h.len();
        for j in 0..n {
            let sum = |gate: usize| gates[gate * n + j];
            let input = self.activate(0, sum(0) + self.peephole(0, j) * c[j]);
            let forget = match self.op.input_forget {
                true => R::ONE - input,
                false => self.activate(0, sum(2) + self.peephole(2, j) * c[j]),
            };
            c[j] = forget * c[j] + input * self.activate(1, sum(3));
            let output = self.activate(0, sum(1) + self.peephole(1, j) * c[j]);
            h[j] = output * self.activations[2].apply(c[j]);
        }
    }

    fn gru(&self, gates: &mut [R], h: &mut [R], spare: &mut [R]) {
        let n = h.len();
        self.recur(h, 0..2 * n, gates);
        gates[..2 * n].iter_mut().for_each(|g| *g = self.activate(0, *g));
        let (first, hidden) = gates.split_at_mut(2 * n);
        let (update, reset) = first.split_at(n);
        let (inner, sum) = spare.split_at_mut(n);
        if self.op.linear_before_reset {
            // The bias that the reset scales, too.
            sum.fill(R::ZERO);
            if let Some(bias) = self.weights.bias.get(5 * n..6 * n) {
                sum.copy_from_slice(bias);
            }
            self.recur(h, 2 * n..3 * n, sum);
            for ((g, &s), &r) in hidden.iter_mut().zip(&*sum).zip(reset) {
                *g += r * s;
            }
        } else {
            inner.iter_mut().zip(&*h).zip(reset).for_each(|((i, &h), &r)| *i = r * h);
            self.recur(inner, 2 * n..3 * n, hidden);
        }
        for ((h, &z), &g) in h.iter_mut().zip(update).zip(&*hidden) {
            *h = (R::ONE - z) * self.activate(1, g) + z * *h;
        }
    }

    /// Adds the product of `h` and some columns of the recurrent weights.
    fn recur(&self, h: &[R], columns: std::ops::Range<usize>, sums: &mut [R]) {
        let width = self.width();
        for (&h, row) in h.iter().zip(self.weights.recurrent.chunks_exact(width.max(1))) {
            axpy(h, &row[columns.clone()], sums);
        }
    }
}

/// Zeros for the states, or the first ones given.
pub(super) fn states<R: Real>(
    cx: &Context,
    shape: &[usize],
    first: Option<&[R]>,
) -> Result<Vec<R>> {
    match first {
        Some(v) if v.len() == numel(shape)? => Ok(v.to_vec()),
        Some(v) => crate::invalid!("{} first states are given for shape {shape:?}", v.len()),
        None => cx.zeros::<R>(shape),
    }
}
