//! What rows use that write an operator with others.

use kiln_tensor::{DType, Float, Tensor, match_float};

use crate::{Attrs, Build, Dim, Result, Value, invalid};

impl Build<'_> {
    /// Adds a node of an operator with one output and no attributes.
    pub(crate) fn op(&mut self, op: &str, inputs: &[Value]) -> Result<Value> {
        self.op_with(op, inputs, Attrs::default())
    }

    /// Adds a node of an operator with one output.
    pub(crate) fn op_with(&mut self, op: &str, inputs: &[Value], attrs: Attrs) -> Result<Value> {
        let inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
        Ok(self.call(op, &inputs, attrs, 1)?[0])
    }

    /// A scalar constant of a float type.
    pub(crate) fn float(&mut self, dtype: DType, x: f64) -> Result<Value> {
        fn scalar<T: Float>(x: f64) -> Tensor {
            Tensor::scalar(T::from_f64(x))
        }
        let t = match_float!(dtype, T => scalar::<T>(x), else invalid!("{dtype} is no float type"));
        Ok(self.constant(t))
    }

    /// A constant vector of integers.
    pub(crate) fn ints(&mut self, v: &[i64]) -> Value {
        self.constant(Tensor::vector(v.to_vec()))
    }

    /// A value in another element type.
    pub(crate) fn cast(&mut self, v: Value, to: DType) -> Result<Value> {
        if self.ty(v).as_tensor()?.dtype == to {
            return Ok(v);
        }
        self.op_with("Cast", &[v], Attrs::default().with("to", to))
    }

    /// Gives a value another shape; 0 keeps a length, -1 is what is left.
    pub(crate) fn reshape(&mut self, v: Value, shape: &[i64]) -> Result<Value> {
        let shape = self.ints(shape);
        self.op("Reshape", &[v, shape])
    }

    /// Permutes the axes.
    pub(crate) fn transpose(&mut self, v: Value, perm: &[i64]) -> Result<Value> {
        self.op_with("Transpose", &[v], Attrs::default().with("perm", perm.to_vec()))
    }

    /// The length of an axis of a value, from the end where negative; `None` where the rank is
    /// unknown.
    pub(crate) fn dim(&self, v: Value, axis: i64) -> Result<Option<Dim>> {
        let Some(shape) = &self.ty(v).as_tensor()?.shape else { return Ok(None) };
        Ok(Some(shape[kiln_tensor::shape::axis(axis, shape.len())?].clone()))
    }

    /// The length of an axis, which must be a number; `what` names it in the error.
    pub(crate) fn length(&self, v: Value, axis: i64, what: &str) -> Result<i64> {
        match self.dim(v, axis)?.and_then(|d| d.as_const()) {
            Some(n) if n > 0 => Ok(n),
            Some(n) => invalid!("{what} is {n}"),
            None => Err(crate::Error::unsupported(format!(
                "{what} must be known when the model is loaded: give the inputs fixed shapes"
            ))),
        }
    }
}
