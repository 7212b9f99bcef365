//! `y = MatMul(.. Exp(..) .., alpha)`: the terms of a Gaussian process cancel one another; where
//! they are a million times their sum, single precision keeps no digit of it.

use std::collections::HashSet;

use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::{Graph, NodeId, Op, Value};
use kiln_tensor::DType;

use super::{Lint, each};

pub const LINT: Lint = Lint {
    name: "gp_in_f32",
    help: "export with double inputs, or train with a greater alpha or a WhiteKernel",
    producers: &["skl2onnx"],
    find: |g| each(g, |id| wrong(g, id)),
};

/// How much greater the terms are than their sum, and than what targets are in any sane unit.
const FAR: f64 = 1e6;

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::MatMul(_) = g.op(id) else { return None };
    let weights = g.constant_of(g.input_of(id, 1)?)?;
    if weights.dtype() != DType::F32 || !is_kernel(g, g.input_of(id, 0)?) {
        return None;
    }
    let weights: Vec<f64> = weights.to_vec().ok()?;
    let greatest = weights.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    let size: f64 = weights.iter().map(|w| w.abs()).sum();
    let cancels = size > FAR * weights.iter().sum::<f64>().abs();
    (cancels && greatest > FAR).then(|| {
        let lost = size * f64::from(f32::EPSILON);
        format!(
            "weights of up to {greatest:.0e} cancel; single precision is off by up to {lost:.0e}"
        )
    })
}

/// Whether the value comes from an exponential, few nodes before.
fn is_kernel(g: &Graph, v: Value) -> bool {
    const FEW: usize = 64;
    let (mut seen, mut open) = (HashSet::from([v.node]), vec![v.node]);
    while let Some(id) = open.pop() {
        if matches!(g.op(id), Op::Unary(Unary::Function(Function::Exp))) {
            return true;
        }
        let before = g.inputs_of(id).into_iter().flatten().map(|v| v.node);
        open.extend(before.take(FEW).filter(|&id| seen.len() < FEW && seen.insert(id)));
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::fired;

    fn process(dtype: &str, weights: &str) -> String {
        format!("k = Exp(x: {dtype}[N,3])\nw = {dtype}[3]{{{weights}}}\ny = MatMul(k, w)\nreturn y")
    }

    #[test]
    fn fires_where_great_weights_cancel() {
        assert_eq!(fired(&process("f32", "4e9, -8e9, 4e9")), ["gp_in_f32"]);
    }

    #[test]
    fn declines_sane_weights_and_double_precision() {
        assert!(fired(&process("f32", "4.0, -8.0, 4.0")).is_empty());
        assert!(fired(&process("f32", "4e9, 8e9, 4e9")).is_empty());
        assert!(fired(&process("f64", "4e9, -8e9, 4e9")).is_empty());
        assert!(fired(&process("f32", "4e9, -8e9, 4e9").replace("Exp", "Neg")).is_empty());
    }
}
