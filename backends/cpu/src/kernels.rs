//! The kernel table. A node that no row takes is run by its definition.

mod conv;
mod elementwise;
mod gemm;
mod gemv;
mod matmul;
mod widest;

use kiln_ir::{Graph, Type, Value};
use kiln_tensor::DType;

use crate::kernel::Row;

/// Every kernel; the first row that takes a node runs it.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    [conv::ROWS, matmul::ROWS, elementwise::ROWS].into_iter().flatten()
}

/// Whether a value is an `f32` tensor of known rank.
fn is_f32(g: &Graph, v: Value) -> bool {
    matches!(g.ty(v), Type::Tensor(t) if t.dtype == DType::F32 && t.shape.is_some())
}

/// Small values that sums represent exactly.
#[cfg(test)]
fn small(i: usize) -> f32 {
    ((i * 7919) % 17) as f32 - 8.0
}
