//! The kernel table. A node that no row takes is run by its definition.

mod arg;
mod attention;
mod conv;
mod conv_integer;
mod depthwise;
mod distance;
mod elementwise;
mod endings;
mod forest;
mod gemm;
mod gemv;
mod integer;
mod labels;
mod linear;
mod math;
mod matmul;
mod matmul_integer;
mod movement;
mod nearest;
mod norm;
mod pool;
mod preprocess;
mod reduce;
mod rnn;
mod rotary;
mod softmax;
mod spread;
mod steps;
mod svm;
mod table;
mod tabular;
mod tiles;
mod widest;

pub use forest::{OneTactic, TreeTactic};

use kiln_ir::{Graph, NodeId, Type, Value};
use kiln_tensor::DType;

use crate::kernel::Row;

/// Every kernel; the first row that takes a node runs it.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    let all = [
        depthwise::ROWS,
        conv::ROWS,
        conv_integer::ROWS,
        matmul::ROWS,
        matmul_integer::ROWS,
        attention::ROWS,
        elementwise::ROWS,
        norm::ROWS,
        softmax::ROWS,
        reduce::ROWS,
        arg::ROWS,
        pool::ROWS,
        movement::ROWS,
        rnn::ROWS,
        rotary::ROWS,
        forest::ROWS,
        linear::ROWS,
        preprocess::ROWS,
        labels::ROWS,
        svm::ROWS,
        distance::ROWS,
        table::ROWS,
    ];
    all.into_iter().flatten()
}

/// Whether a value is an `f32` tensor of known rank.
pub(crate) fn is_f32(g: &Graph, v: Value) -> bool {
    matches!(g.ty(v), Type::Tensor(t) if t.dtype == DType::F32 && t.shape.is_some())
}

/// Whether every operand of a node is one.
fn all_f32(g: &Graph, id: NodeId) -> bool {
    g.inputs_of(id).iter().flatten().all(|v| is_f32(g, *v))
}

/// Small values that sums represent exactly.
#[cfg(test)]
fn small(i: usize) -> f32 {
    ((i * 7919) % 17) as f32 - 8.0
}
