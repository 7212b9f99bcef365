"""Models written as text: sequences, optionals, control flow, functions and idioms of several operators."""

import zlib

import numpy as np
import onnx
from onnx import parser

from . import fill
from .case import SCHEMAS, Case

MODEL = """<ir_version: {ir}, opset_import: ["" : {opset}{imports}]>
g {body}"""


def versions(*ops):
    """The opsets at which one of the operators changed, from the first that has all of them."""
    known = [sorted(SCHEMAS["", op]) for op in ops]
    first = max(k[0] for k in known)
    return sorted({max(v, first) for k in known for v in k})


def values(model, name, given):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    inputs = {}
    constants = {i.name for i in model.graph.initializer}
    for info in (i for i in model.graph.input if i.name not in constants):
        spec = fill.spec(given.get(info.name))
        kind = info.type
        while not kind.HasField("tensor_type"):
            kind = (kind.sequence_type if kind.HasField("sequence_type") else kind.optional_type).elem_type
        if spec is None:
            shape = tuple(d.dim_value or 3 for d in kind.tensor_type.shape.dim)
            spec = fill.spec(shape)
        inputs[info.name] = spec(rng, kind.tensor_type.elem_type)
    return inputs


def covered(model):
    """The operators of the main graph, without their types."""
    opset = next(o.version for o in model.opset_import if not o.domain)
    for node in model.graph.node:
        known = [v for v in SCHEMAS.get(("", node.op_type), ()) if v <= opset]
        if known:
            yield "", node.op_type, max(known), None, None


def model(name, body, opsets, functions="", **given):
    """The same text at each of these opsets."""
    for opset in opsets:
        ir = 3 if opset < 9 else 8 if opset < 21 else 10 if opset < 23 else 12
        imports = ', "local" : 1' if functions else ""
        text = MODEL.format(
            ir=max(ir, 8 if functions else 4), opset=opset, imports=imports, body=body
        ) + functions.format(opset=opset)
        full = f"{name}-{opset}.text"
        try:
            proto = parser.parse_model(text)
        except onnx.parser.ParseError as error:
            raise RuntimeError(f"{full}: {error}") from error
        yield Case(full, proto, values(proto, full, given), tuple(covered(proto)))


def branches():
    opsets = versions("If")
    yield from model("If_simple", """(bool c, float[2,3] x) => (float[2,3] y) {
        y = If (c) <
            then_branch = a () => (float[2,3] t) { t = Neg(x) },
            else_branch = b () => (float[2,3] e) { e = Abs(x) }>
    }""", opsets)  # fmt: skip
    yield from model("If_shapes", """(bool c, float[2,3] x) => (float[N,M] y) {
        y = If (c) <
            then_branch = a () => (float[3,2] t) { t = Transpose(x) },
            else_branch = b () => (float[2,3] e) { e = Identity(x) }>
    }""", opsets)  # fmt: skip
    yield from model("If_nested", """(bool c, bool d, float[3] x) => (float[3] y, float[3] z) {
        w = Exp(x)
        y, z = If (c) <
            then_branch = a () => (float[3] t, float[3] u) {
                t = If (d) <
                    then_branch = i () => (float[3] p) { p = Add(x, w) },
                    else_branch = j () => (float[3] q) { q = Sub(x, w) }>
                u = Identity(w)
            },
            else_branch = b () => (float[3] e, float[3] f) { e = Mul(x, w) f = Neg(e) }>
    }""", opsets)  # fmt: skip
    yield from model("If_constant", """(float[3] x) => (float[3] y) <bool c = {1}> {
        y = If (c) <
            then_branch = a () => (float[3] t) { t = Neg(x) },
            else_branch = b () => (float[3] e) { e = Abs(x) }>
    }""", opsets)  # fmt: skip
    yield from model("If_sequence", """(bool c, float[2,3] x) => (seq(float[N,M]) y) {
        y = If (c) <
            then_branch = a () => (seq(float[N,M]) t) { t = SequenceConstruct(x) },
            else_branch = b () => (seq(float[N,M]) e) { e = SequenceConstruct(x, x) }>
    }""", versions("If", "SequenceConstruct"))  # fmt: skip


def loops():
    opsets = [v for v in versions("Loop") if v > 1]
    yield from model("Loop_counted", """(int64 n, float[3] x) => (float[3] y, float[N,3] s) {
        y, s = Loop (n, , x) <body = b (int64 i, bool c, float[3] v) => (bool k, float[3] w, float[3] o) {
            k = Identity(c)
            w = Add(v, x)
            o = Neg(w)
        }>
    }""", opsets, n=fill.fixed(4))  # fmt: skip
    yield from model("Loop_zero", """(int64 n, float[3] x) => (float[3] y, float[N,3] s) {
        y, s = Loop (n, , x) <body = b (int64 i, bool c, float[3] v) => (bool k, float[3] w, float[3] o) {
            k = Identity(c)
            w = Add(v, x)
            o = Neg(w)
        }>
    }""", opsets, n=fill.fixed(0))  # fmt: skip
    yield from model("Loop_while", """(bool go, float[2] x) => (float[2] y) {
        y = Loop (, go, x) <body = b (int64 i, bool c, float[2] v) => (bool k, float[2] w) {
            w = Add(v, v)
            total = ReduceMax <keepdims = 0> (w)
            limit = Constant <value = float {100.0}> ()
            k = Less(total, limit)
        }>
    }""", opsets, go=fill.fixed(True), x=fill.fixed([1.0, 2.0]))  # fmt: skip
    yield from model("Loop_growing", """(int64 n, float[1] x) => (float[N] y) {
        y = Loop (n, , x) <body = b (int64 i, bool c, float[N] v) => (bool k, float[M] w) {
            k = Identity(c)
            w = Concat <axis = 0> (v, x)
        }>
    }""", opsets, n=fill.fixed(3))  # fmt: skip
    yield from model("Loop_sequence", """(int64 n, float[2] x) => (seq(float[2]) y) {
        e = SequenceEmpty ()
        y = Loop (n, , e) <body = b (int64 i, bool c, seq(float[2]) v) => (bool k, seq(float[2]) w) {
            k = Identity(c)
            w = SequenceInsert(v, x)
        }>
    }""", [13, 16, 19, 21, 23, 24, 25], n=fill.fixed(3))  # fmt: skip
    yield from model("Loop_indexed", """(int64 n, int64[4] table) => (int64 y, int64[N] s) {
        zero = Constant <value = int64 {0}> ()
        y, s = Loop (n, , zero) <body = b (int64 i, bool c, int64 v) => (bool k, int64 w, int64 o) {
            k = Identity(c)
            o = Gather(table, i)
            w = Add(v, o)
        }>
    }""", opsets, n=fill.fixed(4))  # fmt: skip


def scans():
    yield from model("Scan_sum", """(float[2] s, float[5,2] x) => (float[2] y, float[5,2] z) {
        y, z = Scan (s, x) <num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] t, float[2] o) {
            t = Add(a, e)
            o = Identity(t)
        }>
    }""", [v for v in versions("Scan") if v > 8])  # fmt: skip
    yield from model("Scan_axes", """(float[2] s, float[2,5] x, float[5,2] w) => (float[2] y, float[2,5] z) {
        y, z = Scan (s, x, w) <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
            scan_output_axes = [1], scan_output_directions = [1],
            body = b (float[2] a, float[2] e, float[2] f) => (float[2] t, float[2] o) {
            t = Add(a, e)
            o = Mul(t, f)
        }>
    }""", [v for v in versions("Scan") if v > 8])  # fmt: skip
    yield from model("Scan_outer", """(float[5,2] x, float[2] k) => (float[5,2] z) {
        z = Scan (x) <num_scan_inputs = 1, body = b (float[2] e) => (float[2] o) { o = Mul(e, k) }>
    }""", [v for v in versions("Scan") if v > 8])  # fmt: skip
    yield from model("Scan_batch", """(float[1,2] s, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) {
        y, z = Scan (, s, x) <num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] t, float[2] o) {
            t = Add(a, e)
            o = Identity(t)
        }>
    }""", [8])  # fmt: skip


def sequences():
    opsets = [11, 28]
    for dtype in ("float", "int64", "string", "bool", "double", "uint8", "float16"):
        yield from model(f"Sequence_{dtype}", f"""({dtype}[2,3] a, {dtype}[1,3] b, int64 p) =>
            ({dtype}[N,M] x, int64 n, {dtype}[K,L] c, seq({dtype}[N,M]) i, seq({dtype}[N,M]) e) {{
            s = SequenceConstruct(a, b)
            x = SequenceAt(s, p)
            n = SequenceLength(s)
            c = ConcatFromSequence <axis = 0> (s)
            i = SequenceInsert(s, b, p)
            e = SequenceErase(s, p)
        }}""", opsets, p=fill.fixed(-1))  # fmt: skip
    yield from model("Sequence_ends", """(float[2] a, float[2] b) =>
        (float[2,2] c, seq(float[N]) i, seq(float[N]) e, int64 n) {
        s = SequenceConstruct(a, b)
        c = ConcatFromSequence <axis = -1, new_axis = 1> (s)
        i = SequenceInsert(s, b)
        e = SequenceErase(s)
        o = SequenceEmpty <dtype = 7> ()
        n = SequenceLength(o)
    }""", opsets)  # fmt: skip
    for keep, split in ((1, ""), (0, ""), (1, "k")):
        for axis in (0, 1, -1):
            tail = ", k" if split else ""
            head = ", int64 k" if split else ""
            yield from model(f"SplitToSequence_{keep}{split}{axis}", f"""(float[2,6] x{head}) => (seq(float[N,M]) y) {{
                y = SplitToSequence <axis = {axis}, keepdims = {keep}> (x{tail})
            }}""", [11, 24], k=fill.fixed(4))  # fmt: skip
    yield from model("SplitToSequence_list", """(float[2,6] x, int64[3] k) => (seq(float[N,M]) y) {
        y = SplitToSequence <axis = 1> (x, k)
    }""", [11, 24], k=fill.fixed([1, 2, 3]))  # fmt: skip
    yield from model("Sequence_input", """(seq(float[N,3]) s, int64 p) => (float[N,3] y, seq(float[N,3]) z) {
        y = SequenceAt(s, p)
        z = Identity(s)
    }""", [14, 28], s=fill.many((2, 3), (1, 3)), p=fill.fixed(1))  # fmt: skip
    yield from model("SequenceMap_plain", """(seq(float[N]) s, float[3] k) => (seq(float[N]) z) {
        z = SequenceMap (s, k) <body = b (float[N] e, float[N] f) => (float[N] o) { o = Mul(e, f) }>
    }""", [17, 28], s=fill.many((3,), (3,)))  # fmt: skip
    yield from model("SequenceMap_two", """(seq(float[N]) s, seq(float[N]) k) => (seq(float[N]) z, seq(int64[1]) n) {
        z, n = SequenceMap (s, k) <body = b (float[N] e, float[N] f) => (float[N] o, int64[1] l) {
            o = Concat <axis = 0> (e, f)
            l = Shape(o) }>
    }""", [17, 28], s=fill.many((3,), (2,)), k=fill.many((1,), (2,)))  # fmt: skip


def optionals():
    yield from model("Optional_some", """(float[2,3] x) => (bool h, float[2,3] y) {
        o = Optional(x)
        h = OptionalHasElement(o)
        y = OptionalGetElement(o)
    }""", [15, 18, 28])  # fmt: skip
    yield from model("Optional_input", """(optional(float[2,3]) o) => (bool h, float[2,3] y) {
        h = OptionalHasElement(o)
        y = OptionalGetElement(o)
    }""", [15, 18, 28], o=(2, 3))  # fmt: skip
    yield from model("Optional_tensor", """(float[2,3] x) => (bool h, bool n, float[2,3] y) {
        h = OptionalHasElement(x)
        n = OptionalHasElement()
        y = OptionalGetElement(x)
    }""", [18, 28])  # fmt: skip
    yield from model("Optional_sequence", """(float[2,3] x) => (bool h, float[2,3] y) {
        s = SequenceConstruct(x, x)
        o = Optional(s)
        h = OptionalHasElement(o)
        g = OptionalGetElement(o)
        p = Constant <value = int64 {0}> ()
        y = SequenceAt(g, p)
    }""", [15, 18, 28])  # fmt: skip


NORMALIZERS = (
    "",
    'case_change_action = "LOWER"',
    'case_change_action = "UPPER"',
    'stopwords = ["abc", "é"]',
    'stopwords = ["ABC", ""], is_case_sensitive = 0',
    'stopwords = ["a"], case_change_action = "UPPER", is_case_sensitive = 1',
)


def texts():
    s = {"x": ["abc", "", "Déjà vu", "a,b,,c", " b  a "], "y": ["1", "", "é", "x", "b"]}
    yield from model(
        "StringConcat_same",
        "(string[5] x, string[5] y) => (string[5] z) { z = StringConcat(x, y) }",
        [20],
        **{k: fill.fixed(v) for k, v in s.items()},
    )
    yield from model(
        "StringConcat_wide", "(string[5,1] x, string[3] y) => (string[5,3] z) { z = StringConcat(x, y) }", [20]
    )
    for delimiter, limit in ((None, None), (",", None), (",", 1), (" ", None), (None, 1), ("", None)):
        attrs = [f'delimiter = "{delimiter}"'] * (delimiter is not None) + [f"maxsplit = {limit}"] * (limit is not None)
        tail = f"<{', '.join(attrs)}>" if attrs else ""
        yield from model(
            f"StringSplit_{len(delimiter or 'none')}{delimiter == ','}{limit}",
            f"(string[5] x) => (string[5,N] z, int64[5] n) {{ z, n = StringSplit {tail} (x) }}",
            [20],
            x=fill.fixed(s["x"]),
        )
    for n, pattern in enumerate(("a.*", "[a-z,]+", "", "(abc|x)?", "\\\\w+\\\\s\\\\w+")):
        yield from model(
            f"RegexFullMatch_{n}",
            f'(string[5] x) => (bool[5] y) {{ y = RegexFullMatch <pattern = "{pattern}"> (x) }}',
            [20],
            x=fill.fixed(s["x"]),
        )
    for n, attrs in enumerate(NORMALIZERS):
        yield from model(
            f"StringNormalizer_{n}",
            f"(string[5] x) => (string[N] y) {{ y = StringNormalizer {'<' + attrs + '>' if attrs else ''} (x) }}",
            [10],
            x=fill.fixed(s["x"]),
        )
    for mode in ("TF", "IDF", "TFIDF"):
        for skip in (0, 2):
            for low, high in ((1, 1), (2, 2), (1, 2)):
                yield from model(f"TfIdfVectorizer_{mode}{skip}{low}{high}", f"""(int64[2,6] x) => (float[2,N] y) {{
                    y = TfIdfVectorizer <mode = "{mode}", min_gram_length = {low}, max_gram_length = {high},
                        max_skip_count = {skip}, ngram_counts = [0, 4], ngram_indexes = [0, 1, 2, 3, 4, 5, 6],
                        weights = [1.0, 2.0, 0.5, 3.0, 1.5, 2.5, 4.0],
                        pool_int64s = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]> (x)
                }}""", [9], x=fill.fixed([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]]))  # fmt: skip


IDIOMS = {
    "view": ("(float[N,4,6] x) => (float[A,B] y)", """
        s = Shape(x)
        i = Constant <value = int64 {0}> ()
        n = Gather(s, i)
        a = Constant <value_ints = [0]> ()
        u = Unsqueeze(n, a)
        m = Constant <value_ints = [-1]> ()
        t = Concat <axis = 0> (u, m)
        y = Reshape(x, t)""", {"x": (3, 4, 6)}),
    "layer_norm": ("(float[N,4] x, float[4] g, float[4] b) => (float[N,4] y)", """
        axes = Constant <value_ints = [-1]> ()
        m = ReduceMean(x, axes)
        d = Sub(x, m)
        two = Constant <value = float {2.0}> ()
        p = Pow(d, two)
        v = ReduceMean(p, axes)
        e = Constant <value = float {0.00001}> ()
        w = Add(v, e)
        q = Sqrt(w)
        n = Div(d, q)
        h = Mul(n, g)
        y = Add(h, b)""", {"x": (3, 4)}),
    "gelu": ("(float[N,4] x) => (float[N,4] y)", """
        r = Constant <value = float {1.4142135}> ()
        a = Div(x, r)
        b = Erf(a)
        one = Constant <value = float {1.0}> ()
        c = Add(b, one)
        d = Mul(x, c)
        half = Constant <value = float {0.5}> ()
        y = Mul(d, half)""", {"x": (3, 4)}),
    "attention": ("(float[B,2,5,4] q, float[B,2,5,4] k, float[B,2,5,4] v) => (float[B,2,5,4] y)", """
        t = Transpose <perm = [0, 1, 3, 2]> (k)
        s = MatMul(q, t)
        f = Constant <value = float {0.5}> ()
        w = Mul(s, f)
        p = Softmax <axis = -1> (w)
        y = MatMul(p, v)""", {k: (2, 2, 5, 4) for k in "qkv"}),
    "chunks": ("(float[N,6] x) => (float[N,6] y, float[N,3] z)", """
        a, b = Split <axis = -1, num_outputs = 2> (x)
        s = Sigmoid(b)
        z = Mul(a, s)
        y = Concat <axis = 1> (z, a)""", {"x": (3, 6)}),
    "mask": ("(float[N,M] x) => (float[N,M] y)", """
        s = Shape(x)
        o = ConstantOfShape <value = float[1] {1.0}> (s)
        t = Trilu <upper = 0> (o)
        zero = Constant <value = float {0.0}> ()
        c = Equal(t, zero)
        low = Constant <value = float {-1000.0}> ()
        w = Where(c, low, x)
        y = Softmax(w)""", {"x": (4, 4)}),
    "conv_block": ("""(float[N,3,8,8] x, float[4,3,3,3] w, float[4] g, float[4] b, float[4] m, float[4] v) =>
        (float[N,C,H,W] y)""", """
        c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
        n = BatchNormalization(c, g, b, m, v)
        r = Relu(n)
        k = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        f = GlobalAveragePool(k)
        y = Add(k, f)""", {"x": (2, 3, 8, 8), "v": fill.positive(4)}),
    "nonzero": ("(float[N,M] x) => (float[K] y, int64 n)", """
        zero = Constant <value = float {0.0}> ()
        g = Greater(x, zero)
        i = NonZero(g)
        t = Transpose <perm = [1, 0]> (i)
        y = GatherND(x, t)
        s = Shape <start = 0, end = 1> (t)
        a = Constant <value_ints = [0]> ()
        n = Squeeze(s, a)""", {"x": (3, 4)}),
    "positions": ("(int64[B,S] ids, float[9,4] table) => (float[B,S,4] y)", """
        s = Shape(ids)
        one = Constant <value = int64 {1}> ()
        n = Gather(s, one)
        zero = Constant <value = int64 {0}> ()
        r = Range(zero, n, one)
        e = Expand(r, s)
        a = Gather(table, ids)
        b = Gather(table, e)
        y = Add(a, b)""", {"ids": fill.between((2, 5), 0, 8)}),
    "window": ("(float[N,8] x) => (float[N,K] y)", """
        a = Constant <value_ints = [1]> ()
        b = Constant <value_ints = [-1]> ()
        c = Constant <value_ints = [1]> ()
        d = Constant <value_ints = [2]> ()
        s = Slice(x, a, b, c, d)
        r = Slice(x, b, a, c, b)
        y = Concat <axis = 1> (s, r)""", {"x": (3, 8)}),
    "quantized": ("(float[N,4] x, float[4,3] w) => (float[N,3] y)", """
        q, s, z = DynamicQuantizeLinear(x)
        u, t, o = DynamicQuantizeLinear(w)
        m = MatMulInteger(q, u, z, o)
        f = Cast <to = 1> (m)
        k = Mul(s, t)
        y = Mul(f, k)""", {"x": (3, 4)}),
    "qdq": ("(float[N,4] x) => (float[N,4] y)", """
        s = Constant <value = float {0.05}> ()
        z = Constant <value = uint8 {128}> ()
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        r = Relu(d)
        p = QuantizeLinear(r, s, z)
        y = DequantizeLinear(p, s, z)""", {"x": (3, 4)}),
    "rope": ("(float[B,4,3,8] x, float[3,8] c, float[3,8] s) => (float[B,4,3,8] y)", """
        a, b = Split <axis = -1, num_outputs = 2> (x)
        n = Neg(b)
        r = Concat <axis = -1> (n, a)
        p = Mul(x, c)
        q = Mul(r, s)
        y = Add(p, q)""", {"x": (2, 4, 3, 8)}),
    "upsample": ("(float[1,2,H,W] x) => (float[1,2,A,B] y)", """
        s = Shape(x)
        a = Constant <value_ints = [0]> ()
        b = Constant <value_ints = [2]> ()
        n = Slice(s, a, b)
        c = Constant <value_ints = [4]> ()
        t = Slice(s, b, c)
        m = Mul(t, b)
        z = Concat <axis = 0> (n, m)
        y = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"> (x, , , z)
        """, {"x": (1, 2, 3, 4)}),
}  # fmt: skip


def idioms():
    for name, (signature, body, given) in IDIOMS.items():
        text = signature + " {" + body + "\n}"
        yield from model(f"Idiom_{name}", text, [18, 21, 24, 28], **given)


def functions():
    yield from model("Function_plain", """(float[N,4] x, float[4,4] w) => (float[N,4] y) {
        h = local.dense (x, w)
        y = local.dense (h, w)
    }""", [13, 18, 24], """
    <opset_import: ["" : {opset}], domain: "local">
    dense (a, b) => (c) {{ m = MatMul(a, b) c = Relu(m) }}""", x=(3, 4))  # fmt: skip
    yield from model("Function_attribute", """(float[N,4] x) => (float[N,4] y) {
        h = local.slope <alpha = 0.3> (x)
        y = local.twice <factor = 2.5> (h)
    }""", [13, 18, 24], """
    <opset_import: ["" : {opset}], domain: "local">
    slope <alpha> (a) => (c) {{ c = LeakyRelu <alpha : float = @alpha> (a) }}
    <opset_import: ["" : {opset}, "local" : 1], domain: "local">
    twice <factor> (a) => (c) {{
        f = Constant <value_float : float = @factor> ()
        m = Mul(a, f)
        c = local.slope <alpha : float = @factor> (m)
    }}""", x=(3, 4))  # fmt: skip
    yield from model("Function_branch", """(bool p, float[N,4] x) => (float[N,4] y) {
        y = local.pick (p, x)
    }""", [13, 18, 24], """
    <opset_import: ["" : {opset}], domain: "local">
    pick (p, a) => (c) {{
        n = Neg(a)
        c = If (p) <
            then_branch = t () => (float[N,4] u) {{ u = Exp(n) }},
            else_branch = e () => (float[N,4] v) {{ v = Add(n, a) }}>
    }}""", x=(3, 4))  # fmt: skip


def rows():
    for part in (branches, loops, scans, sequences, optionals, texts, idioms, functions):
        yield from part()
