//! Operators between quantized tensors, calculated in integers.
//!
//! ```text
//! DequantizeLinear ─▶ operator ─▶ QuantizeLinear      the form that tools write: float between
//! ```

mod place;
pub mod qdq_act;
pub mod qdq_conv;
pub mod qdq_gemm;
pub mod qdq_matmul;
pub mod qdq_matmul_float;
pub mod qdq_move;
pub mod qdq_noop;
pub mod qdq_pool;
mod rank_forest;

use kiln_ir::{Decline, Edit, Graph, NodeId, Op, Rewrite, Source, Type, Value};
use kiln_tensor::{DType, Tensor};

pub use place::{Range, Sites};
pub use rank_forest::rank_forests;

/// The rules of the phase.
pub(crate) fn rules() -> Vec<Box<dyn Rewrite>> {
    vec![
        Box::new(qdq_noop::QdqNoop),
        Box::new(qdq_move::QdqMove),
        Box::new(qdq_act::QdqAct),
        Box::new(qdq_conv::QdqConv),
        Box::new(qdq_matmul::QdqMatMul),
        Box::new(qdq_gemm::QdqGemm),
        Box::new(qdq_matmul_float::QdqMatMulFloat),
        Box::new(qdq_pool::QdqPool),
    ]
}

/// Where a scale is so small or large that a quotient by it says little.
const UNUSABLE: Decline = Decline::new("a scale is not constant, or no ordinary positive number");

/// What `QuantizeLinear` and `DequantizeLinear` share: `real = (q - zero) * scale`, all constant.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// The integers.
    pub q: Value,
    /// Their type.
    pub dtype: DType,
    /// The scales: one, or one for each place along `axis`.
    pub scale: Vec<f32>,
    /// The zero points, as many.
    pub zero: Vec<i64>,
    /// Along which axis the scales change, as it is written.
    pub axis: i64,
    /// The scales and the zero points as operands.
    operands: (Value, Option<Value>),
}

impl Linear {
    /// The operands of a quantizer: its integers are `q`.
    fn of(g: &Graph, node: NodeId, q: Value, axis: i64) -> Result<Self, Decline> {
        let Type::Tensor(ty) = g.ty(q) else { return Err(UNUSABLE) };
        let operands = (g.input_of(node, 1).ok_or(UNUSABLE)?, g.input_of(node, 2));
        let constant = |v| g.constant_of(v).ok_or(UNUSABLE);
        let scale = constant(operands.0)?;
        if scale.dtype() != DType::F32 {
            return Err(Decline::new("a scale is no f32"));
        }
        let scale = scale.to_vec::<f32>().map_err(|_| UNUSABLE)?;
        if scale.is_empty() || !scale.iter().all(|s| (1e-30..1e30).contains(s)) {
            return Err(UNUSABLE);
        }
        let zero = match operands.1.map(constant).transpose()? {
            Some(t) => t.to_vec::<i64>().map_err(|_| UNUSABLE)?,
            None => vec![0; scale.len()],
        };
        match zero.len() == scale.len() {
            true => Ok(Self { q, dtype: ty.dtype, scale, zero, axis, operands }),
            false => Err(UNUSABLE),
        }
    }

    /// One scale and one zero point, where there is but one.
    pub fn single(&self) -> Option<(f32, i64)> {
        match (&self.scale[..], &self.zero[..]) {
            (&[s], &[z]) => Some((s, z)),
            _ => None,
        }
    }

    /// Whether the integers are of 8 bits.
    pub fn is_byte(&self) -> bool {
        matches!(self.dtype, DType::U8 | DType::I8)
    }

    /// Whether both read the same integers as the same numbers.
    pub fn same(&self, other: &Self) -> bool {
        let single = self.scale.len() == 1 || self.axis == other.axis;
        single && (self.dtype, &self.scale, &self.zero) == (other.dtype, &other.scale, &other.zero)
    }

    /// The scales as an operand.
    pub fn scale(&self) -> Source {
        self.operands.0.into()
    }

    /// The zero points as an operand, which is made where there is none.
    pub fn zero(&self, e: &mut Edit) -> Source {
        let shape: &[usize] = if self.zero.len() == 1 { &[] } else { &[self.zero.len()] };
        match self.operands.1 {
            Some(zero) => zero.into(),
            None => e.constant(integers(self.dtype, shape, &self.zero)),
        }
    }
}

/// Integers of 8 or 32 bits as a tensor.
pub(crate) fn integers(dtype: DType, shape: &[usize], data: &[i64]) -> Tensor {
    let made = match dtype {
        DType::U8 => Tensor::from_vec(shape, data.iter().map(|&x| x as u8).collect()),
        DType::I8 => Tensor::from_vec(shape, data.iter().map(|&x| x as i8).collect()),
        _ => Tensor::from_vec(shape, data.iter().map(|&x| x as i32).collect()),
    };
    made.expect("invariant: one integer for each place")
}

/// How the result of a `QuantizeLinear` is quantized; `None` for another node.
pub(crate) fn quantizes(g: &Graph, node: NodeId) -> Option<Result<Linear, Decline>> {
    match g.op(node) {
        Op::QuantizeLinear(op) if op.block_size == 0 && op.saturate && op.precision.is_none() => {
            Some(Linear::of(g, node, node.first(), op.axis))
        }
        _ => None,
    }
}

/// How a value is dequantized; `None` where no `DequantizeLinear` to `f32` makes it.
pub(crate) fn dequantized(g: &Graph, v: Value) -> Option<Result<Linear, Decline>> {
    let is_f32 = matches!(g.ty(v), Type::Tensor(t) if t.dtype == DType::F32);
    match g.op(v.node) {
        Op::DequantizeLinear(op) if op.block_size == 0 && is_f32 => {
            let q = g.input_of(v.node, 0)?;
            Some(Linear::of(g, v.node, q, op.axis))
        }
        _ => None,
    }
}

/// Operands and result of an operator between quantized tensors: those of `x`, of `w`, of the
/// result. An error where no integer operator takes these types.
pub(crate) fn check_types(x: &Linear, w: &Linear, y: &Linear) -> Result<(), Decline> {
    let bytes = x.is_byte() && w.is_byte();
    match bytes && x.dtype == y.dtype && (x.dtype == DType::U8 || w.dtype == DType::I8) {
        true => Ok(()),
        false => Err(Decline::new("no integer operator takes these types")),
    }
}

/// Numbers as `i32` in steps of `scale`, one scale for all or one for each.
pub(crate) fn in_steps(data: &[f64], scale: &[f64]) -> Result<Vec<i64>, Decline> {
    let quotient = |(b, s): (&f64, &f64)| (b / s).round_ties_even();
    let steps: Vec<f64> = data.iter().zip(scale.iter().cycle()).map(quotient).collect();
    match steps.iter().all(|s| s.abs() <= f64::from(1 << 30)) {
        true => Ok(steps.iter().map(|&s| s as i64).collect()),
        false => Err(Decline::new("the bias is too large for 32 bits")),
    }
}

/// The real numbers that a value is, where it is constant or dequantized from a constant.
pub(crate) fn reals(g: &Graph, v: Value) -> Option<Vec<f64>> {
    if let Some(t) = g.constant_of(v) {
        return t.to_vec::<f64>().ok();
    }
    let from = dequantized(g, v)?.ok()?;
    let q = g.constant_of(from.q)?;
    let single = from.single().is_some();
    let fits = single || q.rank() == 1 && q.len() == from.scale.len();
    let real = |(i, q): (usize, i64)| {
        let at = if single { 0 } else { i };
        (q - from.zero[at]) as f64 * f64::from(from.scale[at])
    };
    let q = q.to_vec::<i64>().ok()?;
    fits.then(|| q.into_iter().enumerate().map(real).collect())
}

/// The bias of an integer operator, in steps of the products: the one at `input`, where there is
/// one. The steps must be no coarser than those of the result.
pub(crate) fn bias(
    g: &Graph,
    input: Option<Value>,
    (x, w, y): (f32, &[f32], f32),
    channels: usize,
) -> Result<Option<Tensor>, Decline> {
    let Some(b) = input else { return Ok(None) };
    let b = reals(g, b).ok_or(Decline::new("the bias is not constant"))?;
    if b.len() != channels {
        return Err(Decline::new("the bias is no number for each channel"));
    }
    let steps: Vec<f64> = w.iter().map(|w| f64::from(x) * f64::from(*w)).collect();
    if steps.iter().any(|s| *s > f64::from(y)) {
        return Err(Decline::new("the steps of the products are coarser than those of the result"));
    }
    let b = in_steps(&b, &steps)?;
    Ok(Some(integers(DType::I32, &[channels], &b)))
}
