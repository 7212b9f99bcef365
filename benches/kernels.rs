//! Kernels on the shapes of known models, each beside the definition of its operator.

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
    ("relu 1M", "y = Relu(x: f32[1048576])\nreturn y", 0),
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
