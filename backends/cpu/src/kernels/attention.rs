//! Attention of `f32`: a block of queries at a time, so that their scores stay in the cache.
//!
//! Keys and values of the past are copied before the new ones, once for all queries.
//!
//! ```text
//! q [m, d] * k' [d, t] ─▶ scores [m, t] ─softmax▶ weights [m, t] * v [t, e] ─▶ y [m, e]
//! ```

use std::borrow::Cow;

use kiln_ir::ops::attention::{Attention, Settings};
use kiln_ir::{Error, Graph, NodeId, Op, Result, Type, invalid};
use kiln_tensor::{DType, Tensor, shape};

use super::gemm::{Ending, Layout, Left, Product};
use super::gemv::{self, FEW};
use super::softmax::{greatest, scale};
use super::{is_f32, math};
use crate::kernel::{Args, FLOATS, Kernel, Operand, Row};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "attention_f32",
    what: "Attention of rank 4, perhaps with a past: heads in parallel, blocks of queries",
    graphs: &[
        "y = Attention(q: f32[2,4,9,16], k: f32[2,2,33,16], v: f32[2,2,33,8])\nreturn y",
        "y = Attention(q: f32[1,2,70,8], k: f32[1,2,70,8], v: f32[1,2,70,8]) \
         {is_causal=1, scale=0.3}\nreturn y",
        "y = Attention(q: f32[2,2,5,8], k: f32[2,2,7,8], v: f32[2,2,7,8], m: f32[5,7])\nreturn y",
        "y = Attention(q: f32[2,3,5,8], k: f32[2,3,7,8], v: f32[2,3,7,8], m: bool[2,1,1,7]) \
         {is_causal=1}\nreturn y",
        "y = Attention(q: f32[2,4,1,8], k: f32[2,1,40,8], v: f32[2,1,40,8], m: f32[2,1,1,40])\n\
         return y",
        "y = Attention(q: f32[1,1,6,8], k: f32[1,1,0,8], v: f32[1,1,0,4])\nreturn y",
        "y, j, w = Attention(q: f32[2,4,3,8], k: f32[2,2,3,8], v: f32[2,2,3,4], m: f32[3,8], \
         p: f32[2,2,5,8], r: f32[2,2,5,4])\nreturn y, j, w",
        "y, j, w = Attention(q: f32[1,2,20,8], k: f32[1,2,20,8], v: f32[1,2,20,8], _, \
         p: f32[1,2,7,8], r: f32[1,2,7,8]) {is_causal=1}\nreturn y, w",
        "y = Attention(q: f32[1,2,1,8], k: f32[1,2,1,8], v: f32[1,2,1,8], _, \
         p: f32[1,2,0,8], r: f32[1,2,0,8])\nreturn y",
        "y, j, w = Attention(q: f32[2,1,0,8], k: f32[2,1,3,8], v: f32[2,1,3,4])\nreturn y, j, w",
    ],
    in_place: false,
    firsts: FLOATS,
    prepare,
}];

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Attention(op) = g.op(id) else { return None };
    let s = op.settings();
    let plain = matches!(s.outputs, 1 | 3)
        && s.softcap == 0.0
        && (s.left_window_size, s.right_window_size) == (-1, -1)
        && matches!(s.softmax_precision, None | Some(DType::F32));
    let inputs = g.inputs_of(id);
    let heads =
        |i: usize| g.input_of(id, i).is_some_and(|v| is_f32(g, v) && g.ty(v).rank() == Some(4));
    let mask = match inputs.get(3).copied().flatten().map(|v| g.ty(v)) {
        None => true,
        Some(Type::Tensor(t)) => matches!(t.dtype, DType::F32 | DType::Bool) && t.shape.is_some(),
        Some(_) => false,
    };
    let given = |i: usize| inputs.get(i).copied().flatten().is_some();
    let past = [4, 5].into_iter().all(|i| !given(i) || heads(i)) && !given(6);
    (plain && (0..3).all(heads) && mask && past)
        .then(|| Box::new(Heads(op.clone())) as Box<dyn Kernel>)
}

struct Heads(Attention);

/// Scores of one block, at most.
const SCORES: usize = 1 << 16;
/// Queries of one block, at most.
const BLOCK: usize = 48;

/// What is added to scores, or which of them count.
struct Mask<'a> {
    data: Bias<'a>,
    strides: Vec<usize>,
    /// The keys that it knows of; later ones are not seen.
    width: usize,
}

enum Bias<'a> {
    Floats(&'a [f32]),
    Truths(&'a [bool]),
}

impl<'a> Mask<'a> {
    fn of(o: Operand<'a>, [batch, heads, rows, keys]: [usize; 4]) -> Result<Self> {
        let data = match o.other.map(Tensor::as_slice::<bool>) {
            Some(t) => Bias::Truths(t?),
            None => Bias::Floats(o.data),
        };
        let shape = if o.shape.is_empty() { &[1][..] } else { o.shape };
        let (&width, lead) = shape.split_last().expect("invariant: the rank is not 0");
        let to = [batch, heads, rows];
        let fits = lead.len() <= 3
            && lead.iter().rev().zip(to.iter().rev()).all(|(&m, &n)| m == 1 || m == n);
        if !fits || width > keys {
            invalid!("the mask {shape:?} does not broadcast to {to:?} with {keys} keys");
        }
        let strides = shape::broadcast_strides(lead, &to).iter().map(|s| s * width).collect();
        Ok(Self { data, strides, width })
    }

    /// Adds what belongs to one query to its scores.
    fn add(&self, place: [usize; 3], scores: &mut [f32]) {
        let at: usize = self.strides.iter().zip(place).map(|(s, i)| s * i).sum();
        let (known, unknown) = scores.split_at_mut(self.width.min(scores.len()));
        match self.data {
            Bias::Floats(m) => known.iter_mut().zip(&m[at..]).for_each(|(s, m)| *s += m),
            Bias::Truths(m) => (known.iter_mut().zip(&m[at..]))
                .for_each(|(s, m)| *s = if *m { *s } else { f32::NEG_INFINITY }),
        }
        unknown.fill(f32::NEG_INFINITY);
    }
}

/// One head of queries, and what it looks at.
struct Head<'a> {
    settings: &'a Settings,
    place: [usize; 2],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    keys: usize,
    /// The keys before that of the first query.
    past: usize,
    /// Lengths of a query and of a value.
    sizes: [usize; 2],
    mask: Option<&'a Mask<'a>>,
    factor: f32,
}

impl Head<'_> {
    /// Turns the scores of query `i` into weights; without a key that it sees they are 0.
    fn weigh(&self, i: usize, scores: &mut [f32]) {
        if let Some(mask) = self.mask {
            mask.add([self.place[0], self.place[1], i], scores);
        }
        let own = if self.settings.is_causal { self.past + i + 1 } else { scores.len() };
        let seen = own.min(scores.len());
        let (scores, later) = scores.split_at_mut(seen);
        later.fill(0.0);
        let most = greatest(scores);
        if most == f32::NEG_INFINITY && !scores.iter().any(|s| s.is_nan()) {
            return scores.fill(0.0);
        }
        let sum = math::exp_less(scores, most);
        scale(scores, 1.0 / sum);
    }

    /// The rows of the result, one query after the other: nothing is packed.
    fn few(&self, y: &mut [f32]) {
        let [d, e] = self.sizes;
        let mut scores = vec![0f32; self.keys];
        for (i, y) in y.chunks_exact_mut(e).enumerate() {
            let q: Vec<f32> = self.q[i * d..][..d].iter().map(|q| q * self.factor).collect();
            gemv::times_rows(d, self.keys, &q, self.k, &mut scores);
            self.weigh(i, &mut scores);
            gemv::times_columns(self.keys, e, &scores, self.v, y);
        }
    }

    /// The rows of the result, blocks of them at a time.
    fn blocks(&self, y: &mut [f32]) {
        let ([d, e], t) = (self.sizes, self.keys);
        let (by_keys, by_values) = (Layout::new(d, t), Layout::new(t, e));
        let (keys, values) = (by_keys.pack_all(self.k, true), by_values.pack_all(self.v, false));
        let rows = (SCORES / t).clamp(6, BLOCK);
        let mut scores = vec![0.0; rows * t];
        let ending = Ending::default();
        for (b, y) in y.chunks_mut(rows * e).enumerate() {
            let (first, m) = (b * rows, y.len() / e);
            let a = Left { data: &self.q[first * d..], stride: d, rows: m };
            let scores = &mut scores[..m * t];
            Product { a, b: keys.as_ref(), layout: by_keys, ending }.run(scores, t);
            for (i, row) in scores.chunks_exact_mut(t).enumerate() {
                scale(row, self.factor);
                self.weigh(first + i, row);
            }
            let a = Left { data: scores, stride: t, rows: m };
            Product { a, b: values.as_ref(), layout: by_values, ending }.run(y, e);
        }
    }
}

fn four(shape: &[usize]) -> Result<[usize; 4]> {
    shape.try_into().map_err(|_| Error::invalid(format!("{shape:?} has no rank of 4")))
}

/// Keys or values in the order batch, head, place.
struct Part<'a> {
    shape: [usize; 4],
    data: Cow<'a, [f32]>,
    /// How many places of each head are of the past.
    past: usize,
}

impl<'a> Part<'a> {
    /// What is given, behind what is of the past, in `room` where there is one.
    fn new(
        (shape, given): (&[usize], &'a [f32]),
        past: Option<(&[usize], &[f32])>,
        room: Option<(&[usize], &'a mut [f32])>,
    ) -> Result<Self> {
        let [batch, heads, new, size] = four(shape)?;
        let (before, old) = match past {
            None => (0, &[][..]),
            Some((s, old)) => match four(s)? {
                [b, h, n, d] if (b, h, d) == (batch, heads, size) => (n, old),
                _ => invalid!("what is of the past is {s:?}, and what is new {shape:?}"),
            },
        };
        let shape = [batch, heads, before + new, size];
        let room = match (room, past) {
            (None, None) => return Ok(Self { shape, data: given.into(), past: before }),
            (Some((_, room)), _) => Some(room),
            (None, Some(_)) => None,
        };
        let lengths = [before * size, new * size];
        let data = match room {
            Some(room) if room.len() != given.len() + old.len() => {
                return Err(Error::bug("there is no room for a past"));
            }
            Some(room) => {
                join(room, [old, given], lengths);
                Cow::Borrowed(&*room)
            }
            None => {
                let mut room = vec![0.0; given.len() + old.len()];
                join(&mut room, [old, given], lengths);
                Cow::Owned(room)
            }
        };
        Ok(Self { shape, data, past: before })
    }
}

/// The places of each head, of the past and new, one after the other.
fn join(room: &mut [f32], [old, new]: [&[f32]; 2], [before, behind]: [usize; 2]) {
    let each = before + behind;
    let join = |(i, room): (usize, &mut [f32])| {
        let (past, rest) = room.split_at_mut(before);
        past.copy_from_slice(&old[i * before..][..before]);
        rest.copy_from_slice(&new[i * behind..][..behind]);
    };
    team::each(room.chunks_exact_mut(each.max(1)).enumerate(), join);
}

impl Kernel for Heads {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let (q_shape, q) = args.input(0)?;
        let [batch, heads, rows, d] = four(q_shape)?;
        let mut more = std::mem::take(&mut args.more).into_iter();
        let k = Part::new(args.input(1)?, args.floats(4), more.next().flatten())?;
        let v = Part::new(args.input(2)?, args.floats(5), more.next().flatten())?;
        let ([kb, few, keys, kd], [vb, vh, vt, e]) = (k.shape, v.shape);
        if (kb, kd) != (batch, d) || (vb, vh, vt) != (kb, few, keys) {
            invalid!("queries {q_shape:?}, keys {:?} and values {:?} do not fit", k.shape, v.shape);
        }
        if few == 0 || !heads.is_multiple_of(few) {
            invalid!("{few} heads of keys do not serve {heads} heads of queries");
        }
        if args.out.is_empty() || keys == 0 || d == 0 {
            return self.degenerate(args, [keys, d]);
        }
        let mask = args.optional(3).map(|o| Mask::of(o, [batch, heads, rows, keys])).transpose()?;
        let settings = self.0.settings();
        let factor = settings.scale.unwrap_or_else(|| (1.0 / (d as f64).sqrt()) as f32);
        let head = |(i, y): (usize, &mut [f32])| {
            args.cancel.poll()?;
            let (b, h) = (i / heads, i % heads);
            let of = b * few + h / (heads / few);
            let head = Head {
                settings,
                place: [b, h],
                q: &q[i * rows * d..][..rows * d],
                k: &k.data[of * keys * d..][..keys * d],
                v: &v.data[of * keys * e..][..keys * e],
                keys,
                past: k.past,
                sizes: [d, e],
                mask: mask.as_ref(),
                factor,
            };
            if rows <= FEW {
                head.few(y)
            } else {
                head.blocks(y)
            }
            Ok(())
        };
        team::try_each(args.out.chunks_exact_mut(rows * e).enumerate(), head)
    }
}

impl Heads {
    /// Without keys, nothing is seen; queries of no length are left to the definition.
    fn degenerate(&self, args: Args<'_>, [keys, d]: [usize; 2]) -> Result<()> {
        if d == 0 && keys > 0 && !args.out.is_empty() {
            invalid!("queries have no elements");
        }
        args.out.fill(0.0);
        Ok(())
    }
}
