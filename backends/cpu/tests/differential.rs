//! Every kernel row against the definitions, on generated values and odd shapes.

use std::sync::Arc;

use kiln_cpu::{Cpu, rows};
use kiln_ir::{Context, Graph, Limits, eval, text};
use kiln_plan::Backend;
use kiln_tensor::Datum;
use kiln_testing::{compare, random, values};

fn inputs(g: &Graph) -> Vec<Datum> {
    values::inputs(g, 1, 7).expect("they can be made up")
}

#[test]
fn kernels_agree_with_the_definitions() {
    for row in rows() {
        let mut used = false;
        for source in row.graphs {
            let g = values::graph(source);
            used |= g.nodes().any(|id| (row.prepare)(&g, id).is_some());
            agree(source, &g);
        }
        assert!(used, "{}: none of its graphs has a node that it takes", row.name);
    }
}

fn agree(source: &str, g: &Graph) {
    let cx = Context::default();
    let want = eval::run(g, &cx, inputs(g)).expect("the definition runs");
    for threads in [1, 3] {
        let cpu = Cpu::new(threads).expect("threads");
        let compiled = cpu.compile(Arc::new(g.clone()), &Limits::default()).expect("compiles");
        let got = compiled.run(&cx, inputs(g)).expect("runs");
        for (got, want) in got.iter().zip(&want) {
            compare(want, got, None).unwrap_or_else(|e| panic!("{source}: {e}"));
        }
    }
}

#[test]
fn one_thread_and_many_give_the_same_bits() {
    for g in rows().flat_map(|row| row.graphs).map(|source| values::graph(source)) {
        same_bits(&g);
    }
}

fn same_bits(g: &Graph) {
    let run = |threads| {
        let cpu = Cpu::new(threads).expect("threads");
        let compiled = cpu.compile(Arc::new(g.clone()), &Limits::default()).expect("compiles");
        compiled.run(&Context::default(), inputs(g)).expect("runs")
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
