//! Running a graph by the definitions of its operators: slow, obvious, correct.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use kiln_tensor::{DType, Datum, Element, Tensor, shape};

use crate::{Error, Graph, Kind, Limits, Op, Operator, Profile, Result, Type, Value};

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
    /// Gathers the times of nodes, where there is one.
    pub profile: Option<Arc<Profile>>,
    depth: usize,
    /// Bytes alive, counted by all clones together.
    alive: Arc<AtomicU64>,
    /// Trips made, counted by all clones together.
    trips: Arc<AtomicU64>,
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
        let text = || format!("a tensor {dtype}{shape:?} needs {bytes} bytes");
        if bytes > self.limits.tensor_bytes {
            return Err(Error::limit("tensor-bytes", text()));
        }
        let alive = self.alive.load(Ordering::Relaxed);
        if bytes > self.limits.memory_bytes.saturating_sub(alive) {
            let text = format!("{} beside {alive} that are in use", text());
            return Err(Error::limit("memory-bytes", text));
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

    /// Counts one more trip of a loop; an error where this run has made too many, or is over.
    pub fn trip(&self) -> Result<()> {
        self.cancel.poll()?;
        let most = self.limits.loop_trips;
        match self.trips.fetch_add(1, Ordering::Relaxed) {
            made if made < most => Ok(()),
            _ => Err(Error::limit("loop-trips", format!("loops make more than {most} trips"))),
        }
    }

    /// The context of a body one level down; an error where that is too deep.
    pub fn nested(&self) -> Result<Self> {
        if self.depth >= self.limits.depth {
            return Err(Error::limit("depth", format!("bodies nest deeper than {}", self.depth)));
        }
        Ok(Self { depth: self.depth + 1, ..self.clone() })
    }
}

/// Bytes that count as alive until it is dropped.
#[derive(Debug)]
pub struct Charge<'a> {
    cx: &'a Context,
    bytes: u64,
}

impl<'a> Charge<'a> {
    /// A charge of nothing yet.
    pub fn new(cx: &'a Context) -> Self {
        Self { cx, bytes: 0 }
    }

    /// Counts `bytes` more as alive; an error where that is over the limit.
    pub fn add(&mut self, bytes: u64) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        let alive = self.cx.alive.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if alive <= self.cx.limits.memory_bytes {
            return Ok(());
        }
        Err(Error::limit("memory-bytes", format!("this run holds {alive} bytes")))
    }

    /// Counts `bytes` less.
    pub fn remove(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.cx.alive.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.remove(self.bytes);
    }
}

/// The values of a run that are alive; those that the run makes are charged for.
#[derive(Debug)]
pub struct Live<'a> {
    values: HashMap<Value, (Datum, u64)>,
    charge: Charge<'a>,
}

impl<'a> Live<'a> {
    /// The inputs, which are the caller's to pay for.
    pub fn new(cx: &'a Context, inputs: impl Iterator<Item = (Value, Datum)>) -> Self {
        let values = inputs.map(|(v, d)| (v, (d, 0))).collect();
        Self { values, charge: Charge::new(cx) }
    }

    /// Adds a value that was made; an error where too much is alive.
    pub fn insert(&mut self, v: Value, d: Datum) -> Result<()> {
        let bytes = d.nbytes() as u64;
        self.keep(v, d, bytes)
    }

    /// Adds a value that costs nothing, because the graph holds it anyhow.
    fn lend(&mut self, v: Value, d: Datum) -> Result<()> {
        self.keep(v, d, 0)
    }

    fn keep(&mut self, v: Value, d: Datum, bytes: u64) -> Result<()> {
        self.charge.add(bytes)?;
        self.values.insert(v, (d, bytes));
        Ok(())
    }

    /// A value, where it is alive.
    pub fn get(&self, v: Value) -> Option<&Datum> {
        self.values.get(&v).map(|(d, _)| d)
    }

    /// Forgets a value.
    pub fn remove(&mut self, v: Value) {
        if let Some((_, bytes)) = self.values.remove(&v) {
            self.charge.remove(bytes);
        }
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
    let mut live = Live::new(cx, g.inputs().zip(inputs));
    let mut reads: HashMap<Value, usize> = HashMap::new();
    let order = g.order()?;
    let operands = order.iter().flat_map(|&id| g.inputs_of(id)).flatten();
    for v in operands.chain(g.outputs().iter().map(|(_, v)| *v)) {
        *reads.entry(v).or_default() += 1;
    }
    for id in order {
        if matches!(g.op(id), Op::Input(_)) {
            continue;
        }
        cx.cancel.poll()?;
        let operands = g.inputs_of(id);
        let made = {
            let seen: Vec<_> = operands.iter().map(|v| v.and_then(|v| live.get(v))).collect();
            g.op(id).eval(cx, &seen).map_err(|e| e.at(|| g.info_of(id)))?
        };
        for (v, d) in g.outputs_of(id).zip(made) {
            observe(v, &d);
            match g.op(id) {
                _ if !reads.contains_key(&v) => {}
                Op::Const(_) => live.lend(v, d)?,
                _ => live.insert(v, d).map_err(|e| e.at(|| g.info_of(id)))?,
            }
        }
        for v in operands.into_iter().flatten() {
            let left = reads.get_mut(&v).map_or(0, |n| {
                *n -= 1;
                *n
            });
            if left == 0 {
                live.remove(v);
            }
        }
    }
    let missing = || Error::bug("an output was not made");
    g.outputs().iter().map(|(_, v)| live.get(*v).cloned().ok_or_else(missing)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    fn limited(text: &str, limits: Limits) -> Result<Vec<Datum>> {
        let g = text::parse(text).expect("parses");
        run(&g, &Context::new(limits), vec![Tensor::vector(vec![1f32; 100]).into()])
    }

    #[test]
    fn values_are_charged_while_they_are_alive() {
        // At any time a value and the next one: 400 bytes each.
        let chain = "a = Neg(x: f32[100])\nb = Abs(a)\nc = Neg(b)\ny = Abs(c)\nreturn y";
        let memory = |memory_bytes| Limits { memory_bytes, ..Limits::default() };
        assert!(limited(chain, memory(800)).is_ok());
        let e = limited(chain, memory(799)).expect_err("two values");
        assert_eq!((e.kind(), e.node().map(|n| n.name.as_str())), (Kind::Limit, Some("b")));
        // Three of them wait for the sum.
        let wide = "a = Neg(x: f32[100])\nb = Neg(a)\nc = Neg(b)\ny = Sum(a, b, c)\nreturn y";
        assert!(limited(wide, memory(1600)).is_ok());
        assert!(limited(wide, memory(1599)).is_err());
    }

    #[test]
    fn charges_end_with_their_run() {
        let cx = Context::new(Limits { memory_bytes: 10, ..Limits::default() });
        {
            let mut charge = Charge::new(&cx);
            charge.add(8).expect("8 of 10");
            charge.add(8).expect_err("16 of 10");
        }
        Charge::new(&cx).add(10).expect("nothing is alive");
        assert!(cx.numel(DType::F32, &[2]).is_ok());
        assert!(cx.numel(DType::F32, &[3]).is_err());
    }

    #[test]
    fn trips_are_counted_in_all_bodies_together() {
        let cx = Context::new(Limits { loop_trips: 3, ..Limits::default() });
        let inner = cx.nested().expect("one level");
        assert!(cx.trip().is_ok() && inner.trip().is_ok() && inner.trip().is_ok());
        assert_eq!(cx.trip().expect_err("a fourth").kind(), Kind::Limit);
    }
}
