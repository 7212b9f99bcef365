//! Every kernel row against the definitions, on generated values and odd shapes.

use std::collections::HashSet;
use std::sync::Arc;

use kiln_cpu::{Cpu, ROWS};
use kiln_ir::{Context, Graph, Limits, eval, text};
use kiln_plan::Backend;
use kiln_tensor::{DType, Datum, Tensor};
use kiln_testing::{compare, random, values};

/// Graphs that between them use every row.
const GRAPHS: &[&str] = &[
    "y = MatMul(x: f32[7,5], w: f32[5,33])\nreturn y",
    "y = MatMul(x: f32[2,3,4,5], w: f32[3,5,6])\nreturn y",
    "y = MatMul(x: f32[3,0], w: f32[0,4])\nreturn y",
    "y = Gemm(x: f32[5,7], w: f32[9,5], c: f32[9]) {transA=1, transB=1, alpha=0.5, beta=2.0}\n\
     return y",
    "y = Gemm(x: f32[3,7], w: f32[7,600], c: f32[3,1])\nreturn y",
    "y = Gemm(x: f32[2,70], w: f32[300,70], c: f32[300]) {transB=1}\nreturn y",
    "y = Gemm(x: f32[20,70], w: f32[33,70]) {transB=1}\nreturn y",
    "w = f32[4,3,3,3]\ny = Conv(x: f32[2,3,9,8], w, b: f32[4]) {pads=[1,1,1,1]}\nreturn y",
    "w = f32[4,2,3,2]\ny = Conv(x: f32[1,4,9,8], w) {group=2, strides=[2,1], dilations=[1,2]}\n\
     return y",
    "w = f32[6,1,3,3]\ny = Conv(x: f32[1,6,7,7], w) {group=6, auto_pad=\"SAME_UPPER\", \
     strides=[2,2]}\nreturn y",
    "w = f32[5,3,4]\ny = Conv(x: f32[2,3,40], w) {pads=[2,1]}\nreturn y",
    "w = f32[4,3,1,1]\ny = ai.kiln.Conv(x: f32[1,3,33,33], w) {activation=\"Relu\"}\nreturn y",
    "a = Exp(x: f32[3,1000])\nb = Relu(a)\nc = Neg(b)\ny = Tanh(c)\nreturn y",
    "a = Add(x: f32[3,1,5], z: f32[4,1])\nb = Mul(a, a)\nc = Sub(b, x)\ny = Div(c, a)\nreturn y",
];

/// Values in -1..1.
fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut random = fastrand::Rng::with_seed(seed);
    values::tensor(DType::F32, shape, &mut random).expect("f32 can be made up")
}

/// Writes the weights into the text: `w = f32[2]` becomes `w = f32[2]{...}`.
fn graph(source: &str) -> Graph {
    let lines = source.lines().map(|line| match line.strip_prefix("w = f32[") {
        Some(rest) => {
            let shape = rest.trim_end_matches(']');
            let lengths = shape.split(',').map(|d| d.parse().expect("a length"));
            let values = tensor(&lengths.collect::<Vec<_>>(), 3).to_vec::<f32>().expect("f32");
            let data: Vec<_> = values.iter().map(|x| format!("{x:?}")).collect();
            format!("w = f32[{shape}]{{{}}}", data.join(","))
        }
        None => line.to_owned(),
    });
    text::parse(&lines.collect::<Vec<_>>().join("\n")).expect("parses")
}

fn inputs(g: &Graph) -> Vec<Datum> {
    let shape = |v| g.ty(v).as_tensor().expect("a tensor").static_shape().expect("static");
    g.inputs().enumerate().map(|(i, v)| tensor(&shape(v), i as u64 + 7).into()).collect()
}

#[test]
fn kernels_agree_with_the_definitions() {
    let mut used = HashSet::new();
    for source in GRAPHS {
        let g = graph(source);
        for id in g.nodes() {
            let rows = ROWS.iter().flat_map(|rows| rows.iter());
            used.extend(rows.filter(|r| (r.prepare)(&g, id).is_some()).map(|r| r.name));
        }
        let cx = Context::default();
        let want = eval::run(&g, &cx, inputs(&g)).expect("the definition runs");
        for threads in [1, 3] {
            let cpu = Cpu::new(threads).expect("threads");
            let compiled = cpu.compile(Arc::new(g.clone()), &Limits::default()).expect("compiles");
            let got = compiled.run(&cx, inputs(&g)).expect("runs");
            for (got, want) in got.iter().zip(&want) {
                compare(want, got, None).unwrap_or_else(|e| panic!("{source}: {e}"));
            }
        }
    }
    for row in ROWS.iter().flat_map(|rows| rows.iter()) {
        assert!(used.contains(row.name), "no graph here uses {}", row.name);
    }
}

#[test]
fn one_thread_and_many_give_the_same_bits() {
    let g = graph(GRAPHS[5]);
    let run = |threads| {
        let cpu = Cpu::new(threads).expect("threads");
        let compiled = cpu.compile(Arc::new(g.clone()), &Limits::default()).expect("compiles");
        compiled.run(&Context::default(), inputs(&g)).expect("runs")
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn whole_graphs_agree_with_the_definitions() {
    let cpu = Cpu::new(2).expect("threads");
    for seed in 0..200 {
        let g = Arc::new(random::graph(seed, 14));
        let compiled = cpu.compile(g.clone(), &Limits::default()).expect("compiles");
        // A plan is made for each length of the symbol, and used again.
        for n in [3, 1, 3] {
            let inputs = values::inputs(&g, n, seed).expect("made");
            let want = eval::run(&g, &Context::default(), inputs.clone()).expect("runs");
            let got = compiled.run(&Context::default(), inputs).expect("runs");
            for (want, got) in want.iter().zip(&got) {
                let same = compare(want, got, None);
                same.unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", text::print(&g)));
            }
        }
    }
}
