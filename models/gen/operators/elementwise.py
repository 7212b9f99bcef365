"""Functions of each element, and of pairs of elements."""

from onnx import TensorProto as T

from .case import row
from .fill import between, extremes, fixed, positive

UNARY = {
    "Abs": {},
    "Ceil": {},
    "Floor": {},
    "Round": {},
    "Sign": {},
    "Neg": {},
    "Exp": {},
    "Erf": {},
    "Sin": {},
    "Cos": {},
    "Tan": {},
    "Sinh": {},
    "Cosh": {},
    "Tanh": {},
    "Asinh": {},
    "Atan": {},
    "Sigmoid": {},
    "Relu": {},
    "Softplus": {},
    "Softsign": {},
    "HardSwish": {},
    "Mish": {},
    "Celu": {"alpha": 0.7},
    "Elu": {"alpha": 1.7},
    "Selu": {"alpha": 1.2, "gamma": 0.9},
    "LeakyRelu": {"alpha": 0.3},
    "ThresholdedRelu": {"alpha": 0.5},
    "HardSigmoid": {"alpha": 0.4, "beta": 0.3},
    "Swish": {"alpha": 1.5},
    "Gelu": {"approximate": "tanh"},
    "Shrink": {"lambd": 0.7, "bias": 0.2},
    "IsNaN": {},
    "IsInf": {"detect_negative": 0},
    "Not": {},
    "BitwiseNot": {},
    "Identity": {},
}
BOUNDED = {
    "Acos": (-1, 1),
    "Asin": (-1, 1),
    "Atanh": (-0.9, 0.9),
    "Acosh": (1, 5),
    "Log": (0.1, 9),
    "Sqrt": (0, 9),
    "Reciprocal": (0.5, 3),
}
ARITHMETIC = ("Add", "Sub", "Mul")
COMPARE = ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
LOGIC = ("And", "Or", "Xor")
BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
VARIADIC = ("Sum", "Mean", "Max", "Min")


def unary():
    for op, attrs in UNARY.items():
        yield row(op, (2, 3, 4), **attrs)
        yield row(op, extremes(3, 5), **attrs)
        yield row(op, (0, 3), **attrs)
        yield row(op, ())
        if attrs:
            yield row(op, (17,))
    for op, (low, high) in BOUNDED.items():
        yield row(op, between((3, 4), low, high))
        yield row(op, extremes(15))
        yield row(op, ())
    yield row("IsInf", extremes(3, 5))
    yield row("IsInf", extremes(3, 5), detect_positive=0)
    yield row("IsInf", extremes(3, 5), detect_positive=0, detect_negative=0)
    yield row("Shrink", (3, 4), lambd=0.0, bias=3.0)


def consumed():
    """The first versions said which inputs could be overwritten."""
    for op in (
        "Abs",
        "Ceil",
        "Elu",
        "Exp",
        "Floor",
        "HardSigmoid",
        "LeakyRelu",
        "Neg",
        "Relu",
        "Selu",
        "Sigmoid",
        "Tanh",
    ):
        yield row(op, (2, 3), consumed_inputs=[0])
    for op in ("Add", "Sub", "Mul", "Sum", "Max", "Min", "Mean"):
        yield row(op, (2, 3), (2, 3), consumed_inputs=[0, 0])
    yield row("Clip", (2, 3), consumed_inputs=[0], min=-0.5)
    yield row("Dropout", (2, 3), consumed_inputs=[0], is_test=1)
    yield row("PRelu", (2, 3), (2, 3), consumed_inputs=[0, 0])


def pairs(op):
    """Broadcasting from every side; the old versions broadcast by attribute only."""
    modern = (7, 99)
    yield row(op, (2, 3, 4), (2, 3, 4))
    yield row(op, (2, 3, 4), (4,), versions=modern)
    yield row(op, (2, 1, 4), (3, 1), versions=modern)
    yield row(op, (), (2, 3), versions=modern)
    yield row(op, (2, 3), (1, 1, 1), versions=modern)
    yield row(op, (0, 3), (1, 3), versions=modern)
    yield row(op, extremes(13), extremes(13))
    yield row(op, extremes(1, 14), extremes(14, 1), versions=modern)
    yield row(op, (2, 3, 4), (4,), broadcast=1)
    yield row(op, (2, 3, 4), (3,), broadcast=1, axis=1)
    yield row(op, (2, 3, 4), (2, 3), broadcast=1, axis=0)
    yield row(op, (2, 3, 4), (1,), broadcast=1)


def binary():
    for op in ARITHMETIC + COMPARE + LOGIC + BITWISE:
        yield from pairs(op)
    yield row("Div", (2, 3), positive(2, 3))
    yield row("Div", (2, 3), positive(3), broadcast=1)
    yield row("Div", (2, 1, 3), positive(4, 1), versions=(7, 99))
    yield row("Div", extremes(13), positive(13))
    yield row("Div", [-7, 7, -7, 7, 0], [2, -2, -2, 2, 5], types={"T": SIGNED})
    yield row("Pow", positive(2, 3), between((2, 3), 0, 3), every_pair=True)
    yield row("Pow", positive(2, 3), [2], versions=(7, 99))
    yield row("Pow", positive(2, 3), between((3,), 0, 3), broadcast=1)
    yield row("Pow", [-2, -1, 0, 1, 2], [3], versions=(7, 99))
    yield row("Pow", [0, 0, -1, 4], [0, 3, 2, 0.5])
    yield row("Mod", (2, 3), positive(2, 3))
    yield row("Mod", [-7, 7, -7, 7, 0], [3, -3, -3, 3, 5], types={"T": SIGNED})
    yield row("Mod", [-7, 7, -7, 7, 0], [3, -3, -3, 3, 5], fmod=1, types={"T": SIGNED})
    yield row("Mod", [-5.5, 5.5, 5.5, -5.5], [2.25, -2.25, 2.25, -2.25], fmod=1, types={"T": SIGNED})
    yield row("Mod", (2, 3, 1), positive(4))
    yield row("BitShift", positive(3, 4), between((4,), 0, 3), direction="LEFT")
    yield row("BitShift", between((3, 4), 0, 9), between((1,), 0, 3), direction="RIGHT")
    yield row("BitShift", [1, 2, 255, 4], [1, 7, 9, 31], direction="LEFT")
    yield row("BitShift", [1, 2, 255, 4], [64, 100, 8, 31], direction="RIGHT")
    yield row("PRelu", (2, 3, 4), (2, 3, 4))
    yield row("PRelu", (2, 3, 4), (3, 1))
    yield row("PRelu", (2, 3, 4), (1,))
    yield row("PRelu", (2, 3, 4), (3,), versions=(1, 6))
    yield row("SwiGLU", (2, 6), (2, 6))
    yield row("SwiGLU", (2, 6), (2, 6), alpha=1.5)
    yield row("SwiGLU", (2, 6), (6,))


def variadic():
    for op in VARIADIC:
        yield row(op, (2, 3))
        yield row(op, (2, 3), (2, 3))
        yield row(op, (2, 3), (3,), (2, 1), versions=(8, 99))
        yield row(op, (2, 3), (2, 3), (2, 3), (2, 3))
        yield row(op, extremes(14), fixed([1.0] * 14))
        yield row(op, extremes(14, 1), extremes(14), versions=(8, 99))


def choosing():
    yield row("Where", (2, 3), (2, 3), (2, 3))
    yield row("Where", (3, 1), (4,), (2, 1, 1))
    yield row("Where", (), (2, 2), (1,))
    yield row("Clip", (2, 3), min=-0.5, max=1.0)
    yield row("Clip", (2, 3), max=1.0)
    yield row("Clip", (2, 3))
    yield row("Clip", (2, 3), fixed(1), fixed(3))
    yield row("Clip", (2, 3), None, fixed(1))
    yield row("Clip", (2, 3), fixed(1))
    yield row("Clip", (2, 3), fixed(3), fixed(1))
    yield row("Clip", extremes(14), fixed(0), fixed(3))
    yield row("Clip", extremes(14))
    yield row("Dropout", (2, 3))
    yield row("Dropout", (2, 3), ratio=0.3)
    yield row("Dropout", (2, 3), is_test=1)
    yield row("Dropout", (2, 3), is_test=1, ratio=0.2, outputs=2)
    yield row("Dropout", (2, 3), outputs=2)
    yield row("Dropout", (2, 3), fixed(0.3), outputs=2)
    yield row("Dropout", (2, 3), fixed(0.3), fixed(False), outputs=2)
    yield row("Dropout", (2, 3), fixed(0.0), fixed(True), outputs=2)
    yield row("Dropout", (2, 3), None, fixed(False), seed=3)


def casting():
    to = {"to": lambda t: t["T2"]}
    yield row("Cast", between((2, 3), 0, 3), every_pair=True, versions=(28, 99), **to)
    yield row("Cast", between((2, 3), 0, 3), versions=(6, 99), **to)
    yield row("Cast", (2, 3), types={"T1": SIGNED, "T2": SIGNED}, every_pair=True, versions=(13, 13), **to)
    yield row(
        "Cast",
        [300, -300, 70000, -1, 5],
        types={"T1": INTEGERS, "T2": INTEGERS},
        every_pair=True,
        versions=(13, 13),
        **to,
    )
    yield row(
        "Cast",
        extremes(14),
        types={"T1": FLOATING, "T2": FLOATING + [T.BOOL]},
        every_pair=True,
        versions=(13, 13),
        **to,
    )
    yield row("Cast", extremes(14), types={"T1": FLOATING, "T2": SMALL8}, every_pair=True, versions=(19, 99), **to)
    yield row("Cast", extremes(14), saturate=0, types={"T1": FLOATING, "T2": SMALL8}, every_pair=True, **to)
    for mode in ("up", "down", "nearest"):
        yield row("Cast", positive(14), round_mode=mode, types={"T1": FLOATING, "T2": [T.FLOAT8E8M0]}, **to)
    yield row("Cast", NUMERALS, types={"T1": [T.STRING], "T2": NUMBERS}, versions=(9, 99), **to)
    yield row("Cast", FLOAT_NUMERALS, types={"T1": [T.STRING], "T2": FLOATING}, versions=(9, 99), **to)
    yield row("Cast", (2, 3), to="INT32", versions=(1, 1))
    yield row("Cast", (2, 3), to="DOUBLE", versions=(1, 1))
    yield row("CastLike", between((2, 3), 0, 3), (1,), every_pair=True, versions=(25, 99))
    yield row("CastLike", between((2, 3), 0, 3), (1,))
    for width in WIDTHS:
        yield row("BitCast", (2, 4), types={"T1": width, "T2": width}, every_pair=True, **to)


FLOATING = [T.FLOAT, T.FLOAT16, T.DOUBLE, T.BFLOAT16]
SIGNED = FLOATING + [T.INT8, T.INT16, T.INT32, T.INT64]
INTEGERS = [T.INT8, T.INT16, T.INT32, T.INT64, T.UINT8, T.UINT16, T.UINT32, T.UINT64, T.BOOL]
WIDTHS = (
    [T.BOOL, T.INT8, T.UINT8, T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, T.FLOAT8E8M0],
    [T.INT16, T.UINT16, T.FLOAT16, T.BFLOAT16],
    [T.INT32, T.UINT32, T.FLOAT],
    [T.INT64, T.UINT64, T.DOUBLE, T.COMPLEX64],
    [T.INT4, T.UINT4, T.FLOAT4E2M1],
    [T.INT2, T.UINT2],
)
SMALL8 = [T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ]
NUMBERS = [T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT8, T.INT16, T.INT32, T.INT64, T.UINT8, T.UINT16, T.UINT32, T.UINT64]
NUMERALS = ["1", "7", "100", "0"]
FLOAT_NUMERALS = ["3.14", "-1e5", "1E8", "NaN", "-inf", "INF", "1e-3", "+INF", "-.5"]


def rows():
    for part in (unary, consumed, binary, variadic, choosing, casting):
        yield from part()
