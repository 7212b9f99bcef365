//! Runs a plan: kernels on the arena, definitions for the rest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_ir::eval::{Charge, Live};
use kiln_ir::{Context, Error, Graph, NodeId, Operator, Result, Value, invalid};
use kiln_plan::{Bindings, Claim, Executable, Place, Plan, Span, Step};
use kiln_tensor::{Datum, Tensor};
use rayon::ThreadPool;

use crate::arena::Arena;
use crate::kernel::{Args, Kernel};
use crate::kernels::rows;

/// A graph with its kernels prepared, and the plans of the shapes seen so far.
pub(crate) struct Compiled {
    graph: Arc<Graph>,
    kernels: HashMap<NodeId, (Claim, Box<dyn Kernel>)>,
    plans: Mutex<HashMap<Vec<Vec<usize>>, Arc<Plan>>>,
    arenas: Mutex<Vec<Arena>>,
    pool: Arc<ThreadPool>,
}

/// Plans kept; beyond, all are forgotten and made anew.
const PLANS: usize = 64;

impl Compiled {
    /// Prepares a kernel for every node that a row takes.
    pub fn new(graph: Arc<Graph>, pool: Arc<ThreadPool>) -> Result<Self> {
        let prepare = |id: NodeId| {
            rows().find_map(|row| {
                let claim = Claim { in_place: row.in_place };
                (row.prepare)(&graph, id).map(|k| (id, (claim, k)))
            })
        };
        let kernels = graph.nodes().filter_map(prepare).collect();
        let (plans, arenas) = (Mutex::default(), Mutex::default());
        Ok(Self { graph, kernels, plans, arenas, pool })
    }

    /// The plan for these input shapes, made on first use.
    fn plan(&self, cx: &Context, inputs: &[Datum]) -> Result<Arc<Plan>> {
        let shape = |d: &Datum| d.as_tensor().map(|t| t.shape().to_vec()).unwrap_or_default();
        let key: Vec<Vec<usize>> = inputs.iter().map(shape).collect();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        let bindings = Bindings::of(&self.graph, inputs)?;
        let claim = |id: NodeId| self.kernels.get(&id).map(|(c, _)| *c);
        let plan = Arc::new(Plan::build(&self.graph, &bindings, &claim, &cx.limits)?);
        if plans.len() >= PLANS {
            plans.clear();
        }
        plans.insert(key, plan.clone());
        Ok(plan)
    }
}

impl Executable for Compiled {
    fn run(&self, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let plan = self.plan(cx, &inputs)?;
        let taken = self.arenas.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut arena = taken.unwrap_or_default();
        let mut charge = Charge::new(cx);
        charge.add(plan.arena as u64)?;
        arena.reserve(plan.arena)?;
        let held = Live::new(cx, self.graph.inputs().zip(inputs));
        let mut run = Run { compiled: self, plan: &plan, cx, held, arena };
        let out = self.pool.install(|| run.all());
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

/// Where an operand's elements are.
enum Operand<'a> {
    Held(&'a Tensor),
    Arena(Span, &'a [usize]),
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
        let (g, v) = (&self.compiled.graph, node.first());
        let mut operands = Vec::with_capacity(inputs.len());
        for x in inputs.iter().flatten() {
            operands.push(match (self.plan.place(*x), self.held.get(*x), g.constant_of(*x)) {
                (Place::Arena(span, shape), ..) => Operand::Arena(*span, shape),
                (_, Some(d), _) => Operand::Held(d.as_tensor()?),
                (_, _, Some(t)) => Operand::Held(t),
                _ => return Err(Error::bug("a value is read before it is made")),
            });
        }
        match self.plan.place(v) {
            Place::Arena(span, shape) => {
                let own = matches!(operands.first(), Some(Operand::Arena(s, _)) if s == span);
                let own = in_place && own;
                let reads: Vec<Span> = (operands.iter().skip(usize::from(own)))
                    .filter_map(|o| match o {
                        Operand::Arena(s, _) => Some(*s),
                        Operand::Held(_) => None,
                    })
                    .collect();
                let (out, slices) = self.arena.split(*span, &reads)?;
                let mut slices = slices.into_iter();
                let inputs = views(&operands, own, &mut slices)?;
                kernel.run(Args { inputs, shape, out, in_place: own, cancel: &self.cx.cancel })
            }
            Place::Held => {
                let reads: Vec<&[f32]> = (operands.iter())
                    .filter_map(|o| match o {
                        Operand::Arena(s, _) => Some(self.arena.read(*s)),
                        Operand::Held(_) => None,
                    })
                    .collect();
                let inputs = views(&operands, false, &mut reads.into_iter())?;
                let shape = result_shape(g, node, &inputs)?;
                let mut out = self.cx.zeros::<f32>(&shape)?;
                let (out_, cancel) = (&mut out[..], &self.cx.cancel);
                kernel.run(Args { inputs, shape: &shape, out: out_, in_place: false, cancel })?;
                self.held.insert(v, Tensor::from_vec(&shape, out)?.into())
            }
        }
    }
}

/// The operands as kernels see them.
fn views<'a>(
    operands: &'a [Operand<'a>],
    first_is_out: bool,
    arena: &mut dyn Iterator<Item = &'a [f32]>,
) -> Result<Vec<(&'a [usize], &'a [f32])>> {
    let none: &[f32] = &[];
    (operands.iter().enumerate())
        .map(|(i, o)| match o {
            Operand::Arena(_, shape) if i == 0 && first_is_out => Ok((*shape, none)),
            Operand::Arena(_, shape) => Ok((*shape, arena.next().unwrap_or(none))),
            Operand::Held(t) => Ok((t.shape(), t.as_slice::<f32>()?)),
        })
        .collect()
}

/// The shape of a kernel's result for concrete operands, by the operator's own inference.
fn result_shape(g: &Graph, node: NodeId, inputs: &[(&[usize], &[f32])]) -> Result<Vec<usize>> {
    let facts: Vec<kiln_ir::Fact> = (inputs.iter())
        .map(|(s, _)| {
            let dims = s.iter().map(|&d| kiln_ir::Dim::from(d)).collect();
            kiln_ir::Fact::shaped(kiln_tensor::DType::F32, dims)
        })
        .collect();
    let mut facts = facts.iter();
    let seen = (g.inputs_of(node).iter())
        .map(|v| v.and_then(|v| facts.next().map(|f| (f, g.constant_of(v)))))
        .collect();
    let made = g.op(node).infer(&mut kiln_ir::Infer::new(seen, &mut 0))?;
    let shape = made.first().and_then(|f| f.ty.as_tensor().ok()?.static_shape());
    match shape {
        Some(s) => Ok(s),
        None => invalid!("the shape of the result is not known"),
    }
}
