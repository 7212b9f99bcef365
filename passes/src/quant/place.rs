//! Writes quantization into a graph, as pairs of QuantizeLinear and DequantizeLinear.
//!
//! ```text
//! y = Conv(x, w, b)  =>  p = DequantizeLinear(QuantizeLinear(x, s, z), s, z)
//!                        v = DequantizeLinear(W, t)         W: i8, t per output channel
//!                        c = DequantizeLinear(B, s * t)     B: i32
//!                        u = Conv(p, v, c)
//!                        y = DequantizeLinear(QuantizeLinear(u, r, o), r, o)
//! ```
//!
//! Layers are convolutions and products with constant weights. Their operands are quantized, and
//! so are the results of convolutions, behind a Relu or Clip that alone reads them: from there
//! on, what moves elements keeps the scale, and sums, joins and means of such values are
//! quantized, too. Results of products stay as they are: normalizations and curves read them.
//! Activations are u8 with a zero point, so that 0 is itself; weights are i8 without one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::concat::Concat;
use kiln_ir::ops::global_pool::GlobalPool;
use kiln_ir::ops::layout::Layout;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::ops::pool::PoolKind;
use kiln_ir::ops::quantize::{DequantizeLinear, QuantizeLinear};
use kiln_ir::ops::reduce::ReduceKind;
use kiln_ir::ops::select::Select;
use kiln_ir::ops::unary::Unary;
use kiln_ir::{Error, Graph, NodeId, Op, Result, Value};
use kiln_tensor::{DType, Tensor};

/// Layers of fewer weights stay as they are.
const LEAST_WEIGHTS: usize = 64;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least number that is told apart.
    pub low: f32,
    /// The greatest.
    pub high: f32,
}

impl Range {
    /// The scale and the zero point of u8 for this range and 0; ends that are no finite numbers
    /// count as 0.
    pub fn grid(self) -> (f32, u8) {
        let end = |x: f32| if x.is_finite() { f64::from(x) } else { 0.0 };
        let (low, high) = (end(self.low).min(0.0), end(self.high).max(0.0));
        let scale = ((high - low) / 255.0).max(f64::from(f32::MIN_POSITIVE)) as f32;
        if low == high {
            return (1.0, 0);
        }
        (scale, (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8)
    }
}

/// What of a graph is quantized.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    /// The axis of the output channels in the weights, by layer.
    layers: BTreeMap<NodeId, usize>,
    left: Vec<(NodeId, &'static str)>,
    /// Values that are quantized for all that read them, and the value whose range they have.
    everywhere: BTreeMap<Value, Value>,
    /// Values that are quantized for the layers that read them.
    operands: BTreeSet<Value>,
}

impl Sites {
    /// Finds the layers that `admits` lets through, and the values around them.
    ///
    /// An error is a bug: the graph has a cycle.
    pub fn find(g: &Graph, admits: &dyn Fn(NodeId) -> bool) -> Result<Self> {
        let mut sites = Self::default();
        for id in g.order()? {
            match layer(g, id) {
                Ok(None) => sites.spread(g, id),
                Ok(Some(_)) if !admits(id) => sites.left.push((id, "it is excluded")),
                Ok(Some(axis)) => sites.quantize(g, id, axis),
                Err(why) => sites.left.push((id, why)),
            }
        }
        Ok(sites)
    }

    /// The layers, by id.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = NodeId> + '_ {
        self.layers.keys().copied()
    }

    /// Convolutions and products that stay as they are, and why.
    pub fn left(&self) -> &[(NodeId, &'static str)] {
        &self.left
    }

    /// The values whose ranges may be needed, with fewer layers, too.
    pub fn values(&self) -> BTreeSet<Value> {
        self.everywhere.keys().chain(&self.operands).copied().collect()
    }

    fn quantize(&mut self, g: &Graph, id: NodeId, axis: usize) {
        self.layers.insert(id, axis);
        self.operands.extend(g.input_of(id, 0));
        if matches!(g.op(id), Op::Conv(_)) {
            self.own(tail(g, id.first()));
        }
    }

    fn own(&mut self, v: Value) {
        self.everywhere.insert(v, v);
    }

    /// Quantizes what an operator makes of quantized values.
    fn spread(&mut self, g: &Graph, id: NodeId) {
        let inputs: Vec<_> = g.inputs_of(id).into_iter().flatten().collect();
        let Some(&root) = inputs.first().and_then(|v| self.everywhere.get(v)) else { return };
        let Some(role) = role(g.op(id)) else { return };
        let y = match role {
            Role::Moves => id.first(),
            Role::Means | Role::Joins => tail(g, id.first()),
        };
        let missing = || inputs.iter().any(|v| !self.everywhere.contains_key(v));
        match role {
            // Outputs of the graph are worth their precision.
            _ if g.is_output(y) => {}
            Role::Moves => drop(self.everywhere.insert(y, root)),
            Role::Joins if missing() => {}
            Role::Means | Role::Joins => self.own(y),
        }
    }
}

/// What an operator does to the elements of quantized values.
enum Role {
    /// Moves or picks them.
    Moves,
    /// Takes means of them.
    Means,
    /// Adds several values, or puts them side by side.
    Joins,
}

fn role(op: &Op) -> Option<Role> {
    use Layout as L;
    match op {
        Op::Layout(
            L::Identity
            | L::Reshape { .. }
            | L::Flatten { .. }
            | L::Squeeze
            | L::Unsqueeze
            | L::Transpose { .. },
        )
        | Op::Slice(_)
        | Op::GlobalPool(GlobalPool::Max) => Some(Role::Moves),
        Op::Pool(p) => match p.kind {
            PoolKind::Max { .. } => Some(Role::Moves),
            PoolKind::Average { .. } => Some(Role::Means),
            PoolKind::Lp { .. } => None,
        },
        Op::GlobalPool(GlobalPool::Average) => Some(Role::Means),
        Op::Reduce(r) if r.kind == ReduceKind::Mean => Some(Role::Means),
        Op::Binary(Binary::Add) | Op::Concat(Concat::Join { .. }) => Some(Role::Joins),
        _ => None,
    }
}

/// The axis of the output channels in the weights of a layer; `None` for other operators, and
/// why where it must stay as it is.
fn layer(g: &Graph, id: NodeId) -> std::result::Result<Option<usize>, &'static str> {
    let axis = match g.op(id) {
        Op::Conv(c) if !c.is_fused() => 0,
        Op::Gemm(m) if m.alpha == 1.0 && m.beta == 1.0 && !m.trans_a => usize::from(!m.trans_b),
        Op::MatMul(m) if *m == MatMul::PLAIN => 1,
        Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_) => return Err("it is no plain layer"),
        _ => return Ok(None),
    };
    let weights = g.input_of(id, 1).and_then(|w| g.constant_of(w));
    let w = weights.ok_or("its weights are not constant")?;
    let constant = g.input_of(id, 0).is_none_or(|x| g.constant_of(x).is_some());
    let Ok(numbers) = w.as_slice::<f32>() else { return Err("it is not in single precision") };
    match () {
        () if constant => Err("its input is constant"),
        () if w.rank() < 2 || (w.rank() > 2 && axis == 1) => Err("its weights are no matrix"),
        () if w.len() < LEAST_WEIGHTS => Err("it has few weights"),
        () if numbers.iter().any(|x| !x.is_finite()) => Err("a weight is not finite"),
        () => Ok(Some(axis)),
    }
}

/// What is left of a value behind the Relu or Clip that alone reads it.
fn tail(g: &Graph, mut v: Value) -> Value {
    loop {
        let mut readers = g.readers(v);
        let (Some((next, 0)), None) = (readers.next(), readers.next()) else { return v };
        let bounds = matches!(g.op(next), Op::Unary(Unary::Relu) | Op::Select(Select::Clip));
        if !bounds || g.is_output(v) {
            return v;
        }
        v = next.first();
    }
}

impl Sites {
    /// The graph with quantization written into it. `ranges` has all [`Sites::values`];
    /// `per_channel` gives each output channel of the weights a scale of its own.
    ///
    /// An error is *invalid*: a range is missing.
    pub fn place(
        &self,
        g: &Graph,
        ranges: &HashMap<Value, Range>,
        per_channel: bool,
    ) -> Result<Graph> {
        self.write(g, Some(ranges), per_channel)
    }

    /// The graph with the weights of all layers as integers, and nothing else.
    ///
    /// An error is a bug: the graph has a cycle.
    pub fn place_weights(&self, g: &Graph, per_channel: bool) -> Result<Graph> {
        self.write(g, None, per_channel)
    }

    fn write(
        &self,
        g: &Graph,
        ranges: Option<&HashMap<Value, Range>>,
        per_channel: bool,
    ) -> Result<Graph> {
        let mut placer = Placer {
            g,
            sites: self,
            ranges,
            per_channel,
            weights: HashMap::new(),
            to: Graph::new(),
            values: HashMap::new(),
            operands: HashMap::new(),
        };
        for v in g.inputs() {
            let made = placer.to.input(&g.node(v.node).name, g.ty(v).clone());
            placer.values.insert(v, made);
        }
        for id in g.order()? {
            placer.node(id)?;
        }
        let values = placer.values;
        let outputs = g.outputs().iter().map(|(name, v)| (name.clone(), values[v])).collect();
        placer.to.set_outputs(outputs);
        // The weights are there as integers now.
        let constants: Vec<_> =
            placer.to.nodes().filter(|&n| matches!(placer.to.op(n), Op::Const(_))).collect();
        for id in constants {
            if !placer.to.is_read(id.first()) {
                placer.to.remove(id)?;
            }
        }
        Ok(placer.to)
    }
}

struct Placer<'a> {
    g: &'a Graph,
    sites: &'a Sites,
    /// Without them, weights alone are quantized.
    ranges: Option<&'a HashMap<Value, Range>>,
    per_channel: bool,
    to: Graph,
    /// Weights that were quantized alone, with the axis of their channels.
    weights: HashMap<(Value, usize), Value>,
    /// What stands for a value of the old graph.
    values: HashMap<Value, Value>,
    /// What stands for it where layers read it.
    operands: HashMap<Value, Value>,
}

impl Placer<'_> {
    fn node(&mut self, id: NodeId) -> Result<()> {
        let node = self.g.node(id);
        self.to.set_origin(node.origin.clone());
        let made = match &node.op {
            Op::Input(_) => return Ok(()),
            Op::Const(c) => self.to.constant(&node.name, (*c.0).clone()).node,
            op => {
                let inputs = match self.sites.layers.get(&id) {
                    Some(&axis) if self.ranges.is_none() => self.light_layer(id, axis)?,
                    Some(&axis) => self.layer(id, axis)?,
                    None => {
                        let same = |v: Option<Value>| v.map(|v| self.values[&v]);
                        self.g.inputs_of(id).into_iter().map(same).collect()
                    }
                };
                self.to.add(&node.name, op.clone(), &inputs)?
            }
        };
        for old in self.g.outputs_of(id) {
            let new = made.out(old.slot());
            let quantized = self.ranges.is_some() && self.sites.everywhere.contains_key(&old);
            let new = match quantized {
                true => self.pair(old, new)?,
                false => new,
            };
            self.values.insert(old, new);
        }
        Ok(())
    }

    /// The operands of a layer.
    fn layer(&mut self, id: NodeId, axis: usize) -> Result<Vec<Option<Value>>> {
        let old = self.g.inputs_of(id);
        let (Some(x), Some(w)) = (old[0], old[1]) else {
            return Err(Error::bug("a layer lacks an operand"));
        };
        let (scale, _) = self.grid(x)?;
        let (Some(weights), bias) = (self.g.constant_of(w), old.get(2).copied().flatten()) else {
            return Err(Error::bug("a layer lacks its weights"));
        };
        let constant = bias.and_then(|b| self.g.constant_of(b));
        let channels = weights.shape()[axis];
        let fits = |b: &&Tensor| b.shape() == [channels] && b.dtype() == DType::F32;
        let constant = constant.filter(fits).map(|b| b.to_vec::<f32>()).transpose()?;
        let made = Weights::new(weights, axis, self.per_channel, (scale, constant.as_deref()))?;
        let x = match self.sites.everywhere.contains_key(&x) {
            true => self.values[&x],
            false => self.operand(x)?,
        };
        let name = self.g.node(id).name.clone();
        let w = self.constant(&format!("{name}/weight"), made.weights, &made.scales, axis)?;
        let b = match (made.bias, bias) {
            (Some(b), _) => Some(self.constant(&format!("{name}/bias"), b, &made.products, 0)?),
            (None, b) => b.map(|b| self.values[&b]),
        };
        Ok(vec![Some(x), Some(w), b])
    }

    /// The operands of a layer of which only the weights become integers.
    fn light_layer(&mut self, id: NodeId, axis: usize) -> Result<Vec<Option<Value>>> {
        let old = self.g.inputs_of(id);
        let missing = || Error::bug("a layer lacks its weights");
        let w = old.get(1).copied().flatten().ok_or_else(missing)?;
        let mut inputs: Vec<_> = old.iter().map(|v| v.map(|v| self.values[&v])).collect();
        inputs[1] = Some(match self.weights.get(&(w, axis)) {
            Some(made) => *made,
            None => {
                let weights = self.g.constant_of(w).ok_or_else(missing)?;
                let made = Weights::new(weights, axis, self.per_channel, (1.0, None))?;
                let name = format!("{}/weight", self.g.node(id).name);
                let made = self.constant(&name, made.weights, &made.scales, axis)?;
                self.weights.insert((w, axis), made);
                made
            }
        });
        Ok(inputs)
    }

    /// A constant of integers, in real numbers.
    fn constant(&mut self, name: &str, q: Tensor, scales: &[f32], axis: usize) -> Result<Value> {
        let (shape, axis) = match self.per_channel {
            true => (vec![scales.len()], axis as i64),
            false => (vec![], 1),
        };
        let scales = scales.iter().take(shape.first().copied().unwrap_or(1)).copied().collect();
        let zero = Tensor::zeros(q.dtype(), &shape)?;
        let q = self.to.constant(&format!("{name}_int"), q);
        let s = self.to.constant(&format!("{name}_scale"), Tensor::from_vec(&shape, scales)?);
        let z = self.to.constant(&format!("{name}_zero"), zero);
        self.dequantize(name, [q, s, z], axis)
    }

    fn dequantize(&mut self, name: &str, [q, s, z]: [Value; 3], axis: i64) -> Result<Value> {
        let op = DequantizeLinear { axis, block_size: 0, output_dtype: None };
        Ok(self.to.add(name, op, &[Some(q), Some(s), Some(z)])?.first())
    }

    /// A value quantized for the layers that read it.
    fn operand(&mut self, x: Value) -> Result<Value> {
        if let Some(made) = self.operands.get(&x) {
            return Ok(*made);
        }
        let made = self.pair(x, self.values[&x])?;
        self.operands.insert(x, made);
        Ok(made)
    }

    /// `new`, which stands for `old`, quantized and in real numbers again.
    fn pair(&mut self, old: Value, new: Value) -> Result<Value> {
        let (scale, zero) = self.grid(old)?;
        let name = match old.slot() {
            0 => self.g.node(old.node).name.to_string(),
            slot => format!("{}_{slot}", self.g.node(old.node).name),
        };
        let s = self.to.constant(&format!("{name}/scale"), Tensor::scalar(scale));
        let z = self.to.constant(&format!("{name}/zero_point"), Tensor::scalar(zero));
        let op = QuantizeLinear {
            axis: 1,
            block_size: 0,
            output_dtype: None,
            precision: None,
            saturate: true,
        };
        let quantized = format!("{name}/quantized");
        let q = self.to.add(&quantized, op, &[Some(new), Some(s), Some(z)])?.first();
        self.dequantize(&format!("{name}/dequantized"), [q, s, z], 1)
    }

    fn grid(&self, v: Value) -> Result<(f32, u8)> {
        let root = self.sites.everywhere.get(&v).copied().unwrap_or(v);
        let range = self.ranges.and_then(|r| r.get(&root)).ok_or_else(|| {
            Error::invalid(format!("`{}` has no range", self.g.node(root.node).name))
        })?;
        Ok(range.grid())
    }
}

/// The integers of a layer.
struct Weights {
    weights: Tensor,
    /// One per output channel; all the same where channels share one.
    scales: Vec<f32>,
    bias: Option<Tensor>,
    /// The scales of the bias.
    products: Vec<f32>,
}

impl Weights {
    /// Quantizes weights whose output channels lie along `axis`, for an input of scale `x`, and
    /// the bias.
    fn new(
        w: &Tensor,
        axis: usize,
        per_channel: bool,
        (x, bias): (f32, Option<&[f32]>),
    ) -> Result<Self> {
        let numbers = w.as_slice::<f32>()?;
        let channels = w.shape()[axis];
        let inner: usize = w.shape()[axis + 1..].iter().product();
        let channel = |i: usize| i / inner.max(1) % channels.max(1);
        let mut scales = vec![0f32; channels];
        for (i, w) in numbers.iter().enumerate() {
            scales[channel(i)] = scales[channel(i)].max(w.abs() / 127.0);
        }
        for (c, scale) in scales.iter_mut().enumerate() {
            // The bias must fit into 32 bits, with room for the sums.
            let bias = bias.map_or(0.0, |b| b[c].abs());
            *scale = scale.max(bias / (x * (1 << 30) as f32));
            if *scale < f32::MIN_POSITIVE {
                *scale = 1.0;
            }
        }
        if !per_channel {
            let most = scales.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            scales.fill(most);
        }
        let quantize = |(i, w): (usize, &f32)| {
            (w / scales[channel(i)]).round_ties_even().clamp(-127.0, 127.0) as i8
        };
        let data = numbers.iter().enumerate().map(quantize).collect();
        let products: Vec<f32> = scales.iter().map(|s| (x * s).max(f32::MIN_POSITIVE)).collect();
        let whole = |(b, s): (&f32, &f32)| (f64::from(*b) / f64::from(*s)).round_ties_even() as i32;
        let bias = bias.map(|b| Tensor::vector(b.iter().zip(&products).map(whole).collect()));
        Ok(Self { weights: Tensor::from_vec(w.shape(), data)?, scales, bias, products })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use kiln_ir::{text, verify};

    use super::*;

    /// Every value lies between -1 and 1.5499999 unless its name is listed.
    fn check(before: &str, ranges: &[(&str, f32, f32)], per_channel: bool, after: Expect) {
        let g = text::parse(before).expect("the test's graph parses");
        let sites = Sites::find(&g, &|id| &*g.node(id).name != "excluded").expect("no cycle");
        let range = |v: Value| {
            let name = &*g.node(v.node).name;
            let given = ranges.iter().find(|(n, ..)| *n == name);
            let &(_, low, high) = given.unwrap_or(&("", -1.0, 1.55));
            (v, Range { low, high })
        };
        let ranges = sites.values().into_iter().map(range).collect();
        let placed = sites.place(&g, &ranges, per_channel).expect("all ranges are there");
        verify::verify(&placed).expect("the result is well formed");
        let mut got = text::print(&placed);
        for (id, why) in sites.left() {
            got += &format!("# {}: {why}\n", g.node(*id).name);
        }
        after.assert_eq(&got);
    }

    #[test]
    fn grids_hold_zero() {
        let grid = |low, high| Range { low, high }.grid();
        assert_eq!(grid(-1.0, 1.55), (0.01, 100));
        assert_eq!(grid(2.0, 5.1), (0.02, 0));
        assert_eq!(grid(-5.1, -2.0), (0.02, 255));
        assert_eq!(grid(0.0, 0.0), (1.0, 0));
        assert_eq!(grid(f32::NAN, f32::INFINITY), (1.0, 0));
    }

    #[test]
    fn weights_by_hand() {
        // Output channels lie along the columns; the scale of the second is 2 / 127.
        let w = Tensor::from_vec(&[2, 2], vec![127f32, -1.0, -63.5, 2.0]).expect("2x2");
        let made = Weights::new(&w, 1, true, (0.5, Some(&[3.0, 1.0]))).expect("f32");
        assert_eq!(made.weights.to_vec::<i8>().expect("i8"), [127, -64, -64, 127]);
        assert_eq!(made.scales, [1.0, 2.0 / 127.0]);
        assert_eq!(made.bias.expect("given").to_vec::<i32>().expect("i32"), [6, 127]);
        let made = Weights::new(&w, 1, false, (0.5, None)).expect("f32");
        assert_eq!(made.weights.to_vec::<i8>().expect("i8"), [127, -1, -64, 2]);
        assert_eq!(made.scales, [1.0, 1.0]);
    }

    #[test]
    fn a_large_bias_widens_the_scale() {
        let w = Tensor::from_vec(&[2, 1], vec![0f32, 1e-9]).expect("2x1");
        let made = Weights::new(&w, 0, true, (1.0, Some(&[0.0, 4.0]))).expect("f32");
        assert_eq!(made.scales, [1.0, 4.0 / (1 << 30) as f32]);
        assert_eq!(made.bias.expect("given").to_vec::<i32>().expect("i32"), [0, 1 << 30]);
    }

    /// A constant of equal elements.
    fn constant(name: &str, ty: &str, n: usize, x: &str) -> String {
        format!("{name} = {ty}{{{}}}\n", vec![x; n].join(", "))
    }

    #[test]
    fn convolutions_are_quantized_on_both_sides() {
        let w = constant("w", "f32[64,1,1,1]", 64, "127.0");
        let b = constant("b", "f32[64]", 64, "0.25");
        check(
            &format!(
                "{w}{b}c = Conv(x: f32[1,1,4,4], w, b)\nr = Relu(c)\n\
                 p = MaxPool(r) {{kernel_shape=[2,2]}}\ny = Neg(p)\nreturn y"
            ),
            &[("r", 0.0, 2.55)],
            false,
            expect![[r#"
                x: f32[1,1,4,4]
                x/scale = f32[]{0.01}
                x/zero_point = u8[]{100}
                x/quantized = QuantizeLinear(x, x/scale, x/zero_point)
                x/dequantized = DequantizeLinear(x/quantized, x/scale, x/zero_point)
                c/weight_int = i8[64,1,1,1]{…}
                c/weight_scale = f32[]{1.0}
                c/weight_zero = i8[]{0}
                c/weight = DequantizeLinear(c/weight_int, c/weight_scale, c/weight_zero)
                c/bias_int = i32[64]{…}
                c/bias_scale = f32[]{0.01}
                c/bias_zero = i32[]{0}
                c/bias = DequantizeLinear(c/bias_int, c/bias_scale, c/bias_zero)
                c = Conv(x/dequantized, c/weight, c/bias)
                r = Relu(c)
                r/scale = f32[]{0.01}
                r/zero_point = u8[]{0}
                r/quantized = QuantizeLinear(r, r/scale, r/zero_point)
                r/dequantized = DequantizeLinear(r/quantized, r/scale, r/zero_point)
                p, p#1 = MaxPool(r/dequantized) {kernel_shape=[2,2]}
                p/scale = f32[]{0.01}
                p/zero_point = u8[]{0}
                p/quantized = QuantizeLinear(p, p/scale, p/zero_point)
                p/dequantized = DequantizeLinear(p/quantized, p/scale, p/zero_point)
                y = Neg(p/dequantized)
                return y
            "#]],
        );
    }

    #[test]
    fn sums_of_quantized_values_are_quantized() {
        let w = constant("w", "f32[8,8,1]", 64, "127.0");
        check(
            &format!(
                "{w}a = Conv(x: f32[1,8,4], w)\nb = Conv(x, w)\nc = Add(a, b)\nd = Relu(c)\n\
                 e = Add(d, x)\nm = GlobalAveragePool(d)\nreturn e, m"
            ),
            &[],
            true,
            expect![[r#"
                x: f32[1,8,4]
                x/scale = f32[]{0.01}
                x/zero_point = u8[]{100}
                x/quantized = QuantizeLinear(x, x/scale, x/zero_point)
                x/dequantized = DequantizeLinear(x/quantized, x/scale, x/zero_point)
                a/weight_int = i8[8,8,1]{…}
                a/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                a/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
                a/weight = DequantizeLinear(a/weight_int, a/weight_scale, a/weight_zero) {axis=0}
                a = Conv(x/dequantized, a/weight)
                a/scale = f32[]{0.01}
                a/zero_point = u8[]{100}
                a/quantized = QuantizeLinear(a, a/scale, a/zero_point)
                a/dequantized = DequantizeLinear(a/quantized, a/scale, a/zero_point)
                b/weight_int = i8[8,8,1]{…}
                b/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                b/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
                b/weight = DequantizeLinear(b/weight_int, b/weight_scale, b/weight_zero) {axis=0}
                b = Conv(x/dequantized, b/weight)
                b/scale = f32[]{0.01}
                b/zero_point = u8[]{100}
                b/quantized = QuantizeLinear(b, b/scale, b/zero_point)
                b/dequantized = DequantizeLinear(b/quantized, b/scale, b/zero_point)
                c = Add(a/dequantized, b/dequantized)
                d = Relu(c)
                d/scale = f32[]{0.01}
                d/zero_point = u8[]{100}
                d/quantized = QuantizeLinear(d, d/scale, d/zero_point)
                d/dequantized = DequantizeLinear(d/quantized, d/scale, d/zero_point)
                e = Add(d/dequantized, x)
                m = GlobalAveragePool(d/dequantized)
                return e, m
            "#]],
        );
    }

    #[test]
    fn products_keep_their_results() {
        let w = constant("w", "f32[8,8]", 64, "127.0");
        let k = constant("k", "f32[8]", 8, "1.0");
        check(
            &format!(
                "{w}{k}a = MatMul(x: f32[N,8], w)\nb = Add(a, k)\nc = Gemm(b, w, k)\n\
                 excluded = Gemm(c, w, k)\nreturn excluded"
            ),
            &[],
            true,
            expect![[r#"
                x: f32[N,8]
                w = f32[8,8]{…}
                k = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                x/scale = f32[]{0.01}
                x/zero_point = u8[]{100}
                x/quantized = QuantizeLinear(x, x/scale, x/zero_point)
                x/dequantized = DequantizeLinear(x/quantized, x/scale, x/zero_point)
                a/weight_int = i8[8,8]{…}
                a/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                a/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
                a/weight = DequantizeLinear(a/weight_int, a/weight_scale, a/weight_zero)
                a = MatMul(x/dequantized, a/weight)
                b = Add(a, k)
                b/scale = f32[]{0.01}
                b/zero_point = u8[]{100}
                b/quantized = QuantizeLinear(b, b/scale, b/zero_point)
                b/dequantized = DequantizeLinear(b/quantized, b/scale, b/zero_point)
                c/weight_int = i8[8,8]{…}
                c/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                c/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
                c/weight = DequantizeLinear(c/weight_int, c/weight_scale, c/weight_zero)
                c/bias_int = i32[8]{100, 100, 100, 100, 100, 100, 100, 100}
                c/bias_scale = f32[8]{0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01}
                c/bias_zero = i32[8]{0, 0, 0, 0, 0, 0, 0, 0}
                c/bias = DequantizeLinear(c/bias_int, c/bias_scale, c/bias_zero) {axis=0}
                c = Gemm(b/dequantized, c/weight, c/bias)
                excluded = Gemm(c, w, k)
                return excluded
                # excluded: it is excluded
            "#]],
        );
    }

    #[test]
    fn weights_alone_are_shared_and_leave_the_rest() {
        let w = constant("w", "f32[8,8]", 64, "127.0");
        let k = constant("k", "f32[8]", 8, "1.0");
        let text = format!(
            "{w}{k}a = MatMul(x: f32[N,8], w)\nb = MatMul(a, w)\n\
             c = Gemm(b, w, k) {{transB=1}}\nreturn c"
        );
        let g = text::parse(&text).expect("parses");
        let sites = Sites::find(&g, &|_| true).expect("no cycle");
        let made = sites.place_weights(&g, true).expect("places");
        expect![[r#"
            x: f32[N,8]
            k = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
            a/weight_int = i8[8,8]{…}
            a/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
            a/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
            a/weight = DequantizeLinear(a/weight_int, a/weight_scale, a/weight_zero)
            a = MatMul(x, a/weight)
            b = MatMul(a, a/weight)
            c/weight_int = i8[8,8]{…}
            c/weight_scale = f32[8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
            c/weight_zero = i8[8]{0, 0, 0, 0, 0, 0, 0, 0}
            c/weight = DequantizeLinear(c/weight_int, c/weight_scale, c/weight_zero) {axis=0}
            c = Gemm(b, c/weight, k) {transB=1}
            return c
        "#]]
        .assert_eq(&text::print(&made));
    }

    #[test]
    fn what_cannot_be_quantized_stays() {
        let few = constant("w", "f32[1,8]", 8, "1.0");
        let half = constant("h", "f16[8,8]", 64, "1.0");
        let stack = constant("s", "f32[2,8,8]", 128, "1.0");
        let infinite = constant("i", "f32[8,8]", 64, "inf");
        check(
            &format!(
                "{few}{half}{stack}{infinite}a = Gemm(x: f32[N,8], w) {{transB=1}}\n\
                 b = MatMul(x, z: f32[8,N])\nd = MatMul(u: f16[N,8], h)\ne = MatMul(x, i)\n\
                 t = MatMul(x, s)\nreturn a, b, d, e, t"
            ),
            &[],
            true,
            expect![[r#"
                x: f32[N,8]
                z: f32[8,N]
                u: f16[N,8]
                w = f32[1,8]{1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}
                h = f16[8,8]{…}
                s = f32[2,8,8]{…}
                i = f32[8,8]{…}
                a = Gemm(x, w) {transB=1}
                b = MatMul(x, z)
                d = MatMul(u, h)
                e = MatMul(x, i)
                t = MatMul(x, s)
                return a, b, d, e, t
                # a: it has few weights
                # b: its weights are not constant
                # d: it is not in single precision
                # e: a weight is not finite
                # t: its weights are no matrix
            "#]],
        );
    }
}
