//! The places of the greatest and the least elements of rows.
//!
//! ```text
//! short rows   64 of them in lanes: one column after the other
//! long rows    one after the other
//! ```

use kiln_ir::ops::arg::Arg;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Type, invalid};
use kiln_tensor::shape;

use super::is_f32;
use crate::kernel::{Args, Integers, Kernel, LABELS, Row};
use crate::lanes::{ABREAST, room, turn};
use crate::simd::{Isa, Work, dispatch};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "arg_f32",
    what: "ArgMax and ArgMin of f32 along the last axis",
    graphs: &[
        "y = ArgMax(x: f32[70,10]) {axis=1, keepdims=0}\nreturn y",
        "a = Floor(x: f32[2,9,5])\ny = ArgMin(a) {axis=-1, select_last_index=1}\n\
         z = ArgMax(a) {axis=2, select_last_index=1}\nreturn y, z",
        "a = Log(x: f32[40,4])\ny = ArgMin(a) {axis=1}\nz = ArgMax(a) {axis=1}\nreturn y, z",
    ],
    in_place: false,
    firsts: LABELS,
    prepare: prepare_arg,
}];

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 14;

/// The place of the greatest element along the last axis; of the least, where `sign` is -1.
struct Search {
    sign: f32,
    last: bool,
}

fn prepare_arg(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Arg(op) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    is_f32(g, x).then_some(())?;
    let Type::Tensor(t) = g.ty(x) else { return None };
    let rank = t.shape.as_ref()?.len();
    let fields = op.fields();
    let sign = if matches!(op, Arg::Max(_)) { 1.0 } else { -1.0 };
    let along_last = shape::axis(fields.axis, rank).ok()? + 1 == rank;
    let search = Search { sign, last: fields.select_last_index };
    along_last.then(|| Box::new(search) as Box<dyn Kernel>)
}

impl Search {
    /// NaN is beyond every number.
    fn place(&self, row: &[f32]) -> usize {
        let mut place = 0;
        let mut best = row[0] * self.sign;
        for (i, x) in row.iter().enumerate().skip(1) {
            let x = x * self.sign;
            let further = (x > best) & !best.is_nan() | (x.is_nan() & !best.is_nan());
            let equal = self.last & ((x == best) | (x.is_nan() & best.is_nan()));
            if further | equal {
                (best, place) = (x, i);
            }
        }
        place
    }
}

/// Rows of so many elements are searched in lanes.
const SHORT: usize = 64;

/// Rows of few elements, and room for their places.
struct Short<'a> {
    search: &'a Search,
    x: &'a [f32],
    y: &'a mut [i64],
    n: usize,
}

impl Work for Short<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let (n, sign, last) = (self.n, self.search.sign, self.search.last);
        let (mut turned, most) = room::<S>(self.y.len(), n);
        for (y, x) in self.y.chunks_mut(ABREAST).zip(self.x.chunks(ABREAST * n)) {
            turn(isa, x, n, &mut turned, most);
            let mut best = [f32::NEG_INFINITY; ABREAST];
            let mut place = [0i32; ABREAST];
            for (i, x) in (0..).zip(turned.chunks_exact(most).take(n)) {
                for ((best, place), x) in best.iter_mut().zip(&mut place).zip(x) {
                    let x = x * sign;
                    let open = !best.is_nan() & (i > 0);
                    let further = (x > *best) & open | (x.is_nan() & open) | (i == 0);
                    let equal = last & ((x == *best) | (x.is_nan() & best.is_nan()));
                    *place = if further | equal { i } else { *place };
                    *best = if further | equal { x } else { *best };
                }
            }
            y.iter_mut().zip(place).for_each(|(y, p)| *y = i64::from(p));
        }
    }
}

impl Kernel for Search {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let (shape, x) = args.input(0)?;
        let n = shape.last().copied().unwrap_or(0);
        if n == 0 {
            invalid!("the last axis is empty: it has no greatest and no least element");
        }
        let Some(Integers::I64(y)) = args.integers else {
            return Err(Error::bug("places are no integers"));
        };
        let rows = (JOB / n).max(1);
        team::each(y.chunks_mut(rows).enumerate(), |(job, y)| {
            let x = &x[job * rows * n..][..y.len() * n];
            if n <= SHORT {
                return dispatch(Short { search: self, x, y, n });
            }
            for (y, row) in y.iter_mut().zip(x.chunks_exact(n)) {
                *y = self.place(row) as i64;
            }
        });
        Ok(())
    }
}
