//! Which version of its domain a node needs when it is written.

use kiln_ir::schema::{self, NodeSpec};
use kiln_ir::{Graph, NodeId, Operator, Type, Value};

/// The lowest version of `ai.onnx` that is written: here the last operators that take their
/// parameters as inputs do so. Every runtime of the last years reads it.
pub(crate) const LOWEST: i64 = 21;

/// Where `Swish` came.
const SWISH: i64 = 24;

/// The same for `ai.onnx.ml`: here the last attributes of label encoders came.
const LOWEST_ML: i64 = 4;

/// The lowest version from there on that reads the node back as it is.
///
/// A row stands for every version up to the next row, and may read old forms, too: it is tried.
pub(crate) fn needed(g: &Graph, id: NodeId) -> i64 {
    let name = g.op(id).name();
    let lowest = match schema::split(name).0 {
        // kiln reads it as older runtimes wrote it, too.
        "" if name == "Swish" => SWISH,
        "" => LOWEST,
        "ai.onnx.ml" => LOWEST_ML,
        _ => 1,
    };
    let newest = schema::versions(name).last().unwrap_or(1);
    let later = schema::versions(name).filter(|&v| v > lowest);
    let tried = std::iter::once(lowest).chain(later);
    tried.take_while(|&v| v < newest).find(|&v| reads_back(g, id, v)).unwrap_or(newest.max(lowest))
}

/// Whether the row of that version makes the same operator on the same inputs.
fn reads_back(g: &Graph, id: NodeId, opset: i64) -> bool {
    let (mut scratch, op) = (Graph::new(), g.op(id));
    let inputs: Vec<Option<Value>> = (g.inputs_of(id).iter().enumerate())
        .map(|(i, v)| v.map(|v| operand(g, v, &mut scratch, i)))
        .collect();
    let outputs = g.outputs_of(id).count();
    let spec = NodeSpec {
        op: op.name(),
        opset,
        name: "y",
        inputs: inputs.clone(),
        attrs: op.attrs(),
        outputs,
    };
    let Ok(made) = schema::add(&mut scratch, spec) else { return false };
    let Some(node) = made.first().map(|v| v.node) else { return false };
    scratch.op(node) == op && scratch.inputs_of(node) == inputs
}

fn operand(g: &Graph, v: Value, scratch: &mut Graph, i: usize) -> Value {
    let name = format!("x{i}");
    match (g.constant_of(v), g.ty(v)) {
        (Some(t), _) => scratch.constant(&name, t.clone()),
        (None, ty) => scratch.input(&name, Type::clone(ty)),
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use super::*;

    #[test]
    fn the_lowest_row_that_says_it_all() {
        for (source, want) in [
            ("y = Relu(x: f32[2])\nreturn y", 21),
            ("l = i64[]{0}\nu = i64[]{4}\nd = i64[]{1}\ny = Range(l, u, d)\nreturn y", 21),
            ("a = i64[1]{1}\ny = ReduceL2(x: f32[2,3], a)\nreturn y", 21),
            ("y = Gelu(x: f32[2])\nreturn y", 21),
            ("y = Swish(x: f32[2])\nreturn y", 24),
            ("y = ai.onnx.ml.Binarizer(x: f32[2,3])\nreturn y", 4),
        ] {
            let g = text::parse(source).expect("parses");
            let (_, y) = g.outputs()[0];
            assert_eq!(needed(&g, y.node), want, "{source}");
        }
    }
}
