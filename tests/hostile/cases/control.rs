//! Bodies and functions that nest, call and grow.

use super::{Class, Expect};
use crate::proto::{
    F32, Graph, I64, Message, bools, f32s, function, graph, i64_scalar, int, node, node_in,
};

pub fn classes() -> Vec<Class> {
    vec![branches(), loops(), scans(), doubling(), functions()]
}

fn branches() -> Class {
    let leaf = || Graph::new().init("k", f32s(&[1], &[1.0])).node("Identity", "k", "r", &[]);
    let start = || Graph::new().init("c", bools(&[1])).input("x", F32, &[1]);
    let nested = |depth: usize| {
        let body = (0..depth).fold(leaf().output("r", F32), |inner, _| {
            let sides =
                [graph("then_branch", &inner), graph("else_branch", &leaf().output("r", F32))];
            Graph::new().node("If", "c", "r", &sides).output("r", F32)
        });
        let sides = [graph("then_branch", &body), graph("else_branch", &body)];
        start().node("If", "c", "y", &sides).output("y", F32)
    };
    let then = || graph("then_branch", &leaf().output("r", F32));
    let empty = || graph("else_branch", &Graph::new());
    Class::new("branches")
        .odd("depth_30", nested(30))
        .odd("depth_1000", nested(1000))
        .bad("no_branches", start().node("If", "c", "y", &[]).output("y", F32))
        .bad("one_branch", start().node("If", "c", "y", &[then()]).output("y", F32))
        .bad("empty_branch", start().node("If", "c", "y", &[then(), empty()]).output("y", F32))
        .bad("branch_is_a_number", start().node("If", "c", "y", &[int("then_branch", 1)]))
        .bad("condition_is_a_float", {
            let sides = [then(), graph("else_branch", &leaf().output("r", F32))];
            start().node("If", "x", "y", &sides).output("y", F32)
        })
}

/// A loop of `trips` rounds that carries `v` through `body`'s nodes to `w`.
fn looped(trips: i64, body: impl FnOnce(Graph) -> Graph) -> Graph {
    let start = Graph::new().input("i", I64, &[]).input("go", 9, &[]).input("v", F32, &[-1]);
    let body = body(start.node("Identity", "go", "on", &[])).output("on", 9).output("w", F32);
    Graph::new()
        .init("n", i64_scalar(trips))
        .init("s", f32s(&[2], &[1.0, 2.0]))
        .node("Loop", "n - s", "y", &[graph("body", &body)])
        .output("y", F32)
}

fn loops() -> Class {
    let grow = |g: Graph| g.node("Concat", "v v", "w", &[int("axis", 0)]);
    let scan = |g: Graph| g.node("Identity", "v", "w", &[]).node("Identity", "v", "t", &[]);
    let collect = {
        let start = Graph::new().input("i", I64, &[]).input("go", 9, &[]).input("v", F32, &[2]);
        let body = scan(start.node("Identity", "go", "on", &[]));
        let body = body.output("on", 9).output("w", F32).output("t", F32);
        Graph::new()
            .init("n", i64_scalar(1 << 62))
            .init("s", f32s(&[2], &[1.0, 2.0]))
            .node("Loop", "n - s", "y z", &[graph("body", &body)])
            .output("z", F32)
    };
    let nested = looped(1 << 20, |g| {
        let start = Graph::new().input("j", I64, &[]).input("run", 9, &[]).input("u", F32, &[2]);
        let inner = start.node("Identity", "run", "stay", &[]).node("Relu", "u", "r", &[]);
        let inner = inner.output("stay", 9).output("r", F32);
        g.node("Loop", "n - v", "w", &[graph("body", &inner)])
    });
    let deep = |depth: usize| {
        let body = |inner: Option<Graph>| {
            let start = Graph::new().input("i", I64, &[]).input("go", 9, &[]);
            let start = start.input("v", F32, &[-1]).node("Identity", "go", "on", &[]);
            let body = match inner {
                Some(inner) => start.node("Loop", "n - v", "w", &[graph("body", &inner)]),
                None => start.node("Concat", "v v", "w", &[int("axis", 0)]),
            };
            body.output("on", 9).output("w", F32)
        };
        let nest = (1..depth).fold(body(None), |inner, _| body(Some(inner)));
        let g = Graph::new().init("n", i64_scalar(1)).init("s", f32s(&[2], &[1.0, 2.0]));
        g.node("Loop", "n - s", "y", &[graph("body", &nest)]).output("y", F32)
    };
    Class::new("loops")
        .odd("depth_10", deep(10))
        .odd("depth_30", deep(30))
        .bad("grows_60_times", looped(60, grow))
        .bad("grows_forever", looped(1 << 62, grow))
        .bad("trips_two_to_62", looped(1 << 62, |g| g.node("Relu", "v", "w", &[])))
        .bad("collects_forever", collect)
        .bad("loop_in_loop", nested)
        .odd("negative_trips", looped(-5, |g| g.node("Relu", "v", "w", &[])))
        .bad("no_body", Graph::new().node("Loop", "- - ", "y", &[]).output("y", F32))
        .bad("body_lacks_outputs", looped(3, |g| g))
}

fn scans() -> Class {
    let body = || {
        let start = Graph::new().input("v", F32, &[1]).input("e", F32, &[1]);
        start.node("Add", "v e", "w", &[]).node("Identity", "w", "t", &[])
    };
    let scan = |attributes: &[Message]| {
        let g = Graph::new().input("s", F32, &[1]).input("x", F32, &[4, 1]);
        g.node("Scan", "s x", "y z", attributes).output("z", F32)
    };
    let whole = || graph("body", &body().output("w", F32).output("t", F32));
    Class::new("scans")
        .bad("no_body", scan(&[int("num_scan_inputs", 1)]))
        .bad("inputs_too_many", scan(&[int("num_scan_inputs", 1 << 40), whole()]))
        .bad("inputs_negative", scan(&[int("num_scan_inputs", -1), whole()]))
        .bad("body_lacks_outputs", scan(&[int("num_scan_inputs", 1), graph("body", &body())]))
}

/// `steps` nodes, each with the last value twice as its input.
fn chain(steps: usize, op: &str, attributes: &[Message]) -> Graph {
    let start = Graph::new().init("v0", f32s(&[2, 2], &[1.0; 4]));
    let chain = (0..steps)
        .fold(start, |g, i| g.node(op, &format!("v{i} v{i}"), &format!("v{}", i + 1), attributes));
    chain.output(&format!("v{steps}"), F32)
}

fn doubling() -> Class {
    Class::new("doubling")
        .bad("concat_60", chain(60, "Concat", &[int("axis", 0)]))
        .bad("concat_40_inner", chain(40, "Concat", &[int("axis", 1)]))
        .odd("add_60", chain(60, "Add", &[]))
        .odd("matmul_60", chain(60, "MatMul", &[]))
        .bad("sequence_60", {
            let start = Graph::new()
                .init("v0", f32s(&[2], &[1.0; 2]))
                .node("SequenceConstruct", "v0 v0", "s", &[])
                .node("ConcatFromSequence", "s", "c0", &[int("axis", 0)]);
            let grown = (0..60).fold(start, |g, i| {
                g.node("SequenceConstruct", &format!("c{i} c{i}"), &format!("s{i}"), &[]).node(
                    "ConcatFromSequence",
                    &format!("s{i}"),
                    &format!("c{}", i + 1),
                    &[int("axis", 0)],
                )
            });
            grown.output("c60", F32)
        })
}

fn functions() -> Class {
    let call = |name: &str, from: &str, to: &str| node_in("f", name, from, to, &[]);
    let main = |name: &str| {
        let g = Graph::new().input("x", F32, &[1]).0.message(1, &call(name, "x", "y"));
        Graph(g).output("y", F32)
    };
    let model = |name: &str, functions: &[Message]| main(name).model_with(10, 21, functions);
    let own = function("a", &[call("a", "x", "y")]);
    let pair = [function("a", &[call("b", "x", "y")]), function("b", &[call("a", "x", "y")])];
    let level = |i: usize| {
        let inner = format!("a{}", i - 1);
        function(&format!("a{i}"), &[call(&inner, "x", "h"), call(&inner, "h", "y")])
    };
    let tower = |height: usize| {
        let ground = function("a0", &[node("Relu", "x", "y", &[])]);
        let mut all = vec![ground];
        all.extend((1..=height).map(level));
        model(&format!("a{height}"), &all)
    };
    let line = |height: usize| {
        let step = |i: usize| function(&format!("a{i}"), &[call(&format!("a{}", i - 1), "x", "y")]);
        let mut all = vec![function("a0", &[node("Relu", "x", "y", &[])])];
        all.extend((1..=height).map(step));
        model(&format!("a{height}"), &all)
    };
    let relu = || function("a", &[node("Relu", "x", "y", &[])]);
    Class::new("functions")
        .bytes("calls_itself", Expect::Error, model("a", &[own]))
        .bytes("call_each_other", Expect::Error, model("a", &pair))
        .bytes("doubles_27_times", Expect::ErrorOrOk, tower(27))
        .bytes("doubles_60_times", Expect::ErrorOrOk, tower(60))
        .bytes("line_of_10000", Expect::ErrorOrOk, line(10_000))
        .bytes("undefined", Expect::Error, model("nowhere", &[relu()]))
        .bytes("defined_twice", Expect::ErrorOrOk, model("a", &[relu(), relu()]))
        .bytes("output_missing", Expect::Error, model("a", &[function("a", &[])]))
}
