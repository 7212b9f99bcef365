"""Shapes beyond the tiles of kernels, with remainders on every side; in f32 only."""

import itertools

from onnx import TensorProto as T

from .case import row
from .fill import between, fixed, positive

NEW = (11, 99)
FLOAT = {"types": {"T": [T.FLOAT]}}


def products():
    for m, k, n in itertools.product((1, 5, 33), (1, 17, 130), (1, 7, 65)):
        yield row("MatMul", (m, k), (k, n), versions=(13, 99), **FLOAT)
    for a, b in (
        ((3, 7, 33), (33, 18)),
        ((2, 3, 1, 65), (2, 1, 65, 9)),
        ((2, 1, 19, 40), (3, 40, 6)),
        ((130,), (130, 35)),
        ((35, 130), (130,)),
        ((4, 1, 70), (4, 70, 50)),
    ):
        yield row("MatMul", a, b, versions=(13, 99), **FLOAT)
    for trans_a, trans_b, c in itertools.product((0, 1), (0, 1), ((19,), (33, 1), (33, 19), (1,))):
        a = (70, 33) if trans_a else (33, 70)
        b = (19, 70) if trans_b else (70, 19)
        yield row("Gemm", a, b, c, transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3, versions=(13, 99), **FLOAT)


def windows():
    for channels, maps, size, kernel in itertools.product((3, 17), (1, 8, 19), ((9, 21), (14, 14)), (1, 3, 5)):
        for extra in ({}, {"strides": [2, 2]}, {"dilations": [2, 2]}):
            side = kernel // 2 * extra.get("dilations", [1])[0]
            attrs = extra | {"pads": [side] * 4}
            yield row(
                "Conv",
                (2, channels, *size),
                (maps, channels, kernel, kernel),
                (maps,),
                versions=(22, 99),
                **attrs,
                **FLOAT,
            )
    for groups, per, maps in ((16, 1, 16), (16, 1, 32), (4, 5, 12), (2, 17, 6), (33, 1, 33)):
        for kernel, stride in ((3, 1), (3, 2), (5, 1), (7, 2)):
            attrs = {"group": groups, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
            yield row(
                "Conv",
                (1, groups * per, 15, 18),
                (maps, per, kernel, kernel),
                (maps,),
                versions=(22, 99),
                **attrs,
                **FLOAT,
            )
    yield row("Conv", (2, 5, 103), (7, 5, 9), (7,), pads=[4, 4], versions=(22, 99), **FLOAT)
    yield row("Conv", (1, 3, 9, 11, 10), (9, 3, 3, 3, 3), (9,), pads=[1] * 6, versions=(22, 99), **FLOAT)
    yield row("Conv", (1, 4, 6, 40), (8, 4, 1, 7), None, pads=[0, 3, 0, 3], versions=(22, 99), **FLOAT)
    yield row(
        "ConvTranspose",
        (2, 17, 9, 8),
        (17, 6, 3, 3),
        (6,),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        versions=(22, 99),
        **FLOAT,
    )
    for op in ("MaxPool", "AveragePool"):
        for kernel, stride, pad in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)):
            attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
            yield row(op, (2, 19, 23, 37), versions=(22, 99), **attrs, **FLOAT)
    yield row("GlobalAveragePool", (2, 33, 19, 23), versions=(22, 99), **FLOAT)


def lines():
    for op in (
        "Exp",
        "Tanh",
        "Sigmoid",
        "Erf",
        "Gelu",
        "Softplus",
        "Mish",
        "HardSwish",
        "Elu",
        "Log",
        "Sqrt",
        "Sin",
        "Round",
    ):
        made = positive(3, 1031) if op in ("Log", "Sqrt") else between((3, 1031), -9, 9)
        yield row(op, made, versions=(13, 99), **FLOAT)
    for a, b in (
        ((5, 1031), (1031,)), ((5, 1031), (5, 1)), ((7, 19, 33), (19, 1)), ((7, 1, 33), (19, 1)), ((1031,), ()),
        ((3, 17, 5, 9), (17, 1, 1)), ((2, 1, 70), (2, 65, 1)), ((65, 33), (65, 33)),
    ):  # fmt: skip
        for op in ("Add", "Mul", "Div", "Pow"):
            yield row(op, positive(*a), positive(*b), versions=(13, 99), types={"T": [T.FLOAT], "T1": [T.FLOAT]})
    for axis in (0, 1, 2, -1):
        for op in ("Softmax", "LogSoftmax"):
            yield row(op, (7, 33, 130), axis=axis, versions=(13, 99), **FLOAT)
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceProd"):
        for axes in ([0], [1], [2], [0, 2], [1, 2], [0, 1, 2]):
            yield row(op, between((7, 33, 130), 0.9, 1.1), axes, keepdims=0, versions=(13, 99), **FLOAT)
    for op in ("ArgMax", "ArgMin"):
        yield row(op, (7, 33, 130), axis=1, versions=(13, 99), **FLOAT)
        yield row(op, (7, 33, 130), axis=2, versions=(13, 99), **FLOAT)
    yield row("LayerNormalization", (7, 33, 130), (130,), (130,), versions=NEW, **FLOAT)
    yield row("RMSNormalization", (7, 33, 130), (130,), types={"V": [T.FLOAT], "T": [T.FLOAT]})
    yield row("BatchNormalization", (2, 33, 19, 7), (33,), (33,), (33,), positive(33), versions=(15, 99), **FLOAT)
    yield row("InstanceNormalization", (2, 9, 19, 23), (9,), (9,), versions=(22, 99), **FLOAT)
    yield row("GroupNormalization", (2, 12, 19, 7), (12,), (12,), num_groups=3, versions=(21, 99), **FLOAT)
    yield row("TopK", (5, 1031), [37], outputs=2, versions=(11, 11), **FLOAT)
    yield row("CumSum", (7, 530), fixed(1), versions=(14, 99), **FLOAT)
    yield row("Where", (33, 1), (65,), (33, 65), types={"T": [T.FLOAT]})


def moves():
    for perm in ([1, 0, 2], [0, 2, 1], [2, 1, 0], [2, 0, 1], [1, 2, 0]):
        yield row("Transpose", (33, 18, 65), perm=perm, versions=(13, 13), **FLOAT)
    yield row("Transpose", (3, 17, 5, 33), perm=[0, 2, 3, 1], versions=(13, 13), **FLOAT)
    yield row("Transpose", (3, 17, 5, 33), perm=[0, 3, 1, 2], versions=(13, 13), **FLOAT)
    yield row("Concat", (33, 17), (33, 1), (33, 70), axis=1, versions=(13, 99), **FLOAT)
    yield row("Slice", (33, 70), [1, 65], [99, 2], [0, 1], [3, -2], versions=(13, 99), **FLOAT)
    yield row("Pad", (17, 33), [3, 0, 2, 9], versions=(13, 13), **FLOAT)
    yield row("Gather", (130, 33), fixed([[5, 129, 0], [-1, -130, 64]]), versions=(13, 99), **FLOAT)
    yield row(
        "Resize", (1, 3, 17, 19), None, [1, 1, 2.3, 1.7], mode="linear", versions=(19, 99), types={"T1": [T.FLOAT]}
    )
    yield row("Einsum", (5, 33, 17), (5, 17, 40), equation="bij,bjk->bik", **FLOAT)
    yield row("Einsum", (3, 20, 4, 8), (3, 25, 4, 8), equation="bqhd,bkhd->bhqk", **FLOAT)


def layers():
    heads = {"T1": [T.FLOAT], "T2": [T.FLOAT], "U": [T.FLOAT]}
    yield row("Attention", (2, 4, 37, 24), (2, 4, 65, 24), (2, 4, 65, 24), types=heads, versions=(23, 23))
    yield row("Attention", (2, 8, 37, 24), (2, 2, 65, 24), (2, 2, 65, 40), types=heads, is_causal=1, versions=(23, 23))
    yield row("Attention", (1, 4, 1, 64), (1, 4, 300, 64), (1, 4, 300, 64), (1, 300), types=heads, versions=(23, 23))
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        inputs = ((19, 5, 30), (1, gates * 37, 30), (1, gates * 37, 37), (1, 2 * gates * 37))
        yield row(op, *(between(i, -0.3, 0.3) for i in inputs), hidden_size=37, outputs=2, versions=(14, 99), **FLOAT)
    tail = (fixed(2), fixed(1))
    yield row(
        "QLinearMatMul", (33, 70), fixed(0.02), fixed(3), (70, 19), fixed(0.5), fixed(3), *tail, versions=(10, 10)
    )
    yield row(
        "QLinearConv",
        (1, 17, 14, 15),
        fixed(0.02),
        fixed(3),
        (9, 17, 3, 3),
        fixed(0.5),
        fixed(1),
        *tail,
        (9,),
        pads=[1] * 4,
    )
    yield row("MatMulInteger", (33, 70), (70, 19), fixed(3), fixed(1))
    yield row("ConvInteger", (1, 17, 14, 15), (9, 17, 3, 3), fixed(3), pads=[1] * 4)


def rows():
    for part in (products, windows, lines, moves, layers):
        yield from part()
