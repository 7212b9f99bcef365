//! Kernels on the shapes of known models, each beside the definition of its operator.

// The functions that criterion's macros make have no docs.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kiln_cpu::Cpu;
use kiln_ir::{Context, Limits, eval};
use kiln_plan::Backend;
use kiln_testing::values;

/// A name, a graph, and the multiplications in it; 0 where memory is what counts.
const CASES: &[(&str, &str, u64)] = &[
    (
        "gemm 128x384x384",
        "w = f32[384,384]\ny = MatMul(x: f32[128,384], w)\nreturn y",
        128 * 384 * 384,
    ),
    (
        "gemm 1x1024x1024",
        "w = f32[1024,1024]\ny = Gemm(x: f32[1,1024], w) {transB=1}\nreturn y",
        1 << 20,
    ),
    (
        "conv 64x56x56 3x3",
        "w = f32[64,64,3,3]\ny = Conv(x: f32[1,64,56,56], w) {pads=[1,1,1,1]}\nreturn y",
        64 * 64 * 9 * 56 * 56,
    ),
    (
        "conv 256x14x14 1x1",
        "w = f32[64,256,1,1]\ny = Conv(x: f32[1,256,14,14], w)\nreturn y",
        64 * 256 * 14 * 14,
    ),
    (
        "conv 64x56x56 3x3 with residual and SiLU",
        "w = f32[64,64,3,3]\ny = ai.kiln.Conv(x: f32[1,64,56,56], w, b: f32[64], \
         z: f32[1,64,56,56]) {pads=[1,1,1,1], activation=\"Swish\"}\nreturn y",
        64 * 64 * 9 * 56 * 56,
    ),
    (
        "gemm 128x768x3072 with bias and GELU",
        "w = f32[768,3072]\ny = ai.kiln.MatMul(x: f32[128,768], w, b: f32[3072]) \
         {activation=\"Gelu\"}\nreturn y",
        128 * 768 * 3072,
    ),
    (
        "attention 12 heads of 128x64",
        "y = Attention(q: f32[1,12,128,64], k: f32[1,12,128,64], v: f32[1,12,128,64])\nreturn y",
        12 * 128 * 128 * 64 * 2,
    ),
    (
        "lstm 20 steps of 256",
        "y, h, c = LSTM(x: f32[20,1,256], w: f32[1,1024,256], r: f32[1,1024,256]) \
         {hidden_size=256}\nreturn y",
        20 * 1024 * 512,
    ),
    ("relu 1M", "y = Relu(x: f32[1048576])\nreturn y", 0),
    ("gelu 1M", "y = Gelu(x: f32[1048576])\nreturn y", 0),
    ("tanh 1M", "y = Tanh(x: f32[1048576])\nreturn y", 0),
    (
        "region 1M: x * sigmoid(x + b)",
        "x: f32[1024,1024]\nb: f32[1024]\ny = ai.kiln.Region(x, b) {body=graph {\n x: f32[..]\n \
         b: f32[..]\n s = Add(x, b)\n t = Sigmoid(s)\n y = Mul(x, t)\n return y\n}}\nreturn y",
        0,
    ),
    ("softmax 1536x128", "y = Softmax(x: f32[1536,128])\nreturn y", 0),
    (
        "skip layer norm 128x768",
        "y, s = ai.kiln.SkipLayerNormalization(x: f32[128,768], z: f32[128,768], g: f32[768], \
         b: f32[768])\nreturn y, s",
        0,
    ),
    ("transpose 12x128x64", "y = Transpose(x: f32[128,12,64]) {perm=[1,2,0]}\nreturn y", 0),
    (
        "max pool 64x112x112",
        "y = MaxPool(x: f32[1,64,112,112]) {kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]}\n\
         return y",
        0,
    ),
    ("reduce 1024x1024", "a = i64[1]{-1}\ny = ReduceMean(x: f32[1024,1024], a)\nreturn y", 0),
];

/// The definitions of large products take too long to be worth it.
const LARGEST_DEFINITION: u64 = 1 << 26;

fn kernels(c: &mut Criterion) {
    for (name, source, multiplications) in CASES {
        let g = Arc::new(values::graph(source));
        let inputs = values::inputs(&g, 1, 7).expect("made");
        let mut group = c.benchmark_group(*name);
        if *multiplications > 0 {
            group.throughput(Throughput::Elements(*multiplications));
        }
        for threads in [1, 2] {
            let cpu = Cpu::new(threads).expect("threads");
            let compiled = cpu.compile(g.clone(), &Limits::default()).expect("compiles");
            group.bench_function(format!("cpu, {threads} threads"), |b| {
                b.iter(|| compiled.run(&Context::default(), black_box(inputs.clone())));
            });
        }
        if *multiplications < LARGEST_DEFINITION {
            group.bench_function("definition", |b| {
                b.iter(|| eval::run(&g, &Context::default(), black_box(inputs.clone())));
            });
        }
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
