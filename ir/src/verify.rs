//! Every invariant of a graph; runs after every pass in debug builds and tests.
//!
//! - the graph has no cycle;
//! - every operand names an output that exists, and the operator takes that many;
//! - the graph's inputs are `Input` nodes, and every `Input` node is one of them;
//! - every graph output exists;
//! - the recorded element types are those that inference gives.

use crate::{Error, Graph, Op, Operator, Result, Type};

/// Checks every invariant; an error is a bug in whoever changed the graph last.
pub fn verify(g: &Graph) -> Result<()> {
    let bug = |text: String| Err(Error::bug(text).help(crate::text::print(g)));
    for id in g.order()? {
        let node = g.node(id);
        let inputs = g.inputs_of(id);
        let arity = node.op.arity();
        let given = inputs.iter().take(*arity.start()).flatten().count();
        if given < *arity.start() || inputs.len() > *arity.end() {
            return bug(format!("`{}` has {} operands", node.name, inputs.len()));
        }
        if inputs.iter().flatten().any(|v| v.slot() >= g.node(v.node).outputs.len()) {
            return bug(format!("`{}` reads an output that does not exist", node.name));
        }
        if matches!(node.op, Op::Input(_)) != g.inputs().any(|v| v.node == id) {
            return bug(format!("`{}` is an input by half", node.name));
        }
    }
    for (name, v) in g.outputs() {
        if !g.contains(v.node) || v.slot() >= g.node(v.node).outputs.len() {
            return bug(format!("output `{name}` does not exist"));
        }
    }
    let mut again = g.clone();
    again.reinfer().map_err(|e| Error::bug(format!("inference fails: {e}")))?;
    for v in g.nodes().flat_map(|id| g.outputs_of(id)) {
        if !agree(g.ty(v), again.ty(v)) {
            let name = &g.node(v.node).name;
            return bug(format!("`{name}` is recorded as {}, inferred {}", g.ty(v), again.ty(v)));
        }
    }
    Ok(())
}

/// Whether two types differ at most in what is known of lengths.
fn agree(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Tensor(a), Type::Tensor(b)) => a.dtype == b.dtype,
        (Type::Sequence(a), Type::Sequence(b)) => agree(a, b),
        (Type::Map(k, a), Type::Map(l, b)) => k == l && agree(a, b),
        (Type::Optional(a), Type::Optional(b)) => agree(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn a_good_graph_passes() {
        let g = text::parse("y = Relu(x: f32[N])\nreturn y").expect("parses");
        assert!(verify(&g).is_ok());
    }

    #[test]
    fn a_dropped_output_is_found() {
        let mut g = text::parse("a = Relu(x: f32[N])\ny = Relu(a)\nreturn y").expect("parses");
        let y = g.outputs()[0].1;
        g.set_outputs(vec![]);
        g.remove(y.node).expect("unread");
        g.set_outputs(vec![("y".into(), y)]);
        assert_eq!(verify(&g).expect_err("broken").kind(), crate::Kind::Bug);
    }
}
