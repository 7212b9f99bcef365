//! What all operators with bodies do with them.

use std::cell::RefCell;
use std::collections::HashMap;

use kiln_tensor::Datum;

use crate::eval::Charge;
use crate::{
    Build, Context, Dim, Error, Graph, Infer, Op, Operator, Result, Type, Value, eval, invalid,
};

/// Takes the number of captured values, which are the node's last inputs.
pub(crate) fn captures(b: &mut Build<'_>) -> Result<usize> {
    let n = b.take::<i64>("captures")?.unwrap_or(0);
    match usize::try_from(n) {
        Ok(n) if n <= b.inputs.len() => Ok(n),
        _ => invalid!("{n} captured values, but {} inputs", b.inputs.len()),
    }
}

/// Whether two runs of a body may differ.
pub(crate) fn is_random(body: &Graph) -> bool {
    body.nodes().any(|id| body.op(id).traits().random)
}

/// Input `i`, of any kind.
pub(crate) fn given<'a>(inputs: &[Option<&'a Datum>], i: usize) -> Result<&'a Datum> {
    let missing = || Error::invalid(format!("input {i} is missing"));
    inputs.get(i).copied().flatten().ok_or_else(missing)
}

/// Runs a body.
pub(crate) fn run(body: &Graph, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
    cx.cancel.poll()?;
    eval::run(body, cx, inputs)
}

/// What the steps of a loop hold on to.
pub(crate) struct Budget<'a> {
    kept: Charge<'a>,
    passing: Charge<'a>,
    last: u64,
}

impl<'a> Budget<'a> {
    pub(crate) fn new(cx: &'a Context) -> Self {
        Self { kept: Charge::new(cx), passing: Charge::new(cx), last: 0 }
    }

    /// Holds on to a value until the end; an error where that is too much.
    pub(crate) fn keep(&mut self, value: &Datum) -> Result<()> {
        // A value of no bytes costs its bookkeeping all the same.
        self.kept.add(value.nbytes() as u64 + 64)
    }

    /// Holds the values for the next step, in place of those for the last.
    pub(crate) fn pass<'v>(&mut self, values: impl IntoIterator<Item = &'v Datum>) -> Result<()> {
        self.passing.remove(self.last);
        self.last = values.into_iter().map(|v| v.nbytes() as u64).sum();
        self.passing.add(self.last)
    }
}

/// Adds the nodes of `body` to `g`, reading `inputs`, and returns the values of its outputs.
pub fn inline(g: &mut Graph, body: &Graph, inputs: &[Value]) -> Result<Vec<Value>> {
    if body.inputs().len() != inputs.len() {
        invalid!("the body has {} inputs, got {}", body.inputs().len(), inputs.len());
    }
    let mut made: HashMap<Value, Value> = body.inputs().zip(inputs.iter().copied()).collect();
    for id in body.order()? {
        let node = body.node(id);
        match &node.op {
            Op::Input(_) => {}
            Op::Const(c) => {
                made.insert(id.first(), g.constant(&node.name, (*c.0).clone()));
            }
            op => {
                let operands = body.inputs_of(id).into_iter();
                let operands: Vec<_> = operands.map(|v| v.map(|v| made[&v])).collect();
                let new = g.add(&node.name, op.clone(), &operands)?;
                made.extend(body.outputs_of(id).zip(g.outputs_of(new)));
            }
        }
    }
    Ok(body.outputs().iter().map(|(_, v)| made[v]).collect())
}

/// Marks a symbol of the outer graph inside a body, whose own symbols may have the same names.
const OUTER: &str = "^";

/// The type with every symbol in it replaced.
fn renamed(ty: &Type, f: &dyn Fn(&str) -> Dim) -> Type {
    match ty {
        Type::Tensor(t) => {
            let dim = |d: &Dim| d.bind(&|s| Some(f(s.name())));
            Type::tensor(t.dtype, t.shape.as_ref().map(|s| s.iter().map(dim).collect()))
        }
        Type::Sequence(inner) => Type::Sequence(renamed(inner, f).into()),
        Type::Optional(inner) => Type::Optional(renamed(inner, f).into()),
        Type::Map(..) => ty.clone(),
    }
}

/// A type of the outer graph as a body sees it.
pub(crate) fn inward(ty: &Type) -> Type {
    renamed(ty, &|s| Dim::sym(&format!("{OUTER}{s}")))
}

/// The types that a body sees as the outer graph sees them: lengths that only the body knows
/// get new symbols, the same for the same.
fn outward(cx: &mut Infer<'_>, types: &[Type]) -> Vec<Type> {
    let cx = RefCell::new(cx);
    let fresh: RefCell<HashMap<String, Dim>> = RefCell::default();
    let rename = |s: &str| match s.strip_prefix(OUTER) {
        Some(outer) => Dim::sym(outer),
        None => {
            let mut fresh = fresh.borrow_mut();
            fresh.entry(s.to_owned()).or_insert_with(|| cx.borrow_mut().fresh()).clone()
        }
    };
    types.iter().map(|ty| renamed(ty, &rename)).collect()
}

/// The types of a body's outputs where its inputs have the types of the node's operands `own`.
pub(crate) fn outputs_of(cx: &mut Infer<'_>, body: &Graph, inputs: Vec<Type>) -> Vec<Type> {
    let types = inward_outputs(cx.level(), body, &inputs);
    outward(cx, &types)
}

/// As `outputs_of`, with inputs and outputs as the body of a node at `level` sees them.
fn inward_outputs(level: usize, body: &Graph, inputs: &[Type]) -> Vec<Type> {
    // Each level of loops multiplies the work by the passes over its body.
    const LEVELS: usize = 2;
    let again = || -> Result<Vec<Type>> {
        if level >= LEVELS {
            invalid!("too deep to be worth it");
        }
        let mut g = Graph::scratch(level + 1);
        let formal = body.inputs().map(|v| body.ty(v)).zip(inputs);
        let values: Vec<_> = formal.map(|(f, a)| g.input("x", sharper(f, a))).collect();
        let outputs = inline(&mut g, body, &values)?;
        Ok(outputs.iter().map(|&v| g.ty(v).clone()).collect())
    };
    // A body that does not fit may never run; what is known of it at large still holds.
    again().unwrap_or_else(|_| body.outputs().iter().map(|(_, v)| body.ty(*v).clone()).collect())
}

/// The actual type of an input, or the declared one where nothing is known of the actual shape.
fn sharper(formal: &Type, actual: &Type) -> Type {
    match (formal, actual) {
        (Type::Tensor(f), Type::Tensor(a)) if f.dtype == a.dtype && a.shape.is_none() => {
            formal.clone()
        }
        _ => actual.clone(),
    }
}

/// What is known of values that are of either type; `fresh` names a length that may be either.
pub(crate) fn loose(a: &Type, b: &Type, fresh: &mut dyn FnMut() -> Dim) -> Result<Type> {
    let (Type::Tensor(x), Type::Tensor(y)) = (a, b) else {
        return Ok(match (a, b) {
            (Type::Sequence(_), Type::Sequence(_)) | (Type::Optional(_), Type::Optional(_)) => {
                a.join(b)
            }
            // Which of the two it is shows when the model runs.
            _ => b.clone(),
        });
    };
    if x.dtype != y.dtype {
        invalid!("a value is {a} on one way and {b} on another");
    }
    let shape = match (&x.shape, &y.shape) {
        (Some(s), Some(t)) if s.len() == t.len() => {
            let either = |(d, e): (&Dim, &Dim)| if d == e { d.clone() } else { fresh() };
            Some(s.iter().zip(t).map(either).collect())
        }
        _ => None,
    };
    Ok(Type::tensor(x.dtype, shape))
}

/// The types of a body's outputs, of which those from `skip` on become its inputs `at` in the
/// next step. The first `carried` inputs at `at` have the types of the first step.
///
/// Lengths that change from step to step are found by inferring until nothing changes.
pub(crate) fn outputs_of_steps(
    cx: &mut Infer<'_>,
    body: &Graph,
    inputs: &[Type],
    carried: std::ops::Range<usize>,
    skip: usize,
) -> Result<Vec<Type>> {
    const PASSES: usize = 8;
    let mut types: Vec<Type> = inputs.iter().map(inward).collect();
    for pass in 0..PASSES {
        let outputs = inward_outputs(cx.level(), body, &types);
        let mut next = types.clone();
        for (k, i) in carried.clone().enumerate() {
            let Some(out) = outputs.get(skip + k) else { continue };
            let mut axis = 0;
            let mut changing = || {
                axis += 1;
                Dim::sym(&format!("step.{i}.{axis}.{pass}"))
            };
            next[i] = keep_changing(&types[i], loose(&types[i], out, &mut changing)?);
        }
        if pass + 1 == PASSES {
            next[carried.clone()].iter_mut().for_each(|t| *t = unshaped(t));
        }
        let done = next == types;
        types = next;
        if done || pass + 1 == PASSES {
            let mut outputs = inward_outputs(cx.level(), body, &types);
            for (k, i) in carried.clone().enumerate() {
                if let Some(out) = outputs.get_mut(skip + k) {
                    // After no step at all, the value is what it was before.
                    *out = types[i].clone();
                }
            }
            return Ok(outward(cx, &outputs));
        }
    }
    Ok(vec![])
}

/// A length that changed before keeps its symbol when it changes again.
fn keep_changing(before: &Type, after: Type) -> Type {
    let (Type::Tensor(b), Type::Tensor(a)) = (before, &after) else { return after };
    let (Some(old), Some(new)) = (&b.shape, &a.shape) else { return after };
    let changing = |d: &Dim| d.as_sym().is_some_and(|s| s.name().starts_with("step."));
    let keep = |(o, n): (&Dim, &Dim)| if changing(o) { o.clone() } else { n.clone() };
    Type::tensor(a.dtype, Some(old.iter().zip(new).map(keep).collect()))
}

fn unshaped(ty: &Type) -> Type {
    match ty {
        Type::Tensor(t) => Type::tensor(t.dtype, None),
        other => other.clone(),
    }
}
