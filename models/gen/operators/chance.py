"""Operators that draw numbers: only types and shapes are compared."""

from onnx import TensorProto as T

from .case import row
from .fill import between, fixed

FLOATS = [T.FLOAT, T.DOUBLE, T.FLOAT16]


def rows():
    same = {"shape_only": True}
    for op in ("RandomNormal", "RandomUniform"):
        yield row(op, shape=[2, 3], **same)
        yield row(op, shape=[2, 3], dtype=lambda t: t["T"], seed=1.5, **same)
    for op in ("RandomNormalLike", "RandomUniformLike"):
        yield row(op, (2, 3), types={"T2": "T1", "T1": FLOATS}, **same)
        yield row(op, (2, 3), dtype=lambda t: t["T2"], seed=1.5, every_pair=True, **same)
    yield row("Bernoulli", between((2, 3), 0, 1), types={"T2": "T1"}, **same)
    yield row("Bernoulli", between((2, 3), 0, 1), dtype=lambda t: t["T2"], every_pair=True, **same)
    yield row("Multinomial", (2, 3), dtype=lambda t: t["T2"], sample_size=4, **same)
    yield row("Dropout", (2, 3), fixed(0.5), fixed(True), outputs=2, seed=3, **same)
