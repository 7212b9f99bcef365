//! The first form of `Scan`, with a batch: a scan over the batch of scans over the steps.
//!
//! ```text
//! y = Scan-8(lens, s, x)
//!   =>
//! y = Scan(s, x, lens) { over axis 0:
//!       Scan(s, x) { over axis 0: body }
//!     }
//! ```
//! Where the lengths of the sequences are given, the inner body counts its steps, keeps its
//! states and gives zeros once a sequence is over.

use std::sync::Arc;

use kiln_tensor::{DType, Tensor};

use super::body::inline;
use super::scan::{Scan, Steps};
use crate::schema::{self, NodeSpec};
use crate::{Attrs, Build, Built, Graph, Result, Type, Value, invalid};

pub(super) fn build(b: &mut Build<'_>) -> Result<Built> {
    let captures = super::captures(b)?;
    let body: Arc<Graph> = b.require("body")?;
    let scans = b.require::<i64>("num_scan_inputs")?;
    let directions = b.take::<Vec<i64>>("directions")?.unwrap_or_default();
    if b.inputs.is_empty() || body.inputs().len() != b.inputs.len() - 1 {
        invalid!("the body takes {} inputs, the scan gives others", body.inputs().len());
    }
    let steps = Steps {
        num_scan_inputs: scans,
        input_axes: vec![],
        input_directions: directions,
        output_axes: vec![],
        output_directions: vec![],
    };
    let lens = b.inputs.remove(0);
    let plain = Scan::new(body, steps, captures)?;
    let own = b.inputs.len() - captures;
    let (scan, more) = match lens {
        None => (plain, 0),
        Some(_) => (counted(&plain)?, 1),
    };
    // The length of a sequence is the first thing that the outer scan hands in.
    b.inputs.splice(0..0, lens.map(Some));
    let inputs: Vec<_> = (0..b.inputs.len()).map(|i| b.input(i)).collect::<Result<_>>()?;
    let types = inputs.iter().enumerate().map(|(i, v)| match i < own + more {
        true => without_batch(b.ty(*v)),
        false => b.ty(*v).clone(),
    });
    let outer = over_batch(scan, types.collect(), more)?;
    let steps = Steps {
        num_scan_inputs: (own + more) as i64,
        input_axes: vec![],
        input_directions: vec![],
        output_axes: vec![],
        output_directions: vec![],
    };
    Ok(Scan::new(outer.into(), steps, captures)?.into())
}

fn without_batch(ty: &Type) -> Type {
    match ty {
        Type::Tensor(t) => {
            let rest = t.shape.as_ref().and_then(|s| Some(s.get(1..)?.to_vec()));
            Type::tensor(t.dtype, rest)
        }
        other => other.clone(),
    }
}

/// A graph that runs `scan` on inputs of these types, with a counter where lengths are given.
fn over_batch(scan: Scan, types: Vec<Type>, more: usize) -> Result<Graph> {
    let mut g = Graph::new();
    let mut inputs: Vec<_> = types.into_iter().map(|ty| g.input("x", ty)).collect();
    let skip = more;
    if more > 0 {
        // The counter is a state before the others, the length is captured after all of them.
        let length = inputs.remove(0);
        let length = add(&mut g, "Reshape", &[length], Some(Tensor::vector(vec![1i64])))?;
        inputs.insert(0, g.constant("zero", Tensor::vector(vec![0i64])));
        inputs.push(length);
    }
    let inputs: Vec<_> = inputs.into_iter().map(Some).collect();
    let node = g.add("scan", scan, &inputs)?;
    let outputs = g.outputs_of(node).skip(skip).map(|v| ("y".into(), v)).collect();
    g.set_outputs(outputs);
    Ok(g)
}

/// The scan with a counter as its first state and the length as its last captured value.
fn counted(scan: &Scan) -> Result<Scan> {
    let body = scan.body();
    let mut g = Graph::new();
    let count = Type::tensor(DType::I64, Some(vec![1i64.into()]));
    let step = g.input("step", count.clone());
    let formal: Vec<Value> = body.inputs().map(|v| g.input("x", body.ty(v).clone())).collect();
    let length = g.input("length", count);
    let alive = add(&mut g, "Less", &[step, length], None)?;
    let alive = add(&mut g, "Reshape", &[alive], Some(Tensor::vector(Vec::<i64>::new())))?;
    let made = inline(&mut g, body, &formal)?;
    let next = add(&mut g, "Add", &[step], Some(Tensor::vector(vec![1i64])))?;
    let mut outputs = vec![("step".into(), next)];
    for (k, v) in made.into_iter().enumerate() {
        let dtype = g.ty(v).as_tensor()?.dtype;
        let other = match k < scan.states() {
            true => formal[k],
            false => g.constant("zero", Tensor::zeros(dtype, &[])?),
        };
        outputs.push(("y".into(), add(&mut g, "Where", &[alive, v, other], None)?));
    }
    g.set_outputs(outputs);
    let captures = body.inputs().len() - scan.states() - scan.steps().num_scan_inputs as usize;
    Scan::new(g.into(), scan.steps().clone(), captures + 1)
}

/// Adds a node by its name; `last` is a constant for its last input.
fn add(g: &mut Graph, op: &str, inputs: &[Value], last: Option<Tensor>) -> Result<Value> {
    let mut inputs: Vec<_> = inputs.iter().copied().map(Some).collect();
    inputs.extend(last.map(|t| Some(g.constant("const", t))));
    let name = "length";
    let (opset, attrs) = (i64::MAX, Attrs::default());
    let made = schema::add(g, NodeSpec { op, opset, name, inputs, attrs, outputs: 1 })?;
    Ok(made[0])
}
