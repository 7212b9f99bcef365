//! Nodes that break the specification, but have one exact reading.
//!
//! ```text
//! y = Op(a: f32, b: f64)   =>   y = Op(Cast(a), b)      where Op demands one type
//! ```

use kiln_ir::schema::{self, NodeSpec};
use kiln_ir::{Attrs, Graph, Kind, NodeInfo, Result, Type, Value};
use kiln_tensor::DType;

use crate::tensor::dtype_to_onnx;

/// A node that the specification forbids, and how it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The node as the file has it.
    pub node: NodeInfo,
    /// What is wrong with it, and what it was taken for.
    pub what: String,
}

/// Adds a written node; the text says what was put right, where something was.
///
/// Where the node is refused and some operands are in single, some in double precision, the
/// former are widened: every value stays what it is, and no valid node comes this far.
pub fn add(graph: &mut Graph, spec: NodeSpec<'_>) -> Result<(Vec<Value>, Option<String>)> {
    let of = |dtype| {
        let is = |v: &Option<Value>| v.is_some_and(|v| dtype_of(graph, v) == Some(dtype));
        (0..spec.inputs.len()).filter(|&i| is(&spec.inputs[i])).collect::<Vec<_>>()
    };
    let (narrow, wide) = (of(DType::F32), of(DType::F64));
    if narrow.is_empty() || wide.is_empty() {
        return Ok((schema::add(graph, spec)?, None));
    }
    let mut widened = spec.clone();
    let refused = match schema::add(graph, spec) {
        Err(e) if e.kind() == Kind::Invalid => e,
        added => return Ok((added?, None)),
    };
    for &i in &narrow {
        if let Some(v) = widened.inputs[i] {
            widened.inputs[i] = Some(cast(graph, widened.name, v, DType::F64)?);
        }
    }
    match schema::add(graph, widened) {
        Ok(values) => Ok((values, Some(told(narrow[0], wide[0])))),
        Err(_) => Err(refused),
    }
}

/// What a user is told of all repairs of a model; nothing where there are none.
pub fn warning(repairs: &[Repair]) -> Option<String> {
    let first = &repairs.first()?.node;
    let count = match repairs.len() {
        1 => "1 node mixes".to_owned(),
        n => format!("{n} nodes mix"),
    };
    Some(format!(
        "{count} f32 and f64, which ONNX forbids, first `{}` ({}): read as f64; \
         `inspect --lint` lists them",
        first.name, first.op
    ))
}

fn told(narrow: usize, wide: usize) -> String {
    format!(
        "input {narrow} is f32 and input {wide} is f64, but they must have one type: \
         the f32 inputs are cast to f64"
    )
}

fn dtype_of(graph: &Graph, v: Value) -> Option<DType> {
    match graph.ty(v) {
        Type::Tensor(t) => Some(t.dtype),
        _ => None,
    }
}

/// A cast of a value.
pub fn cast(graph: &mut Graph, name: &str, v: Value, to: DType) -> Result<Value> {
    let attrs = Attrs::default().with("to", i64::from(dtype_to_onnx(to)));
    let inputs = vec![Some(v)];
    let spec = NodeSpec { op: "Cast", opset: i64::MAX, name, inputs, attrs, outputs: 1 };
    Ok(schema::add(graph, spec)?[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a node of two inputs; gives the type of its output and what was put right.
    fn added(op: &str, types: [&str; 2]) -> Result<(String, Option<String>)> {
        let text = format!("a: {}\nb: {}\nreturn a, b", types[0], types[1]);
        let mut g = kiln_ir::text::parse(&text).expect("parses");
        let inputs = g.outputs().iter().map(|(_, v)| Some(*v)).collect();
        let attrs = Attrs::default();
        let spec = NodeSpec { op, opset: 18, name: "y", inputs, attrs, outputs: 1 };
        let (values, what) = add(&mut g, spec)?;
        Ok((g.ty(values[0]).to_string(), what))
    }

    #[test]
    fn single_precision_is_widened_where_one_type_is_demanded() {
        for (op, types, y, mended) in [
            ("Mul", ["f32[N]", "f64[N]"], "f64[N]", true),
            ("Mul", ["f64[N]", "f32[N]"], "f64[N]", true),
            ("Mul", ["f64[N]", "f64[N]"], "f64[N]", false),
            ("Mul", ["f32[N]", "f32[N]"], "f32[N]", false),
            ("Greater", ["f32[N]", "f64[N]"], "bool[N]", true),
            // Both types are allowed here: nothing is put right.
            ("CastLike", ["f32[N]", "f64[N]"], "f64[N]", false),
        ] {
            let (ty, what) = added(op, types).unwrap_or_else(|e| panic!("{op}: {e}"));
            assert_eq!((ty.as_str(), what.is_some()), (y, mended), "{op} {types:?}");
        }
        let what = added("Mul", ["f64[N]", "f32[N]"]).expect("mended").1.expect("told");
        assert!(what.starts_with("input 1 is f32 and input 0 is f64"), "{what}");
    }

    #[test]
    fn other_types_and_other_faults_stay_errors() {
        for types in [["f32[N]", "i64[N]"], ["f16[N]", "f32[N]"], ["f32[2]", "f64[3]"]] {
            assert!(added("Mul", types).is_err(), "{types:?}");
        }
        let e = added("Mul", ["f32[2]", "f64[3]"]).expect_err("lengths");
        assert!(e.message().contains("f32"), "the first error is told: {e}");
    }
}
