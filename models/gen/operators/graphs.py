"""Random graphs of 5 to 20 nodes: every node is run as it is added, so that each fits what is there."""

import zlib
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .case import Case

COUNT = 1200
DTYPES = (np.float32, np.float32, np.float64, np.float16)
OPSETS = (11, 13, 15, 18, 21, 24, 28)
SMOOTH = (
    "Tanh",
    "Sigmoid",
    "Softplus",
    "Sin",
    "Erf",
    "Softsign",
    "Identity",
    "Neg",
    "Abs",
    "Relu",
    "Elu",
    "LeakyRelu",
    "HardSigmoid",
    "Selu",
    "Dropout",
)
STEPS = ("Floor", "Ceil", "Sign", "Round")


@dataclass
class Value:
    """A value of the graph. `exact` is one that no rounding has touched, so that steps of it are safe."""

    name: str
    array: np.ndarray
    exact: bool


class Builder:
    """A graph as it grows."""

    def __init__(self, rng, opset, dtype):
        self.rng, self.opset, self.dtype = rng, opset, dtype
        self.kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.nodes, self.values, self.constants, self.inputs = [], [], [], {}
        self.count = 0

    def fresh(self, prefix="v"):
        self.count += 1
        return f"{prefix}{self.count}"

    def flip(self, chance=0.5):
        return self.rng.random() < chance

    def pick(self, items):
        return items[self.rng.integers(len(items))]

    def constant(self, array):
        """A value known before the run: an initializer, a Constant node or (rarely) a graph input."""
        array, name = np.asarray(array), self.fresh("c")
        way = self.rng.random()
        if way < 0.6:
            self.constants.append(numpy_helper.from_array(array, name))
        elif way < 0.9:
            tensor = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.inputs[name] = array
        return Value(name, array, True)

    def add(self, op, inputs, outputs=1, exact=None, keep=True, **attrs):
        """Adds a node and runs it."""
        names = [self.fresh() for _ in range(outputs)]
        node = helper.make_node(op, [i.name if i else "" for i in inputs], names, **attrs)
        feeds = {i.name: i.array for i in inputs if i}
        arrays = run(node, feeds, self.opset)
        self.nodes.append(node)
        exact = all(i.exact for i in inputs if i) if exact is None else exact
        made = [Value(n, np.asarray(a), exact) for n, a in zip(names, arrays)]
        if keep:
            self.values += [m for m in made if m.array.size <= 400]
        return made[0] if outputs == 1 else made

    def floats(self, rank=None, least=0):
        """Some value of floats of that rank, or None."""
        fit = [v for v in self.values if v.array.dtype == self.dtype and v.array.ndim >= least]
        fit = [v for v in fit if rank is None or v.array.ndim == rank]
        return self.pick(fit[-6:]) if fit else None

    def with_axes(self, op, x, axes, since, **attrs):
        """A node whose axes are an input from opset `since` on, an attribute before."""
        if self.opset >= since:
            return self.add(op, [x, self.constant(np.array(axes, np.int64))], **attrs)
        return self.add(op, [x], axes=[int(a) for a in axes], **attrs)


def run(node, feeds, opset):
    kinds = {k: helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype) for k, v in feeds.items()}
    inputs = [helper.make_tensor_value_info(k, t, None) for k, t in kinds.items()]
    outputs = [helper.make_empty_tensor_value_info(o) for o in node.output]
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, feeds)


# What may come next: each takes a builder and adds a node or some, or does nothing.


def smooth(b):
    b.add(b.pick(SMOOTH), [b.floats()], exact=False)


def step(b):
    x = b.floats()
    if x.exact and not (x.array % 1 == 0.5).any():
        b.add(b.pick(STEPS), [x])


def arithmetic(b):
    x = b.floats()
    shape = x.array.shape
    others = [v for v in b.values if v.array.shape == shape and v.array.dtype == b.dtype]
    if others and b.flip(0.6):
        y = b.pick(others)
    else:
        wide = [d if b.flip() else 1 for d in shape][b.rng.integers(len(shape) + 1) :]
        y = b.constant(b.rng.uniform(0.5, 2, wide).astype(b.dtype))
    op = b.pick(("Add", "Sub", "Mul", "Max", "Min"))
    b.add(op, [x, y] if b.flip() else [y, x], exact=False)


def divide(b):
    x = b.floats()
    b.add("Div", [x, b.constant(b.dtype(b.pick((2.0, 3.0, 0.5))))], exact=False)


def transpose(b):
    x = b.floats(least=1)
    b.add("Transpose", [x], perm=b.rng.permutation(x.array.ndim).tolist())


def reshape(b):
    x = b.floats(least=1)
    shape = x.array.shape
    choices = [[-1], [0, -1], [1, -1], [-1, shape[-1]], [*shape[:-1], 1, shape[-1]]]
    b.add("Reshape", [x, b.constant(np.array(b.pick(choices), np.int64))])


def reshape_by_shape(b):
    """The idiom of exporters: the shape calculated from that of another value."""
    x = b.floats(least=2)
    shape = b.add("Shape", [x], keep=False)
    first = b.add("Gather", [shape, b.constant(np.array([0], np.int64))], keep=False, axis=0)
    target = b.add("Concat", [first, b.constant(np.array([-1], np.int64))], keep=False, axis=0)
    b.add("Reshape", [x, target])


def axes(b):
    x = b.floats(least=1)
    if 1 in x.array.shape and b.flip():
        b.with_axes("Squeeze", x, [x.array.shape.index(1)], 13)
    elif x.array.ndim < 4:
        b.with_axes("Unsqueeze", x, [b.pick((0, -1, 1))], 13)


def concat(b):
    x = b.floats(least=1)
    axis = int(b.rng.integers(x.array.ndim))
    same = [v for v in b.values if v.array.dtype == b.dtype and v.array.shape == x.array.shape]
    b.add("Concat", [x, b.pick(same)], axis=axis - (x.array.ndim if b.flip() else 0))


def split(b):
    x = b.floats(least=1)
    even = [a for a, d in enumerate(x.array.shape) if d % 2 == 0 and d]
    if even:
        extra = {"num_outputs": 2} if b.opset >= 18 else {}
        b.add("Split", [x], outputs=2, axis=b.pick(even), **extra)


def cut(b):
    x = b.floats(least=1)
    axis = int(b.rng.integers(x.array.ndim))
    step = b.pick((1, 1, 2, -1))
    start, end = (b.pick((0, 1, -2)), b.pick((2, 3, 99, -1))) if step > 0 else (-1, b.pick((-99, 0)))
    parts = [np.array([v], np.int64) for v in (start, end, axis, step)]
    made = b.add("Slice", [x, *map(b.constant, parts)], keep=False)
    if made.array.size:
        b.values.append(made)


def gather(b):
    x = b.floats(least=1)
    axis = int(b.rng.integers(x.array.ndim))
    length = x.array.shape[axis]
    index = b.rng.integers(-length, length, b.pick(((), (2,), (2, 2))))
    b.add("Gather", [x, b.constant(np.asarray(index, np.int64))], axis=axis)


def reduce(b):
    x = b.floats(least=1)
    op = b.pick(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp"))
    axis = [int(b.rng.integers(-x.array.ndim, x.array.ndim))]
    since = 13 if op == "ReduceSum" else 18
    b.with_axes(op, x, axis, since, keepdims=int(b.flip()), exact=op in ("ReduceMax", "ReduceMin") and x.exact)


def softmax(b):
    x = b.floats(least=1)
    b.add(b.pick(("Softmax", "LogSoftmax")), [x], axis=-1, exact=False)


def matmul(b):
    x = b.floats(least=2)
    inner = x.array.shape[-1]
    w = b.constant(b.rng.uniform(-1, 1, (inner, b.pick((1, 3, 4)))).astype(b.dtype))
    y = b.add("MatMul", [x, w], exact=False)
    if b.flip():
        b.add("Add", [y, b.constant(b.rng.uniform(-1, 1, y.array.shape[-1]).astype(b.dtype))], exact=False)


def self_matmul(b):
    x = b.floats(least=2)
    perm = [*range(x.array.ndim - 2), x.array.ndim - 1, x.array.ndim - 2]
    t = b.add("Transpose", [x], perm=perm)
    b.add("MatMul", [x, t], exact=False)


def gemm(b):
    x = b.floats(rank=2)
    if x:
        w = b.constant(b.rng.uniform(-1, 1, (3, x.array.shape[1])).astype(b.dtype))
        c = b.constant(b.rng.uniform(-1, 1, b.pick(((3,), (1, 3), ()))).astype(b.dtype))
        b.add("Gemm", [x, w, c], transB=1, alpha=b.pick((1.0, 0.5)), beta=b.pick((1.0, 2.0)), exact=False)


def image(b):
    """A value of rank 4, made where there is none."""
    x = b.floats(rank=4)
    if x is None or min(x.array.shape) == 0:
        flat = b.floats(least=1)
        return b.add("Reshape", [flat, b.constant(np.array([1, 1, -1, flat.array.shape[-1]], np.int64))])
    return x


def conv(b):
    x = image(b)
    c = x.array.shape[1]
    w = b.constant(b.rng.uniform(-1, 1, (4, c, 3, 3)).astype(b.dtype))
    extra = [b.constant(b.rng.uniform(-1, 1, 4).astype(b.dtype))] if b.flip() else []
    y = b.add("Conv", [x, w, *extra], pads=[1, 1, 1, 1], strides=[b.pick((1, 2))] * 2, exact=False)
    if b.opset >= 15 and b.flip(0.4):
        rows = [b.constant(b.rng.uniform(0.5, 2, 4).astype(b.dtype)) for _ in range(4)]
        y = b.add("BatchNormalization", [y, *rows], exact=False)
    if b.flip(0.4):
        b.add(b.pick(("Relu", "Sigmoid", "LeakyRelu")), [y], exact=False)


def pool(b):
    x = image(b)
    if b.flip(0.3):
        b.add(b.pick(("GlobalAveragePool", "GlobalMaxPool")), [x], exact=False)
    else:
        b.add(
            b.pick(("MaxPool", "AveragePool")), [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], exact=False
        )


def pad(b):
    x = b.floats(least=1)
    amounts = b.rng.integers(0, 2, 2 * x.array.ndim)
    b.add("Pad", [x, b.constant(amounts.astype(np.int64)), b.constant(b.dtype(0.5))])


def tile(b):
    x = b.floats(least=1)
    b.add("Tile", [x, b.constant(b.rng.integers(1, 3, x.array.ndim).astype(np.int64))])


def expand(b):
    x = b.floats()
    shape = [2, *x.array.shape]
    b.add("Expand", [x, b.constant(np.array(shape, np.int64))])


def choose(b):
    x = b.floats()
    if x.exact:
        c = b.add("Greater", [x, b.constant(b.dtype(0.1))], keep=False)
        if b.flip():
            c = b.add("Not", [c], keep=False)
        b.add("Where", [c, x, b.constant(b.dtype(-1))])


def casts(b):
    x = b.floats()
    safe = (TensorProto.FLOAT if b.dtype is np.float16 else TensorProto.DOUBLE,)
    kind = b.pick((*safe, TensorProto.FLOAT16, TensorProto.INT64) if x.exact else safe)
    y = b.add("Cast", [x], to=kind, keep=False)
    if kind == TensorProto.INT64 and b.flip():
        y = b.add("Mul", [y, b.constant(np.array(3, np.int64))], keep=False)
    b.add("Cast", [y], to=b.kind)


def clip(b):
    x = b.floats()
    b.add("Clip", [x, b.constant(b.dtype(-0.8)) if b.flip(0.8) else None, b.constant(b.dtype(1.1))])


def layer_norm(b):
    x = b.floats(least=1)
    last = x.array.shape[-1]
    if b.opset >= 17 and last:
        g, c = (b.constant(b.rng.uniform(0.5, 1, last).astype(b.dtype)) for _ in range(2))
        b.add("LayerNormalization", [x, g, c], exact=False)


def top(b):
    x = b.floats(least=1)
    if x.exact and len(set(x.array.ravel().tolist())) == x.array.size:
        values, _ = b.add("TopK", [x, b.constant(np.array([1], np.int64))], outputs=2, axis=-1)
        b.add("Sub", [x, values], exact=False)


def cumulate(b):
    x = b.floats(least=1)
    b.add("CumSum", [x, b.constant(np.array(x.array.ndim - 1, np.int64))], exact=False, exclusive=int(b.flip()))


def quantize(b):
    x = b.floats()
    if x.exact:
        parts = [b.constant(b.dtype(0.03)), b.constant(np.uint8(b.pick((0, 128))))]
        q = b.add("QuantizeLinear", [x, *parts], keep=False)
        b.add("DequantizeLinear", [q, *parts], exact=False)


def branch(b):
    """An If whose branches use values from outside."""
    x = b.floats()
    shape, names = x.array.shape, [b.fresh("t"), b.fresh("e")]
    graphs = []
    for name in names:
        inner = b.fresh("i")
        nodes = [
            helper.make_node("Tanh", [x.name], [inner]),
            helper.make_node(b.pick(("Add", "Mul")), [inner, x.name], [name]),
        ]
        graphs.append(helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, b.kind, shape)]))
    condition = b.constant(np.array(b.flip()))
    output = b.fresh()
    node = helper.make_node("If", [condition.name], [output], then_branch=graphs[0], else_branch=graphs[1])
    b.nodes.append(node)
    inside = np.tanh(x.array)
    taken = graphs[0] if condition.array else graphs[1]
    array = inside + x.array if taken.node[1].op_type == "Add" else inside * x.array
    b.values.append(Value(output, array.astype(b.dtype), False))


def loop(b):
    """A Loop that carries one value, reads another from outside and stacks a third."""
    x = b.floats()
    shape, times = x.array.shape, int(b.rng.integers(0, 4))
    i, c, v, k, w, o = (b.fresh("l") for _ in range(6))
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Identity", [c], [k]),
        helper.make_node("Mul", [v, x.name], [w]),
        helper.make_node("Tanh", [w], [o]),
    ]
    inputs = [info(i, TensorProto.INT64, []), info(c, TensorProto.BOOL, []), info(v, b.kind, shape)]
    outputs = [info(k, TensorProto.BOOL, []), info(w, b.kind, shape), info(o, b.kind, shape)]
    body = helper.make_graph(nodes, b.fresh("body"), inputs, outputs)
    n, y, s = b.constant(np.array(times, np.int64)), b.fresh(), b.fresh()
    b.nodes.append(helper.make_node("Loop", [n.name, "", x.name], [y, s], body=body))
    powers = [x.array ** (p + 2) for p in range(times)]
    b.values.append(Value(y, powers[-1] if times else x.array, False))
    if times and x.array.size * times <= 400:
        b.values.append(Value(s, np.tanh(np.stack(powers)), False))


PARTS = (
    smooth,
    smooth,
    step,
    arithmetic,
    arithmetic,
    arithmetic,
    divide,
    transpose,
    transpose,
    reshape,
    reshape_by_shape,
    axes,
    concat,
    split,
    cut,
    gather,
    reduce,
    reduce,
    softmax,
    matmul,
    matmul,
    self_matmul,
    gemm,
    conv,
    pool,
    pad,
    tile,
    expand,
    choose,
    casts,
    clip,
    layer_norm,
    top,
    cumulate,
    quantize,
    branch,
    loop,
)


def tame(b):
    """Keeps the last values from growing without end."""
    for value in list(b.values[-2:]):
        if value.array.dtype == b.dtype and value.array.size and np.abs(value.array).max() > 50:
            b.values.remove(value)
            b.add("Tanh", [value], exact=False)


def graph(seed):
    name = f"Graph.{seed:04}"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    dtype = DTYPES[seed // len(OPSETS) % len(DTYPES)]
    b = Builder(rng, OPSETS[seed % len(OPSETS)], dtype)
    shape = b.pick(((2, 3, 4), (3, 4), (1, 2, 4, 4), (2, 2, 6, 6), (5,), (2, 1, 3)))
    for n in range(int(rng.integers(1, 3))):
        array = rng.uniform(-2, 2, shape).astype(b.dtype)
        b.inputs[f"x{n}"] = array
        b.values.append(Value(f"x{n}", array, True))
    wanted = int(rng.integers(5, 21))
    while len(b.nodes) < wanted:
        try:
            b.pick(PARTS)(b)
            tame(b)
        except Exception:  # whatever the oracle cannot run at this version is left out
            continue
    rtol, atol = (3e-2, 3e-2) if dtype is np.float16 else (2e-3, 1e-5)
    return Case(name, assemble(b), b.inputs, (), rtol, atol=atol)


def assemble(b):
    """The graph with its dead ends, and now and then something from inside, as outputs."""
    read = {i for n in b.nodes for i in n.input}
    ends = [v for v in b.values if v.name not in b.inputs and (v.name not in read or b.flip(0.1))]
    infos = []
    for name, array in b.inputs.items():
        dims = [f"{name}_{d}" if b.flip(0.3) else n for d, n in enumerate(array.shape)]
        infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims))
    kinds = [helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(v.array.dtype), None) for v in ends]
    made = helper.make_graph(b.nodes, "g", infos, kinds, b.constants)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=8 if b.opset < 21 else 10
    )


def rows():
    for seed in range(COUNT):
        yield graph(seed)
