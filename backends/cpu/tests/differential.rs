//! Every kernel row against the definitions, on generated values and odd shapes.

use std::collections::HashSet;
use std::sync::Arc;

use kiln_cpu::{Cpu, ROWS};
use kiln_ir::{Context, Graph, Limits, eval, text};
use kiln_plan::Backend;
use kiln_tensor::{Datum, Tensor};

/// Graphs that between them use every row.
const GRAPHS: &[&str] = &[
    "y = MatMul(x: f32[7,5], w: f32[5,33])\nreturn y",
    "y = MatMul(x: f32[2,3,4,5], w: f32[3,5,6])\nreturn y",
    "y = MatMul(x: f32[3,0], w: f32[0,4])\nreturn y",
    "y = Gemm(x: f32[5,7], w: f32[9,5], c: f32[9]) {transA=1, transB=1, alpha=0.5, beta=2.0}\n\
     return y",
    "y = Gemm(x: f32[3,7], w: f32[7,600], c: f32[3,1])\nreturn y",
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

/// Values in -1..1 that repeat late.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(shape, values(shape.iter().product(), seed)).expect("lengths agree")
}

/// Writes the weights into the text: `w = f32[2]` becomes `w = f32[2]{...}`.
fn graph(source: &str) -> Graph {
    let lines = source.lines().map(|line| match line.strip_prefix("w = f32[") {
        Some(rest) => {
            let shape = rest.trim_end_matches(']');
            let n = shape.split(',').map(|d| d.parse::<usize>().expect("a length")).product();
            let data: Vec<_> = values(n, 3).iter().map(|x| format!("{x:?}")).collect();
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
                close(source, got, want);
            }
        }
    }
    for row in ROWS.iter().flat_map(|rows| rows.iter()) {
        assert!(used.contains(row.name), "no graph here uses {}", row.name);
    }
}

/// Sums of up to 45 products of values below 1 differ by rounding only.
fn close(source: &str, got: &Datum, want: &Datum) {
    let (got, want) = (got.as_tensor().expect("tensor"), want.as_tensor().expect("tensor"));
    assert_eq!(got.shape(), want.shape(), "{source}");
    let (a, b) = (got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 1e-5 + 1e-5 * b.abs(), "{source}: element {i}: {a} vs {b}");
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
