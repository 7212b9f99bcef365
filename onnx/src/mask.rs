//! Masks of attention that are one for all queries, written out for runtimes that take no such
//! mask.

use kiln_ir::{Dim, Graph, NodeId, Operator, Value};
use kiln_tensor::Tensor;

use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto};
use crate::tensor::tensor_to_proto;

/// Where the mask is among the operands of `Attention`, and the queries.
const MASK: usize = 3;
const QUERIES: usize = 0;

/// Adds the nodes that give the mask of an `Attention` its axis of queries, and lets `inputs`
/// name what they give; nothing for other nodes and for masks that have the axis.
///
/// `name` makes names that nothing else has.
pub(crate) fn widen(
    g: &Graph,
    id: NodeId,
    inputs: &mut [String],
    proto: &mut GraphProto,
    name: &mut dyn FnMut(&str) -> String,
) {
    let [Some(q), Some(mask)] = [QUERIES, MASK].map(|i| g.input_of(id, i)) else { return };
    let is_one = |v| queries(g, v).is_none_or(|d| d.as_const() == Some(1));
    if g.op(id).name() != "Attention" || !is_one(mask) || is_one(q) {
        return;
    }
    let at = g.node(id).name.to_string();
    let shape = name(&format!("{at}_mask_shape"));
    let wide = name(&format!("{at}_mask"));
    match queries(g, q).and_then(Dim::as_const) {
        Some(n) => proto.initializer.push(tensor_to_proto(&Tensor::vector(vec![n, 1]), &shape)),
        None => {
            let [length, one] = ["length", "one"].map(|what| name(&format!("{at}_mask_{what}")));
            proto.initializer.push(tensor_to_proto(&Tensor::vector(vec![1i64]), &one));
            let ends = [("start", -2), ("end", -1)];
            proto.node.push(node("Shape", &[&inputs[QUERIES]], &length, &ends));
            proto.node.push(node("Concat", &[&length, &one], &shape, &[("axis", 0)]));
        }
    }
    proto.node.push(node("Expand", &[&inputs[MASK], &shape], &wide, &[]));
    inputs[MASK] = wide;
}

/// The last axis but one; `None` where there is none, or the rank is unknown.
fn queries(g: &Graph, v: Value) -> Option<&Dim> {
    g.ty(v).as_tensor().ok()?.shape.as_ref()?.iter().rev().nth(1)
}

fn node(op: &str, inputs: &[&str], output: &str, ints: &[(&str, i64)]) -> NodeProto {
    let attribute = ints.iter().map(|(name, i)| AttributeProto {
        name: Some((*name).to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(*i),
        ..Default::default()
    });
    NodeProto {
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attribute.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use crate::export;

    #[test]
    fn masks_get_the_axis_of_queries() {
        for (mask, q, want) in [
            ("f32[B,1,1,5]", "Q", "Shape Concat Expand Attention"),
            ("f32[1,5]", "3", "Expand Attention"),
            ("f32[B,1,Q,5]", "Q", "Attention"),
            ("f32[1,5]", "1", "Attention"),
        ] {
            let g = text::parse(&format!(
                "y = Attention(q: f32[B,2,{q},4], k: f32[B,2,5,4], v: f32[B,2,5,4], m: {mask})\n\
                 return y"
            ));
            let model = export(&g.expect("parses"), &Default::default()).expect("writes");
            let graph = model.graph.expect("a graph");
            let ops: Vec<_> = graph.node.iter().filter_map(|n| n.op_type.as_deref()).collect();
            assert_eq!(ops.join(" "), want, "{mask} {q}");
        }
    }
}
