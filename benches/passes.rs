//! All passes on graphs made up from seeds, small and large.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kiln_ir::Limits;
use kiln_testing::random;

fn passes(c: &mut Criterion) {
    let pipeline = kiln_passes::pipeline(3, &[], &Limits::default()).expect("no names");
    for steps in [10, 100, 1000] {
        let g = random::graph(1, steps);
        c.bench_function(&format!("all passes, {steps} steps"), |b| {
            b.iter_batched_ref(
                || g.clone(),
                |g| kiln_passes::run(g, &pipeline).expect("sound"),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
