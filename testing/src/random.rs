//! Graphs made up from a seed: valid, connected, of many operators, with what passes look for
//! (twins, no-ops, dead ends, constants, lengths as values, convolutions and what follows them,
//! quantizers).

mod quantized;

use fastrand::Rng;
use kiln_ir::schema::{self, NodeSpec};
use kiln_ir::{Attrs, Dim, Graph, Type, Value};
use kiln_tensor::{DType, Tensor};

mod forms;

/// A graph of about `steps` steps on `f32` inputs with the symbol `N`; the same for a seed.
///
/// Every value in it stays within about 1e6 for inputs in -1..1, and every function in it but
/// quantizers, which saturate, is continuous, so that a pass that rounds differently changes the
/// outputs a little at most.
pub fn graph(seed: u64, steps: usize) -> Graph {
    let mut maker = Maker::new(seed);
    maker.inputs();
    for _ in 0..steps {
        let step = STEPS[maker.random.usize(..STEPS.len())];
        // A step that does not fit leaves constants behind, at most: more for passes to find.
        if let Some(v) = step(&mut maker) {
            maker.pool.push(v);
        }
    }
    maker.finish()
}

/// What may be added: each step picks operands and returns its result, if it fits.
const STEPS: &[fn(&mut Maker) -> Option<Value>] = &[
    unary,
    unary,
    binary,
    with_constant,
    twin,
    bounded,
    reshaped,
    transposed,
    stretched,
    joined,
    sliced,
    padded,
    through_f64,
    multiplied,
    squared,
    scaled,
    gated,
    standardized,
    attended,
    attended,
    convolved,
    convolved,
    reduced,
    folded,
    forms::sunk,
    forms::turned,
    forms::parts,
    forms::parts,
    forms::chosen,
    forms::expanded,
    forms::branched,
    forms::weighed,
    forms::grouped,
    forms::inverted,
    forms::headed,
    forms::shortened,
    forms::blocked,
    quantized::quantized,
    quantized::quantized,
    quantized::quantized,
    quantized::quantized,
];

pub(crate) struct Maker {
    pub g: Graph,
    pub random: Rng,
    /// The `f32` values that steps may read.
    pool: Vec<Value>,
    names: usize,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Maker { g: Graph::new(), random: Rng::with_seed(seed), pool: vec![], names: 0 }
    }

    fn inputs(&mut self) {
        for i in 0..self.random.usize(1..=2) {
            let rank = self.random.usize(2..=4);
            let mut shape: Vec<Dim> =
                (0..rank).map(|_| Dim::from(self.random.usize(1..=5))).collect();
            if self.random.bool() {
                shape[0] = Dim::sym("N");
            }
            let v = self.g.input(&format!("x{i}"), Type::tensor(DType::F32, Some(shape)));
            self.pool.push(v);
        }
    }

    fn finish(mut self) -> Graph {
        let n = self.pool.len();
        let outputs = (0..self.random.usize(1..=3))
            .map(|i| (format!("y{i}").into(), self.pool[n - 1 - self.random.usize(..n.min(4))]))
            .collect();
        self.g.set_outputs(outputs);
        self.g
    }

    /// One of the values, late ones more often.
    fn pick(&mut self) -> Value {
        let n = self.pool.len();
        let early = self.random.usize(..n);
        self.pool[early.max(self.random.usize(..n))]
    }

    pub fn shape(&self, v: Value) -> Option<Vec<Dim>> {
        self.g.ty(v).as_tensor().ok()?.shape.clone()
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    pub fn constant(&mut self, t: Tensor) -> Value {
        let name = self.name();
        self.g.constant(&name, t)
    }

    /// A constant of values that are good weights: small, some 0, some 1.
    pub fn weights(&mut self, shape: &[usize]) -> Option<Value> {
        let random = &mut self.random;
        let mut value = || match random.u8(..8) {
            0 => 0.0,
            1 => 1.0,
            _ => random.f32() - 0.5,
        };
        let data = (0..shape.iter().product()).map(|_| value()).collect();
        let t = Tensor::from_vec::<f32>(shape, data).ok()?;
        Some(self.constant(t))
    }

    pub fn ints(&mut self, data: &[i64]) -> Value {
        self.constant(Tensor::vector(data.to_vec()))
    }

    pub fn node(&mut self, op: &str, inputs: &[Value], attrs: Attrs) -> Option<Value> {
        let name = self.name();
        let inputs = inputs.iter().copied().map(Some).collect();
        let spec = NodeSpec { op, opset: i64::MAX, name: &name, inputs, attrs, outputs: 1 };
        schema::add(&mut self.g, spec).ok()?.first().copied()
    }

    /// As `node`, without attributes.
    pub fn plain(&mut self, op: &str, inputs: &[Value]) -> Option<Value> {
        self.node(op, inputs, Attrs::default())
    }
}

fn unary(m: &mut Maker) -> Option<Value> {
    const OPS: &[&str] = &[
        "Relu",
        "Neg",
        "Abs",
        "Sigmoid",
        "Tanh",
        "Identity",
        "Sin",
        "LeakyRelu",
        "HardSwish",
        "Softsign",
        "Elu",
        "Erf",
        "Dropout",
    ];
    let x = m.pick();
    let op = OPS[m.random.usize(..OPS.len())];
    m.plain(op, &[x])
}

fn binary(m: &mut Maker) -> Option<Value> {
    const OPS: &[&str] = &["Add", "Sub", "Max", "Min", "Sum", "Mean"];
    let (a, b) = (m.pick(), m.pick());
    // A symbol is no length that every caller picks to fit.
    let (p, q) = (m.shape(a)?, m.shape(b)?);
    let fits = |(p, q): (&Dim, &Dim)| p == q || [p, q].iter().any(|d| d.as_const() == Some(1));
    if !p.iter().rev().zip(q.iter().rev()).all(fits) {
        return None;
    }
    let op = OPS[m.random.usize(..OPS.len())];
    m.plain(op, &[a, b])
}

/// `x op c`, where often `c` changes nothing.
fn with_constant(m: &mut Maker) -> Option<Value> {
    const OPS: &[&str] = &["Add", "Sub", "Mul", "Div", "Pow"];
    let x = m.pick();
    let op = OPS[m.random.usize(..OPS.len())];
    let neutral = if matches!(op, "Add" | "Sub") { 0.0 } else { 1.0 };
    let other = if matches!(op, "Add" | "Sub" | "Mul") { 0.5 } else { 1.0 };
    let c = Tensor::scalar(if m.random.bool() { neutral } else { other });
    let c = m.constant(c);
    m.plain(op, &[x, c])
}

/// The same calculation twice, and the two added.
fn twin(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let (a, b) = (m.plain("Tanh", &[x])?, m.plain("Tanh", &[x])?);
    m.plain("Add", &[a, b])
}

fn bounded(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let (low, high) = (m.constant(Tensor::scalar(-0.5f32)), m.constant(Tensor::scalar(0.75f32)));
    m.plain("Clip", &[x, low, high])
}

/// Flattened, by the value of its own length, by a constant, or by `Flatten`.
fn reshaped(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    match m.random.u8(..4) {
        0 => m.plain("Flatten", &[x]),
        1 => {
            let to = m.ints(&[-1]);
            m.plain("Reshape", &[x, to])
        }
        2 => {
            let to = m.plain("Shape", &[x])?;
            m.plain("Reshape", &[x, to])
        }
        _ => {
            let (shape, zero) = (m.plain("Shape", &[x])?, m.ints(&[0]));
            let (first, rest) = (m.plain("Gather", &[shape, zero])?, m.ints(&[-1]));
            let to = m.node("Concat", &[first, rest], Attrs::default().with("axis", 0i64))?;
            m.plain("Reshape", &[x, to])
        }
    }
}

/// Transposed once or twice.
fn transposed(m: &mut Maker) -> Option<Value> {
    let mut x = m.pick();
    let rank = m.shape(x)?.len();
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    for _ in 0..m.random.u8(1..=2) {
        if m.random.u8(..4) > 0 {
            m.random.shuffle(&mut perm);
        }
        x = m.node("Transpose", &[x], Attrs::default().with("perm", perm.clone()))?;
    }
    Some(x)
}

/// An axis more, and gone again or not.
fn stretched(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let axes = m.ints(&[0]);
    let y = m.plain("Unsqueeze", &[x, axes])?;
    if m.random.bool() { m.plain("Squeeze", &[y, axes]) } else { Some(y) }
}

fn joined(m: &mut Maker) -> Option<Value> {
    let (a, b) = (m.pick(), m.pick());
    let (p, q) = (m.shape(a)?, m.shape(b)?);
    let axis = p.len() as i64 - 1;
    if p.len() != q.len() || p[..p.len().saturating_sub(1)] != q[..q.len().saturating_sub(1)] {
        return None;
    }
    let inputs = if m.random.bool() { vec![a, b] } else { vec![a] };
    m.node("Concat", &inputs, Attrs::default().with("axis", axis))
}

fn sliced(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let start = i64::from(m.random.u8(..2));
    let operands = [m.ints(&[start]), m.ints(&[i64::MAX]), m.ints(&[-1])];
    m.plain("Slice", &[x, operands[0], operands[1], operands[2]])
}

fn padded(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let rank = m.shape(x)?.len();
    let mut pads = vec![0; 2 * rank];
    pads[2 * rank - 1] = i64::from(m.random.u8(..2));
    let pads = m.ints(&pads);
    m.plain("Pad", &[x, pads])
}

fn through_f64(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let wide = m.node("Cast", &[x], Attrs::default().with("to", DType::F64))?;
    m.node("Cast", &[wide], Attrs::default().with("to", DType::F32))
}

fn multiplied(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let k = m.shape(x)?.last()?.as_len()?;
    let n = m.random.usize(1..=4);
    let w = m.weights(&[k, n])?;
    let y = m.plain("MatMul", &[x, w])?;
    if m.random.bool() {
        return Some(y);
    }
    let by_column = m.weights(&[n])?;
    let op = if m.random.u8(..3) == 0 { "Add" } else { "Mul" };
    m.plain(op, &[by_column, y])
}

/// A matrix times itself across, scaled before or behind.
fn squared(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let rank = m.shape(x)?.len();
    if rank < 2 {
        return None;
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    let c = m.constant(Tensor::scalar(0.5f32));
    let mut t = m.node("Transpose", &[x], Attrs::default().with("perm", perm))?;
    if m.random.bool() {
        t = m.plain("Mul", &[t, c])?;
    }
    let mut y = m.plain("MatMul", &[x, t])?;
    if m.random.bool() {
        y = m.plain("Mul", &[y, c])?;
    }
    m.plain("Tanh", &[y])
}

/// Multiplied or moved twice by constants.
fn scaled(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let (a, b) = (m.constant(Tensor::scalar(0.5f32)), m.constant(Tensor::scalar(3f32)));
    let pair = if m.random.bool() { ["Mul", "Div"] } else { ["Add", "Sub"] };
    let y = m.plain(pair[0], &[x, a])?;
    m.plain(pair[1], &[y, b])
}

/// `x * sigmoid(x)`, or `gelu(x)` by erf, in steps.
fn gated(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    if m.random.bool() {
        let s = m.plain("Sigmoid", &[x])?;
        return m.plain("Mul", &[s, x]);
    }
    let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(Tensor::scalar::<f32>);
    let (root, one, half) = (m.constant(root), m.constant(one), m.constant(half));
    let y = m.plain("Div", &[x, root])?;
    let y = m.plain("Erf", &[y])?;
    let y = m.plain("Add", &[y, one])?;
    let y = m.plain("Mul", &[x, y])?;
    m.plain("Mul", &[y, half])
}

/// Rows of mean 0 and deviation 1, in steps, then scaled and moved.
fn standardized(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let n = m.shape(x)?.last()?.as_len()?;
    let (axes, small) = (m.ints(&[-1]), m.constant(Tensor::scalar(0.25f32)));
    let mut d = x;
    if m.random.bool() {
        let mean = m.plain("ReduceMean", &[x, axes])?;
        d = m.plain("Sub", &[x, mean])?;
    }
    let square = m.plain("Mul", &[d, d])?;
    let variance = m.plain("ReduceMean", &[square, axes])?;
    let variance = m.plain("Add", &[variance, small])?;
    let deviation = m.plain("Sqrt", &[variance])?;
    let y = m.plain("Div", &[d, deviation])?;
    let (scale, shift) = (m.weights(&[n])?, m.weights(&[n])?);
    let y = m.plain("Mul", &[y, scale])?;
    let y = m.plain("Add", &[y, shift])?;
    if m.random.bool() {
        return Some(y);
    }
    let sum = m.plain("Add", &[x, y])?;
    m.plain("RMSNormalization", &[sum, scale])
}

/// Rows of a matrix weighted by how they fit one another.
fn attended(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let shape = m.shape(x)?;
    if shape.len() != 4 || shape[1..].iter().any(|d| d.as_len().is_none_or(|n| n == 0)) {
        return None;
    }
    let x = if m.random.bool() { x } else { repeated(m, x, &shape)? };
    let (k, v) = if m.random.bool() { (x, x) } else { cached(m, x)? };
    let t = m.node("Transpose", &[k], Attrs::default().with("perm", vec![0i64, 1, 3, 2]))?;
    let mut scores = m.plain("MatMul", &[x, t])?;
    if m.random.bool() {
        let keys = m.shape(k)?[2].as_len()?;
        let mask = m.weights(&[1, keys])?;
        scores = m.plain("Add", &[scores, mask])?;
    }
    let p = m.plain("Softmax", &[scores])?;
    m.plain("MatMul", &[p, v])
}

/// Keys and values behind those of a past.
fn cached(m: &mut Maker, x: Value) -> Option<(Value, Value)> {
    let past = [m.plain("Tanh", &[x])?, m.plain("Softsign", &[x])?];
    let attrs = Attrs::default().with("axis", 2i64);
    let [k, v] = past.map(|past| m.node("Concat", &[past, x], attrs.clone()));
    Some((k?, v?))
}

/// Every head of `[B,K,T,D]` twice in a row.
fn repeated(m: &mut Maker, x: Value, shape: &[Dim]) -> Option<Value> {
    let [_, k, t, d] = shape else { return None };
    let to = [0, 2 * k.as_const()?, t.as_const()?, d.as_const()?];
    let (axis, twice, to) = (m.ints(&[2]), m.ints(&[1, 1, 2, 1, 1]), m.ints(&to));
    let x = m.plain("Unsqueeze", &[x, axis])?;
    let x = m.plain("Expand", &[x, twice])?;
    m.plain("Reshape", &[x, to])
}

/// A convolution of one or two spatial axes, perhaps normalized, perhaps with an activation.
fn convolved(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let shape = m.shape(x)?;
    let c = shape.get(1)?.as_len()?;
    if shape.len() < 3 || c == 0 {
        return None;
    }
    let out = m.random.usize(1..=4);
    let transposed = m.random.u8(..4) == 0;
    let mut w = if transposed { vec![c, out] } else { vec![out, c] };
    // A symbol may stand for 1.
    let room = shape[2..].iter().all(|d| d.as_len().is_some_and(|n| n >= 2));
    w.resize(shape.len(), if room { m.random.usize(1..=2) } else { 1 });
    let mut inputs = vec![x, m.weights(&w)?];
    if m.random.bool() {
        inputs.push(m.weights(&[out])?);
    }
    if m.random.bool() {
        let mut pads = vec![0; 2 * shape.len()];
        pads[2] = 1;
        let pads = m.ints(&pads);
        inputs[0] = m.plain("Pad", &[x, pads])?;
    }
    let mut y = m.plain(if transposed { "ConvTranspose" } else { "Conv" }, &inputs)?;
    if m.random.u8(..3) == 0 {
        let other = m.plain("Tanh", &[y])?;
        let again = m.plain(if transposed { "ConvTranspose" } else { "Conv" }, &inputs[..2])?;
        y = m.plain("Add", &[other, again])?;
    }
    if m.random.bool() {
        y = normalized(m, y, out)?;
    } else if m.random.bool() {
        let mut per_channel = vec![1; shape.len() - 1];
        per_channel[0] = out;
        let c = m.weights(&per_channel)?;
        let op = if m.random.bool() { "Mul" } else { "Sub" };
        y = m.plain(op, &[y, c])?;
    }
    match m.random.u8(..4) {
        0 => m.plain("Relu", &[y]),
        3 => {
            let y = m.plain("Relu", &[y])?;
            let (low, high) = (m.constant(Tensor::scalar(-1f32)), m.constant(Tensor::scalar(6f32)));
            m.plain("Clip", &[y, low, high])
        }
        1 => m.plain("HardSigmoid", &[y]),
        _ => Some(y),
    }
}

fn normalized(m: &mut Maker, x: Value, channels: usize) -> Option<Value> {
    let (scale, shift, mean) =
        (m.weights(&[channels])?, m.weights(&[channels])?, m.weights(&[channels])?);
    let var = (0..channels).map(|_| m.random.f32() + 0.5).collect();
    let var = m.constant(Tensor::vector::<f32>(var));
    m.plain("BatchNormalization", &[x, scale, shift, mean, var])
}

fn reduced(m: &mut Maker) -> Option<Value> {
    const OPS: &[&str] = &["ReduceMean", "ReduceMax", "ReduceSum"];
    let x = m.pick();
    let axes = m.ints(&[-1]);
    let op = OPS[m.random.usize(..OPS.len())];
    let y = m.plain(op, &[x, axes])?;
    m.plain("Tanh", &[y])
}

/// A chain on constants, added to a value.
fn folded(m: &mut Maker) -> Option<Value> {
    let x = m.pick();
    let c = m.weights(&[1])?;
    let c = m.plain("Exp", &[c])?;
    m.plain("Add", &[x, c])
}

#[cfg(test)]
mod tests {
    use kiln_ir::{Context, eval, verify};

    use super::*;
    use crate::values::inputs;

    #[test]
    fn graphs_are_valid_run_and_repeat() {
        let mut nodes = 0;
        for seed in 0..200 {
            let g = graph(seed, 12);
            verify::verify(&g).expect("valid");
            nodes += g.len();
            let made = inputs(&g, 2, seed).expect("made");
            eval::run(&g, &Context::default(), made).unwrap_or_else(|e| panic!("{seed}: {e}"));
        }
        assert!(nodes > 200 * 12, "the steps hardly ever fit: {nodes} nodes");
    }
}
