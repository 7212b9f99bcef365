//! Runs a plan: kernels on the arena, definitions for the rest.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_ir::eval::Charge;
use kiln_ir::{Context, Dim, Error, Fact, Graph, Infer, NodeId, Operator, Result, Value, invalid};
use kiln_plan::{Bindings, Claim, Executable, Plan};
use kiln_tensor::{DType, Datum, Tensor};
use rayon::ThreadPool;

use crate::arena::Arena;
use crate::kernel::{Args, Integers, Kernel, Operand};
use crate::kernels::{is_f32, rows};
use crate::program::{Held, Numbers, Program, Source, Target, Task, elements, shape, unmade};

/// A graph with its kernels prepared, and the programs of the shapes seen so far.
pub(crate) struct Compiled {
    graph: Arc<Graph>,
    numbers: Numbers,
    /// By the index of the node.
    kernels: Vec<Option<Prepared>>,
    /// The one used last is the last.
    programs: Mutex<Vec<Arc<Program>>>,
    workspaces: Mutex<Vec<Workspace>>,
    pool: Arc<ThreadPool>,
}

/// A kernel, the name of its row and what it claims.
struct Prepared {
    name: &'static str,
    claim: Claim,
    kernel: Box<dyn Kernel>,
}

/// What a run writes to.
#[derive(Default)]
struct Workspace {
    arena: Arena,
    held: Held,
}

/// A run that takes less stays on the thread that asks for it: to wake others would take as long.
/// No result depends on who calculates it.
const LIGHT: Duration = Duration::from_micros(40);

/// Programs kept; beyond, the one that was used least recently is forgotten.
const PROGRAMS: usize = 64;

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Compiled {
    /// Prepares a kernel for every node that a row takes.
    pub fn new(graph: Arc<Graph>, pool: Arc<ThreadPool>) -> Result<Self> {
        let prepare = |id: NodeId| {
            let first = elements(&graph, id.first())?;
            let mut others = graph.outputs_of(id).skip(1);
            let fits = |v| is_f32(&graph, v) || elements(&graph, v) == Some(DType::I64);
            if !others.all(|v| fits(v) || !graph.is_read(v)) {
                return None;
            }
            rows().filter(|row| row.firsts.contains(&first)).find_map(|row| {
                let claim = Claim { in_place: row.in_place };
                let kernel = (row.prepare)(&graph, id)?;
                Some(Prepared { name: row.name, claim, kernel })
            })
        };
        let most = graph.nodes().map(|n| n.index() + 1).max().unwrap_or(0);
        let mut kernels: Vec<_> = (0..most).map(|_| None).collect();
        graph.nodes().for_each(|n| kernels[n.index()] = prepare(n));
        let numbers = Numbers::of(&graph);
        let (programs, workspaces) = (Mutex::default(), Mutex::default());
        Ok(Self { graph, numbers, kernels, programs, workspaces, pool })
    }

    fn claim(&self, n: NodeId) -> Option<Claim> {
        self.kernels[n.index()].as_ref().map(|k| k.claim)
    }

    /// The program for these input shapes, made on first use.
    fn program(&self, cx: &Context, inputs: &[Datum]) -> Result<Arc<Program>> {
        let mut programs = lock(&self.programs);
        if let Some(i) = programs.iter().rposition(|p| p.fits(inputs)) {
            let last = programs.len() - 1;
            programs.swap(i, last);
            return Ok(programs[last].clone());
        }
        let (g, claim) = (&*self.graph, |n| self.claim(n));
        let bindings = Bindings::of(g, inputs)?;
        let plan = Plan::build(g, &bindings, &claim, &cx.limits)?;
        let in_place = |n| self.claim(n).is_some_and(|c| c.in_place);
        let program = Arc::new(Program::of(g, &self.numbers, &plan, &bindings, &in_place, inputs));
        if programs.len() >= PROGRAMS {
            programs.remove(0);
        }
        programs.push(program.clone());
        Ok(program)
    }
}

impl Executable for Compiled {
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let program = self.program(cx, &inputs)?;
        let Workspace { mut arena, mut held } = lock(&self.workspaces).pop().unwrap_or_default();
        let mut charge = Charge::new(cx);
        charge.add(program.arena as u64)?;
        arena.reserve(program.arena)?;
        held.reset(self.numbers.count);
        program.inputs.iter().zip(inputs).for_each(|(&at, d)| held.set(at, d));
        let mut run = Run { compiled: self, program: &program, cx, held, arena, charge };
        let start = Instant::now();
        let light = self.pool.current_num_threads() == 1 || program.light.load(Relaxed);
        let out = if light { run.all() } else { self.pool.install(|| run.all()) };
        let most = if light { LIGHT } else { LIGHT / 2 };
        program.light.store(start.elapsed() < most, Relaxed);
        let Run { arena, mut held, .. } = run;
        held.reset(0);
        lock(&self.workspaces).push(Workspace { arena, held });
        out
    }
}

/// One run.
struct Run<'a> {
    compiled: &'a Compiled,
    program: &'a Program,
    cx: &'a Context,
    held: Held,
    arena: Arena,
    charge: Charge<'a>,
}

impl Run<'_> {
    fn all(&mut self) -> Result<Vec<Datum>> {
        let g = &self.compiled.graph;
        for task in &self.program.tasks {
            self.cx.cancel.poll()?;
            let start = self.cx.profile.as_ref().map(|_| Instant::now());
            self.step(task).map_err(|e| e.at(|| g.info_of(task.node)))?;
            if let (Some(profile), Some(start)) = (&self.cx.profile, start) {
                let kernel = self.compiled.kernels[task.node.index()].as_ref();
                let by = kernel.filter(|_| task.kernel).map_or("definition", |k| k.name);
                let node = g.node(task.node);
                profile.add(&node.name, node.op.name(), by, start.elapsed());
            }
            for &at in &task.frees {
                let freed = self.held.take(at);
                // The caller pays for the inputs.
                if !self.program.inputs.contains(&at) {
                    self.charge.remove(freed.map_or(0, |d| d.nbytes() as u64));
                }
            }
        }
        self.program.outputs.iter().map(|s| self.value(s)).collect()
    }

    fn step(&mut self, task: &Task) -> Result<()> {
        let compiled = self.compiled;
        if let (true, Some(k)) = (task.kernel, &compiled.kernels[task.node.index()]) {
            return self.kernel(task, k.kernel.as_ref());
        }
        let inputs = task.inputs.iter();
        let data: Vec<Option<Datum>> =
            inputs.map(|s| s.as_ref().map(|s| self.value(s)).transpose()).collect::<Result<_>>()?;
        let seen: Vec<_> = data.iter().map(Option::as_ref).collect();
        let made = compiled.graph.op(task.node).eval(self.cx, &seen)?;
        for ((target, &read), d) in task.targets.iter().zip(&task.read).zip(made) {
            if let (Target::Held(at, ..), true) = (target, read) {
                self.keep(*at, d)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, at: usize, d: Datum) -> Result<()> {
        self.charge.add(d.nbytes() as u64)?;
        self.held.set(at, d);
        Ok(())
    }

    /// A value that is held or constant.
    fn value(&self, s: &Source) -> Result<Datum> {
        match s {
            Source::Held(at) => self.held.get(*at).cloned(),
            Source::Const(v) => Ok(self.constant(*v)?.clone().into()),
            Source::Arena(..) => Err(unmade()),
        }
    }

    fn constant(&self, v: Value) -> Result<&Tensor> {
        self.compiled.graph.constant_of(v).ok_or_else(unmade)
    }

    fn kernel(&mut self, task: &Task, kernel: &dyn Kernel) -> Result<()> {
        let mut made = self.results(task)?;
        let (compiled, held) = (self.compiled, &self.held);
        let (writes, reads) = self.arena.split(&task.writes, &task.reads)?;
        let inputs = operands(&compiled.graph, held, task, &mut reads.into_iter())?;
        let mut writes = writes.into_iter();
        let mut results = Vec::with_capacity(task.targets.len());
        let mut integers = None;
        for (target, made) in task.targets.iter().zip(&mut made) {
            results.push(match (target, made) {
                (Target::Arena(_, shape), _) => writes.next().map(|w| (&shape[..], w)),
                (_, Some((shape, made))) => {
                    let (floats, others) = made.split();
                    integers = integers.or(others);
                    Some((&shape[..], floats))
                }
                _ => None,
            });
        }
        let more = results.split_off(1);
        let Some((shape, out)) = results.pop().flatten() else {
            return Err(Error::bug("a kernel has no room for its result"));
        };
        let cancel = &self.cx.cancel;
        kernel.run(Args { inputs, shape, out, integers, more, in_place: task.own, cancel })?;
        for ((target, &read), made) in task.targets.iter().zip(&task.read).zip(made) {
            if let (Target::Held(at, ..), Some((shape, data)), true) = (target, made, read) {
                self.keep(*at, data.tensor(&shape)?.into())?;
            }
        }
        Ok(())
    }

    /// Room for each result that lies outside of the arena.
    fn results(&self, task: &Task) -> Result<Vec<Option<Made>>> {
        let open = |t: &Target| matches!(t, Target::Held(_, _, None));
        let found = match task.targets.iter().any(open) {
            true => self.shapes(task)?,
            false => vec![],
        };
        let room = |(i, target): (usize, &Target)| {
            let Target::Held(_, dtype, shape) = target else { return Ok(None) };
            let found = || found.get(i).cloned().flatten();
            let Some(shape) = shape.clone().or_else(found) else {
                invalid!("the shape of the result is not known")
            };
            let data = match dtype {
                Some(DType::U8) => Elements::U8(self.cx.zeros(&shape)?),
                Some(DType::I8) => Elements::I8(self.cx.zeros(&shape)?),
                Some(DType::I32) => Elements::I32(self.cx.zeros(&shape)?),
                Some(DType::I64) => Elements::I64(self.cx.zeros(&shape)?),
                Some(DType::F64) => Elements::F64(self.cx.zeros(&shape)?),
                Some(DType::Bool) => Elements::Bool(self.cx.zeros(&shape)?),
                Some(DType::String) => {
                    let n = self.cx.numel(DType::String, &shape)?;
                    Elements::Strings(vec![String::new(); n])
                }
                _ => Elements::F32(self.cx.zeros(&shape)?),
            };
            Ok(Some((shape, data)))
        };
        task.targets.iter().enumerate().map(room).collect()
    }

    /// The shapes of a kernel's results, by the operator's own inference; `None` for one that it
    /// cannot tell.
    fn shapes(&self, task: &Task) -> Result<Vec<Option<Vec<usize>>>> {
        let fact = |s: &Source| {
            let (dtype, shape) = match s {
                Source::Arena(_, shape) => (DType::F32, &shape[..]),
                Source::Held(at) => {
                    let d = self.held.get(*at)?;
                    (d.as_tensor()?.dtype(), shape(d))
                }
                Source::Const(v) => {
                    let t = self.constant(*v)?;
                    (t.dtype(), t.shape())
                }
            };
            Ok(Fact::shaped(dtype, shape.iter().map(|&d| Dim::from(d)).collect()))
        };
        let known = |s: &Source| match s {
            Source::Const(v) => self.constant(*v).ok().cloned(),
            // What says how much is taken is there to be read.
            Source::Held(at) => {
                let t = self.held.get(*at).ok()?.as_tensor().ok()?;
                (t.dtype() != DType::F32).then(|| t.clone())
            }
            Source::Arena(..) => None,
        };
        let sources = || task.inputs.iter().map(Option::as_ref);
        let facts: Vec<Option<Fact>> =
            sources().map(|s| s.map(fact).transpose()).collect::<Result<_>>()?;
        let known: Vec<Option<Tensor>> = sources().map(|s| s.and_then(known)).collect();
        let seen = facts.iter().zip(&known);
        let seen = seen.map(|(f, k)| f.as_ref().map(|f| (f, k.as_ref()))).collect();
        let made = self.compiled.graph.op(task.node).infer(&mut Infer::new(seen, &mut 0))?;
        Ok(made.iter().map(|f| f.ty.as_tensor().ok()?.static_shape()).collect())
    }
}

/// The operands as kernels see them.
fn operands<'a>(
    g: &'a Graph,
    held: &'a Held,
    task: &'a Task,
    arena: &mut dyn Iterator<Item = &'a [f32]>,
) -> Result<Vec<Option<Operand<'a>>>> {
    let none: &[f32] = &[];
    let of = |t: &'a Tensor| match t.dtype() {
        DType::F32 => Ok(Operand { shape: t.shape(), data: t.as_slice()?, other: None }),
        _ => Ok::<_, Error>(Operand { shape: t.shape(), data: none, other: Some(t) }),
    };
    let operand = |(i, source): (usize, &'a Option<Source>)| {
        Ok(Some(match source {
            None => return Ok(None),
            Some(Source::Arena(_, shape)) => {
                let data = if i == 0 && task.own { none } else { arena.next().unwrap_or(none) };
                Operand { shape, data, other: None }
            }
            Some(Source::Held(at)) => of(held.get(*at)?.as_tensor()?)?,
            Some(Source::Const(v)) => of(g.constant_of(*v).ok_or_else(unmade)?)?,
        }))
    };
    task.inputs.iter().enumerate().map(operand).collect()
}

/// A result that lies outside of the arena: its shape and its elements.
type Made = (Vec<usize>, Elements);

/// The elements of a result, by their type.
enum Elements {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Strings(Vec<String>),
}

impl Elements {
    /// Where a kernel writes: one of the two is empty.
    fn split(&mut self) -> (&mut [f32], Option<Integers<'_>>) {
        match self {
            Elements::F32(x) => (x, None),
            Elements::U8(x) => (&mut [], Some(Integers::U8(x))),
            Elements::I8(x) => (&mut [], Some(Integers::I8(x))),
            Elements::I32(x) => (&mut [], Some(Integers::I32(x))),
            Elements::I64(x) => (&mut [], Some(Integers::I64(x))),
            Elements::F64(x) => (&mut [], Some(Integers::F64(x))),
            Elements::Bool(x) => (&mut [], Some(Integers::Bool(x))),
            Elements::Strings(x) => (&mut [], Some(Integers::Strings(x))),
        }
    }

    fn tensor(self, shape: &[usize]) -> Result<Tensor> {
        Ok(match self {
            Elements::F32(x) => Tensor::from_vec(shape, x)?,
            Elements::U8(x) => Tensor::from_vec(shape, x)?,
            Elements::I8(x) => Tensor::from_vec(shape, x)?,
            Elements::I32(x) => Tensor::from_vec(shape, x)?,
            Elements::I64(x) => Tensor::from_vec(shape, x)?,
            Elements::F64(x) => Tensor::from_vec(shape, x)?,
            Elements::Bool(x) => Tensor::from_vec(shape, x)?,
            Elements::Strings(x) => Tensor::from_strings(shape, x)?,
        })
    }
}
