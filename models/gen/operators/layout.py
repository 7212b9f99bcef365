"""Operators that move, pick, place or make elements."""

import numpy as np
from onnx import TensorProto as T
from onnx import helper

from .case import row
from .fill import WORDS, cast, fixed, positive, type_name


def shapes():
    yield row("Shape", (2, 3, 4))
    yield row("Shape", (2, 0, 4), start=1)
    yield row("Shape", (2, 3, 4), start=-2, end=-1)
    yield row("Shape", (2, 3, 4), start=2, end=1)
    yield row("Shape", (2, 3, 4), start=-9, end=9)
    yield row("Shape", ())
    yield row("Size", (2, 3))
    yield row("Size", ())
    yield row("Size", (0, 3))
    yield row("Reshape", (2, 3, 4), shape=[4, 6])
    yield row("Reshape", (2, 3, 4), shape=[0, -1])
    yield row("Reshape", (2, 3, 4), [4, 6])
    yield row("Reshape", (2, 3, 4), [0, -1])
    yield row("Reshape", (2, 3, 4), [-1, 0, 2])
    yield row("Reshape", (1,), [])
    yield row("Reshape", (0, 3), [3, 0], allowzero=1)
    yield row("Reshape", (0, 3), [0, 5, 0], allowzero=1)
    yield row("Reshape", (0, 3), [3, -1])
    yield row("Reshape", (), [1, 1])
    yield row("Flatten", (2, 3, 4, 5))
    for axis in (0, 1, 3, 4):
        yield row("Flatten", (2, 3, 4, 5), axis=axis)
    yield row("Flatten", (2, 3, 4, 5), axis=-1, versions=(11, 99))
    yield row("Flatten", (2, 3, 4, 5), axis=-4, versions=(11, 99))
    yield row("Flatten", (), axis=0)
    yield row("Squeeze", (1, 2, 1, 3), axes=[0])
    yield row("Squeeze", (1, 2, 1, 3), axes=[0, 2])
    yield row("Squeeze", (1, 2, 1, 3), axes=[-2], versions=(11, 99))
    yield row("Squeeze", (1, 2, 1, 3))
    yield row("Squeeze", (1, 2, 1, 3), [-2, 0])
    yield row("Squeeze", (1, 2, 1, 3), [])
    yield row("Unsqueeze", (2, 3), axes=[0, 3])
    yield row("Unsqueeze", (2, 3), axes=[3, 0])
    yield row("Unsqueeze", (2, 3), axes=[-1], versions=(11, 99))
    yield row("Unsqueeze", (2, 3), [-1, 0])
    yield row("Unsqueeze", (2, 3), [2, 0, 4])
    yield row("Unsqueeze", (), [0])
    yield row("Transpose", (2, 3, 4))
    yield row("Transpose", (2, 3, 4), perm=[1, 2, 0])
    yield row("Transpose", (2, 3, 4), perm=[-1, 0, 1], versions=(99, 99))
    yield row("Transpose", (2, 0, 4), perm=[2, 0, 1])
    yield row("Transpose", ())


def growing():
    yield row("Expand", (3, 1), [2, 1, 6])
    yield row("Expand", (3, 1), [3, 4])
    yield row("Expand", (3, 1), [1, 1])
    yield row("Expand", (3,), [0, 3])
    yield row("Expand", (), [2])
    yield row("Expand", (2, 3), [])
    yield row("Tile", (2, 3), [2, 1])
    yield row("Tile", (2, 3), [1, 3])
    yield row("Tile", (2, 3), [0, 3])
    yield row("Tile", (2, 3), fixed(2), fixed(1), versions=(1, 1))
    yield row("Concat", (2, 3), (2, 1), (2, 0), axis=1)
    yield row("Concat", (2, 3), (1, 3), axis=0)
    yield row("Concat", (2, 3), (2, 3), axis=-1, versions=(11, 99))
    yield row("Concat", (2, 3), (2, 3), versions=(1, 1))
    yield row("Concat", (3,), axis=0)
    yield row("Split", (2, 6), axis=1, split=[2, 4], outputs=2)
    yield row("Split", (6, 2), outputs=3, versions=(2, 17))
    yield row("Split", (6, 2), axis=0, outputs=2, versions=(1, 17))
    yield row("Split", (2, 6), [1, 5], axis=-1, outputs=2)
    yield row("Split", (2, 6), [0, 6], axis=-1, outputs=2)
    yield row("Split", (2, 7), axis=1, num_outputs=3, outputs=3)
    yield row("Split", (2, 7), axis=1, num_outputs=4, outputs=4)
    yield row("Split", (2, 6), num_outputs=2, outputs=2)
    yield row("Pad", (2, 3), pads=[0, 1, 2, 0], value=1.5)
    yield row("Pad", (2, 3), pads=[0, 1, 1, 0], mode="reflect")
    yield row("Pad", (2, 3), pads=[0, 1, 3, 0], mode="edge")
    yield row("Pad", (2, 3), paddings=[0, 1, 2, 0])
    yield row("Pad", (2, 3), [0, 1, 2, 0], fixed(3))
    yield row("Pad", (2, 3), [0, 1, 2, 0])
    yield row("Pad", (2, 3), [0, -1, 2, 0], fixed(1))
    yield row("Pad", (3, 3), [-1, -1, -1, 2])
    yield row("Pad", (3, 4), [1, 2, 0, 1], mode="reflect")
    yield row("Pad", (3, 4), [1, 2, 0, 1], mode="edge")
    yield row("Pad", (3, 4), [4, 2, 0, 6], mode="wrap")
    yield row("Pad", (3, 4), [2, -1], None, [1], mode="edge")
    yield row("Pad", (3, 4), [2, 1], fixed(2), [-2])
    yield row("Pad", (3, 4), [1, 2, 3, 0], fixed(2), [1, 0])
    yield row("Pad", (3, 4), [0, -1, 0, 3], mode="reflect")
    yield row("CenterCropPad", (5, 4, 3), [3, 6, 3])
    yield row("CenterCropPad", (5, 4, 3), [7, 1], axes=[0, -1])
    yield row("CenterCropPad", (5, 4), [8, 3])


def picking():
    yield row("Gather", (4, 3), [0, 2, 1])
    yield row("Gather", (4, 3), [[0, 2], [1, 1]], axis=1)
    yield row("Gather", (4, 3), [-1, -4], versions=(11, 99))
    yield row("Gather", (4, 3), fixed(1))
    yield row("Gather", (2, 3, 4), fixed(2), axis=-2, versions=(11, 99))
    yield row("Gather", (4, 0), [1, 1])
    yield row("Gather", (4, 3), np.zeros((0, 2)).tolist() or [], axis=0)
    yield row("GatherElements", (3, 3), [[1, 2, 0], [2, 0, 0]])
    yield row("GatherElements", (3, 3), [[1, -1], [2, 0], [-3, 0]], axis=1)
    yield row("GatherND", (2, 2, 3), [[0, 1], [1, 0]])
    yield row("GatherND", (2, 2, 3), [[[0, 1]], [[1, -1]]])
    yield row("GatherND", (2, 2, 3), [[0, 1, 2], [1, 0, -1]])
    yield row("GatherND", (2, 3, 4), [[1], [0]], batch_dims=1)
    yield row("GatherND", (2, 3, 4), [[[1], [2]], [[0], [2]]], batch_dims=1)
    yield row("GatherND", (2, 3, 4), [[[1], [2], [3]], [[0], [2], [0]]], batch_dims=2)
    yield row("Slice", (4, 5), starts=[1, 0], ends=[3, 4])
    yield row("Slice", (4, 5), starts=[-3], ends=[1000], axes=[1])
    yield row("Slice", (4, 5), starts=[3], ends=[1], axes=[1])
    yield row("Slice", (4, 5), [1, 0], [3, 4])
    yield row("Slice", (4, 5), [1], [-1], [1])
    yield row("Slice", (4, 5), [-1], [-100], [1], [-2])
    yield row("Slice", (4, 5), [0, 4], [9, 0], [-2, -1], [3, -1])
    yield row("Slice", (4, 5), [3], [3])
    yield row("Slice", (4, 5), [9], [-9], [0], [-1])
    yield row("Slice", (4, 5), [0], [2147483647], [1], [2])
    yield row("Compress", (3, 4), [0, 1, 1], axis=0)
    yield row("Compress", (3, 4), [1, 0, 1], axis=-1, versions=(11, 99))
    yield row("Compress", (3, 4), [0, 1, 0, 0, 1, 1, 0])
    yield row("NonZero", [[1, 0, 3], [0, 0, 1]])
    yield row("NonZero", (3, 0))
    yield row("NonZero", (2, 3, 2))
    yield row("Trilu", (3, 4))
    yield row("Trilu", (3, 4), upper=0)
    yield row("Trilu", (2, 4, 3), fixed(1))
    yield row("Trilu", (4, 3), fixed(-2), upper=0)
    yield row("Trilu", (4, 3), fixed(9), upper=1)
    yield row("Trilu", (0, 3), fixed(1))


def placing():
    for op in ("Scatter", "ScatterElements"):
        yield row(op, (3, 3), [[1, 0, 2], [0, 2, 1]], (2, 3))
        yield row(op, (1, 5), [[1, 3]], (1, 2), axis=1)
        yield row(op, (1, 5), [[1, -3]], (1, 2), axis=-1, versions=(11, 99))
    for reduction in ("add", "mul", "max", "min", "none"):
        duplicates = [[1, 1, 4]] if reduction != "none" else [[1, 2, 4]]
        yield row(
            "ScatterElements",
            positive(1, 5),
            duplicates,
            positive(1, 3),
            axis=1,
            reduction=reduction,
            types={"T": NUMBERS},
        )
        nd = [[1], [1], [3]] if reduction != "none" else [[1], [0], [3]]
        yield row("ScatterND", positive(4, 2), nd, positive(3, 2), reduction=reduction, types={"T": NUMBERS})
    yield row("ScatterND", (4, 2), [[3], [1]], (2, 2))
    yield row("ScatterND", (4, 2), [[[3, 1]], [[1, 0]]], (2, 1))
    yield row("ScatterND", (4, 2), [[-1, -2]], (1,), versions=(13, 99))
    yield row("TensorScatter", (2, 1, 4, 3), (2, 1, 2, 3), [1, 2])
    yield row("TensorScatter", (2, 1, 4, 3), (2, 1, 2, 3), [3, 2], mode="circular")
    yield row("TensorScatter", (2, 4, 3), (2, 2, 3), [0, 2], axis=1)
    yield row("TensorScatter", (2, 4, 3), (2, 1, 3), axis=-2)
    yield row("ReverseSequence", (4, 3), [1, 2, 4])
    yield row("ReverseSequence", (4, 3, 2), [3, 1, 2, 1], batch_axis=0, time_axis=1)
    yield row("DepthToSpace", (1, 8, 2, 3), blocksize=2)
    yield row("DepthToSpace", (2, 8, 1, 2), blocksize=2, mode="CRD")
    yield row("DepthToSpace", (2, 8, 1, 2), blocksize=2, mode="DCR")
    yield row("SpaceToDepth", (2, 2, 4, 6), blocksize=2)
    yield row("SpaceToDepth", (2, 2, 4, 6), blocksize=2, mode="CRD")
    yield row("SpaceToDepth", (2, 2, 4, 6), blocksize=2, mode="DCR")


NUMBERS = [T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.INT8, T.INT32, T.INT64, T.UINT8, T.UINT64]


def made(kinds):
    """A tensor attribute of the output's type."""
    dtype = kinds["T2"]
    return helper.make_tensor("value", dtype, [1], [WORDS[2]] if dtype == T.STRING else [cast([1], dtype)[0]])


def making():
    yield row("ConstantOfShape", [2, 3])
    yield row("ConstantOfShape", [2, 3], value=made)
    yield row("ConstantOfShape", [], value=made)
    yield row("ConstantOfShape", [2, 0], value=made)
    yield row("EyeLike", (3, 4), dtype=lambda t: t["T2"], every_pair=True)
    yield row("EyeLike", (3, 4), k=1, types={"T2": "T1"})
    yield row("EyeLike", (4, 3), k=-2, dtype=lambda t: t["T2"])
    yield row("EyeLike", (4, 3), k=9, dtype=lambda t: t["T2"])
    yield row("Range", fixed(1), fixed(9), fixed(2))
    yield row("Range", fixed(9), fixed(1), fixed(-3), types={"T": [T.FLOAT, T.INT16, T.INT64]})
    yield row("Range", fixed(9), fixed(1), fixed(2))
    yield row("Range", fixed(0.5), fixed(3.25), fixed(0.5), types={"T": [T.FLOAT, T.DOUBLE]})
    yield row("Range", fixed(1), fixed(9), fixed(2), stash_type=T.FLOAT)
    yield row("OneHot", [0, 2, 1], fixed(3), [2, 5])
    yield row("OneHot", [0, 2, 1], [3], [2, 5], axis=0)
    yield row("OneHot", [[0, 2], [-1, 9]], fixed(4), [0, 1], axis=1)
    yield row("OneHot", [[0, 2], [-1, -9]], fixed(4), [0, 1], axis=-2, versions=(11, 99))
    for op in ("BlackmanWindow", "HammingWindow", "HannWindow"):
        yield row(op, fixed(8), output_datatype=lambda t: t["T2"])
        yield row(op, fixed(7), periodic=0, output_datatype=lambda t: t["T2"])
        yield row(op, fixed(1), periodic=0)
        yield row(op, fixed(1))
    yield row(
        "MelWeightMatrix", fixed(8), fixed(16), fixed(8192), fixed(0), fixed(4096), output_datatype=lambda t: t["T3"]
    )
    yield row("MelWeightMatrix", [4], [32], [16000], [20], [7000], output_datatype=lambda t: t["T3"], versions=(99, 99))


def constants():
    tensor = helper.make_tensor("v", T.FLOAT, [2], [1.0, 2.0])
    yield row("Constant", value=tensor, types={"T": [T.FLOAT]})
    for kind in (T.DOUBLE, T.FLOAT16, T.INT32, T.INT8, T.UINT8, T.BOOL, T.INT64, T.UINT64, T.UINT16, T.BFLOAT16):
        array = cast([[1, 0], [1, 1]], kind)
        value = helper.make_tensor(type_name(kind), kind, [2, 2], array.ravel().tolist())
        yield row("Constant", value=value, types={"T": [kind]})
    yield row("Constant", value=helper.make_tensor("s", T.STRING, [1], [b"k"]), types={"T": [T.STRING]})
    yield row("Constant", value_float=1.5, types={"T": [T.FLOAT]})
    yield row("Constant", value_floats=[1.5, 2.5], types={"T": [T.FLOAT]})
    yield row("Constant", value_int=3, types={"T": [T.INT64]})
    yield row("Constant", value_ints=[3, 4], types={"T": [T.INT64]})
    yield row("Constant", value_string="a", types={"T": [T.STRING]})
    yield row("Constant", value_strings=["a", "b"], types={"T": [T.STRING]})


def rows():
    for part in (shapes, growing, picking, placing, making, constants):
        yield from part()
