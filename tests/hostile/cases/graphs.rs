//! Graphs that are not graphs, operators that do not exist, versions from elsewhere.

use super::{Class, Expect};
use crate::proto::{F32, Graph, I64, Message, bare, f32s, float, i64s, int, ints, text};

pub fn classes() -> Vec<Class> {
    vec![cycles(), names(), unknown(), versions(), attributes(), arity(), sparse(), long()]
}

fn x() -> Graph {
    Graph::new().input("x", F32, &[2, 3])
}

fn cycles() -> Class {
    let ring = |n: usize| {
        (0..n)
            .fold(x(), |g, i| g.node("Add", &format!("x v{i}"), &format!("v{}", (i + 1) % n), &[]))
    };
    Class::new("cycles")
        .bad("self", x().node("Add", "x y", "y", &[]).output("y", F32))
        .bad("two", ring(2).output("v0", F32))
        .bad("ten_thousand", ring(10_000).output("v0", F32))
        .bad("use_before_definition_in_ring", ring(3).node("Relu", "v1", "y", &[]).output("y", F32))
}

fn names() -> Class {
    let relu = |from: &str, to: &str| x().node("Relu", from, to, &[]);
    let twice = relu("x", "y").node("Abs", "x", "y", &[]).output("y", F32);
    let shadows = x().init("y", f32s(&[1], &[1.0])).node("Relu", "x", "y", &[]).output("y", F32);
    let inputs = x().input("x", I64, &[1]).node("Relu", "x", "y", &[]).output("y", F32);
    let inits = Graph::new().init("w", f32s(&[1], &[1.0])).init("w", f32s(&[2], &[1.0, 2.0])).node(
        "Relu",
        "w",
        "y",
        &[],
    );
    Class::new("names")
        .bad("missing_input", relu("nowhere", "y").output("y", F32))
        .bad("missing_output", relu("x", "y").output("z", F32))
        .odd("no_output", relu("x", "y"))
        .bad("two_producers", twice)
        .bad("output_shadows_initializer", shadows)
        .odd("two_inputs", inputs)
        .odd("two_initializers", inits.output("y", F32))
        .bad("one_node_two_equal_outputs", x().node("Split", "x", "y y", &[]).output("y", F32))
        .odd("empty_graph", Graph::new())
}

fn unknown() -> Class {
    let other = crate::proto::node_in("com.example", "Frobnicate", "x", "y", &[]);
    let nameless = Message::default().text(1, "x").text(2, "y");
    let quoted = "Relu\n\u{1b}[31m\"><script>";
    Class::new("unknown")
        .bad("op", x().node("Frobnicate", "x", "y", &[]).output("y", F32))
        .bad("domain", Graph(x().0.message(1, &other)).output("y", F32))
        .bad("no_op_type", Graph(x().0.message(1, &nameless)).output("y", F32))
        .bad("control_characters", x().node(quoted, "x", "y", &[]).output("y", F32))
        .bad("long_name", x().node(&"R".repeat(1 << 20), "x", "y", &[]).output("y", F32))
}

fn versions() -> Class {
    let g = x().node("Relu", "x", "y", &[]).output("y", F32);
    let no_opset = Message::default().int(1, 10).message(7, &g.0).0;
    Class::new("versions")
        .bytes("opset_9999", Expect::Error, g.model_with(10, 9999, &[]))
        .bytes("opset_0", Expect::ErrorOrOk, g.model_with(10, 0, &[]))
        .bytes("opset_minus_1", Expect::Error, g.model_with(10, -1, &[]))
        .bytes("opset_i64_max", Expect::Error, g.model_with(10, i64::MAX, &[]))
        .bytes("ir_999", Expect::ErrorOrOk, g.model_with(999, 21, &[]))
        .bytes("ir_minus_1", Expect::ErrorOrOk, g.model_with(u64::MAX, 21, &[]))
        .bytes("no_opset", Expect::ErrorOrOk, no_opset)
}

fn attributes() -> Class {
    let with = |op: &str, attribute| x().node(op, "x", "y", &[attribute]).output("y", F32);
    let lying = Message::default().text(1, "axis").int(3, 1).int(20, 1);
    let untold = Message::default().text(1, "axis").int(20, 99);
    let reference = Message::default().text(1, "alpha").text(21, "nowhere").int(20, 1);
    Class::new("attributes")
        .bad("int_as_text", with("Softmax", text("axis", "last")))
        .bad("ints_as_float", with("Transpose", float("perm", 1.0)))
        .bad("float_as_ints", with("LeakyRelu", ints("alpha", &[1])))
        .odd("type_disagrees_with_field", with("Softmax", lying))
        .bad("type_unknown", with("Softmax", untold))
        .odd("reference_outside_function", with("LeakyRelu", reference))
        .odd("unknown_name", with("Relu", int("surprise", 1)))
        .bad("axis_out_of_range", with("Softmax", int("axis", 7)))
        .bad("axis_i64_min", with("Softmax", int("axis", i64::MIN)))
        .bad("cast_to_nothing", with("Cast", int("to", 0)))
        .bad("cast_to_unknown", with("Cast", int("to", i64::MAX)))
}

fn arity() -> Class {
    let many: String = "x ".repeat(100_000);
    Class::new("arity")
        .bad("none", x().node("Add", "", "y", &[]).output("y", F32))
        .bad("one_too_few", x().node("Add", "x", "y", &[]).output("y", F32))
        .bad("one_too_many", x().node("Relu", "x x", "y", &[]).output("y", F32))
        .bad("absent_but_required", x().node("Add", "x -", "y", &[]).output("y", F32))
        .bad("outputs_too_many", x().node("Relu", "x", "y z", &[]).output("y", F32))
        .odd("concat_of_100000", x().node("Concat", &many, "y", &[int("axis", 0)]).output("y", F32))
}

fn sparse() -> Class {
    let with = |values: &[f32], indices: Message, dims: &[i64]| {
        let values = f32s(&[values.len() as i64], values).text(8, "w");
        let sparse = Message::default().message(1, &values).message(2, &indices).packed(3, dims);
        Graph(Graph::new().0.message(15, &sparse)).node("Relu", "w", "y", &[]).output("y", F32)
    };
    Class::new("sparse")
        .bad("index_out_of_range", with(&[1.0], i64s(&[9]), &[4]))
        .bad("index_negative", with(&[1.0], i64s(&[-1]), &[4]))
        .bad("huge_dense_form", with(&[1.0], i64s(&[0]), &[1 << 40]))
        .bad("dims_overflow", with(&[1.0], i64s(&[0]), &[1 << 40, 1 << 40]))
        .bad("lengths_differ", with(&[1.0, 2.0], i64s(&[0]), &[4]))
        .bad("no_indices", with(&[1.0], bare(I64, &[1 << 40]), &[4]))
}

fn long() -> Class {
    const NODES: usize = 20_000;
    const WIDE: usize = 10_000;
    let chain = (0..NODES).fold(x(), |g, i| {
        let from = if i == 0 { "x".into() } else { format!("v{i}") };
        g.node("Relu", &from, &format!("v{}", i + 1), &[])
    });
    let backwards = (0..NODES).rev().fold(x().node("Relu", "x", "v0", &[]), |g, i| {
        g.node("Relu", &format!("v{i}"), &format!("v{}", i + 1), &[])
    });
    let each = |g: Graph, i| g.node("Relu", "x", &format!("v{i}"), &[]);
    let wide = (0..WIDE).fold(x(), each);
    let named = (0..WIDE).map(|i| format!("v{i}")).collect::<Vec<_>>();
    let many_outputs = named.iter().fold(wide.clone(), |g, v| g.output(v, F32));
    let sum = wide.node("Sum", &named.join(" "), "y", &[]).output("y", F32);
    let many_inputs = named.iter().fold(Graph::new(), |g, v| g.input(v, F32, &[1]));
    let many_inputs = many_inputs.node("Relu", "v0", "y", &[]).output("y", F32);
    let many_constants = named.iter().fold(Graph::new(), |g, v| {
        let g = g.init(v, f32s(&[1], &[1.0]));
        g.node("Neg", v, &format!("n{v}"), &[]).output(&format!("n{v}"), F32)
    });
    let shapes = (0..NODES).fold(x().node("Shape", "x", "v0", &[]), |g, i| {
        g.node("Add", &format!("v{i} v{i}"), &format!("v{}", i + 1), &[])
    });
    let symbols = |n: usize| {
        let dims = (0..n).map(|i| format!("s{i}")).collect::<Vec<_>>();
        let dims = dims.iter().map(String::as_str).collect::<Vec<_>>();
        let g = Graph(Graph::new().0.message(11, &crate::proto::symbolic("x", F32, &dims)));
        g.init("r", i64s(&[-1])).node("Reshape", "x r", "y", &[]).output("y", F32)
    };
    let powers = |n: usize| {
        let start = Graph::new().0.message(11, &crate::proto::symbolic("x", F32, &["N", "M"]));
        let start = Graph(start).node("Shape", "x", "v0", &[]).init("t", i64s(&[1, 0]));
        let step = |g: Graph, i: usize| {
            let (v, w, u) = (format!("v{i}"), format!("w{i}"), format!("v{}", i + 1));
            let g = g.node("Gather", &format!("{v} t"), &w, &[]);
            let sum = format!("{w}s");
            g.node("Add", &format!("{v} {w}"), &sum, &[]).node(
                "Mul",
                &format!("{sum} {v}"),
                &u,
                &[],
            )
        };
        (0..n).fold(start, step).output(&format!("v{n}"), I64)
    };
    Class::new("long")
        .odd("wide_sum", sum)
        .odd("outputs", many_outputs)
        .odd("inputs", many_inputs)
        .odd("constants", many_constants)
        .odd("shape_sums", shapes.output(&format!("v{NODES}"), I64))
        .odd("symbols_500", symbols(500))
        .odd("polynomials", powers(40))
        .odd("chain", chain.output(&format!("v{NODES}"), F32))
        .odd("chain_in_reverse", backwards.output(&format!("v{NODES}"), F32))
}
