"""What a graph may look like around its operators: odd inputs, outputs, names, initializers, functions."""

import numpy as np
from onnx import AttributeProto, helper, numpy_helper
from onnx import TensorProto as T

from .case import Case

X = np.array([[1.5, -2, 0.25], [3, 4, -5]], np.float32)


def info(name, array_or_type, shape=None):
    if isinstance(array_or_type, np.ndarray):
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array_or_type.dtype), array_or_type.shape
        )
    return helper.make_tensor_value_info(name, array_or_type, shape)


def case(
    name,
    nodes,
    inputs,
    outputs,
    initializers=None,
    opset=21,
    ir=10,
    extra_inputs=(),
    functions=(),
    sparse=(),
    imports=(),
):
    """`inputs` are arrays by name, `outputs` types by name, `initializers` arrays by name."""
    tensors = [numpy_helper.from_array(v, k) for k, v in (initializers or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [info(k, v) for k, v in inputs.items()] + list(extra_inputs),
        [info(k, t) for k, t in outputs.items()],
        tensors,
        sparse_initializer=list(sparse),
    )
    domains = [helper.make_opsetid("", opset), *imports]
    model = helper.make_model(graph, opset_imports=domains, ir_version=ir, functions=list(functions))
    return Case(f"Structure.{name}", model, inputs, ())


node = helper.make_node


def ends():
    yield case("input_is_output", [node("Neg", ["x"], ["y"])], {"x": X}, {"y": T.FLOAT, "x": T.FLOAT})
    yield case(
        "initializer_is_output", [node("Neg", ["x"], ["y"])], {"x": X}, {"y": T.FLOAT, "w": T.FLOAT}, {"w": X + 1}
    )
    yield case("no_nodes", [], {"x": X}, {"x": T.FLOAT})
    yield case("no_inputs", [node("Neg", ["w"], ["y"])], {}, {"y": T.FLOAT}, {"w": X})
    yield case("unused_input", [node("Neg", ["x"], ["y"])], {"x": X, "z": X}, {"y": T.FLOAT})
    yield case("unused_initializer", [node("Neg", ["x"], ["y"])], {"x": X}, {"y": T.FLOAT}, {"w": X})
    yield case(
        "inner_is_output",
        [node("Neg", ["x"], ["y"]), node("Exp", ["y"], ["z"])],
        {"x": X},
        {"z": T.FLOAT, "y": T.FLOAT},
    )
    yield case(
        "chain_of_identities",
        [node("Identity", ["x"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["a"], ["c"])],
        {"x": X},
        {"b": T.FLOAT, "c": T.FLOAT},
    )
    yield case(
        "constant_twice",
        [node("Add", ["w", "w"], ["y"]), node("Add", ["w", "w"], ["z"])],
        {},
        {"y": T.FLOAT, "z": T.FLOAT},
        {"w": X},
    )
    yield case(
        "old_ir_initializer",
        [node("Add", ["x", "w"], ["y"])],
        {"x": X},
        {"y": T.FLOAT},
        {"w": X},
        opset=7,
        ir=3,
        extra_inputs=[info("w", X)],
    )
    yield case(
        "overridable", [node("Add", ["x", "w"], ["y"])], {"x": X}, {"y": T.FLOAT}, {"w": X}, extra_inputs=[info("w", X)]
    )
    yield case("overridden", [node("Add", ["x", "w"], ["y"])], {"x": X, "w": X * 3}, {"y": T.FLOAT}, {"w": X})
    yield case(
        "odd_names",
        [node("Neg", ["a/b:0"], ["y.1 z"], name="dup"), node("Exp", ["y.1 z"], ["größe"], name="dup")],
        {"a/b:0": X},
        {"größe": T.FLOAT},
    )
    yield case("skipped_output", [node("TopK", ["x", "k"], ["", "i"])], {"x": X}, {"i": T.INT64}, {"k": np.array([2])})
    yield case(
        "dropped_outputs",
        [node("LSTM", ["x", "w", "r"], ["", "", "c"], hidden_size=2)],
        {"x": np.ones((3, 1, 2), np.float32)},
        {"c": T.FLOAT},
        {"w": np.full((1, 8, 2), 0.1, np.float32), "r": np.full((1, 8, 2), 0.2, np.float32)},
    )


def sparse_of(name, values, indices, dims):
    proto = helper.make_sparse_tensor(
        numpy_helper.from_array(values, name), numpy_helper.from_array(indices, name + "_i"), dims
    )
    return proto


def sparse():
    values, flat = np.array([1.5, -2], np.float32), np.array([1, 5])
    yield case(
        "sparse_initializer",
        [node("Add", ["x", "w"], ["y"])],
        {"x": X},
        {"y": T.FLOAT},
        sparse=[sparse_of("w", values, flat, [2, 3])],
    )
    yield case(
        "sparse_constant",
        [
            node("Constant", [], ["w"], sparse_value=sparse_of("", values, np.array([[0, 1], [1, 2]]), [2, 3])),
            node("Add", ["x", "w"], ["y"]),
        ],
        {"x": X},
        {"y": T.FLOAT},
    )


def function(name, inputs, outputs, nodes, opset=21, attributes=(), protos=(), imports=()):
    return helper.make_function(
        "f", name, inputs, outputs, nodes, [helper.make_opsetid("", opset), *imports], list(attributes), list(protos)
    )


def functions():
    local = [helper.make_opsetid("f", 1)]
    old = function("soft", ["a"], ["b"], [node("LeakyRelu", ["a"], ["b"], alpha=0.1)], opset=16)
    yield case(
        "function_of_old_opset",
        [node("soft", ["x"], ["y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        functions=[old],
        imports=local,
    )
    leaky = node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(AttributeProto(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT))
    given = function("leaky", ["a"], ["b"], [leaky], protos=[helper.make_attribute("slope", 0.25)])
    yield case(
        "function_default",
        [node("leaky", ["x"], ["y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        functions=[given],
        imports=local,
    )
    yield case(
        "function_given",
        [node("leaky", ["x"], ["y"], domain="f", slope=0.5)],
        {"x": X},
        {"y": T.FLOAT},
        functions=[given],
        imports=local,
    )
    maybe = function(
        "maybe", ["a", "lo", "hi"], ["b", "c"], [node("Clip", ["a", "lo", "hi"], ["b"]), node("Neg", ["b"], ["c"])]
    )
    yield case(
        "function_optional",
        [node("maybe", ["x", "", "h"], ["y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        {"h": np.float32(1) * np.ones((), np.float32)},
        functions=[maybe],
        imports=local,
    )
    yield case(
        "function_fewer",
        [node("maybe", ["x"], ["", "y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        functions=[maybe],
        imports=local,
    )
    outer = function(
        "outer",
        ["a"],
        ["b"],
        [node("leaky", ["a"], ["t"], domain="f"), node("leaky", ["t"], ["b"], domain="f", slope=3.0)],
        imports=local,
    )
    yield case(
        "function_nested",
        [node("outer", ["x"], ["y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        functions=[given, outer],
        imports=local,
    )
    same = function("same", ["x"], ["y"], [node("Exp", ["x"], ["t"]), node("Neg", ["t"], ["y"])])
    yield case(
        "function_names_clash",
        [node("same", ["x"], ["t"], domain="f"), node("same", ["t"], ["y"], domain="f")],
        {"x": X},
        {"y": T.FLOAT},
        functions=[same],
        imports=local,
    )


def bodies():
    """Names of bodies may hide those outside, and bodies may lie in bodies."""
    cond = np.array(True)
    inner_then = helper.make_graph([node("Add", ["x", "k"], ["r"])], "t2", [], [info("r", T.FLOAT, [2, 3])])
    inner_else = helper.make_graph([node("Sub", ["x", "k"], ["r"])], "e2", [], [info("r", T.FLOAT, [2, 3])])
    then = helper.make_graph(
        [node("Exp", ["x"], ["k"]), node("If", ["d"], ["q"], then_branch=inner_then, else_branch=inner_else)],
        "t",
        [],
        [info("q", T.FLOAT, [2, 3])],
    )
    other = helper.make_graph(
        [node("Identity", ["w"], ["q"])], "e", [], [info("q", T.FLOAT, [2, 3])], [numpy_helper.from_array(X * 2, "w")]
    )
    for c in (True, False):
        for d in (True, False):
            yield case(
                f"nested_if_{c}_{d}",
                [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
                {"x": X, "c": np.array(c), "d": np.array(d)},
                {"y": T.FLOAT},
            )
    loop_body = helper.make_graph(
        [node("Identity", ["c"], ["k"]), node("Cast", ["i"], ["f"], to=T.FLOAT), node("Mul", ["x", "f"], ["s"])],
        "b",
        [info("i", T.INT64, []), info("c", T.BOOL, [])],
        [info("k", T.BOOL, []), info("s", T.FLOAT, [2, 3])],
    )
    yield case(
        "loop_only_scan", [node("Loop", ["n", ""], ["y"], body=loop_body)], {"x": X, "n": np.array(3)}, {"y": T.FLOAT}
    )
    yield case(
        "loop_never",
        [node("Loop", ["n", "c0"], ["y"], body=loop_body)],
        {"x": X, "n": np.array(3), "c0": np.array(False)},
        {"y": T.FLOAT},
    )
    branch_in_loop = helper.make_graph(
        [
            node("Identity", ["c"], ["k"]),
            node("Less", ["i", "two"], ["small"]),
            node(
                "If",
                ["small"],
                ["w"],
                then_branch=helper.make_graph([node("Add", ["v", "x"], ["r"])], "t3", [], [info("r", T.FLOAT, [2, 3])]),
                else_branch=helper.make_graph(
                    [node("Mul", ["v", "half"], ["r"])], "e3", [], [info("r", T.FLOAT, [2, 3])]
                ),
            ),
        ],
        "b2",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, [2, 3])],
        [info("k", T.BOOL, []), info("w", T.FLOAT, [2, 3])],
    )
    yield case(
        "if_in_loop",
        [node("Loop", ["n", "", "x"], ["y"], body=branch_in_loop)],
        {"x": X, "n": np.array(5)},
        {"y": T.FLOAT},
        {"two": np.array(2), "half": np.array(0.5, np.float32)},
    )
    loop_in_loop = helper.make_graph(
        [node("Identity", ["c"], ["k"]), node("Loop", ["i", "", "v"], ["w"], body=branch_in_loop)],
        "b4",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, [2, 3])],
        [info("k", T.BOOL, []), info("w", T.FLOAT, [2, 3])],
    )
    yield case(
        "loop_in_loop",
        [node("Loop", ["n", "", "x"], ["y"], body=loop_in_loop)],
        {"x": X, "n": np.array(4)},
        {"y": T.FLOAT},
        {"two": np.array(2), "half": np.array(0.5, np.float32)},
    )
    early = helper.make_graph(
        [
            node("Add", ["v", "v"], ["w"]),
            node("ReduceMax", ["w"], ["m"], keepdims=0),
            node("Less", ["m", "limit"], ["k"]),
            node("Shape", ["w"], ["s"]),
        ],
        "b5",
        [info("i", T.INT64, []), info("c", T.BOOL, []), info("v", T.FLOAT, [2, 3])],
        [info("k", T.BOOL, []), info("w", T.FLOAT, [2, 3]), info("w", T.FLOAT, [2, 3]), info("s", T.INT64, [2])],
    )
    yield case(
        "loop_stops_early",
        [node("Loop", ["n", "c0", "x"], ["y", "a", "b"], body=early)],
        {"x": X, "n": np.array(50), "c0": cond},
        {"y": T.FLOAT, "a": T.FLOAT, "b": T.INT64},
        {"limit": np.array(30, np.float32)},
    )
    scan_body = helper.make_graph(
        [node("Add", ["s", "e"], ["s2"]), node("Mul", ["s2", "x"], ["o"])],
        "b6",
        [info("s", T.FLOAT, [2]), info("e", T.FLOAT, [2])],
        [info("s2", T.FLOAT, [2]), info("o", T.FLOAT, [2])],
    )
    for axis in (1, -1):
        scan = node(
            "Scan",
            ["s0", "z"],
            ["y", "o2"],
            body=scan_body,
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_output_axes=[axis],
            scan_output_directions=[1],
        )
        yield case(f"scan_axis_{axis}", [scan], {"x": X[0, :2], "s0": X[1, :2], "z": X}, {"y": T.FLOAT, "o2": T.FLOAT})


def ranks():
    """Many axes, and none of any length."""
    rng = np.random.default_rng(7)
    high = rng.uniform(-1, 1, (2, 1, 3, 1, 2, 2)).astype(np.float32)
    yield case(
        "high_add",
        [node("Add", ["x", "w"], ["y"])],
        {"x": high, "w": rng.uniform(-1, 1, (1, 4, 1, 2, 1, 2)).astype(np.float32)},
        {"y": T.FLOAT},
    )
    yield case(
        "high_transpose", [node("Transpose", ["x"], ["y"], perm=[5, 0, 4, 1, 3, 2])], {"x": high}, {"y": T.FLOAT}
    )
    yield case(
        "high_reduce",
        [node("ReduceSum", ["x", "a"], ["y"], keepdims=0)],
        {"x": high},
        {"y": T.FLOAT},
        {"a": np.array([0, 2, -1])},
    )
    yield case(
        "high_matmul",
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": high, "w": rng.uniform(-1, 1, (4, 1, 2, 2, 3)).astype(np.float32)},
        {"y": T.FLOAT},
    )
    yield case("high_softmax", [node("Softmax", ["x"], ["y"], axis=2)], {"x": high}, {"y": T.FLOAT})
    yield case("high_concat", [node("Concat", ["x", "x"], ["y"], axis=3)], {"x": high}, {"y": T.FLOAT})
    yield case(
        "high_layer_norm",
        [node("LayerNormalization", ["x", "s"], ["y"], axis=-2)],
        {"x": high},
        {"y": T.FLOAT},
        {"s": np.ones((2, 2), np.float32)},
        opset=17,
    )
    yield case(
        "high_slice",
        [node("Slice", ["x", "s", "e", "a"], ["y"])],
        {"x": high},
        {"y": T.FLOAT},
        {"s": np.array([1, 0]), "e": np.array([3, 1]), "a": np.array([2, -2])},
    )
    empty = np.zeros((2, 0, 3), np.float32)
    for op, attrs in (
        ("Softmax", {"axis": 1}),
        ("Transpose", {"perm": [2, 1, 0]}),
        ("Flatten", {}),
        ("Relu", {}),
        ("LpNormalization", {"axis": 1}),
        ("ArgMax", {"axis": 2}),
        ("Concat", {"axis": 1}),
        ("CastLike", {}),
    ):
        names = ["x", "x"] if op in ("Concat", "CastLike") else ["x"]
        yield case(
            f"empty_{op}",
            [node(op, names, ["y"], **attrs)],
            {"x": empty},
            {"y": T.INT64 if op == "ArgMax" else T.FLOAT},
        )
    yield case(
        "empty_matmul",
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": np.zeros((2, 0), np.float32), "w": np.zeros((0, 3), np.float32)},
        {"y": T.FLOAT},
    )
    yield case(
        "empty_conv",
        [node("Conv", ["x", "w"], ["y"])],
        {"x": np.zeros((0, 2, 4, 4), np.float32), "w": np.ones((3, 2, 3, 3), np.float32)},
        {"y": T.FLOAT},
    )
    yield case(
        "empty_gather", [node("Gather", ["x", "i"], ["y"])], {"x": X, "i": np.zeros((0, 2), np.int64)}, {"y": T.FLOAT}
    )
    yield case(
        "empty_nms_like",
        [node("NonZero", ["x"], ["i"]), node("Transpose", ["i"], ["t"]), node("GatherND", ["x", "t"], ["y"])],
        {"x": X * 0},
        {"y": T.FLOAT},
    )


def rows():
    for part in (ends, sparse, functions, bodies, ranks):
        yield from part()
