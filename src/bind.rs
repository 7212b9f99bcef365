//! Symbols replaced by numbers: a graph for one size of its inputs.

use std::collections::{BTreeMap, HashMap};

use kiln_ir::{Dim, Error, Graph, Op, Result, Sym, TensorType, Type, Value};

/// The graph with these symbols put in; everything behind the inputs is inferred anew.
///
/// An error is *invalid*: a name that is no symbol of an input, or a length that does not fit.
pub(crate) fn bind(g: &Graph, dims: &BTreeMap<String, i64>) -> Result<Graph> {
    let known = symbols(g);
    if let Some(name) = dims.keys().find(|name| !known.contains(*name)) {
        return Err(Error::invalid(format!("the inputs have no symbol `{name}`"))
            .help(format!("the symbols are {}", known.join(", "))));
    }
    let lookup = |s: &Sym| dims.get(s.name()).map(|&n| Dim::from(n));
    let mut bound = Graph::new();
    let mut values: HashMap<Value, Value> = HashMap::new();
    for v in g.inputs() {
        let name = g.node(v.node).name.clone();
        values.insert(v, bound.input(&name, with(g.ty(v), &lookup)));
    }
    for id in g.order()? {
        let node = g.node(id);
        bound.set_origin(node.origin.clone());
        let made = match &node.op {
            Op::Input(_) => continue,
            Op::Const(c) => bound.constant(&node.name, (*c.0).clone()).node,
            op => {
                let inputs: Vec<_> =
                    g.inputs_of(id).into_iter().map(|v| v.map(|v| values[&v])).collect();
                bound.add(&node.name, op.clone(), &inputs)?
            }
        };
        values.extend(g.outputs_of(id).zip(bound.outputs_of(made).collect::<Vec<_>>()));
    }
    bound.set_outputs(g.outputs().iter().map(|(n, v)| (n.clone(), values[v])).collect());
    Ok(bound)
}

fn with(ty: &Type, lookup: &dyn Fn(&Sym) -> Option<Dim>) -> Type {
    match ty {
        Type::Tensor(TensorType { dtype, shape }) => {
            let put = |dims: &Vec<Dim>| dims.iter().map(|d| d.bind(lookup)).collect();
            Type::tensor(*dtype, shape.as_ref().map(put))
        }
        Type::Sequence(t) => Type::Sequence(Box::new(with(t, lookup))),
        Type::Optional(t) => Type::Optional(Box::new(with(t, lookup))),
        Type::Map(k, v) => Type::Map(*k, Box::new(with(v, lookup))),
    }
}

/// The symbols in the shapes of the inputs, in order.
fn symbols(g: &Graph) -> Vec<String> {
    let mut all = Vec::new();
    for v in g.inputs() {
        if let Type::Tensor(t) = g.ty(v) {
            let mut add = |s: &Sym| all.push(s.name().to_owned());
            t.shape.iter().flatten().for_each(|d| d.symbols(&mut add));
        }
    }
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use kiln_ir::text;

    use super::*;

    #[test]
    fn lengths_reach_the_outputs() {
        let g = text::parse("c = f32[1]{2.0}\nx: f32[N,M]\ny = Add(x, c)\nreturn y, z=c");
        let g = g.expect("parses");
        let n = |name: &str, n| BTreeMap::from([(name.to_owned(), n)]);
        let bound = bind(&g, &n("N", 4)).expect("a symbol");
        let ty = |i: usize| bound.ty(bound.outputs()[i].1).to_string();
        assert_eq!([ty(0), ty(1)], ["f32[4,M]", "f32[1]"]);
        let wrong = bind(&g, &n("K", 4)).expect_err("no symbol");
        assert_eq!(wrong.remedy(), Some("the symbols are M, N"));
    }
}
