//! What is done to the numbers of a table before a model sees them: row by row where they lie.

use kiln_ir::ops::preprocess::{Norm, Preprocess};
use kiln_ir::{Graph, NodeId, Op, Result, Type};

use super::is_f32;
use crate::kernel::{Args, FLOATS, Kernel, Row};
use crate::lanes::{ABREAST, room, turn, unturn};
use crate::simd::{Isa, Work, dispatch};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[Row {
    name: "preprocess_f32",
    what: "Scaler, Normalizer, Binarizer and Imputer of f32: in place, row by row",
    graphs: &[
        "y = ai.onnx.ml.Scaler(x: f32[40,3]) {offset=[0.5,-1.0,0.25], scale=[2.0]}\nreturn y",
        "a = Neg(x: f32[30,2])\ny = ai.onnx.ml.Scaler(a) {scale=[0.5,3.0]}\nreturn y",
        "y = ai.onnx.ml.Normalizer(x: f32[40,11]) {norm=\"L2\"}\nreturn y",
        "y = ai.onnx.ml.Normalizer(x: f32[5]) {norm=\"L1\"}\nreturn y",
        "y = ai.onnx.ml.Normalizer(x: f32[3,19]) {norm=\"MAX\"}\nreturn y",
        "z = f32[1,1]{0.0}\na = Mul(x: f32[3,4], z)\n\
         y = ai.onnx.ml.Normalizer(a) {norm=\"L2\"}\nreturn y",
        "y = ai.onnx.ml.Binarizer(x: f32[3,2,9]) {threshold=0.25}\nreturn y",
        "a = ai.onnx.ml.Binarizer(x: f32[9,2])\ny = ai.onnx.ml.Imputer(a) \
         {imputed_value_floats=[3.5,2.0], replaced_value_float=1.0}\nreturn y",
        "a = Log(x: f32[9,2])\ny = ai.onnx.ml.Imputer(a) \
         {imputed_value_floats=[3.5], replaced_value_float=nan}\nreturn y",
    ],
    in_place: true,
    firsts: FLOATS,
    prepare,
}];

/// Elements that one thread takes at a time.
const JOB: usize = 1 << 14;
/// Sums side by side.
const LANES: usize = 8;

/// A function of a row, with a number per column.
enum Table {
    /// `(x - offset) * scale`.
    Scale(Vec<(f64, f64)>),
    Norm(Norm),
    Threshold(f32),
    Impute {
        old: f32,
        new: Vec<f32>,
    },
}

struct Each {
    table: Table,
    columns: usize,
}

fn prepare(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Preprocess(op) = g.op(id) else { return None };
    let x = g.input_of(id, 0)?;
    is_f32(g, x).then_some(())?;
    let Type::Tensor(t) = g.ty(x) else { return None };
    let columns = t.shape.as_ref()?.last()?.as_len().filter(|n| *n > 0)?;
    let of = |list: &[f32], none: f32| -> Vec<f32> {
        match list {
            [] => vec![none; columns],
            [one] => vec![*one; columns],
            _ => list.to_vec(),
        }
    };
    let table = match op {
        Preprocess::Scaler(s) => {
            let pairs = of(&s.offset, 0.0).into_iter().zip(of(&s.scale, 1.0));
            Table::Scale(pairs.map(|(o, s)| (f64::from(o), f64::from(s))).collect())
        }
        Preprocess::Normalizer(norm) => Table::Norm(*norm),
        Preprocess::Binarizer(t) => Table::Threshold(*t),
        Preprocess::Imputer(i) if i.floats.is_empty() => return None,
        Preprocess::Imputer(i) => Table::Impute { old: i.replaced_float, new: of(&i.floats, 0.0) },
    };
    Some(Box::new(Each { table, columns }))
}

impl Kernel for Each {
    fn run(&self, args: Args<'_>) -> Result<()> {
        let x = if args.in_place { &[][..] } else { args.input(0)?.1 };
        let size = (JOB / self.columns).max(1) * self.columns;
        team::each(args.out.chunks_mut(size).enumerate(), |(i, y)| {
            if !args.in_place {
                y.copy_from_slice(&x[i * size..][..y.len()]);
            }
            match self.table {
                Table::Norm(norm) if self.columns <= SHORT => {
                    dispatch(Norms { norm, columns: self.columns, y });
                }
                _ => dispatch(Rows { each: self, y }),
            }
        });
        Ok(())
    }
}

struct Rows<'a> {
    each: &'a Each,
    y: &'a mut [f32],
}

impl Work for Rows<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        for row in self.y.chunks_exact_mut(self.each.columns) {
            match &self.each.table {
                Table::Scale(pairs) => {
                    for (y, (offset, scale)) in row.iter_mut().zip(pairs) {
                        *y = ((f64::from(*y) - offset) * scale) as f32;
                    }
                }
                Table::Norm(norm) => {
                    let norm = norm_of(*norm, row);
                    let by = if norm == 0.0 { 1.0 } else { norm };
                    for y in row {
                        *y = (f64::from(*y) / by) as f32;
                    }
                }
                Table::Threshold(t) => {
                    for y in row {
                        *y = if *y > *t { 1.0 } else { 0.0 };
                    }
                }
                Table::Impute { old, new } => {
                    for (y, new) in row.iter_mut().zip(new) {
                        let hit = (*y == *old) | (y.is_nan() & old.is_nan());
                        *y = if hit { *new } else { *y };
                    }
                }
            }
        }
    }
}

/// Rows of so few columns are normalized in lanes.
const SHORT: usize = 48;

/// Rows that are divided by their norms.
struct Norms<'a> {
    norm: Norm,
    columns: usize,
    y: &'a mut [f32],
}

impl Work for Norms<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(self, isa: S) {
        let n = self.columns;
        let (mut turned, most) = room::<S>(self.y.len() / n, n);
        for y in self.y.chunks_mut(ABREAST * n) {
            turn(isa, y, n, &mut turned, most);
            let start = if self.norm == Norm::Max { f64::NEG_INFINITY } else { 0.0 };
            let mut norms = [start; ABREAST];
            for x in turned.chunks_exact(most).take(n) {
                for (norm, x) in norms.iter_mut().zip(x) {
                    *norm = more(self.norm, *norm, f64::from(*x));
                }
            }
            for norm in &mut norms {
                *norm = if self.norm == Norm::L2 { norm.sqrt() } else { *norm };
                *norm = if *norm == 0.0 { 1.0 } else { *norm };
            }
            for x in turned.chunks_exact_mut(most).take(n) {
                for (norm, x) in norms.iter().zip(x) {
                    *x = (f64::from(*x) / norm) as f32;
                }
            }
            unturn(isa, &turned, most, y, n);
        }
    }
}

/// The norm of a row, by eight sums side by side.
#[inline(always)]
fn norm_of(norm: Norm, row: &[f32]) -> f64 {
    let mut sums = [if norm == Norm::Max { f64::NEG_INFINITY } else { 0.0 }; LANES];
    let (eights, rest) = row.as_chunks::<LANES>();
    for x in eights {
        for j in 0..LANES {
            sums[j] = more(norm, sums[j], f64::from(x[j]));
        }
    }
    for (s, x) in sums.iter_mut().zip(rest) {
        *s = more(norm, *s, f64::from(*x));
    }
    match norm {
        Norm::Max => {
            let mut max = sums[0];
            for s in sums {
                max = more(norm, max, s);
            }
            max
        }
        Norm::L1 => total(&sums),
        Norm::L2 => total(&sums).sqrt(),
    }
}

/// One more element of a norm.
#[inline(always)]
fn more(norm: Norm, sum: f64, x: f64) -> f64 {
    match norm {
        Norm::Max => {
            if x > sum {
                x
            } else {
                sum
            }
        }
        Norm::L1 => sum + x.abs(),
        Norm::L2 => sum + x * x,
    }
}

#[inline(always)]
fn total(s: &[f64; LANES]) -> f64 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}
