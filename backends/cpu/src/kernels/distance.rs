//! Distances of rows from the rows of a table, and the nearest ones of each row.
//!
//! ```text
//! table     blocks of 64 rows, column by column: in lanes
//! x         4 rows at a time, an element in every lane
//! ```
//! Differences are squared and added in `f32`, 64 columns at a time: the same bits for every tile.

use kiln_ir::ops::linalg::{Linalg, Metric};
use kiln_ir::ops::neighbours::Neighbours;
use kiln_ir::ops::topk::TopK;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Value, invalid};

use super::nearest::{Best, key, number};
use super::{all_f32, is_f32};
use crate::kernel::{Args, FLOATS, Integers, Kernel, Row};
use crate::simd::{Floats, Isa, Mask, Work, dispatch};
use crate::team;

/// The rows of this file.
pub(super) static ROWS: &[Row] = &[
    Row {
        name: "neighbours_f32",
        what: "ai.kiln.Neighbours: distances in lanes, only those below the worst kept are looked \
               at",
        graphs: &[
            "c = f32[150,5]\nd, i = ai.kiln.Neighbours(x: f32[70,5], c) {k=3}\nreturn d, i",
            "d, i = ai.kiln.Neighbours(x: f32[9,130], c: f32[200,130]) {k=60, \
             metric=\"euclidean\"}\nreturn d, i",
            "c = f32[10,3]\nd, i = ai.kiln.Neighbours(x: f32[1,3], c) {k=10, \
             metric=\"euclidean\"}\ne = Neg(d)\nreturn e",
            "d, i = ai.kiln.Neighbours(x: f32[2,0], c: f32[3,0]) {k=2}\nreturn d, i",
            "d, i = ai.kiln.Neighbours(x: f32[2,3], c: f32[3,3]) {k=0}\nreturn d, i",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_neighbours,
    },
    Row {
        name: "cdist_f32",
        what: "com.microsoft.CDist: differences in lanes",
        graphs: &[
            "c = f32[70,5]\ny = com.microsoft.CDist(x: f32[9,5], c)\nreturn y",
            "y = com.microsoft.CDist(x: f32[5,100], c: f32[3,100]) {metric=\"euclidean\"}\n\
             z = Neg(y)\nreturn z",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_distances,
    },
    Row {
        name: "topk_f32",
        what: "TopK along any axis: the best are kept while the others pass",
        graphs: &[
            "k = i64[1]{3}\nv, i = TopK(x: f32[40,90], k)\nreturn v, i",
            "k = i64[1]{40}\nv, i = TopK(x: f32[4,90], k) {largest=0}\nreturn v, i",
            "v, i = TopK(x: f32[3,7,5], k: i64[1]) {axis=1}\nreturn v, i",
            "k = i64[1]{2}\nv, i = TopK(x: f32[3,7], k)\nreturn i",
        ],
        in_place: false,
        firsts: FLOATS,
        prepare: prepare_top,
    },
];

/// Rows of the table in a block.
const BLOCK: usize = 64;
/// Columns whose squares are added before they join the rest.
const SPAN: usize = 64;
/// Rows of `x` in a tile.
const TILE: usize = 4;
/// Rows of `x` that go to one thread at a time.
const JOB: usize = 64;

/// A table in blocks: of each column 64 numbers, zeros behind the last row.
struct Table {
    width: usize,
    count: usize,
    blocks: Vec<f32>,
}

impl Table {
    fn of(c: &[f32], count: usize, width: usize) -> Self {
        let mut blocks = vec![0.0; count.div_ceil(BLOCK) * BLOCK * width];
        for (i, c) in c.chunks_exact(width.max(1)).enumerate() {
            let block = &mut blocks[i / BLOCK * BLOCK * width..];
            let lane = block.iter_mut().skip(i % BLOCK).step_by(BLOCK);
            lane.zip(c).for_each(|(to, c)| *to = *c);
        }
        Self { width, count, blocks }
    }

    /// That of a constant operand.
    fn constant(g: &Graph, v: Value) -> Option<Self> {
        let t = g.constant_of(v)?;
        let &[count, width] = t.shape() else { return None };
        Some(Self::of(t.as_slice().ok()?, count, width))
    }
}

/// What is done with distances.
trait Sink {
    /// Takes the distances of row `row` from the rows of the table that begin at `first`.
    fn take<S: Isa>(&mut self, isa: S, row: usize, first: usize, d: S::F);
}

/// All distances of some rows of `x`.
struct Sweep<'a, K> {
    table: &'a Table,
    x: &'a [f32],
    rows: usize,
    sink: K,
}

impl<K: Sink> Work for Sweep<'_, K> {
    type Out = K;

    #[inline(always)]
    fn run<S: Isa>(mut self, isa: S) -> K {
        match S::LANES {
            16 => self.blocks::<S, 4>(isa),
            _ => self.blocks::<S, 2>(isa),
        }
        self.sink
    }
}

impl<K: Sink> Sweep<'_, K> {
    #[inline(always)]
    fn blocks<S: Isa, const V: usize>(&mut self, isa: S) {
        let tiled = self.rows / TILE * TILE;
        for first in (0..self.table.count).step_by(BLOCK) {
            for at in (0..BLOCK).step_by(V * S::LANES) {
                for row in (0..tiled).step_by(TILE) {
                    self.tile::<S, TILE, V>(isa, row, first, at);
                }
                for row in tiled..self.rows {
                    self.tile::<S, 1, V>(isa, row, first, at);
                }
            }
        }
    }

    /// `R` rows of `x` against `V` vectors of a block, from lane `at` on.
    #[inline(always)]
    fn tile<S: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: S,
        row: usize,
        first: usize,
        at: usize,
    ) {
        let width = self.table.width;
        let block = &self.table.blocks[first * width..][..BLOCK * width];
        let mut x = [&self.x[..0]; R];
        for (r, x) in x.iter_mut().enumerate() {
            *x = &self.x[(row + r) * width..][..width];
        }
        let mut d = span::<S, R, V>(isa, x.map(|x| &x[..width.min(SPAN)]), block, at);
        for from in (SPAN..width).step_by(SPAN) {
            let x = x.map(|x| &x[from..width.min(from + SPAN)]);
            let more = span::<S, R, V>(isa, x, &block[from * BLOCK..], at);
            for r in 0..R {
                for v in 0..V {
                    d[r][v] = d[r][v] + more[r][v];
                }
            }
        }
        for (r, d) in d.iter().enumerate() {
            for (v, d) in d.iter().enumerate() {
                self.sink.take(isa, row + r, first + at + v * S::LANES, *d);
            }
        }
    }
}

/// The sums over some columns.
#[inline(always)]
fn span<S: Isa, const R: usize, const V: usize>(
    isa: S,
    x: [&[f32]; R],
    block: &[f32],
    at: usize,
) -> [[S::F; V]; R] {
    let mut sums = [[isa.splat(0.0); V]; R];
    for (c, column) in block.chunks_exact(BLOCK).take(x[0].len()).enumerate() {
        let mut of = [isa.splat(0.0); V];
        for (v, of) in of.iter_mut().enumerate() {
            *of = isa.load(&column[at + v * S::LANES..]);
        }
        for r in 0..R {
            let x = isa.splat(x[r][c]);
            for v in 0..V {
                let d = x - of[v];
                sums[r][v] = sums[r][v] + d * d;
            }
        }
    }
    sums
}

/// Keeps the nearest.
struct Nearest {
    best: Best,
    /// A square that is not kept if it is as great, for each row.
    bounds: Vec<f32>,
    count: usize,
    metric: Metric,
}

impl Sink for Nearest {
    #[inline(always)]
    fn take<S: Isa>(&mut self, isa: S, row: usize, first: usize, d: S::F) {
        if isa.splat(self.bounds[row]).not_le(d).any() {
            let mut lanes = [0.0; 16];
            d.store(&mut lanes);
            self.look(row, first, &lanes[..S::LANES]);
        }
    }
}

impl Nearest {
    fn new(rows: usize, k: usize, count: usize, metric: Metric) -> Self {
        Self { best: Best::new(rows, k), bounds: vec![f32::NAN; rows], count, metric }
    }

    #[inline(never)]
    fn look(&mut self, row: usize, first: usize, squares: &[f32]) {
        for (i, &d) in squares.iter().enumerate().take(self.count.saturating_sub(first)) {
            if self.bounds[row] <= d {
                continue;
            }
            let root = self.metric == Metric::Euclidean;
            let key = key(if root { d.sqrt() } else { d });
            if self.best.take(row, key, (first + i) as u32) {
                let worst = number(self.best.bound(row));
                // Of what lies below a root, the square lies below this.
                let wide = (worst * worst).mul_add(1.000_001, f32::MIN_POSITIVE);
                self.bounds[row] = if root { wide } else { worst };
            }
        }
    }

    /// Writes what was kept.
    fn finish(mut self, k: usize, values: &mut [f32], mut places: Option<&mut [i64]>) {
        for (row, values) in values.chunks_exact_mut(k).enumerate() {
            for (j, (key, place)) in self.best.finish(row).enumerate() {
                values[j] = number(key);
                if let Some(places) = places.as_deref_mut() {
                    places[row * k + j] = i64::from(place);
                }
            }
        }
    }
}

/// Writes all of them.
struct Matrix<'a> {
    out: &'a mut [f32],
    count: usize,
}

impl Sink for Matrix<'_> {
    #[inline(always)]
    fn take<S: Isa>(&mut self, _: S, row: usize, first: usize, d: S::F) {
        let mut lanes = [0.0; 16];
        d.store(&mut lanes);
        if let Some(n) = self.count.checked_sub(first) {
            let n = n.min(S::LANES);
            self.out[row * self.count + first..][..n].copy_from_slice(&lanes[..n]);
        }
    }
}

/// A search for neighbours, or without one all distances.
struct Search {
    metric: Metric,
    neighbours: Option<Neighbours>,
    /// That of a constant.
    table: Option<Table>,
}

fn prepare_neighbours(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Neighbours(op) = g.op(id) else { return None };
    prepare(g, id, op.metric, Some(*op))
}

fn prepare_distances(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::Linalg(Linalg::Distance(metric)) = g.op(id) else { return None };
    prepare(g, id, *metric, None)
}

fn prepare(
    g: &Graph,
    id: NodeId,
    metric: Metric,
    neighbours: Option<Neighbours>,
) -> Option<Box<dyn Kernel>> {
    all_f32(g, id).then_some(())?;
    let table = Table::constant(g, g.input_of(id, 1)?);
    Some(Box::new(Search { metric, neighbours, table }))
}

impl Kernel for Search {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let ((xs, x), (cs, c)) = (args.input(0)?, args.input(1)?);
        let (&[rows, width], &[count, own]) = (xs, cs) else {
            invalid!("distances are between the rows of matrices")
        };
        if width != own || u32::try_from(count).is_err() {
            invalid!("rows of {width} elements, and {count} of {own}");
        }
        let made;
        let table = match &self.table {
            Some(table) => table,
            None => {
                made = Table::of(c, count, width);
                &made
            }
        };
        let each = self.neighbours.map_or(Ok(count), |op| op.wanted(Some(count)))?;
        let places = places(&mut args)?;
        if args.out.is_empty() {
            return Ok(());
        }
        let share = rows.div_ceil(team::threads()).next_multiple_of(TILE).min(JOB);
        let jobs = jobs(args.out, places, share * each);
        team::try_each(jobs, |(i, values, places)| {
            args.cancel.poll()?;
            let rows = values.len() / each;
            let x = &x[i * share * width..][..rows * width];
            self.block(Block { table, x, rows, each }, values, places);
            Ok(())
        })
    }
}

/// Some rows, and how many numbers each of them gives.
struct Block<'a> {
    table: &'a Table,
    x: &'a [f32],
    rows: usize,
    each: usize,
}

impl Search {
    fn block(&self, block: Block<'_>, values: &mut [f32], places: Option<&mut [i64]>) {
        let Block { table, x, rows, each } = block;
        if self.neighbours.is_some() {
            let sink = Nearest::new(rows, each, table.count, self.metric);
            dispatch(Sweep { table, x, rows, sink }).finish(each, values, places);
            return;
        }
        let matrix = Matrix { out: values, count: each };
        let out = dispatch(Sweep { table, x, rows, sink: matrix }).out;
        if self.metric == Metric::Euclidean {
            out.iter_mut().for_each(|d| *d = d.sqrt());
        }
    }
}

/// The second result, where it is read.
fn places<'a>(args: &mut Args<'a>) -> Result<Option<&'a mut [i64]>> {
    match args.integers.take() {
        None => Ok(None),
        Some(Integers::I64(places)) => Ok(Some(places)),
        Some(_) => Err(Error::bug("places are 64-bit integers")),
    }
}

/// Parts of both results, `size` elements of each, with their numbers.
fn jobs<'a>(
    values: &'a mut [f32],
    places: Option<&'a mut [i64]>,
    size: usize,
) -> impl Iterator<Item = (usize, &'a mut [f32], Option<&'a mut [i64]>)> {
    let mut places = places.map(|p| p.chunks_mut(size));
    let values = values.chunks_mut(size).enumerate();
    values.map(move |(i, v)| (i, v, places.as_mut().and_then(Iterator::next)))
}

fn prepare_top(g: &Graph, id: NodeId) -> Option<Box<dyn Kernel>> {
    let Op::TopK(op) = g.op(id) else { return None };
    is_f32(g, g.input_of(id, 0)?).then(|| Box::new(*op) as Box<dyn Kernel>)
}

impl Kernel for TopK {
    fn run(&self, mut args: Args<'_>) -> Result<()> {
        let (shape, x) = args.input(0)?;
        let axis = kiln_tensor::shape::axis(self.axis, shape.len())?;
        let (n, k) = (shape[axis], args.shape[axis]);
        let inner: usize = shape[axis + 1..].iter().product();
        if k > n || u32::try_from(n).is_err() {
            invalid!("k is {k}, but the axis has {n} elements");
        }
        let places = places(&mut args)?;
        if args.out.is_empty() {
            return Ok(());
        }
        let blocks = (ELEMENTS / (n * inner)).max(1);
        let jobs = jobs(args.out, places, blocks * k * inner);
        team::try_each(jobs, |(i, values, places)| {
            args.cancel.poll()?;
            let x = &x[i * blocks * n * inner..];
            dispatch(Lines { n, k, inner, largest: self.largest, x, values, places });
            Ok(())
        })
    }
}

/// Elements that one thread takes at a time.
const ELEMENTS: usize = 1 << 15;

/// Lines of `n` elements, `inner` of them side by side.
struct Lines<'a> {
    n: usize,
    k: usize,
    inner: usize,
    largest: bool,
    x: &'a [f32],
    values: &'a mut [f32],
    places: Option<&'a mut [i64]>,
}

impl Work for Lines<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Isa>(mut self, _: S) {
        let Self { n, k, inner, .. } = self;
        let mut best = Best::new(1, k);
        let mut line = vec![0.0; if inner == 1 { 0 } else { n }];
        let blocks = self.values.len() / (k * inner);
        for (o, x) in self.x.chunks_exact(n * inner).take(blocks).enumerate() {
            for i in 0..inner {
                let column = x[i..].iter().step_by(inner);
                line.iter_mut().zip(column).for_each(|(to, x)| *to = *x);
                let line = if inner == 1 { x } else { &line };
                best.clear();
                search(&mut best, line, if self.largest { u32::MAX } else { 0 });
                for (j, (_, place)) in best.finish(0).enumerate() {
                    let to = (o * k + j) * inner + i;
                    self.values[to] = line[place as usize];
                    if let Some(places) = &mut self.places {
                        places[to] = i64::from(place);
                    }
                }
            }
        }
    }
}

/// Takes the numbers of a line; keys are turned around where `flip` says so.
#[inline(always)]
fn search(best: &mut Best, line: &[f32], flip: u32) {
    const CHUNK: usize = 64;
    for (c, x) in line.chunks(CHUNK).enumerate() {
        let mut keys = [u32::MAX; CHUNK];
        keys.iter_mut().zip(x).for_each(|(k, x)| *k = key(*x) ^ flip);
        let bound = best.bound(0);
        if !keys.iter().fold(false, |any, k| any | (*k <= bound)) {
            continue;
        }
        for (i, &key) in keys[..x.len()].iter().enumerate() {
            if key <= best.bound(0) {
                best.take(0, key, (c * CHUNK + i) as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    /// The nearest 7 of 200 rows to each of 13, by distances between `width` columns.
    fn nearest(level: Level, width: usize, rows: std::ops::Range<usize>) -> (Vec<u32>, Vec<i64>) {
        let made = |n: usize, by: usize| -> Vec<f32> {
            (0..n * width).map(|i| ((i * by) % 1009) as f32 / 7.0).collect()
        };
        let (x, c) = (made(13, 7919), made(200, 104_729));
        let (table, sink) = (Table::of(&c, 200, width), Nearest::new(13, 7, 200, Metric::Squared));
        let x = &x[rows.start * width..rows.end * width];
        let mut values = vec![0.0f32; 7 * rows.len()];
        let mut places = vec![0; 7 * rows.len()];
        let sweep = Sweep { table: &table, x, rows: rows.len(), sink };
        level.run(sweep).finish(7, &mut values, Some(&mut places));
        (values.iter().map(|v| v.to_bits()).collect(), places)
    }

    #[test]
    fn every_instruction_set_and_tile_gives_the_same_bits() {
        for width in [5, 64, 150] {
            let (values, places) = nearest(Level::Scalar, width, 0..13);
            for &level in Level::all() {
                assert_eq!(nearest(level, width, 0..13), (values.clone(), places.clone()));
                for row in 0..13 {
                    let one = nearest(level, width, row..row + 1);
                    let (v, p) = (&values[row * 7..][..7], &places[row * 7..][..7]);
                    assert_eq!((&one.0[..], &one.1[..]), (v, p), "{level:?} {width} {row}");
                }
            }
        }
    }

    #[test]
    fn equal_roots_go_by_place_and_nan_comes_last() {
        let mut sink = Nearest::new(1, 3, 20, Metric::Euclidean);
        let same = |x: &f32| x.next_up().sqrt() == x.sqrt();
        let x = (32..63u8).map(|i| f32::from(i) / 16.0).find(same).expect("about every other");
        sink.look(0, 0, &[f32::NAN, x.next_up(), x, f32::INFINITY]);
        sink.look(0, 16, &[x, 1.0, f32::NAN, 9.0, 0.0, 0.0]);
        let (mut values, mut places) = ([0.0; 3], [0; 3]);
        sink.finish(3, &mut values, Some(&mut places));
        assert_eq!((values, places), ([1.0, x.sqrt(), x.sqrt()], [17, 1, 2]));
    }

    #[test]
    #[ignore = "a measurement"]
    fn time_of_ten_thousand_rows() {
        let number = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0;
        let x: Vec<f32> = (0..280_000).map(number).collect();
        let c: Vec<f32> = (0..280_000).map(|i| number(3 * i + i / 28)).collect();
        let table = Table::of(&c, 10_000, 28);
        for rows in [1, 4, 64] {
            let start = std::time::Instant::now();
            for x in x.chunks_exact(rows * 28) {
                let sink = Nearest::new(rows, 5, 10_000, Metric::Euclidean);
                let mut values = vec![0.0; rows * 5];
                dispatch(Sweep { table: &table, x, rows, sink }).finish(5, &mut values, None);
            }
            println!("{rows} rows at a time: {:?} for 10000", start.elapsed());
        }
    }
}
