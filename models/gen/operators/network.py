"""Convolutions, pools, normalizations, losses, matrices and images."""

import numpy as np
from onnx import TensorProto as T

from .case import row
from .fill import Spec, cast, fixed, is_integer, positive


def convolutions():
    x, w = (2, 4, 7, 6), (6, 4, 3, 3)
    for attrs in (
        {},
        {"pads": [1, 0, 2, 1]},
        {"strides": [2, 3]},
        {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"auto_pad": "SAME_UPPER", "dilations": [2, 2]},
        {"kernel_shape": [3, 3], "group": 1},
    ):
        yield row("Conv", x, w, **attrs)
        yield row("ConvInteger", x, w, **attrs)
    yield row("Conv", x, w, (6,))
    yield row("Conv", x, (6, 2, 3, 3), (6,), group=2)
    yield row("Conv", x, (8, 1, 3, 2), None, group=4)
    yield row("Conv", (1, 2, 9), (3, 2, 4), (3,), pads=[2, 1])
    yield row("Conv", (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), strides=[1, 2, 1])
    yield row("Conv", (0, 2, 5, 5), (3, 2, 2, 2))
    yield row("Conv", (1, 2, 3, 3), (3, 2, 1, 1), pads=[1, 1, 1, 1])
    yield row("Conv", (1, 2, 3, 2, 3, 2), (1, 2, 2, 1, 2, 1))
    yield row("ConvInteger", x, w, fixed(3))
    yield row("ConvInteger", x, w, fixed(3), fixed(2), pads=[1, 1, 1, 1])
    yield row("ConvInteger", x, w, fixed(3), [1, 2, 3, 0, 1, 2], pads=[1, 1, 1, 1])
    x, w = (1, 4, 4, 3), (4, 2, 3, 3)
    for attrs in (
        {},
        {"strides": [2, 3]},
        {"pads": [1, 0, 1, 2]},
        {"strides": [2, 2], "output_padding": [1, 1]},
        {"dilations": [2, 2]},
        {"strides": [3, 2], "output_shape": [10, 8]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [2, 1]},
        {"auto_pad": "SAME_LOWER", "strides": [3, 2], "output_shape": [11, 7]},
        {"auto_pad": "SAME_UPPER", "strides": [3, 2], "output_shape": [11, 7]},
    ):
        yield row("ConvTranspose", x, w, **attrs)
    yield row("ConvTranspose", x, w, (4,), group=2)
    yield row("ConvTranspose", (1, 2, 5), (2, 3, 3), (3,), strides=[2], pads=[1, 1])
    yield row("ConvTranspose", (1, 2, 3, 2, 3), (2, 1, 2, 2, 2), strides=[2, 1, 2])
    yield row("ConvTranspose", (0, 2, 5), (2, 3, 3))
    yield row("DeformConv", (1, 2, 5, 5), (3, 2, 2, 2), (1, 8, 4, 4), (3,))
    yield row(
        "DeformConv",
        (1, 2, 5, 5),
        (4, 1, 3, 3),
        (1, 36, 5, 5),
        None,
        (1, 18, 5, 5),
        group=2,
        offset_group=2,
        pads=[1, 1, 1, 1],
    )
    yield row(
        "DeformConv",
        (1, 2, 7, 6),
        (3, 2, 3, 2),
        (1, 12, 3, 3),
        strides=[2, 2],
        kernel_shape=[3, 2],
        pads=[0, 0, 0, 1],
        dilations=[1, 1],
    )
    yield row("CausalConvWithState", (2, 3, 6), (3, 1, 4), (3,), outputs=2)
    yield row("CausalConvWithState", (2, 3, 6), (3, 1, 4), None, (2, 3, 3), outputs=2, activation="silu")
    yield row("Col2Im", (1, 8, 9), [4, 4], [2, 2])
    yield row("Col2Im", (2, 12, 4), [5, 5], [2, 3], strides=[2, 2])
    yield row(
        "Col2Im", (1, 5, 4), [5, 5], [1, 5], pads=[0, 1, 0, 1], strides=[2, 2], dilations=[1, 1], versions=(99, 99)
    )
    yield row("Col2Im", (1, 9, 4), [6, 6], [3, 3], dilations=[2, 2], pads=[0, 0, 0, 0])
    yield row("Col2Im", (1, 6, 10), [4, 6], [2, 3], pads=[1, 0, 0, 0], strides=[1, 2], versions=(99, 99))


POOLS = (
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"kernel_shape": [3, 3], "auto_pad": "VALID", "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "dilations": [2, 3]},
    {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1], "strides": [1, 2], "ceil_mode": 1},
    {"kernel_shape": [7, 8]},
)


def pools():
    x = (1, 2, 7, 8)
    for attrs in POOLS:
        yield row("MaxPool", x, **attrs)
        yield row("MaxPool", x, outputs=2, **attrs)
        yield row("AveragePool", x, **attrs)
        yield row("AveragePool", x, count_include_pad=1, **attrs)
        yield row("LpPool", x, p=3, **attrs)
    yield row("MaxPool", x, kernel_shape=[2, 3], storage_order=1, outputs=2)
    yield row("MaxPool", (2, 2, 9), kernel_shape=[3], strides=[2], outputs=2)
    yield row("MaxPool", (2, 2, 4, 5, 3), kernel_shape=[2, 2, 2], outputs=2)
    yield row("AveragePool", (2, 2, 9), kernel_shape=[3], strides=[2])
    yield row("AveragePool", (1, 2, 4, 5, 4), kernel_shape=[2, 3, 2], pads=[0, 1, 0, 1, 0, 1], count_include_pad=1)
    yield row("LpPool", (2, 2, 9), kernel_shape=[3], strides=[2], p=1)
    yield row("LpPool", x, kernel_shape=[3, 3])
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        yield row(op, (2, 3, 4, 5))
        yield row(op, (2, 3, 4))
        yield row(op, (1, 2, 2, 3, 2))
    yield row("GlobalLpPool", (2, 3, 4, 5), p=3)
    yield row("MaxUnpool", (1, 1, 2, 2), [[[[0, 3], [9, 14]]]], kernel_shape=[2, 2], strides=[2, 2])
    yield row("MaxUnpool", (1, 1, 2, 2), [[[[5, 7], [13, 15]]]], [1, 1, 5, 5], kernel_shape=[2, 2], strides=[2, 2])
    rois = [[0, 0, 0, 4, 4], [1, 1, 2, 5, 6], [0, 3, 3, 3, 3]]
    yield row("MaxRoiPool", (2, 2, 8, 8), rois, pooled_shape=[2, 3])
    yield row("MaxRoiPool", (2, 2, 8, 8), rois, pooled_shape=[3, 2], spatial_scale=0.5)
    boxes = [[0, 0, 4, 4], [1, 2, 5, 6.5], [3, 3, 3.2, 3.1]]
    for mode in ("avg", "max"):
        for attrs in (
            {},
            {"sampling_ratio": 2, "output_height": 2, "output_width": 3},
            {"coordinate_transformation_mode": "output_half_pixel", "spatial_scale": 0.5},
            {"coordinate_transformation_mode": "half_pixel", "output_height": 3, "output_width": 2},
        ):
            yield row("RoiAlign", (2, 2, 8, 8), boxes, [0, 1, 0], mode=mode, **attrs)


def normalizations():
    c = 3
    yield row("BatchNormalization", (2, c, 4), (c,), (c,), (c,), positive(c))
    yield row("BatchNormalization", (2, c, 4, 2), (c,), (c,), (c,), positive(c), epsilon=0.01, momentum=0.7)
    yield row("BatchNormalization", (2, c, 4), (c,), (c,), (c,), positive(c), is_test=1)
    old = {"consumed_inputs": [0, 0, 0, 1, 1], "is_test": 1, "epsilon": 0.01}
    yield row("BatchNormalization", (2, c, 4), (c,), (c,), (c,), positive(c), **old)
    yield row("BatchNormalization", (2, c, 4), (c,), (c,), (c,), positive(c), spatial=1)
    yield row("BatchNormalization", (2, c, 4), (c, 4), (c, 4), (c, 4), positive(c, 4), spatial=0, versions=(7, 8))
    yield row("BatchNormalization", (2, c, 4), (c,), (c,), (c,), positive(c), training_mode=1, outputs=3)
    yield row("BatchNormalization", (2, c), (c,), (c,), (c,), positive(c))
    yield row("InstanceNormalization", (2, 3, 4, 5), (3,), (3,))
    yield row("InstanceNormalization", (2, 3, 4), (3,), (3,), epsilon=0.1)
    yield row("LRN", (2, 5, 3, 3), size=3)
    yield row("LRN", (2, 5, 3, 3), size=4, alpha=0.2, beta=0.5, bias=2.0)
    yield row("LRN", (2, 5, 3), size=5, alpha=0.2)
    for p in (1, 2):
        yield row("LpNormalization", (2, 3, 4), p=p)
        yield row("LpNormalization", (2, 3, 4), p=p, axis=1)
    yield row("LpNormalization", [[0, 0], [1, 2]], axis=1)
    yield row("MeanVarianceNormalization", (2, 3, 4, 2))
    yield row("MeanVarianceNormalization", (2, 3, 4), axes=[0, 2])
    yield row("MeanVarianceNormalization", (2, 3, 4), axes=[-1])
    yield row("LayerNormalization", (2, 3, 4), (4,), (4,), outputs=3)
    yield row("LayerNormalization", (2, 3, 4), (3, 4), axis=1)
    yield row("LayerNormalization", (2, 3, 4), (3, 4), (3, 4), axis=-2, epsilon=0.1, outputs=3)
    yield row("LayerNormalization", (2, 3, 4), (2, 3, 4), axis=0)
    yield row("LayerNormalization", (2, 3, 4), (1,), (4,))
    yield row("RMSNormalization", (2, 3, 4), (4,), types={"V": "T"})
    yield row("RMSNormalization", (2, 3, 4), (3, 4), axis=1, epsilon=0.1)
    yield row("GroupNormalization", (2, 6, 3, 2), (2,), (2,), num_groups=2, versions=(18, 18))
    yield row("GroupNormalization", (2, 6, 3, 2), (6,), (6,), num_groups=2, versions=(21, 99))
    yield row("GroupNormalization", (2, 6, 4), (6,), (6,), num_groups=3, epsilon=0.1, versions=(21, 99))


def losses():
    for reduction in ("none", "sum", "mean"):
        for weight in (None, positive(4)):
            extra = () if weight is None else (weight,)
            yield row("NegativeLogLikelihoodLoss", (3, 4), [0, 2, 3], *extra, reduction=reduction)
            yield row(
                "NegativeLogLikelihoodLoss",
                (2, 4, 3),
                [[0, 2, 3], [1, 1, 0]],
                *extra,
                reduction=reduction,
                ignore_index=1,
            )
            yield row("SoftmaxCrossEntropyLoss", (3, 4), [0, 2, 3], *extra, reduction=reduction, outputs=2)
            yield row(
                "SoftmaxCrossEntropyLoss",
                (2, 4, 3),
                [[0, 2, 3], [1, 1, 0]],
                *extra,
                reduction=reduction,
                ignore_index=1,
            )
            yield row(
                "SoftmaxCrossEntropyLoss",
                (2, 4, 3),
                [[0, 2, 3], [1, -1, 0]],
                *extra,
                reduction=reduction,
                ignore_index=-1,
            )
    yield row("SoftmaxCrossEntropyLoss", (2, 4, 2, 2), [[[0, 2], [3, 1]], [[1, 1], [0, 2]]])


def matrices():
    yield row("MatMul", (3, 4), (4, 5))
    yield row("MatMul", (2, 1, 3, 4), (5, 4, 2))
    yield row("MatMul", (4,), (4,))
    yield row("MatMul", (4,), (2, 4, 3))
    yield row("MatMul", (2, 3, 4), (4,))
    yield row("MatMul", (2, 0), (0, 3))
    yield row("MatMulInteger", (3, 4), (4, 2))
    yield row("MatMulInteger", (2, 3, 4), (4, 2), fixed(3), fixed(1))
    yield row("MatMulInteger", (3, 4), (4, 2), [1, 2, 3], [3, 1])
    yield row("MatMulInteger", (3, 4), (4, 2), None, fixed(3))
    for attrs in ({}, {"transA": 1}, {"alpha": 0.5, "beta": 2.0}, {"alpha": 2.0, "beta": 0.0}):
        a = (4, 3) if "transA" in attrs else (3, 4)
        yield row("Gemm", a, (4, 5), (3, 5), **attrs)
        yield row("Gemm", a, (5, 4), (5,), transB=1, versions=(7, 99), **attrs)
        yield row("Gemm", a, (5, 4), (5,), transB=1, broadcast=1, **attrs)
        yield row("Gemm", a, (4, 5), (3, 1), versions=(7, 99), **attrs)
        yield row("Gemm", a, (4, 5), (), versions=(7, 99), **attrs)
        yield row("Gemm", a, (4, 5), **attrs)
    yield row("Gemm", (0, 4), (4, 5), (5,), versions=(7, 99))
    yield row("Gemm", (3, 0), (0, 5), (5,), versions=(7, 99))
    yield row("Det", (3, 3))
    yield row("Det", (2, 2, 4, 4))
    yield row("Det", [[0, 1], [1, 0]])
    for equation, shapes in EQUATIONS.items():
        yield row("Einsum", *shapes, equation=equation)


EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij->ji": ((2, 3),),
    "ij->": ((2, 3),),
    "ii->i": ((3, 3),),
    "ii": ((3, 3),),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 2)),
    "...ij,...jk": ((2, 1, 2, 3), (5, 3, 2)),
    "i,j": ((2,), (3,)),
    "i,i": ((3,), (3,)),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 2)),
    "...ii->...i": ((2, 3, 3),),
    "bhwc,hkc->bhwk": ((2, 3, 2, 4), (3, 5, 4)),
    " i j , j k -> i k ": ((2, 3), (3, 4)),
    "b...,b...->...": ((2, 3), (2, 3)),
    "ba,b": ((2, 3), (2,)),
    "i...->...": ((2, 3),),
    "ijk->kji": ((2, 3, 4),),
    "a,a,a->a": ((3,), (3,), (3,)),
}


def scale(values):
    """A scale that is not 0 where it is an integer."""

    def make(rng, dtype):
        return cast(np.maximum(values, 1) if is_integer(dtype) else values, dtype)

    return Spec(make, constant=isinstance(values, list))


def quantization():
    yield row("QuantizeLinear", (2, 3), scale(0.25))
    yield row("QuantizeLinear", (2, 3), scale(0.25), fixed(1))
    yield row("QuantizeLinear", (2, 3, 2), [0.25, 0.5, 1], [0, 1, 2], axis=1)
    yield row("QuantizeLinear", (2, 3), [0.25, 0.5], [0, 1], axis=-2)
    yield row("QuantizeLinear", (2, 4), [[0.25, 0.5], [1, 2]], [[0, 1], [1, 0]], axis=1, block_size=2)
    yield row("QuantizeLinear", (2, 3), scale(0.25), None, output_dtype=lambda t: t.get("T3", t["T2"]))
    yield row("QuantizeLinear", [-1e9, 1e9, 0.125, 0.375, -0.125, 2.5, 3.5], scale(0.25), fixed(1))
    yield row("QuantizeLinear", [-1e9, 1e9, 0.125, 0.375, -0.125, 2.5, 3.5], scale(0.25), fixed(0), saturate=0)
    yield row("QuantizeLinear", (2, 3), scale(0.25), fixed(1), precision=T.FLOAT)
    yield row("DequantizeLinear", (2, 3), fixed(0.25))
    yield row("DequantizeLinear", (2, 3), fixed(0.25), fixed(1))
    yield row("DequantizeLinear", (2, 3, 2), [0.25, 0.5, 1], [0, 1, 2], axis=1)
    yield row("DequantizeLinear", (2, 3), [0.25, 0.5], [0, 1], axis=-2)
    yield row("DequantizeLinear", (2, 4), [[0.25, 0.5], [1, 2]], [[0, 1], [1, 0]], axis=1, block_size=2)
    yield row("DequantizeLinear", (4, 3), [[0.25, 0.5, 1], [1, 2, 3]], axis=0, block_size=2)
    yield row("DequantizeLinear", (2, 3), fixed(0.25), output_dtype=lambda t: t["T3"])
    yield row("DynamicQuantizeLinear", (3, 4))
    yield row("DynamicQuantizeLinear", (3, 4), outputs=3)
    yield row("DynamicQuantizeLinear", positive(3, 4), outputs=3)
    yield row("DynamicQuantizeLinear", [-3.0, -1, -2], outputs=3)
    yield row("DynamicQuantizeLinear", [0.0, 0], outputs=3, versions=(99, 99))
    half, point = fixed(0.5), fixed(3)
    yield row("QLinearMatMul", (2, 4), half, point, (4, 3), fixed(0.25), point, fixed(2), fixed(1))
    yield row("QLinearMatMul", (2, 2, 4), half, point, (4, 3), fixed(0.25), point, fixed(2), fixed(1))
    yield row("QLinearMatMul", (2, 4), [0.5, 1], [3, 2], (4, 3), [0.25, 1, 2], [1, 2, 3], fixed(2), fixed(1))
    tail = (fixed(2), fixed(1))
    yield row("QLinearConv", (1, 2, 5, 5), half, point, (3, 2, 3, 3), fixed(0.25), fixed(1), *tail)
    yield row(
        "QLinearConv",
        (1, 2, 5, 5),
        half,
        point,
        (3, 2, 3, 3),
        [0.25, 0.5, 1],
        [0, 0, 0],
        *tail,
        (3,),
        pads=[1, 1, 1, 1],
    )
    yield row(
        "QLinearConv",
        (1, 2, 5, 5),
        half,
        point,
        (4, 1, 2, 2),
        [0.25, 0.5, 1, 2],
        [1, 2, 0, 3],
        *tail,
        group=2,
        strides=[2, 2],
    )
    yield row(
        "QLinearConv", (1, 2, 5), half, point, (4, 2, 2), fixed(0.25), fixed(1), *tail, (4,), auto_pad="SAME_UPPER"
    )


def rows():
    for part in (convolutions, pools, normalizations, losses, matrices, quantization):
        yield from part()
