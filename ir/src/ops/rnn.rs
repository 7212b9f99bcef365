//! Recurrent layers: RNN, LSTM and GRU, in one direction or both.
//!
//! ```text
//! y, h, c = LSTM(x: f32[S,B,I], w: f32[D,4*H,I], r: f32[D,4*H,H], b: f32[D,8*H]) {hidden_size=H}
//!     y: f32[S,D,B,H]    h, c: f32[D,B,H]
//! ```
//! The inputs are `x w r b sequence_lens initial_h initial_c p`, the last two of LSTM only.

mod cell;
mod curve;

use std::ops::RangeInclusive;

use kiln_tensor::{DType, Datum, Tensor};

use crate::eval::{optional, tensor};
use crate::ops::real::{Real, is_real, match_real, narrow, widen};
use crate::{
    Attrs, Build, Built, Context, Dim, Fact, Infer, Operator, Result, Schema, Traits, attr_enum,
    invalid,
};
use cell::{Direction, Output, Sizes, Weights, states, transposed};
pub use curve::{Activation, Shape};

attr_enum! {
    /// The order in which steps are taken.
    pub enum Order {
        /// From the first to the last.
        Forward = "forward",
        /// From the last to the first.
        Reverse = "reverse",
        /// Both, with weights of their own.
        Bidirectional = "bidirectional",
    }
}

impl Order {
    /// How many directions there are.
    pub fn count(self) -> usize {
        if self == Order::Bidirectional { 2 } else { 1 }
    }

    /// Whether direction `i` runs backwards.
    pub fn is_reverse(self, i: usize) -> bool {
        self == Order::Reverse || i == 1
    }
}

/// The cell of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RnnKind {
    /// One gate.
    Rnn,
    /// Gates for input, output, forgetting and the cell.
    Lstm,
    /// Gates for the update, the reset and the hidden state.
    Gru,
}

impl RnnKind {
    /// How many gates a cell has.
    pub fn gates(self) -> usize {
        match self {
            RnnKind::Rnn => 1,
            RnnKind::Lstm => 4,
            RnnKind::Gru => 3,
        }
    }

    /// The activations of a cell where none are named.
    pub fn activations(self) -> &'static [Shape] {
        match self {
            RnnKind::Rnn => &[Shape::Tanh],
            RnnKind::Lstm => &[Shape::Sigmoid, Shape::Tanh, Shape::Tanh],
            RnnKind::Gru => &[Shape::Sigmoid, Shape::Tanh],
        }
    }
}

/// What a recurrent layer does beside its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// The length of the state; that of the weights where there is none.
    pub hidden_size: Option<i64>,
    /// The directions.
    pub direction: Order,
    /// Whether the batch comes before the steps (and the directions).
    pub batch_first: bool,
    /// The bound on what activations of gates see.
    pub clip: Option<f32>,
    /// The activations, those of the second direction behind those of the first.
    pub activations: Vec<Activation>,
    /// LSTM: whether the forget gate is one less the input gate.
    pub input_forget: bool,
    /// GRU: whether the reset gate scales the product with the recurrent weights.
    pub linear_before_reset: bool,
}

/// A recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rnn {
    /// The cell.
    pub kind: RnnKind,
    /// The rest.
    pub layer: Box<Recurrent>,
}

/// The schema rows of this family.
pub const SCHEMAS: &[Schema] = &[
    Schema { name: "RNN", since: 1, build: |b| build(b, RnnKind::Rnn) },
    Schema { name: "LSTM", since: 1, build: |b| build(b, RnnKind::Lstm) },
    Schema { name: "GRU", since: 1, build: |b| build(b, RnnKind::Gru) },
];

fn build(b: &mut Build<'_>, kind: RnnKind) -> Result<Built> {
    // All outputs are always made.
    b.take::<i64>("output_sequence")?;
    let direction = b.take::<Order>("direction")?.unwrap_or(Order::Forward);
    let layer = Recurrent {
        hidden_size: b.take("hidden_size")?,
        direction,
        batch_first: b.take("layout")?.unwrap_or(false),
        clip: b.take("clip")?,
        activations: curve::take(&mut b.attrs, kind.activations(), direction.count())?,
        input_forget: kind == RnnKind::Lstm && b.take("input_forget")?.unwrap_or(false),
        linear_before_reset: kind == RnnKind::Gru
            && b.take("linear_before_reset")?.unwrap_or(false),
    };
    Ok(Rnn { kind, layer: Box::new(layer) }.into())
}

/// Checks one length where it is known.
fn expect(what: &str, got: &Dim, want: &Dim) -> Result<()> {
    match (got.as_const(), want.as_const()) {
        (Some(g), Some(w)) if g != w => invalid!("{what} is {g} long where {w} is needed"),
        _ => Ok(()),
    }
}

impl Rnn {
    /// Whether there is a cell state beside the hidden one.
    fn has_cell(&self) -> bool {
        self.kind == RnnKind::Lstm
    }

    /// The shape that input `i` must have.
    fn want(&self, i: usize, s: &Symbols) -> Vec<Dim> {
        let d = Dim::from(self.layer.direction.count());
        let h = &s.hidden;
        let gates = h.clone() * Dim::from(self.kind.gates());
        match i {
            1 => vec![d, gates, s.input.clone()],
            2 => vec![d, gates, h.clone()],
            3 => vec![d, gates.clone() + gates],
            4 => vec![s.batch.clone()],
            7 => vec![d, h.clone() * Dim::from(3usize)],
            _ => self.ordered(vec![d, s.batch.clone(), h.clone()]),
        }
    }

    /// A shape `[.., batch, hidden]` with the batch moved to the front, where it belongs there.
    fn ordered(&self, mut shape: Vec<Dim>) -> Vec<Dim> {
        if self.layer.batch_first {
            let at = shape.len() - 2;
            shape[..=at].rotate_right(1);
        }
        shape
    }

    /// The lengths of the inputs, new symbols where one is not known.
    fn symbols(&self, cx: &mut Infer<'_>) -> Result<Symbols> {
        let x = match cx.shape(0)? {
            Some(x) if x.len() != 3 => invalid!("x has rank {}, not 3", x.len()),
            Some(x) => x.to_vec(),
            None => cx.fresh_shape(3),
        };
        let hidden = match (self.layer.hidden_size, cx.shape(2)?) {
            (Some(h), _) if h < 0 => invalid!("hidden_size is {h}"),
            (Some(h), _) => h.into(),
            (None, Some([_, _, h])) => h.clone(),
            _ => cx.fresh(),
        };
        let (s, b) = if self.layer.batch_first { (1, 0) } else { (0, 1) };
        Ok(Symbols { steps: x[s].clone(), batch: x[b].clone(), input: x[2].clone(), hidden })
    }

    /// The lengths of inputs that have been checked.
    fn sizes(&self, inputs: &[Option<&Datum>]) -> Result<Sizes> {
        let (x, r) = (tensor(inputs, 0)?.shape(), tensor(inputs, 2)?.shape());
        let (&[first, second, input], &[_, _, hidden]) = (x, r) else {
            invalid!("x has rank {} and r has rank {}: both must have rank 3", x.len(), r.len());
        };
        let batch_first = self.layer.batch_first;
        let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
        let directions = self.layer.direction.count();
        let sizes = Sizes { steps, batch, input, hidden, directions, batch_first };
        let s = Symbols {
            steps: steps.into(),
            batch: batch.into(),
            input: input.into(),
            hidden: self.layer.hidden_size.map_or(hidden.into(), Dim::from),
        };
        for i in (1..8).filter(|&i| inputs.get(i).is_some_and(Option::is_some)) {
            let got = tensor(inputs, i)?.shape();
            let want = self.want(i, &s);
            if !got.iter().map(|&d| Dim::from(d)).eq(want.iter().cloned()) {
                let want: Vec<_> = want.iter().map(Dim::to_string).collect();
                invalid!("input {i} has shape {got:?}, not [{}]", want.join(", "));
            }
        }
        Ok(sizes)
    }

    fn run<R: Real>(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let s = self.sizes(inputs)?;
        let get = |i: usize| optional(inputs, i)?.map(widen::<R>).transpose();
        let (x, w, r) = (widen::<R>(tensor(inputs, 0)?)?, get(1)?, get(2)?);
        let (bias, peephole) = (get(3)?.unwrap_or_default(), get(7)?.unwrap_or_default());
        let (w, r) = (w.unwrap_or_default(), r.unwrap_or_default());
        // Empty inputs may still have many steps or sequences.
        cx.numel(DType::I64, &[s.steps.max(1), s.batch])?;
        let lengths = lengths(optional(inputs, 4)?, s)?;
        let lens = |d: Vec<Dim>| d.iter().filter_map(Dim::as_len).collect::<Vec<_>>();
        let (batch, hidden, count) = (s.batch.into(), s.hidden.into(), s.directions.into());
        let shape = lens(self.ordered(vec![count, batch, hidden]));
        let y_shape = match s.batch_first {
            true => vec![s.batch, s.steps, s.directions, s.hidden],
            false => vec![s.steps, s.directions, s.batch, s.hidden],
        };
        let mut out = Output {
            y: cx.zeros::<R>(&y_shape)?,
            h: states(cx, &shape, get(5)?.as_deref())?,
            c: if self.has_cell() { states(cx, &shape, get(6)?.as_deref())? } else { vec![] },
        };
        let width = self.kind.gates() * s.hidden;
        let each = self.kind.activations().len();
        for index in 0..s.directions {
            let part = |v: &[R], n: usize| v.get(index * n..(index + 1) * n).map(<[R]>::to_vec);
            let of = |v: &[R], n: usize| part(v, n).unwrap_or_default();
            let weights = Weights {
                input: transposed(&of(&w, width * s.input), width, s.input),
                recurrent: transposed(&of(&r, width * s.hidden), width, s.hidden),
                bias: &of(&bias, 2 * width),
                peephole: &of(&peephole, 3 * s.hidden),
            };
            let activations = &self.layer.activations[index * each..(index + 1) * each];
            let (op, kind, sizes) = (&*self.layer, self.kind, s);
            Direction { op, kind, sizes, index, weights, activations, lengths: &lengths }
                .run(cx, &x, &mut out)?;
        }
        let dtype = tensor(inputs, 0)?.dtype();
        let mut made = vec![narrow(dtype, &y_shape, out.y)?, narrow(dtype, &shape, out.h)?];
        if self.has_cell() {
            made.push(narrow(dtype, &shape, out.c)?);
        }
        Ok(made.into_iter().map(Datum::from).collect())
    }
}

/// The lengths of a layer's inputs.
struct Symbols {
    steps: Dim,
    batch: Dim,
    input: Dim,
    hidden: Dim,
}

/// How many steps each sequence has.
fn lengths(given: Option<&Tensor>, s: Sizes) -> Result<Vec<usize>> {
    let Some(t) = given else { return Ok(vec![s.steps; s.batch]) };
    let length = |n: i64| match usize::try_from(n) {
        Ok(n) if n <= s.steps => Ok(n),
        _ => invalid!("a sequence is {n} long, x has {} steps", s.steps),
    };
    t.to_vec::<i64>()?.into_iter().map(length).collect()
}

impl Operator for Rnn {
    fn name(&self) -> &str {
        match self.kind {
            RnnKind::Rnn => "RNN",
            RnnKind::Lstm => "LSTM",
            RnnKind::Gru => "GRU",
        }
    }

    fn attrs(&self) -> Attrs {
        let l = &*self.layer;
        let attrs = Attrs::default()
            .with("hidden_size", l.hidden_size)
            .with("direction", Some(l.direction).filter(|d| *d != Order::Forward))
            .with("layout", l.batch_first.then_some(true))
            .with("clip", l.clip)
            .with("input_forget", l.input_forget.then_some(true))
            .with("linear_before_reset", l.linear_before_reset.then_some(true));
        curve::put(attrs, &l.activations, self.kind.activations())
    }

    fn traits(&self) -> Traits {
        Traits::optional(if self.has_cell() { 3 } else { 2 })
    }

    fn arity(&self) -> RangeInclusive<usize> {
        if self.has_cell() { 3..=8 } else { 3..=6 }
    }

    fn infer(&self, cx: &mut Infer<'_>) -> Result<Vec<Fact>> {
        cx.dtype_in(0, is_real)?;
        let dtype = cx.same_dtype([0, 1, 2, 3, 5, 6, 7])?;
        if cx.has(4) {
            cx.dtype_in(4, |d| d == DType::I32)?;
        }
        if self.layer.clip.is_some_and(|c| c.is_nan() || c < 0.0) {
            invalid!("clip must not be negative");
        }
        let s = self.symbols(cx)?;
        for i in 1..8 {
            let Some(got) = (if cx.has(i) { cx.shape(i)? } else { None }) else { continue };
            let want = self.want(i, &s);
            if got.len() != want.len() {
                invalid!("input {i} has rank {}, not {}", got.len(), want.len());
            }
            for (axis, (got, want)) in got.iter().zip(&want).enumerate() {
                expect(&format!("axis {axis} of input {i}"), got, want)?;
            }
        }
        let d = Dim::from(self.layer.direction.count());
        let Symbols { steps, batch, hidden, .. } = s;
        let y = self.ordered(vec![steps, d.clone(), batch.clone(), hidden.clone()]);
        let state = Fact::shaped(dtype, self.ordered(vec![d, batch, hidden]));
        let mut facts = vec![Fact::shaped(dtype, y), state.clone()];
        facts.extend(self.has_cell().then_some(state));
        Ok(facts)
    }

    fn eval(&self, cx: &Context, inputs: &[Option<&Datum>]) -> Result<Vec<Datum>> {
        let dtype = tensor(inputs, 0)?.dtype();
        match_real!(dtype, R => self.run::<R>(cx, inputs),
            else invalid!("{} takes no {dtype}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, run, t, types};
    use crate::text;

    fn floats(out: &[Datum]) -> Vec<Vec<f32>> {
        out.iter().map(|d| d.as_tensor().expect("tensor").to_vec().expect("floats")).collect()
    }

    /// Sums of what has been seen so far.
    fn sums(args: &str, attrs: &str, x: Tensor, lens: Option<Vec<i32>>) -> Vec<Vec<f32>> {
        let bidirectional = attrs.contains("bidirectional");
        let d = if bidirectional { 2 } else { 1 };
        let names = ["\"Affine\""; 2][..d].join(",");
        let text = format!(
            "y, h = RNN({args}) {{hidden_size=1, activations=[{names}], {attrs}}}\nreturn y, h"
        );
        let w = t(&[d, 1, 1], &vec![1.0; d]);
        let mut inputs = vec![x, w.clone(), w];
        inputs.extend(lens.map(Tensor::vector));
        floats(&run(&text, &inputs).expect("runs"))
    }

    #[test]
    fn steps_in_either_order() {
        let x = t(&[3, 1, 1], &[1.0, 2.0, 3.0]);
        let args = "x: f32[3,1,1], w: f32[D,1,1], r: f32[D,1,1]";
        let got = sums(args, "clip=100.0", x.clone(), None);
        assert_eq!(got, [vec![1.0, 3.0, 6.0], vec![6.0]]);
        let got = sums(args, "direction=\"reverse\"", x.clone(), None);
        assert_eq!(got, [vec![6.0, 5.0, 3.0], vec![6.0]]);
        let got = sums(args, "direction=\"bidirectional\"", x, None);
        assert_eq!(got, [vec![1.0, 6.0, 3.0, 5.0, 6.0, 3.0], vec![6.0, 6.0]]);
    }

    #[test]
    fn sequences_end_early() {
        // Two sequences, 1 2 3 and 10 20 30, of which the second has two steps.
        let by_step = t(&[3, 2, 1], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let args = "x: f32[..], w: f32[D,1,1], r: f32[D,1,1], _, l: i32[2]";
        let got = sums(args, "direction=\"reverse\"", by_step, Some(vec![3, 2]));
        assert_eq!(got, [vec![6.0, 30.0, 5.0, 20.0, 3.0, 0.0], vec![6.0, 30.0]]);
        let by_place = t(&[2, 3, 1], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        let attrs = "direction=\"bidirectional\", layout=1";
        let got = sums(args, attrs, by_place, Some(vec![3, 2]));
        let y = [1.0, 6.0, 3.0, 5.0, 6.0, 3.0, 10.0, 30.0, 30.0, 20.0, 0.0, 0.0];
        assert_eq!(got, [y.to_vec(), vec![6.0, 6.0, 30.0, 30.0]]);
    }

    #[test]
    fn gates_of_an_lstm() {
        // All gates see x; all activations are the identity.
        let lstm = |attrs: &str, p: [f32; 3]| {
            let text = format!(
                "y, h, c = LSTM(x: f32[2,1,1], w: f32[1,4,1], r: f32[1,4,1], _, _, _, _, \
                 p: f32[1,3]) {{activations=[\"affine\",\"Affine\",\"Affine\"], {attrs}}}\n\
                 return y, c"
            );
            let (x, w) = (t(&[2, 1, 1], &[2.0, 1.0]), t(&[1, 4, 1], &[1.0; 4]));
            let inputs = [x, w, t(&[1, 4, 1], &[0.0; 4]), t(&[1, 3], &p)];
            floats(&run(&text, &inputs).expect("runs")).concat()
        };
        assert_eq!(lstm("hidden_size=1", [0.0; 3]), [8.0, 5.0, 5.0]);
        assert_eq!(lstm("hidden_size=1", [0.5, 1.0, 0.0]), [24.0, 56.0, 7.0]);
        assert_eq!(lstm("input_forget=1", [0.0; 3]), [8.0, 1.0, 1.0]);
        assert_eq!(lstm("clip=1.5", [0.0; 3]), [3.375, 3.25, 3.25]);
    }

    #[test]
    fn the_reset_of_a_gru() {
        let gru = |attrs: &str| {
            let text = format!(
                "y, h = GRU(x: f32[1,1,1], w: f32[1,3,1], r: f32[1,3,1], b: f32[1,6], _, \
                 i: f32[1,1,1]) {{activations=[\"Affine\",\"Affine\"]{attrs}}}\nreturn y"
            );
            let inputs = [
                t(&[1, 1, 1], &[1.0]),
                t(&[1, 3, 1], &[0.5, 2.0, 1.0]),
                t(&[1, 3, 1], &[0.0, 0.0, 1.0]),
                t(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
                t(&[1, 1, 1], &[4.0]),
            ];
            floats(&run(&text, &inputs).expect("runs")).concat()
        };
        assert_eq!(gru(""), [7.0]);
        assert_eq!(gru(", linear_before_reset=1"), [7.5]);
    }

    #[test]
    fn activations_take_parameters_in_order() {
        let text = "y, h = GRU(x: f32[S,B,2], w: f32[1,6,2], r: f32[1,6,2]) \
                    {activation_alpha=[0.5, 3.0], activation_beta=[0.25], \
                    activations=[\"LeakyRelu\", \"HardSigmoid\"], clip=2.0, \
                    direction=\"reverse\"}\n\
                    return y\n";
        let g = text::parse(text).expect("parses");
        let again = text::print(&text::parse(&text::print(&g)).expect("its own text"));
        assert_eq!(text::print(&g), again);
        assert!(again.contains("activation_alpha=[0.5,3.0]") || again.contains("[0.5, 3.0]"));
        let at = |shape, alpha, beta, x: f32| Activation { shape, alpha, beta }.apply(x);
        let got = [
            at(Shape::ThresholdedRelu, 2.0, 0.0, 2.0),
            at(Shape::ScaledTanh, 2.0, 0.5, 2.0),
            at(Shape::Softsign, 0.0, 0.0, -3.0),
            at(Shape::LeakyRelu, 0.5, 0.0, -3.0),
        ];
        assert_close(&got, &[2.0, 1.523_188_3, -0.75, -1.5], 1e-6);
    }

    #[test]
    fn shapes_and_errors() {
        let ty = |op: &str| types(&format!("y, h = {op}\nreturn y, h"));
        let got = ty("RNN(x: f16[S,B,3], w: f16[2,5,3], r: f16[2,5,5]) \
                      {hidden_size=5, direction=\"bidirectional\"}");
        assert_eq!(got.expect("types"), ["f16[S,2,B,5]", "f16[2,B,5]"]);
        let got = ty("RNN(x: f32[B,S,3], w: f32[1,5,3], r: f32[1,5,5]) {layout=1}");
        assert_eq!(got.expect("types"), ["f32[B,S,1,5]", "f32[B,1,5]"]);
        for wrong in [
            "RNN(x: f32[S,B,3], w: f32[1,5,4], r: f32[1,5,5])",
            "RNN(x: f32[S,B,3], w: f32[1,5,3], r: f32[1,5,5]) {hidden_size=4}",
            "RNN(x: f32[S,B,3], w: f32[2,5,3], r: f32[2,5,5])",
            "RNN(x: f32[S,B,3], w: f32[1,5,3], r: f32[1,5,5]) {activations=[\"Cube\"]}",
            "RNN(x: i32[S,B,3], w: i32[1,5,3], r: i32[1,5,5])",
        ] {
            assert!(ty(wrong).is_err(), "{wrong}");
        }
    }
}
