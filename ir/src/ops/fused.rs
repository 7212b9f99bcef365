//! What fused operators share: their last steps, and their bodies in standard operators.

use kiln_tensor::{DType, Datum, Tensor};

use super::activation::Activation;
use super::binary::Binary;
use super::real::{is_real, match_real, narrow, widen};
use crate::schema::{self, NodeSpec};
use crate::{
    Attrs, Context, Dim, Error, Graph, Infer, Operator, Result, Traits, Type, Value, invalid,
};

/// Adds what is there to `y` and applies the activation; every step is rounded to the type of
/// `y`, as it would be between operators.
pub(crate) fn finish(
    cx: &Context,
    y: Tensor,
    addends: &[Option<&Datum>],
    activation: Option<Activation>,
) -> Result<Tensor> {
    let mut y = y;
    for &z in addends.iter().flatten() {
        let shape = y.shape().to_vec();
        let sum = Binary::Add.eval(cx, &[Some(&y.into()), Some(z)])?;
        y = sum[0].as_tensor()?.clone();
        if y.shape() != shape {
            invalid!("an addend has shape {:?}, the result {shape:?}", z.as_tensor()?.shape());
        }
    }
    let Some(a) = activation else { return Ok(y) };
    let out = match_real!(y.dtype(), R => {
        narrow(y.dtype(), y.shape(), widen::<R>(&y)?.iter().map(|&y| a.apply(y)).collect())?
    }, else invalid!("activations take no {}", y.dtype()));
    Ok(out)
}

/// Checks that input `i`, where it is there, broadcasts to the result without changing it.
pub(crate) fn fits(cx: &Infer<'_>, i: usize, y: Option<&[Dim]>) -> Result<()> {
    if !cx.has(i) {
        return Ok(());
    }
    let (Some(z), Some(y)) = (cx.shape(i)?, y) else { return Ok(()) };
    let clash =
        z.iter().rev().zip(y.iter().rev()).any(|(z, y)| match (z.as_const(), y.as_const()) {
            (Some(z), Some(y)) => z != 1 && z != y,
            _ => false,
        });
    if clash || z.len() > y.len() {
        invalid!("input {i} does not broadcast to the result");
    }
    Ok(())
}

/// A body that is being written: one input for each operand, the last value that was made.
pub(crate) struct Body {
    pub(crate) graph: Graph,
    operands: Vec<Option<Value>>,
    dtype: DType,
}

impl Body {
    /// A body whose inputs have these names and the types of the operands. The element type of
    /// operand 0 must be a float.
    pub(crate) fn new(names: &[&str], operands: &[Option<&Type>]) -> Result<Self> {
        let missing = || Error::invalid("input 0 is missing");
        let first = operands.first().copied().flatten().ok_or_else(missing)?;
        let dtype = first.as_tensor()?.dtype;
        if !is_real(dtype) {
            invalid!("input 0 is no tensor of floats");
        }
        Ok(Self::of(names, operands, dtype))
    }

    /// The same for floats of type `dtype`, of which operand 0 need not be one.
    pub(crate) fn of(names: &[&str], operands: &[Option<&Type>], dtype: DType) -> Self {
        let mut graph = Graph::new();
        let make = |(i, name): (usize, &&str)| match operands.get(i).copied().flatten() {
            Some(ty) => Some(graph.input(name, ty.clone())),
            None => {
                graph.input(name, Type::tensor(dtype, None));
                None
            }
        };
        let operands = names.iter().enumerate().map(make).collect();
        Self { graph, operands, dtype }
    }

    /// Operand `i`, where it is there.
    pub(crate) fn operand(&self, i: usize) -> Option<Value> {
        self.operands.get(i).copied().flatten()
    }

    /// Adds a standard operator and returns its first output.
    pub(crate) fn call(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: Attrs,
    ) -> Result<Value> {
        let (opset, inputs) = (i64::MAX, inputs.to_vec());
        let spec = NodeSpec { op, opset, name: "t", inputs, attrs, outputs: 1 };
        Ok(schema::add(&mut self.graph, spec)?[0])
    }

    /// `y` plus operand `i`, where it is there.
    pub(crate) fn plus(&mut self, y: Value, i: usize) -> Result<Value> {
        match self.operand(i) {
            Some(z) => self.call("Add", &[Some(y), Some(z)], Attrs::default()),
            None => Ok(y),
        }
    }

    /// `y * by`.
    pub(crate) fn times(&mut self, y: Value, by: f32) -> Result<Value> {
        if by == 1.0 {
            return Ok(y);
        }
        let factor = match self.dtype {
            DType::F64 => Tensor::scalar(f64::from(by)),
            dtype => narrow(dtype, &[], vec![by])?,
        };
        let factor = self.graph.constant("factor", factor);
        self.call("Mul", &[Some(y), Some(factor)], Attrs::default())
    }

    /// The activation of `y`.
    pub(crate) fn activate(&mut self, y: Value, a: Option<Activation>) -> Result<Value> {
        match a {
            Some(a) => a.add(&mut self.graph, "t", self.dtype, y),
            None => Ok(y),
        }
    }

    /// The body with these outputs.
    pub(crate) fn returns(mut self, outputs: &[(&str, Value)]) -> Graph {
        self.graph.set_outputs(outputs.iter().map(|&(name, v)| (name.into(), v)).collect());
        self.graph
    }
}

/// Whether every node of a body is elementwise.
pub(crate) fn is_elementwise(body: &Graph) -> bool {
    let source = |op: &crate::Op| matches!(op, crate::Op::Input(_) | crate::Op::Const(_));
    body.nodes().all(|id| {
        let Traits { elementwise, random, .. } = body.op(id).traits();
        source(body.op(id)) || elementwise && !random
    })
}
