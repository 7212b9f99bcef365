//! Programs of elementwise operators, run on one tile after another.
//!
//! ```text
//! operands ─load▶ registers ─instruction▶ registers ─▶ results      a tile: what stays in L1
//! ```
//! What lies between the instructions never reaches memory.

use std::collections::HashMap;

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::cast::Cast;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::ops::variadic::Variadic;
use kiln_ir::{Cancel, Error, Graph, NodeId, Op, Result, Type, Value};
use kiln_tensor::{DType, Tensor, shape};

use super::math;
use super::spread::Spread;
use super::steps::{Step, choose, narrow, pairs, singles, widen_i8, widen_u8};
use crate::kernel::{Args, Integers, Kernel, Operand};
use crate::team;

/// Elements of a tile, at most: 4 KiB.
const TILE: usize = 1024;
/// Tiles that one thread takes at a time.
const JOB: usize = 16;

/// Where an instruction reads: a leaf, or the result of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum From {
    Leaf(usize),
    Step(usize),
}

/// Values that a program begins with.
enum Leaf {
    /// An operand, by its place.
    Input(usize),
    /// A constant of the program.
    Const(Tensor),
}

/// A list of instructions.
pub(super) struct Program {
    leaves: Vec<Leaf>,
    steps: Vec<(Step, Vec<From>)>,
    /// The register of the result of each instruction.
    registers: Vec<usize>,
    /// How many registers there are.
    count: usize,
    /// Whether anything reads each leaf.
    read: Vec<bool>,
    outputs: Vec<From>,
}

/// A program that is being written.
#[derive(Default)]
struct Writer {
    leaves: Vec<Leaf>,
    steps: Vec<(Step, Vec<From>)>,
}

impl Writer {
    fn leaf(&mut self, leaf: Leaf) -> From {
        self.leaves.push(leaf);
        From::Leaf(self.leaves.len() - 1)
    }

    fn step(&mut self, step: Step, from: &[From]) -> From {
        self.steps.push((step, from.to_vec()));
        From::Step(self.steps.len() - 1)
    }

    /// Writes a node; `None` where there are no instructions for it.
    fn node(
        &mut self,
        g: &Graph,
        id: NodeId,
        types: &[DType],
        from: &[Option<From>],
    ) -> Option<From> {
        let op = g.op(id);
        if !takes_bytes(op, types) {
            return None;
        }
        let all: Option<Vec<From>> = from.iter().copied().collect();
        let truth = types.first() == Some(&DType::Bool);
        Some(match op {
            Op::Unary(Unary::Not) => self.step(Step::Not, &all?),
            Op::Unary(Unary::IsNaN) => self.step(Step::IsNaN, &all?),
            Op::Unary(Unary::BitwiseNot | Unary::IsInf { .. }) => return None,
            Op::Unary(u) => self.step(Step::Unary(*u), &all?),
            Op::Layout(Layout::Identity) => self.step(Step::Copy, &all?),
            // Truth values are numbers already, numbers are no truth values yet.
            Op::Cast(c) if *c == Cast::to(DType::F32) => self.step(Step::Copy, &all?),
            Op::Binary(Binary::Pow) if !truth && is_square(g, id) => {
                let x = (*from.first()?)?;
                self.step(Step::Mul, &[x, x])
            }
            Op::Binary(b) if !truth => self.step(binary(*b)?, &all?),
            Op::Compare(c) => self.step(Step::Compare(*c), &all?),
            Op::Variadic(v) if !truth => self.variadic(*v, &all?)?,
            Op::Select(Select::Where) => self.step(Step::Where, &all?),
            Op::QuantizeLinear(_) | Op::DequantizeLinear(_) => {
                let step = quantizer(g, id)?;
                self.step(step, &[(*from.first()?)?])
            }
            Op::Select(Select::Clip) => {
                let mut x = (*from.first()?)?;
                for (i, step) in [(1, Step::AtLeast), (2, Step::AtMost)] {
                    if let Some(bound) = from.get(i).copied().flatten() {
                        x = self.step(step, &[x, bound]);
                    }
                }
                self.step(Step::Copy, &[x])
            }
            _ => return None,
        })
    }

    fn variadic(&mut self, v: Variadic, all: &[From]) -> Option<From> {
        let step = match v {
            Variadic::Max => Step::Max,
            Variadic::Min => Step::Min,
            Variadic::Sum | Variadic::Mean => Step::Add,
        };
        let (&first, rest) = all.split_first()?;
        let mut x = self.step(Step::Copy, &[first]);
        for &y in rest {
            x = self.step(step, &[x, y]);
        }
        let mean = v == Variadic::Mean;
        Some(if mean { self.step(Step::Scale(1.0 / all.len() as f32), &[x]) } else { x })
    }

    fn finish(self, outputs: Vec<From>) -> Program {
        let Writer { leaves, steps } = self;
        // The last instruction that reads each; results of the program are read at the end.
        let mut last: HashMap<From, usize> = HashMap::new();
        for (i, (_, from)) in steps.iter().enumerate() {
            last.extend(from.iter().map(|&f| (f, i)));
        }
        last.extend(outputs.iter().map(|&f| (f, steps.len())));
        let (mut free, mut count) = (Vec::new(), 0);
        let mut registers: Vec<usize> = Vec::with_capacity(steps.len());
        for (i, (_, from)) in steps.iter().enumerate() {
            registers.push(free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            }));
            let mut dead: Vec<usize> = from
                .iter()
                .filter(|f| last.get(f) == Some(&i))
                .filter_map(|f| if let From::Step(s) = f { Some(registers[*s]) } else { None })
                .collect();
            dead.sort_unstable();
            dead.dedup();
            free.extend(dead);
        }
        let read = (0..leaves.len()).map(|i| last.contains_key(&From::Leaf(i))).collect();
        Program { leaves, steps, registers, count, read, outputs }
    }
}

/// Whether the exponent of a power is the number 2.
fn is_square(g: &Graph, id: NodeId) -> bool {
    let exponent = g.input_of(id, 1).and_then(|v| g.constant_of(v));
    exponent.is_some_and(|t| t.to_vec::<f32>().is_ok_and(|x| x == [2.0]))
}

fn binary(b: Binary) -> Option<Step> {
    Some(match b {
        Binary::Add => Step::Add,
        Binary::Sub => Step::Sub,
        Binary::Mul => Step::Mul,
        Binary::Div => Step::Div,
        Binary::Pow => Step::Pow,
        Binary::PRelu => Step::PRelu,
        _ => return None,
    })
}

/// The instruction of a node that quantizes to bytes by one scale, or back.
fn quantizer(g: &Graph, id: NodeId) -> Option<Step> {
    let one = |i| {
        let v = g.input_of(id, i)?;
        let t = g.constant_of(v).filter(|t| t.len() == 1)?;
        t.to_vec::<f32>().ok()?.first().copied()
    };
    let zero = if g.input_of(id, 2).is_some() { one(2)? } else { 0.0 };
    let scale = one(1)?;
    let x = dtype(g, g.input_of(id, 0)?)?;
    let y = dtype(g, id.first())?;
    let f32_scale = dtype(g, g.input_of(id, 1)?)? == DType::F32;
    match (g.op(id), ends(y)) {
        (Op::QuantizeLinear(q), Some((least, most)))
            if x == DType::F32 && q.block_size == 0 && q.precision.is_none() && f32_scale =>
        {
            Some(Step::Quantize { scale, zero, least, most })
        }
        (Op::DequantizeLinear(q), None) if ends(x).is_some() && q.block_size == 0 && f32_scale => {
            Some(Step::Dequantize { scale, zero })
        }
        _ => None,
    }
}

/// The least and the greatest of a byte.
fn ends(d: DType) -> Option<(f32, f32)> {
    match d {
        DType::U8 => Some((0.0, 255.0)),
        DType::I8 => Some((-128.0, 127.0)),
        _ => None,
    }
}

fn dtype(g: &Graph, v: Value) -> Option<DType> {
    let takes = [DType::F32, DType::Bool, DType::U8, DType::I8];
    match g.ty(v) {
        Type::Tensor(t) if takes.contains(&t.dtype) => Some(t.dtype),
        _ => None,
    }
}

/// Whether a node is told bytes where it takes numbers.
fn takes_bytes(op: &Op, types: &[DType]) -> bool {
    let bytes = types.iter().any(|d| matches!(d, DType::U8 | DType::I8));
    !bytes || matches!(op, Op::QuantizeLinear(_) | Op::DequantizeLinear(_))
}

impl Program {
    /// The program of one node, whose operands it reads; `None` where there is none.
    pub(super) fn of_node(g: &Graph, id: NodeId) -> Option<Self> {
        let mut w = Writer::default();
        let inputs = g.inputs_of(id);
        let types: Option<Vec<DType>> = inputs.iter().flatten().map(|&v| dtype(g, v)).collect();
        let from: Vec<Option<From>> =
            (inputs.iter().enumerate()).map(|(i, v)| v.map(|_| w.leaf(Leaf::Input(i)))).collect();
        let out = w.node(g, id, &types?, &from)?;
        Some(w.finish(vec![out]))
    }

    /// The program of a body; `None` where a node has no instructions, or an output is no `f32`.
    pub(super) fn of_body(body: &Graph) -> Option<Self> {
        let mut w = Writer::default();
        let mut made: HashMap<Value, From> = HashMap::new();
        for (i, v) in body.inputs().enumerate() {
            dtype(body, v)?;
            made.insert(v, w.leaf(Leaf::Input(i)));
        }
        for id in body.order().ok()? {
            let op = body.op(id);
            let from = match op {
                Op::Input(_) => continue,
                Op::Const(c) => w.leaf(Leaf::Const(readable(&c.0)?)),
                _ => {
                    let inputs = body.inputs_of(id);
                    let types: Option<Vec<DType>> =
                        inputs.iter().flatten().map(|&v| dtype(body, v)).collect();
                    dtype(body, id.first())?;
                    let from: Vec<_> = inputs.iter().map(|v| v.map(|v| made[&v])).collect();
                    w.node(body, id, &types?, &from)?
                }
            };
            made.insert(id.first(), from);
        }
        let outputs = body.outputs().iter().enumerate().map(|(i, (_, v))| {
            let dtype = dtype(body, *v)?;
            (dtype == DType::F32 || i == 0 && ends(dtype).is_some()).then_some(())?;
            made.get(v).copied()
        });
        let outputs: Option<Vec<From>> = outputs.collect();
        Some(w.finish(outputs?))
    }
}

/// A constant as numbers: of an integer, no program makes use.
fn readable(t: &Tensor) -> Option<Tensor> {
    match t.dtype() {
        DType::F32 => Some(t.clone()),
        DType::Bool => {
            let data = t.as_slice::<bool>().ok()?.iter().map(|&b| f32::from(u8::from(b)));
            Tensor::from_vec(t.shape(), data.collect()).ok()
        }
        DType::U8 | DType::I8 => Tensor::from_vec(t.shape(), t.to_vec::<f32>().ok()?).ok(),
        _ => None,
    }
}

/// How one leaf is read, tile by tile.
enum Load<'a> {
    /// Straight from where it lies.
    Same(&'a [f32]),
    /// From the first result, where it lay before.
    Own,
    /// By its strides, into a register of its own.
    Spread(Spread, &'a [f32]),
    /// As `Spread`, of truth values.
    Truth(Spread, &'a [bool]),
    /// Bytes, straight or by strides.
    U8(Option<Spread>, &'a [u8]),
    I8(Option<Spread>, &'a [i8]),
}

impl Load<'_> {
    fn period(&self) -> Option<usize> {
        match self {
            Load::Spread(s, _) | Load::Truth(s, _) => s.period(),
            _ => None,
        }
    }
}

/// Where a result is written.
enum Target<'a> {
    F32(&'a mut [f32]),
    U8(&'a mut [u8]),
    I8(&'a mut [i8]),
    Bool(&'a mut [bool]),
}

impl<'a> Target<'a> {
    /// The first result, in ranges that threads share.
    fn parts(
        out: &'a mut [f32],
        integers: Option<Integers<'a>>,
        job: usize,
    ) -> Result<Vec<Target<'a>>> {
        Ok(match integers {
            None => out.chunks_mut(job).map(Target::F32).collect(),
            Some(Integers::U8(y)) => y.chunks_mut(job).map(Target::U8).collect(),
            Some(Integers::I8(y)) => y.chunks_mut(job).map(Target::I8).collect(),
            Some(Integers::Bool(y)) => y.chunks_mut(job).map(Target::Bool).collect(),
            Some(_) => return Err(Error::bug("a program gives floats, bytes or truth values")),
        })
    }

    fn len(&self) -> usize {
        match self {
            Target::F32(y) => y.len(),
            Target::U8(y) => y.len(),
            Target::I8(y) => y.len(),
            Target::Bool(y) => y.len(),
        }
    }

    fn write(&mut self, from: usize, tile: &[f32]) {
        match self {
            Target::F32(y) => y[from..][..tile.len()].copy_from_slice(tile),
            Target::U8(y) => narrow(tile, &mut y[from..][..tile.len()]),
            Target::I8(y) => {
                narrow(tile, bytemuck::cast_slice_mut(&mut y[from..][..tile.len()]));
            }
            Target::Bool(y) => {
                y[from..].iter_mut().zip(tile).for_each(|(y, x)| *y = *x != 0.0);
            }
        }
    }
}

/// A program at work: how its leaves are read.
struct Work<'a> {
    program: &'a Program,
    loads: Vec<Load<'a>>,
    /// Elements of a tile.
    tile: usize,
}

impl Program {
    fn loads<'a>(&'a self, args: &Args<'a>) -> Result<Vec<Load<'a>>> {
        let load = |(leaf, read): (&'a Leaf, &bool)| {
            let Operand { shape, data, other } = match leaf {
                _ if !read => return Ok(Load::Same(&[])),
                Leaf::Input(0) if args.in_place => return Ok(Load::Own),
                Leaf::Const(t) => Operand { shape: t.shape(), data: t.as_slice()?, other: None },
                Leaf::Input(i) => args
                    .optional(*i)
                    .ok_or_else(|| Error::invalid(format!("input {i} is missing")))?,
            };
            let same = shape::numel(shape)? == shape::numel(args.shape)?;
            if other.is_none() && same {
                return Ok(Load::Same(data));
            }
            let spread = Spread::new(shape, args.shape)?;
            match other {
                Some(t) if t.dtype() == DType::U8 => {
                    Ok(Load::U8((!same).then_some(spread), t.as_slice()?))
                }
                Some(t) if t.dtype() == DType::I8 => {
                    Ok(Load::I8((!same).then_some(spread), t.as_slice()?))
                }
                Some(t) if t.dtype() == DType::Bool => Ok(Load::Truth(spread, t.as_slice()?)),
                Some(t) => Err(Error::bug(format!("a program reads {}", t.dtype()))),
                None => Ok(Load::Spread(spread, data)),
            }
        };
        self.leaves.iter().zip(&self.read).map(load).collect()
    }

    /// Whether the only result is what the last instruction makes.
    fn ends_in_result(&self) -> bool {
        let last = self.steps.len().checked_sub(1).map(From::Step);
        matches!(self.outputs[..], [out] if Some(out) == last)
    }

    /// Runs on all elements, in ranges that threads share.
    fn run(&self, args: Args<'_>) -> Result<()> {
        let cancel: &Cancel = args.cancel;
        if args.more.iter().flatten().any(|(shape, _)| *shape != args.shape) {
            return Err(Error::bug("the results of a program have different shapes"));
        }
        let mut work = Work { program: self, loads: self.loads(&args)?, tile: TILE };
        // Tiles of whole rows, for operands that are the same in each are then read once.
        let period = work.loads.iter().filter_map(Load::period).filter(|n| *n <= TILE).max();
        if let Some(n) = period {
            work.tile = TILE / n * n;
        }
        let job = JOB * work.tile;
        let first = Target::parts(args.out, args.integers, job)?;
        let mut jobs: Vec<Vec<Option<Target<'_>>>> =
            first.into_iter().map(|out| vec![Some(out)]).collect();
        for more in args.more {
            match more {
                Some((_, out)) => {
                    let parts = jobs.iter_mut().zip(out.chunks_mut(job));
                    parts.for_each(|(job, out)| job.push(Some(Target::F32(out))));
                }
                None => jobs.iter_mut().for_each(|job| job.push(None)),
            }
        }
        let run = |(i, mut out): (usize, Vec<Option<Target<'_>>>)| {
            cancel.poll()?;
            work.job(i * job, &mut out);
            Ok(())
        };
        team::try_each(jobs.into_iter().enumerate(), run)
    }
}

impl Work<'_> {
    /// The elements from place `start` on.
    fn job(&self, start: usize, outs: &mut [Option<Target<'_>>]) {
        let total = outs.iter().flatten().next().map_or(0, Target::len);
        let size = self.tile.min(total);
        let mut leaves: Vec<Vec<f32>> = (self.loads.iter())
            .map(|l| if matches!(l, Load::Same(_)) { vec![] } else { vec![0.0; size] })
            .collect();
        let mut registers = vec![vec![0f32; size]; self.program.count];
        let direct = self.program.ends_in_result();
        for from in (0..total).step_by(self.tile) {
            let n = self.tile.min(total - from);
            for (load, tile) in self.loads.iter().zip(&mut leaves) {
                let at = start + from;
                match load {
                    Load::Same(_) => {}
                    Load::Own => {
                        if let Some(Some(Target::F32(own))) = outs.first() {
                            tile[..n].copy_from_slice(&own[from..][..n]);
                        }
                    }
                    Load::Spread(s, _) | Load::Truth(s, _)
                        if from > 0 && s.period().is_some_and(|n| self.tile.is_multiple_of(n)) => {}
                    Load::Spread(s, x) => s.read(x, at, &mut tile[..n], |x| x),
                    Load::U8(None, x) => widen_u8(&x[at..][..n], &mut tile[..n]),
                    Load::I8(None, x) => widen_i8(&x[at..][..n], &mut tile[..n]),
                    Load::U8(Some(s), x) => s.read(x, at, &mut tile[..n], f32::from),
                    Load::I8(Some(s), x) => s.read(x, at, &mut tile[..n], f32::from),
                    Load::Truth(s, x) => {
                        s.read(x, at, &mut tile[..n], |b| f32::from(u8::from(b)));
                    }
                }
            }
            if let ([Some(Target::F32(out))], true) = (&mut *outs, direct) {
                self.tile(start + from, n, &leaves, &mut registers, Some(&mut out[from..][..n]));
                continue;
            }
            self.tile(start + from, n, &leaves, &mut registers, None);
            for (out, &source) in outs.iter_mut().zip(&self.program.outputs) {
                if let Some(out) = out {
                    let tile = self.source(source, (start + from, n), &leaves, &registers);
                    out.write(from, tile);
                }
            }
        }
    }

    fn source<'t>(
        &'t self,
        from: From,
        (at, n): (usize, usize),
        leaves: &'t [Vec<f32>],
        registers: &'t [Vec<f32>],
    ) -> &'t [f32] {
        match from {
            From::Step(i) => &registers[self.program.registers[i]][..n],
            From::Leaf(i) => match &self.loads[i] {
                Load::Same(x) => &x[at..][..n],
                _ => &leaves[i][..n],
            },
        }
    }

    /// Runs all instructions on one tile; the last one writes into `last`, where that is given.
    fn tile(
        &self,
        at: usize,
        n: usize,
        leaves: &[Vec<f32>],
        registers: &mut [Vec<f32>],
        mut last: Option<&mut [f32]>,
    ) {
        let steps = &self.program.steps;
        for (i, (step, from)) in steps.iter().enumerate() {
            let register = self.program.registers[i];
            let mut out = std::mem::take(&mut registers[register]);
            let source = |k: usize| self.source(from[k], (at, n), leaves, registers);
            let y = match last.as_deref_mut() {
                Some(last) if i + 1 == steps.len() => last,
                _ => &mut out[..n],
            };
            match (step, from.len()) {
                (Step::Unary(op), _) => {
                    y.copy_from_slice(source(0));
                    math::unary(*op, y);
                }
                (Step::Where, _) => choose(source(0), source(1), source(2), y),
                (step, 2) => pairs(*step, source(0), source(1), y),
                (step, _) => singles(*step, source(0), y),
            }
            registers[register] = out;
        }
    }
}

impl Kernel for Program {
    fn run(&self, args: Args<'_>) -> Result<()> {
        Program::run(self, args)
    }
}
