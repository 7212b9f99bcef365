//! Running a graph by the definitions of its operators: slow, obvious, correct.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use kiln_tensor::{DType, Datum, Element, Tensor, shape};

use crate::{Error, Graph, Kind, Limits, Op, Operator, Result, Type, Value};

/// A flag that stops a run from another thread, and a deadline that stops it by itself.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// A token that stops runs at `deadline`.
    pub fn at(deadline: Instant) -> Self {
        Self { flag: Arc::default(), deadline: Some(deadline) }
    }

    /// Stops every run that polls this token or a clone of it.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// An error once cancelled or late. Long loops call this often.
    pub fn poll(&self) -> Result<()> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Cancelled, "the run was cancelled"));
        }
        match self.deadline {
            Some(d) if Instant::now() >= d => {
                Err(Error::new(Kind::Cancelled, "the run passed its deadline"))
            }
            _ => Ok(()),
        }
    }
}

/// What a run may use: limits, a cancel token, a seed.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Bounds on memory and loops.
    pub limits: Limits,
    /// Stops the run.
    pub cancel: Cancel,
    /// Where random operators without a seed of their own begin.
    pub seed: u64,
    depth: usize,
}

impl Context {
    /// A context with the given bounds.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The number of elements of a tensor to be made; an error where it is over the limit.
    pub fn numel(&self, dtype: DType, shape: &[usize]) -> Result<usize> {
        let n = shape::numel(shape)?;
        let each = if dtype == DType::String { size_of::<String>() } else { dtype.size() };
        let bytes = (n as u64).saturating_mul(each as u64);
        if bytes > self.limits.tensor_bytes.min(self.limits.memory_bytes) {
            let text = format!("a tensor {dtype}{shape:?} needs {bytes} bytes");
            return Err(Error::limit("tensor-bytes", text));
        }
        Ok(n)
    }

    /// Zeroed elements for a tensor to be made; an error where it is over the limit.
    pub fn zeros<T: Element>(&self, shape: &[usize]) -> Result<Vec<T>> {
        let n = self.numel(T::DTYPE, shape)?;
        let mut v = Vec::new();
        v.try_reserve_exact(n).map_err(|_| {
            Error::limit("tensor-bytes", format!("no memory for {}{shape:?}", T::DTYPE))
        })?;
        v.resize(n, T::default());
        Ok(v)
    }

    /// The context of a body one level down; an error where that is too deep.
    pub fn nested(&self) -> Result<Self> {
        if self.depth >= self.limits.depth {
            return Err(Error::limit("depth", format!("bodies nest deeper than {}", self.depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self.clone() })
    }
}

/// Runs a graph on values for its inputs, in their order, and returns its outputs in theirs.
pub fn run(g: &Graph, cx: &Context, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
    run_with(g, cx, inputs, &mut |_, _| {})
}

/// As [`run`]; `observe` sees every value when it is made.
pub fn run_with(
    g: &Graph,
    cx: &Context,
    inputs: Vec<Datum>,
    observe: &mut dyn FnMut(Value, &Datum),
) -> Result<Vec<Datum>> {
    if inputs.len() != g.inputs().len() {
        crate::invalid!("the graph has {} inputs, got {}", g.inputs().len(), inputs.len());
    }
    let mut live: HashMap<Value, Datum> = g.inputs().zip(inputs).collect();
    let mut reads: HashMap<Value, usize> = HashMap::new();
    let order = g.order()?;
    for v in order.iter().flat_map(|&id| g.outputs_of(id)) {
        let outputs = g.outputs().iter().filter(|(_, o)| *o == v).count();
        reads.insert(v, g.readers(v).count() + outputs);
    }
    for id in order {
        if matches!(g.op(id), Op::Input(_)) {
            continue;
        }
        cx.cancel.poll()?;
        let operands = g.inputs_of(id);
        let made = {
            let seen: Vec<_> = operands.iter().map(|v| v.and_then(|v| live.get(&v))).collect();
            g.op(id).eval(cx, &seen).map_err(|e| e.at(|| g.info_of(id)))?
        };
        for (v, d) in g.outputs_of(id).zip(made) {
            observe(v, &d);
            if reads[&v] > 0 {
                live.insert(v, d);
            }
        }
        for v in operands.into_iter().flatten() {
            let left = reads.get_mut(&v).map_or(0, |n| {
                *n -= 1;
                *n
            });
            if left == 0 {
                live.remove(&v);
            }
        }
    }
    let missing = || Error::bug("an output was not made");
    g.outputs().iter().map(|(_, v)| live.get(v).cloned().ok_or_else(missing)).collect()
}

/// Checks a value against a declared type; lengths given by symbols may be anything.
pub fn check_type(value: &Datum, ty: &Type) -> Result<()> {
    let (Datum::Tensor(t), Type::Tensor(want)) = (value, ty) else {
        let same = matches!(
            (value, ty),
            (Datum::Sequence(_), Type::Sequence(_))
                | (Datum::Map(_), Type::Map(..))
                | (Datum::Optional(_), Type::Optional(_))
        );
        if same {
            return Ok(());
        }
        crate::invalid!("expected {ty}, got a {}", value.kind());
    };
    let fits = want.shape.as_ref().is_none_or(|dims| {
        dims.len() == t.rank()
            && dims.iter().zip(t.shape()).all(|(d, &n)| d.as_len().is_none_or(|d| d == n))
    });
    if t.dtype() != want.dtype || !fits {
        crate::invalid!("expected {ty}, got {}", Type::of(value));
    }
    Ok(())
}

/// The tensor at input `i`; an error where it is missing or no tensor.
pub fn tensor<'a>(inputs: &[Option<&'a Datum>], i: usize) -> Result<&'a Tensor> {
    match inputs.get(i) {
        Some(Some(d)) => Ok(d.as_tensor()?),
        _ => Err(Error::invalid(format!("input {i} is missing"))),
    }
}

/// The tensor at input `i`, where it is given.
pub fn optional<'a>(inputs: &[Option<&'a Datum>], i: usize) -> Result<Option<&'a Tensor>> {
    match inputs.get(i) {
        Some(Some(d)) => Ok(Some(d.as_tensor()?)),
        _ => Ok(None),
    }
}
