//! What holds for every pass, on graphs made up from seeds.

use kiln_ir::{Context, Graph, Limits, Op, Operator, eval, text, verify};
use kiln_tensor::Datum;
use kiln_testing::{Tolerance, compare, pipelines as tables, random, values};

use crate::pipeline::{Pipeline, phases, pipeline, run};

const SEEDS: u64 = 550;
/// From this seed on, graphs are pipelines over tables.
const TABLES: u64 = 400;
const STEPS: usize = 14;

fn graph(seed: u64, steps: usize) -> Graph {
    if seed < TABLES { random::graph(seed, steps) } else { tables::graph(seed, steps) }
}

/// Checks a law on many graphs; a failure shows the smallest graph of its seed that fails.
fn hold(law: impl Fn(&Graph, u64) -> Result<(), String>) {
    for seed in 0..SEEDS {
        let Err(first) = law(&graph(seed, STEPS), seed) else { continue };
        let smaller = (1..STEPS).find_map(|steps| {
            let g = graph(seed, steps);
            law(&g, seed).err().map(|what| (g, what))
        });
        let (g, what) = smaller.unwrap_or_else(|| (graph(seed, STEPS), first));
        panic!("seed {seed}: {what}\n{}", text::print(&g));
    }
}

fn outputs(g: &Graph, n: i64, seed: u64) -> Result<Vec<Datum>, String> {
    let inputs = values::inputs(g, n, seed).map_err(|e| e.to_string())?;
    eval::run(g, &Context::default(), inputs).map_err(|e| e.to_string())
}

/// Every pass alone, by name, with what it may change; then all of them.
fn pipelines() -> Vec<(&'static str, Option<Tolerance>, Pipeline)> {
    let all = phases(&Limits::default());
    let rules: Vec<_> =
        all.iter().flat_map(|p| p.rules.iter().map(|r| (r.name(), r.exact()))).collect();
    let alone = |&(name, exact): &(&'static str, bool)| {
        let others = rules.iter().filter(|r| r.0 != name).map(|r| r.0.to_owned());
        let only = pipeline(3, &others.collect::<Vec<_>>(), &Limits::default());
        (name, exact.then_some(Tolerance::EXACT), only.expect("the names exist"))
    };
    let mut pipelines: Vec<_> = rules.iter().map(alone).collect();
    let all = pipeline(3, &[], &Limits::default()).expect("no names");
    pipelines.push(("all passes", None, all));
    pipelines
}

#[test]
fn outputs_stay_the_same() {
    let pipelines = pipelines();
    hold(|g, seed| {
        for (name, tolerance, pipeline) in &pipelines {
            let mut after = g.clone();
            run(&mut after, pipeline).map_err(|e| format!("{name}: {e}"))?;
            verify::verify(&after).map_err(|e| format!("{name}: {e}"))?;
            for n in [1, 3] {
                let (want, got) = (outputs(g, n, seed)?, outputs(&after, n, seed)?);
                for (want, got) in want.iter().zip(&got) {
                    compare(want, got, *tolerance)
                        .map_err(|e| format!("{name}, N={n}: {e}\n{}", text::print(&after)))?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn twice_changes_nothing_more() {
    let pipelines = pipelines();
    hold(|g, _| {
        for (name, _, pipeline) in &pipelines {
            let mut g = g.clone();
            run(&mut g, pipeline).map_err(|e| format!("{name}: {e}"))?;
            let again = run(&mut g, pipeline).map_err(|e| format!("{name}: {e}"))?;
            if let Some(patch) = again.patches.first() {
                return Err(format!("{name} again: {patch:?}"));
            }
        }
        Ok(())
    });
}

/// Operators, the elements that they write, and the bytes that they read and write where a symbol
/// stands for 7, those of both branches of an If among them.
fn cost(g: &Graph) -> [i64; 3] {
    let runs = |&n: &_| !matches!(g.op(n), Op::Input(_) | Op::Const(_));
    let nodes: Vec<_> = g.nodes().filter(runs).collect();
    let elements = |v| {
        let ty = g.ty(v).as_tensor().ok()?;
        let all = ty.shape.as_ref()?.iter().map(|d| d.eval(&|_| Some(7)));
        Some((all.product::<Option<i64>>()?, ty.dtype.size() as i64))
    };
    let written = nodes.iter().flat_map(|&n| g.outputs_of(n)).filter_map(elements);
    let written: Vec<_> = written.collect();
    let read = nodes.iter().flat_map(|&n| g.inputs_of(n)).flatten().filter_map(elements);
    let moved = read.chain(written.iter().copied()).map(|(n, size)| n * size).sum();
    let bodies = nodes.iter().filter_map(|&n| match g.op(n) {
        Op::If(op) => Some(op.branches()),
        _ => None,
    });
    let own = [nodes.len() as i64, written.iter().map(|(n, _)| n).sum(), moved];
    let inside = bodies.flatten().map(|body| cost(body));
    inside.fold(own, |sum, part| std::array::from_fn(|i| sum[i] + part[i]))
}

/// Where nothing is left out, an operand may be read once more than before, or a result be
/// written once more: never both.
#[test]
fn the_cost_never_rises() {
    let pipelines = pipelines();
    hold(|g, _| {
        for (name, _, pipeline) in &pipelines {
            let mut after = g.clone();
            run(&mut after, pipeline).map_err(|e| format!("{name}: {e}"))?;
            let (before, after) = (cost(g), cost(&after));
            if after[0] > before[0] || after[1] > before[1] && after[2] > before[2] {
                return Err(format!(
                    "{name}: {before:?} operators, elements, bytes, then {after:?}"
                ));
            }
        }
        Ok(())
    });
}

#[test]
fn the_order_inside_a_phase_does_not_matter() {
    hold(|g, seed| {
        let mut orders = [phases(&Limits::default()), phases(&Limits::default())];
        let mut random = fastrand::Rng::with_seed(seed);
        orders[1].iter_mut().for_each(|phase| random.shuffle(&mut phase.rules));
        let mut left = Vec::new();
        for phases in orders {
            let mut g = g.clone();
            run(&mut g, &Pipeline { phases }).map_err(|e| e.to_string())?;
            let mut ops: Vec<_> = g.nodes().map(|n| g.op(n).name().to_owned()).collect();
            ops.sort();
            left.push(ops);
        }
        match left[0] == left[1] {
            true => Ok(()),
            false => Err(format!("{:?} in order, {:?} shuffled", left[0], left[1])),
        }
    });
}

#[test]
fn the_graphs_make_every_pass_fire() {
    let all = pipeline(3, &[], &Limits::default()).expect("no names");
    let mut fired = std::collections::BTreeMap::new();
    for seed in 0..SEEDS {
        let report = run(&mut graph(seed, STEPS), &all).expect("sound");
        report.passes.iter().for_each(|p| *fired.entry(p.name).or_insert(0) += p.fired);
    }
    assert!(fired.values().all(|&n| n >= 5), "{fired:?}: let kiln-testing make what they look for");
}
