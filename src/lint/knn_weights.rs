//! `w = Reciprocal(Max(-TopK(distances), 1e-6))`: the distances of neighbours are negated where
//! they are positive, so that all weigh the same.

use kiln_ir::ops::binary::Binary;
use kiln_ir::ops::unary::{Function, Unary};
use kiln_ir::ops::variadic::Variadic;
use kiln_ir::{Graph, NodeId, Op, Value};

use super::{Lint, each, with_constant};

pub const LINT: Lint = Lint {
    name: "knn_weights",
    help: "train with weights=\"uniform\", or negate the distances in the graph once more",
    producers: &[],
    find: |g| each(g, |id| wrong(g, id)),
};

fn wrong(g: &Graph, id: NodeId) -> Option<String> {
    let Op::Unary(Unary::Function(Function::Reciprocal)) = g.op(id) else { return None };
    let max = g.input_of(id, 0)?.node;
    let Op::Variadic(Variadic::Max) = g.op(max) else { return None };
    let (distances, least) = with_constant(g, max)?;
    let wrong = matches!(least[..], [x] if x > 0.0) && is_negated(g, distances)?;
    wrong.then(|| "distances are negated before 1/max(d, ..): all neighbours weigh the same".into())
}

/// Whether the value is the distances of the nearest, times -1.
fn is_negated(g: &Graph, v: Value) -> Option<bool> {
    let nearest = negated(g, v).unwrap_or(v);
    let Op::TopK(top) = g.op(nearest.node) else { return None };
    let after = nearest != v;
    let before = negated(g, g.input_of(nearest.node, 0)?).is_some();
    Some(nearest.slot() == 0 && top.largest == before && after != before)
}

/// What is negated to give the value.
fn negated(g: &Graph, v: Value) -> Option<Value> {
    match g.op(v.node) {
        Op::Unary(Unary::Neg) => g.input_of(v.node, 0),
        Op::Binary(Binary::Mul) => {
            with_constant(g, v.node).filter(|(_, by)| by[..] == [-1.0]).map(|(of, _)| of)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::fired;

    fn weights(before: &str, largest: &str, after: &str) -> String {
        format!(
            "k = i64[1]{{2}}\nminus = f32[1]{{-1.0}}\nleast = f32[1]{{1e-6}}\n{before}\n\
             v, i = TopK(d, k) {{axis=1{largest}}}\n{after}\n\
             m = Max(n, least)\ny = Reciprocal(m)\nreturn y, i"
        )
    }

    #[test]
    fn fires_where_positive_distances_are_negated() {
        let after = weights("d = Abs(x: f32[N,4])", ", largest=0", "n = Mul(v, minus)");
        assert_eq!(fired(&after), ["knn_weights"]);
        let before = weights("d = Mul(x: f32[N,4], minus)", "", "n = Identity(v)");
        assert_eq!(fired(&before.replace("Max(n", "Max(v")), ["knn_weights"]);
    }

    #[test]
    fn declines_what_is_negated_twice_or_never() {
        let twice = weights("d = Mul(x: f32[N,4], minus)", "", "n = Neg(v)");
        let never = weights("d = Abs(x: f32[N,4])", ", largest=0", "n = Abs(v)");
        for text in [twice, never.replace("Max(n", "Max(v"), never] {
            assert!(fired(&text).is_empty(), "{text}");
        }
    }
}
