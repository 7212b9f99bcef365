//! Models that multiply the columns of a table by constant weights and add.

use kiln_ir::ops::linear::Linear;
use kiln_ir::ops::matmul::MatMul;
use kiln_ir::{Attr, Edit, Graph, NodeId, Op, Operator, Source};
use kiln_tensor::{DType, Tensor};

/// Whether a node is a linear model of ai.onnx.ml or a product.
pub(crate) fn is_linear(g: &Graph, node: NodeId) -> bool {
    matches!(g.op(node), Op::Linear(_) | Op::MatMul(_) | Op::Gemm(_))
}

/// The weights of the columns of a linear model, a row for each score; `None` where they are not
/// constant singles.
pub(crate) fn weights(g: &Graph, root: NodeId, columns: usize) -> Option<Vec<Vec<f32>>> {
    let transposed = match g.op(root) {
        Op::Linear(m) => {
            let (Linear::Classifier(w, _) | Linear::Regressor(w, _)) = m;
            let rows = w.coefficients.chunks_exact(columns.max(1)).take(m.count(columns).ok()?);
            return Some(rows.map(<[f32]>::to_vec).collect());
        }
        Op::MatMul(m) if *m == MatMul::PLAIN => false,
        Op::Gemm(m) if !m.trans_a => m.trans_b,
        _ => return None,
    };
    let w = g.constant_of(g.input_of(root, 1)?).filter(|w| w.dtype() == DType::F32)?;
    let (w, &[a, b]) = (w.as_slice::<f32>().ok()?, w.shape()) else { return None };
    let scores = if transposed { a } else { b };
    let at = |s: usize, c: usize| if transposed { w[s * b + c] } else { w[c * b + s] };
    Some((0..scores).map(|s| (0..columns).map(|c| at(s, c)).collect()).collect())
}

/// The model with other weights over another table.
pub(crate) fn reweighted(
    g: &Graph,
    root: NodeId,
    e: &mut Edit,
    x: Source,
    rows: &[Vec<f32>],
) -> Option<Source> {
    let op = g.op(root);
    if let Op::Linear(_) = op {
        let mut attrs = op.attrs();
        attrs.set("coefficients", Attr::Floats(rows.concat()));
        return Some(e.call(op.name(), &[Some(x)], attrs));
    }
    let (scores, columns) = (rows.len(), rows.first().map_or(0, Vec::len));
    let transposed = matches!(op, Op::Gemm(m) if m.trans_b);
    let w = match transposed {
        true => Tensor::from_vec(&[scores, columns], rows.concat()),
        false => {
            let turned = (0..columns).flat_map(|c| rows.iter().map(move |r| r[c])).collect();
            Tensor::from_vec(&[columns, scores], turned)
        }
    };
    let w = e.constant(w.ok()?);
    let mut operands = vec![Some(x), Some(w)];
    operands.extend(g.input_of(root, 2).map(|c| Some(Source::from(c))));
    Some(e.node(op.clone(), &operands))
}
