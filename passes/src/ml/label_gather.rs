//! Looks labels up where they are needed, in the type and shape in which they are.
//!
//! ```text
//! i = ArgMax(p: f32[N,C]) {axis=1}
//! a = ai.onnx.ml.ArrayFeatureExtractor(labels: i32[C], i)
//! c = Cast(a) {to=i64}
//! y = Reshape(c, [-1])                =>   y = Gather(labels: i64[C], ArgMax(p) {keepdims=0})
//! ```
//!
//! Saves a pass over the labels of all rows for each conversion and change of shape; so exporters
//! end classifiers. Whatever is done to each label is done to the constant ones. Exact.

use kiln_ir::ops::gather::Gather;
use kiln_ir::{Attr, Context, Decline, Edit, Graph, NodeId, Op, Operator, Rewrite, Value, Verdict};
use kiln_tensor::{Datum, Tensor};

use crate::columns::matrix;
use crate::forms::ints;

/// See the module.
pub struct LabelGather;

/// More labels than these are a table that is better left in its type.
const MOST: usize = 4096;

impl Rewrite for LabelGather {
    fn name(&self) -> &'static str {
        "label_gather"
    }

    fn rewrite(&self, g: &Graph, root: NodeId) -> Verdict {
        let Some(picked) = g.input_of(root, 0) else { return Ok(None) };
        let [Some(labels), Some(index)] = [0, 1].map(|i| g.input_of(picked.node, i)) else {
            return Ok(None);
        };
        let Op::Gather(pick) = g.op(picked.node) else { return Ok(None) };
        let Some(constant) = g.constant_of(labels).filter(|c| c.rank() == 1) else {
            return Ok(None);
        };
        match g.op(root) {
            op if op.name() == "Reshape" => flat(g, root, picked, (labels, index)),
            op if is_function(g, root) => {
                if constant.len() > MOST {
                    return Err(Decline::new("the table of labels is large"));
                }
                let Some(new) = applied(op, constant) else { return Ok(None) };
                let mut e = Edit::default();
                let new = e.constant(new);
                let y = e.node(*pick, &[Some(new), Some(index.into())]);
                e.replace(root.first(), y);
                e.absorb(picked);
                Ok(Some(e))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a node calculates each element of its output from the same element of its one input.
fn is_function(g: &Graph, node: NodeId) -> bool {
    let (op, traits) = (g.op(node), g.op(node).traits());
    let pointwise = traits.elementwise && !traits.random && op.name() != "ai.kiln.Region";
    (pointwise || op.name() == "ai.onnx.ml.LabelEncoder") && g.inputs_of(node).len() == 1
}

fn applied(op: &Op, labels: &Tensor) -> Option<Tensor> {
    let labels = Datum::Tensor(labels.clone());
    let mut y = op.eval(&Context::default(), &[Some(&labels)]).ok()?;
    match y.pop()? {
        Datum::Tensor(t) => Some(t),
        _ => None,
    }
}

/// A row of labels whose shape is changed to a vector.
fn flat(g: &Graph, root: NodeId, picked: Value, (labels, index): (Value, Value)) -> Verdict {
    let to = g.input_of(root, 1).and_then(|v| ints(g, v));
    let is_row = matches!(g.op(picked.node), Op::Gather(Gather::Features));
    if to.as_deref() != Some(&[-1]) || !is_row {
        return Ok(None);
    }
    let mut e = Edit::default();
    let index = match g.ty(index).rank() {
        Some(1) => index.into(),
        Some(2) if is_best_of_row(g, index) => {
            let mut attrs = g.op(index.node).attrs();
            attrs.set("keepdims", Attr::Int(0));
            let scores = g.input_of(index.node, 0).map(Into::into);
            e.absorb(index);
            e.call(g.op(index.node).name(), &[scores], attrs)
        }
        _ => return Err(Decline::new("the places of the labels have another shape")),
    };
    let y = e.node(Gather::Slices { axis: 0 }, &[Some(labels.into()), Some(index)]);
    e.replace(root.first(), y);
    e.absorb(picked);
    Ok(Some(e))
}

/// Whether a value is the place of the greatest or least element of each row, as a column.
fn is_best_of_row(g: &Graph, v: Value) -> bool {
    matches!(g.op(v.node).name(), "ArgMax" | "ArgMin") && matrix(g, v).is_some_and(|m| m.1 == 1)
        && g.input_of(v.node, 0).is_some_and(|x| g.ty(x).rank() == Some(2))
        // Of a single row, the best row is a row, too.
        && matches!(g.op(v.node).attrs().get("axis"), Some(Attr::Int(1 | -1)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::check;

    #[test]
    fn labels_of_rows() {
        check(
            &LabelGather,
            "c = i32[3]{4, 5, 6}\ns = i64[1]{-1}\ni = ArgMax(p: f32[N,3]) {axis=1}\n\
             a = ai.onnx.ml.ArrayFeatureExtractor(c, i)\nb = Cast(a) {to=7}\n\
             y = Reshape(b, s)\n\
             d = ai.onnx.ml.ArrayFeatureExtractor(c, j: i64[M])\nz = Reshape(d, s)\nreturn y, z",
            expect![[r#"
                p: f32[N,3]
                j: i64[M]
                c = i32[3]{4, 5, 6}
                y/label_gather0 = ArgMax(p) {axis=1, keepdims=0}
                z = Gather(c, j)
                b/label_gather0 = i64[3]{4, 5, 6}
                y = Gather(b/label_gather0, y/label_gather0)
                return y, z
            "#]],
        );
    }

    #[test]
    fn keeps_places_of_another_shape_and_large_tables() {
        let many = vec!["1"; 5000].join(",");
        check(
            &LabelGather,
            &format!(
                "c = i32[3]{{4, 5, 6}}\ns = i64[1]{{-1}}\nt = i32[5000]{{{many}}}\n\
                 d = ai.onnx.ml.ArrayFeatureExtractor(c, j: i64[M,2])\nz = Reshape(d, s)\n\
                 e = Gather(t, j)\nf = Cast(e) {{to=7}}\nreturn z, f"
            ),
            expect![[r#"
                (unchanged)
                # label_gather @ z: the places of the labels have another shape
                # label_gather @ f: the table of labels is large
            "#]],
        );
    }
}
