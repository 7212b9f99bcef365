//! Many rows, some at a time: what lies between the operators stays in the cache, and threads share
//! the rows rather than the work of each operator.
//!
//! ```text
//! x [10000,50] ─▶ rows 0..256 ─▶ all operators ─▶ y[0..256]
//!              ─▶ rows 256..512 ─▶ ..
//! ```
//! A row gets the same bits in every company, so nobody sees it in the results.

use std::ops::Range;
use std::sync::Arc;

use kiln_ir::ops::concat::Concat;
use kiln_ir::{Context, Graph, Operator, Result};
use kiln_plan::{Executable, Rows};
use kiln_tensor::Datum;
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::exec::Compiled;

/// Bytes that an operator may read and write at a time: half of a small second-level cache.
const CACHE: usize = 512 << 10;
/// Blocks are whole multiples of so many rows, at least one.
const LEAST: usize = 64;
/// Bytes between the operators, of a row, that are worth it.
const WORTH: usize = 256;

/// A graph that treats its rows one by one.
pub(crate) struct Blocks {
    compiled: Compiled,
    rows: Rows,
    pool: Arc<ThreadPool>,
}

impl Blocks {
    /// The graph as it is, or in blocks of rows where that is worth it.
    pub fn compile(graph: Arc<Graph>, pool: Arc<ThreadPool>) -> Result<Arc<dyn Executable>> {
        let rows = kiln_plan::rows(&graph).filter(|r| r.between >= WORTH);
        let compiled = Compiled::new(graph, pool.clone())?;
        Ok(match rows {
            Some(rows) => Arc::new(Self { compiled, rows, pool }),
            None => Arc::new(compiled),
        })
    }

    /// The ranges that the rows fall into; none where they are run at once.
    fn ranges(&self, inputs: &[Datum]) -> Vec<Range<usize>> {
        let of_rows = self.rows.inputs.iter().zip(inputs).filter(|(has, _)| **has);
        let mut counts = of_rows.map(|(_, d)| match d {
            Datum::Tensor(t) => t.shape().first().copied().unwrap_or(0),
            _ => 0,
        });
        let count = counts.next().unwrap_or(0);
        // What does not fit is an error that the whole run tells of.
        if counts.any(|n| n != count) {
            return vec![];
        }
        let widest = self.rows.widest.max(1);
        if count.saturating_mul(widest) < 2 * CACHE {
            return vec![];
        }
        // Every thread gets one.
        let share = count / self.pool.current_num_threads().max(1);
        let block = ((CACHE / widest).min(share) / LEAST * LEAST).max(LEAST);
        (0..count).step_by(block).map(|from| from..count.min(from + block)).collect()
    }

    fn part(&self, cx: &Context, inputs: &[Datum], rows: Range<usize>) -> Result<Vec<Datum>> {
        let cut = |(d, has): (&Datum, &bool)| match d {
            Datum::Tensor(t) if *has => Ok(t.rows(rows.clone())?.into()),
            _ => Ok(d.clone()),
        };
        let inputs: Result<Vec<Datum>> = inputs.iter().zip(&self.rows.inputs).map(cut).collect();
        self.compiled.run(cx, inputs?)
    }
}

impl Executable for Blocks {
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let ranges = self.ranges(&inputs);
        if ranges.is_empty() {
            return self.compiled.run(cx, inputs);
        }
        let part = |range: Range<usize>| self.part(cx, &inputs, range);
        let parts: Result<Vec<Vec<Datum>>> = match self.pool.current_num_threads() {
            1 => ranges.into_iter().map(part).collect(),
            _ => self.pool.install(|| ranges.into_par_iter().map(part).collect()),
        };
        joined(cx, &parts?)
    }
}

/// The outputs of all parts below one another.
fn joined(cx: &Context, parts: &[Vec<Datum>]) -> Result<Vec<Datum>> {
    let output = |j: usize| {
        let of_parts: Vec<_> = parts.iter().map(|part| part.get(j)).collect();
        Ok(Concat::Join { axis: 0 }.eval(cx, &of_parts)?.swap_remove(0))
    };
    (0..parts.first().map_or(0, Vec::len)).map(output).collect()
}

#[cfg(test)]
mod tests {
    use kiln_ir::{eval, text};
    use kiln_plan::Backend;
    use kiln_tensor::{DType, Tensor};

    use super::*;
    use crate::Cpu;

    /// Differences to eight points, squared: 384 bytes a row between the operators.
    const TEXT: &str = "s = i64[3]{-1, 1, 6}\na = i64[1]{2}\nx: f32[N,6]\nc: f32[1,8,6]\n\
        r = Reshape(x, s)\nd = Sub(r, c)\ne = Mul(d, d)\nf = ReduceSum(e, a) {keepdims=0}\n\
        i = ArgMin(f) {axis=1}\nreturn i, f";

    #[test]
    fn blocks_give_what_all_rows_give() {
        let g = Arc::new(text::parse(TEXT).expect("parses"));
        let number = |i: usize| (i as f32 * 0.7).sin();
        let floats = |shape: &[usize]| {
            let n = shape.iter().product();
            Datum::from(Tensor::from_vec(shape, (0..n).map(number).collect()).expect("floats"))
        };
        let centers = floats(&[1, 8, 6]);
        let cx = Context::default();
        for threads in [1, 2] {
            let backend = Cpu::new(threads).expect("threads");
            let run = |n: usize| {
                let inputs = vec![floats(&[n, 6]), centers.clone()];
                let executable = backend.compile(g.clone(), &Default::default()).expect("compiles");
                let got = executable.run(&cx, inputs.clone()).expect("runs");
                let whole = Compiled::new(g.clone(), backend.pool.clone()).expect("compiles");
                assert_eq!(got, whole.run(&cx, inputs.clone()).expect("runs"), "{n} rows");
                assert_eq!(got[0], eval::run(&g, &cx, inputs).expect("runs")[0], "{n} rows");
            };
            [0, 1, 127, 128, 3000, 6001].into_iter().for_each(run);
        }
    }

    #[test]
    fn rows_fall_into_blocks_where_that_is_worth_it() {
        let g = Arc::new(text::parse(TEXT).expect("parses"));
        let pool = Cpu::new(1).expect("a thread").pool;
        let rows = kiln_plan::rows(&g).expect("one by one");
        let compiled = Compiled::new(g, pool.clone()).expect("compiles");
        let blocks = Blocks { compiled, rows, pool };
        let of = |n: usize, m: usize| {
            let x = |shape: &[usize]| Datum::from(Tensor::zeros(DType::F32, shape).expect("zeros"));
            blocks.ranges(&[x(&[n, 6]), x(&[1, m, 6])])
        };
        assert!(of(900, 8).is_empty() && !of(3000, 8).is_empty());
        let ranges = of(10_000, 8);
        assert_eq!(ranges[0].len() % LEAST, 0);
        assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
        assert_eq!(ranges.last().map(|r| r.end), Some(10_000));
        let plain = Arc::new(text::parse("y = Relu(x: f32[N,600])\nreturn y").expect("parses"));
        assert_eq!(kiln_plan::rows(&plain).map(|r| r.between), Some(0));
    }
}
