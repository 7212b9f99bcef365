//! Runs a plan: kernels on the arena, definitions for the rest.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_ir::eval::{Charge, Live};
use kiln_ir::{
    Context, Dim, Error, Fact, Graph, Infer, NodeId, Operator, Result, Type, Value, invalid,
};
use kiln_plan::{Bindings, Claim, Executable, Place, Plan, Span, Step};
use kiln_tensor::{DType, Datum, Tensor};
use rayon::ThreadPool;

use crate::arena::Arena;
use crate::kernel::{Args, Integers, Kernel, Operand};
use crate::kernels::{is_f32, rows};

/// A graph with its kernels prepared, and the plans of the shapes seen so far.
pub(crate) struct Compiled {
    graph: Arc<Graph>,
    kernels: HashMap<NodeId, (Claim, Box<dyn Kernel>)>,
    plans: Mutex<HashMap<Vec<Vec<usize>>, Arc<Known>>>,
    arenas: Mutex<Vec<Arena>>,
    pool: Arc<ThreadPool>,
}

/// A plan, and what is known of running it.
struct Known {
    plan: Plan,
    /// Whether the last run was short.
    light: AtomicBool,
}

/// A run that takes less stays on the thread that asks for it: to wake others would take as long.
/// No result depends on who calculates it.
const LIGHT: Duration = Duration::from_micros(40);

/// Plans kept; beyond, all are forgotten and made anew.
const PLANS: usize = 64;

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
                (row.prepare)(&graph, id).map(|k| (id, (claim, k)))
            })
        };
        let kernels = graph.nodes().filter_map(prepare).collect();
        let (plans, arenas) = (Mutex::default(), Mutex::default());
        Ok(Self { graph, kernels, plans, arenas, pool })
    }

    /// The plan for these input shapes, made on first use.
    fn plan(&self, cx: &Context, inputs: &[Datum]) -> Result<Arc<Known>> {
        let shape = |d: &Datum| d.as_tensor().map(|t| t.shape().to_vec()).unwrap_or_default();
        let key: Vec<Vec<usize>> = inputs.iter().map(shape).collect();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        let bindings = Bindings::of(&self.graph, inputs)?;
        let claim = |id: NodeId| self.kernels.get(&id).map(|(c, _)| *c);
        let plan = Plan::build(&self.graph, &bindings, &claim, &cx.limits)?;
        let plan = Arc::new(Known { plan, light: AtomicBool::new(false) });
        if plans.len() >= PLANS {
            plans.clear();
        }
        plans.insert(key, plan.clone());
        Ok(plan)
    }
}

impl Executable for Compiled {
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let known = self.plan(cx, &inputs)?;
        let plan = &known.plan;
        let taken = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut arena = taken.unwrap_or_default();
        let mut charge = Charge::new(cx);
        charge.add(plan.arena as u64)?;
        arena.reserve(plan.arena)?;
        let held = Live::new(cx, self.graph.inputs().zip(inputs));
        let mut run = Run { compiled: self, plan, cx, held, arena };
        let start = Instant::now();
        let light = self.pool.current_num_threads() == 1 || known.light.load(Relaxed);
        let out = if light { run.all() } else { self.pool.install(|| run.all()) };
        let most = if light { LIGHT } else { LIGHT / 2 };
        known.light.store(start.elapsed() < most, Relaxed);
        let arena = std::mem::take(&mut run.arena);
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner).push(arena);
        out
    }
}

/// One run.
struct Run<'a> {
    compiled: &'a Compiled,
    plan: &'a Plan,
    cx: &'a Context,
    held: Live<'a>,
    arena: Arena,
}

impl Run<'_> {
    fn all(&mut self) -> Result<Vec<Datum>> {
        let g = &self.compiled.graph;
        for step in &self.plan.steps {
            self.cx.cancel.poll()?;
            self.step(step).map_err(|e| e.at(|| g.info_of(step.node)))?;
            step.frees.iter().for_each(|&v| self.held.remove(v));
        }
        g.outputs().iter().map(|(_, v)| self.value(*v)).collect()
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let g = &self.compiled.graph;
        let inputs = g.inputs_of(step.node);
        if let (true, Some((claim, kernel))) = (step.kernel, self.compiled.kernels.get(&step.node))
        {
            return self.kernel(step.node, &inputs, claim.in_place, kernel.as_ref());
        }
        let data: Vec<Option<Datum>> =
            inputs.iter().map(|v| v.map(|v| self.value(v)).transpose()).collect::<Result<_>>()?;
        let seen: Vec<_> = data.iter().map(Option::as_ref).collect();
        let made = g.op(step.node).eval(self.cx, &seen)?;
        for (v, d) in g.outputs_of(step.node).zip(made) {
            if g.is_read(v) {
                self.held.insert(v, d)?;
            }
        }
        Ok(())
    }

    /// A value that is held or constant.
    fn value(&self, v: Value) -> Result<Datum> {
        match (self.held.get(v), self.compiled.graph.constant_of(v)) {
            (Some(d), _) => Ok(d.clone()),
            (None, Some(t)) => Ok(t.clone().into()),
            _ => Err(Error::bug("a value is read before it is made")),
        }
    }

    fn kernel(
        &mut self,
        node: NodeId,
        inputs: &[Option<Value>],
        in_place: bool,
        kernel: &dyn Kernel,
    ) -> Result<()> {
        let (g, plan) = (&*self.compiled.graph, self.plan);
        let outputs: Vec<Value> = g.outputs_of(node).collect();
        let sites = sites(g, plan, &self.held, inputs)?;
        let mut made = self.results(node, &outputs, &sites)?;
        let writes: Vec<Span> = outputs.iter().filter_map(|&v| span(plan, v)).collect();
        let first = span(plan, outputs[0]);
        let own = in_place && matches!(&sites[0], Some(Site::Arena(s, _)) if Some(*s) == first);
        let reads: Vec<Span> = (sites.iter().skip(usize::from(own)).flatten())
            .filter_map(|s| if let Site::Arena(s, _) = s { Some(*s) } else { None })
            .collect();
        let (writes, reads) = self.arena.split(&writes, &reads)?;
        let inputs = operands(&sites, own, &mut reads.into_iter())?;
        let mut writes = writes.into_iter();
        let mut results = Vec::with_capacity(outputs.len());
        let mut integers = None;
        for (&v, made) in outputs.iter().zip(&mut made) {
            results.push(match (plan.place(v), made) {
                (Place::Arena(_, shape), _) => writes.next().map(|w| (&shape[..], w)),
                (Place::Held, Some((shape, made))) => {
                    let (floats, others) = made.split();
                    integers = integers.or(others);
                    Some((&shape[..], floats))
                }
                (Place::Held, None) => None,
            });
        }
        let more = results.split_off(1);
        let Some((shape, out)) = results.pop().flatten() else {
            return Err(Error::bug("a kernel has no room for its result"));
        };
        let cancel = &self.cx.cancel;
        kernel.run(Args { inputs, shape, out, integers, more, in_place: own, cancel })?;
        for (&v, made) in outputs.iter().zip(made) {
            if let Some((shape, data)) = made.filter(|_| g.is_read(v)) {
                self.held.insert(v, data.tensor(&shape)?.into())?;
            }
        }
        Ok(())
    }

    /// Room for each output that lies outside of the arena: the first, and those that are read.
    fn results(
        &self,
        node: NodeId,
        outputs: &[Value],
        sites: &[Option<Site<'_>>],
    ) -> Result<Vec<Option<Made>>> {
        let g = &self.compiled.graph;
        let needed =
            |v: Value| *self.plan.place(v) == Place::Held && (v == outputs[0] || g.is_read(v));
        if !outputs.iter().any(|&v| needed(v)) {
            return Ok(outputs.iter().map(|_| None).collect());
        }
        let shapes = result_shapes(g, node, sites)?;
        let room = |(&v, shape): (&Value, Option<Vec<usize>>)| match (needed(v), shape) {
            (false, _) => Ok(None),
            (true, Some(shape)) => {
                let data = match elements(g, v) {
                    Some(DType::U8) => Elements::U8(self.cx.zeros(&shape)?),
                    Some(DType::I8) => Elements::I8(self.cx.zeros(&shape)?),
                    Some(DType::I32) => Elements::I32(self.cx.zeros(&shape)?),
                    Some(DType::I64) => Elements::I64(self.cx.zeros(&shape)?),
                    Some(DType::F64) => Elements::F64(self.cx.zeros(&shape)?),
                    Some(DType::String) => {
                        let n = self.cx.numel(DType::String, &shape)?;
                        Elements::Strings(vec![String::new(); n])
                    }
                    _ => Elements::F32(self.cx.zeros(&shape)?),
                };
                Ok(Some((shape, data)))
            }
            (true, None) => invalid!("the shape of the result is not known"),
        };
        outputs.iter().zip(shapes).map(room).collect()
    }
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
            Elements::Strings(x) => Tensor::from_strings(shape, x)?,
        })
    }
}

/// The element type of a tensor of known rank that kernels make.
fn elements(g: &Graph, v: Value) -> Option<DType> {
    use DType::{F32, F64, I8, I32, I64, String, U8};
    match g.ty(v) {
        Type::Tensor(t) if t.shape.is_some() => {
            [F32, F64, I8, I32, I64, String, U8].contains(&t.dtype).then_some(t.dtype)
        }
        _ => None,
    }
}

/// Where an operand's elements are.
enum Site<'a> {
    Held(&'a Tensor),
    Arena(Span, &'a [usize]),
}

fn span(plan: &Plan, v: Value) -> Option<Span> {
    match plan.place(v) {
        Place::Arena(span, _) => Some(*span),
        Place::Held => None,
    }
}

fn sites<'a>(
    g: &'a Graph,
    plan: &'a Plan,
    held: &'a Live<'_>,
    inputs: &[Option<Value>],
) -> Result<Vec<Option<Site<'a>>>> {
    let site = |v: Value| match (plan.place(v), held.get(v), g.constant_of(v)) {
        (Place::Arena(span, shape), ..) => Ok(Site::Arena(*span, shape)),
        (_, Some(d), _) => Ok(Site::Held(d.as_tensor()?)),
        (_, _, Some(t)) => Ok(Site::Held(t)),
        _ => Err(Error::bug("a value is read before it is made")),
    };
    inputs.iter().map(|v| v.map(site).transpose()).collect()
}

/// The operands as kernels see them.
fn operands<'a>(
    sites: &[Option<Site<'a>>],
    first_is_out: bool,
    arena: &mut dyn Iterator<Item = &'a [f32]>,
) -> Result<Vec<Option<Operand<'a>>>> {
    let none: &[f32] = &[];
    let operand = |(i, site): (usize, &Option<Site<'a>>)| {
        let (shape, data, other) = match site {
            None => return Ok(None),
            Some(Site::Arena(_, shape)) if i == 0 && first_is_out => (*shape, none, None),
            Some(Site::Arena(_, shape)) => (*shape, arena.next().unwrap_or(none), None),
            Some(Site::Held(t)) if t.dtype() == DType::F32 => (t.shape(), t.as_slice()?, None),
            Some(Site::Held(t)) => (t.shape(), none, Some(*t)),
        };
        Ok(Some(Operand { shape, data, other }))
    };
    sites.iter().enumerate().map(operand).collect()
}

/// The shapes of a kernel's results for concrete operands, by the operator's own inference;
/// `None` for one that it cannot tell.
fn result_shapes(
    g: &Graph,
    node: NodeId,
    sites: &[Option<Site<'_>>],
) -> Result<Vec<Option<Vec<usize>>>> {
    let fact = |site: &Site<'_>| {
        let (shape, dtype) = match site {
            Site::Held(t) => (t.shape(), t.dtype()),
            Site::Arena(_, shape) => (*shape, DType::F32),
        };
        Fact::shaped(dtype, shape.iter().map(|&d| Dim::from(d)).collect())
    };
    let facts: Vec<Option<Fact>> = sites.iter().map(|s| s.as_ref().map(fact)).collect();
    let known = |site: &Option<Site<'_>>, v: Option<Value>| match site {
        // What says how much is taken is there to be read.
        Some(Site::Held(t)) if t.dtype() != DType::F32 => Some((*t).clone()),
        _ => v.and_then(|v| g.constant_of(v)).cloned(),
    };
    let known: Vec<Option<Tensor>> =
        sites.iter().zip(g.inputs_of(node)).map(|(s, v)| known(s, v)).collect();
    let seen = facts.iter().zip(&known);
    let seen = seen.map(|(f, k)| f.as_ref().map(|f| (f, k.as_ref()))).collect();
    let made = g.op(node).infer(&mut Infer::new(seen, &mut 0))?;
    Ok(made.iter().map(|f| f.ty.as_tensor().ok()?.static_shape()).collect())
}
