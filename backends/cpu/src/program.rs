//! A plan with every place looked up: what each step reads and writes, as numbers.

use std::sync::atomic::AtomicBool;

use kiln_ir::{Error, Graph, NodeId, Result, Type, Value};
use kiln_plan::{Bindings, Place, Plan, Span};
use kiln_tensor::{DType, Datum};

/// Small numbers for the values of a graph.
pub(crate) struct Numbers {
    /// The number of each node's first output, by the node's index.
    first: Vec<u32>,
    pub count: usize,
}

impl Numbers {
    pub fn of(g: &Graph) -> Self {
        let most = g.nodes().map(|n| n.index() + 1).max().unwrap_or(0);
        let mut first = vec![0; most];
        let mut count = 0;
        for n in g.nodes() {
            first[n.index()] = count as u32;
            count += g.outputs_of(n).count();
        }
        Self { first, count }
    }

    pub fn at(&self, v: Value) -> usize {
        self.first[v.node.index()] as usize + v.slot()
    }
}

/// Where a step reads.
pub(crate) enum Source {
    /// A value with memory of its own, by its number.
    Held(usize),
    /// A constant of the graph.
    Const(Value),
    /// A span of the arena, of this shape.
    Arena(Span, Vec<usize>),
}

/// Where a step writes.
pub(crate) enum Target {
    /// A span of the arena, of this shape.
    Arena(Span, Vec<usize>),
    /// A value with memory of its own: its number, its element type and its shape where they are
    /// known.
    Held(usize, Option<DType>, Option<Vec<usize>>),
    /// Nothing reads it, and the kernel need not write it.
    Nowhere,
}

/// One node at work.
pub(crate) struct Task {
    pub node: NodeId,
    pub kernel: bool,
    pub inputs: Vec<Option<Source>>,
    pub targets: Vec<Target>,
    /// The spans that it writes, in the order of its outputs.
    pub writes: Vec<Span>,
    /// The spans that it reads, but for the first where it runs in place.
    pub reads: Vec<Span>,
    /// Whether the first result lies where the first operand lay.
    pub own: bool,
    /// Held values that nothing reads after this.
    pub frees: Vec<usize>,
    /// For each output, whether anything reads it.
    pub read: Vec<bool>,
}

/// All steps for inputs of certain shapes.
pub(crate) struct Program {
    pub shapes: Vec<Vec<usize>>,
    pub tasks: Vec<Task>,
    /// The numbers of the graph's inputs.
    pub inputs: Vec<usize>,
    /// Where the graph's outputs are read.
    pub outputs: Vec<Source>,
    /// The arena's bytes.
    pub arena: usize,
    /// Whether the last run was short.
    pub light: AtomicBool,
}

/// The shape of an input; none where it is no tensor.
pub(crate) fn shape(d: &Datum) -> &[usize] {
    d.as_tensor().map_or(&[], |t| t.shape())
}

impl Program {
    /// Looks up what a plan says; `in_place` of the nodes that have such a kernel.
    pub fn of(
        g: &Graph,
        numbers: &Numbers,
        plan: &Plan,
        bindings: &Bindings,
        in_place: &dyn Fn(NodeId) -> bool,
        inputs: &[Datum],
    ) -> Self {
        let look = Look { g, numbers, plan, bindings };
        let tasks = plan.steps.iter();
        let tasks = tasks.map(|step| {
            let own = in_place(step.node);
            let frees = step.frees.iter().map(|&v| numbers.at(v)).collect();
            look.task(step.node, step.kernel, own, frees)
        });
        Self {
            shapes: inputs.iter().map(|d| shape(d).to_vec()).collect(),
            tasks: tasks.collect(),
            inputs: g.inputs().map(|v| numbers.at(v)).collect(),
            outputs: g.outputs().iter().map(|(_, v)| look.source(*v)).collect(),
            arena: plan.arena,
            light: AtomicBool::new(false),
        }
    }

    /// Whether it is for inputs of these shapes.
    pub fn fits(&self, inputs: &[Datum]) -> bool {
        self.shapes.len() == inputs.len()
            && self.shapes.iter().zip(inputs).all(|(s, d)| s == shape(d))
    }
}

struct Look<'a> {
    g: &'a Graph,
    numbers: &'a Numbers,
    plan: &'a Plan,
    bindings: &'a Bindings,
}

impl Look<'_> {
    fn source(&self, v: Value) -> Source {
        match (self.plan.place(v), self.g.constant_of(v)) {
            (Place::Arena(span, shape), _) => Source::Arena(*span, shape.clone()),
            (_, Some(_)) => Source::Const(v),
            _ => Source::Held(self.numbers.at(v)),
        }
    }

    fn target(&self, v: Value) -> Target {
        match self.plan.place(v) {
            Place::Arena(span, shape) => Target::Arena(*span, shape.clone()),
            Place::Held if v.slot() == 0 || self.g.is_read(v) => {
                let shape = self.bindings.shape(self.g, v);
                Target::Held(self.numbers.at(v), elements(self.g, v), shape)
            }
            Place::Held => Target::Nowhere,
        }
    }

    fn task(&self, node: NodeId, kernel: bool, in_place: bool, frees: Vec<usize>) -> Task {
        let sources = self.g.inputs_of(node).into_iter();
        let inputs: Vec<_> = sources.map(|v| v.map(|v| self.source(v))).collect();
        let targets: Vec<_> = self.g.outputs_of(node).map(|v| self.target(v)).collect();
        let span = |t: &Target| if let Target::Arena(s, _) = t { Some(*s) } else { None };
        let of = |s: &Source| if let Source::Arena(s, _) = s { Some(*s) } else { None };
        let first = inputs.first().and_then(|s| s.as_ref().and_then(of));
        let own = in_place && first.is_some() && first == targets.first().and_then(span);
        let reads = inputs.iter().skip(usize::from(own)).flatten().filter_map(of).collect();
        let writes = targets.iter().filter_map(span).collect();
        let read = self.g.outputs_of(node).map(|v| self.g.is_read(v)).collect();
        Task { node, kernel, inputs, targets, writes, reads, own, frees, read }
    }
}

/// The element type of a tensor of known rank that kernels make.
pub(crate) fn elements(g: &Graph, v: Value) -> Option<DType> {
    use DType::{Bool, F32, F64, I8, I32, I64, String, U8};
    match g.ty(v) {
        Type::Tensor(t) if t.shape.is_some() => {
            [Bool, F32, F64, I8, I32, I64, String, U8].contains(&t.dtype).then_some(t.dtype)
        }
        _ => None,
    }
}

/// Something that a plan promises is not so.
pub(crate) fn unmade() -> Error {
    Error::bug("a value is read before it is made")
}

/// The values of a run that have memory of their own.
#[derive(Default)]
pub(crate) struct Held(Vec<Option<Datum>>);

impl Held {
    /// Room for so many values, all missing.
    pub fn reset(&mut self, count: usize) {
        self.0.clear();
        self.0.resize(count, None);
    }

    pub fn get(&self, at: usize) -> Result<&Datum> {
        self.0.get(at).and_then(Option::as_ref).ok_or_else(unmade)
    }

    pub fn set(&mut self, at: usize, d: Datum) {
        self.0[at] = Some(d);
    }

    pub fn take(&mut self, at: usize) -> Option<Datum> {
        self.0.get_mut(at).and_then(Option::take)
    }
}
