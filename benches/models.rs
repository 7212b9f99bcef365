//! The models of `models/`: loading, and running them as written and optimized.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use kiln::{Datum, Model, Options, npy};

const MODELS: &[&str] = &["forest_iris", "cnn_small"];

fn inputs(folder: &Path) -> Vec<(String, Datum)> {
    let bytes = fs::read(folder.join("inputs.npz")).expect("the model is carried");
    let arrays = npy::read_npz(&bytes.into()).expect("the inputs read");
    arrays.into_iter().map(|(name, t)| (name, t.into())).collect()
}

fn models(c: &mut Criterion) {
    for name in MODELS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
        let bytes = fs::read(folder.join("model.onnx")).expect("the model is carried");
        let mut group = c.benchmark_group(*name);
        group.bench_function("load", |b| {
            b.iter(|| Model::from_bytes(black_box(bytes.clone())).expect("it loads"));
        });
        let model = Model::from_bytes(bytes).expect("it loads");
        group.bench_function("compile", |b| {
            b.iter(|| model.compile(&Options::default()).expect("it compiles"));
        });
        for opt_level in [0, 3] {
            let options = Options { opt_level, threads: 1, ..Options::default() };
            let session = model.compile(&options).expect("it compiles");
            let inputs = inputs(&folder);
            group.bench_function(format!("run at {opt_level}"), |b| {
                b.iter(|| session.run(black_box(inputs.clone())).expect("it runs"));
            });
        }
    }
}

criterion_group!(benches, models);
criterion_main!(benches);
