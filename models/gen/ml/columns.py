"""Operators that change columns: scaling, filling, joining and picking."""

import itertools

import numpy as np

from .case import F32, F64, I32, I64, STR, case, strings

NUMBERS = (F32, F64, I64, I32)
NAN = float("nan")


def rows(dtype, shape=(5, 3)):
    x = np.random.default_rng(11).integers(-3, 4, shape).astype(dtype)
    return x * dtype(1.25) if np.dtype(dtype).kind == "f" else x


SHAPES = ((5, 3), (1, 3), (3,), (0, 3), (5, 1), (2, 2, 3), (1,))


def shaped(shapes=SHAPES):
    return [(dtype, (5, 3)) for dtype in NUMBERS] + [(F32, s) for s in shapes[1:]]


def scaling():
    for dtype, shape in shaped():
        label = f"{np.dtype(dtype)}_{shape}"
        width = shape[-1]
        many = {"offset": [0.5, -1.0, 2.0][:width], "scale": [2.0, 0.0, -0.25][:width]}
        for form, attrs in (("many", many), ("one", {"offset": [0.5], "scale": [2.0]})):
            yield case(f"scaler_{form}_{label}", "Scaler", [rows(dtype, shape)], [F32], **attrs)
        for norm in ("MAX", "L1", "L2"):
            yield case(f"normalizer_{norm}_{label}", "Normalizer", [rows(dtype, shape)], [F32], norm=norm)
        yield case(f"binarizer_{label}", "Binarizer", [rows(dtype, shape)], [dtype], threshold=1.25)
    zero = np.array([[0, 0, 0], [NAN, 1, 2], [-1, -2, -3], [-0.0, 0, 4], [np.inf, 1, 1]], F32)
    for norm in ("MAX", "L1", "L2"):
        yield case(f"normalizer_{norm}_edge", "Normalizer", [zero], [F32], norm=norm)
    yield case("binarizer_edge", "Binarizer", [zero], [F32])
    yield case("scaler_edge", "Scaler", [zero], [F32], offset=[0.0], scale=[np.inf])


def imputers():
    x = np.array([[1, NAN, 3], [0, 5, NAN], [NAN, 0, 7], [-1, np.inf, 2]])
    for dtype, (form, values) in itertools.product((F32, F64), (("many", [9.0, 8.0, 7.5]), ("one", [9.5]))):
        for replaced in (NAN, 0.0, 5.0, None):
            attrs = {"imputed_value_floats": values, "replaced_value_float": replaced}
            yield case(f"imputer_{form}_{replaced}_{np.dtype(dtype)}", "Imputer", [x.astype(dtype)], [dtype], **attrs)
    whole = np.array([[1, 0, 3], [0, 5, -1], [7, 0, 7]])
    for dtype, values, replaced in itertools.product((I64, I32), ([9, 8, 7], [4]), (0, 7, None)):
        attrs = {"imputed_value_int64s": values, "replaced_value_int64": replaced}
        yield case(
            f"imputer_{len(values)}_{replaced}_{np.dtype(dtype)}", "Imputer", [whole.astype(dtype)], [dtype], **attrs
        )
    for shape in SHAPES:
        attrs = {"imputed_value_floats": [9.0] * shape[-1], "replaced_value_float": 0.0}
        yield case(f"imputer_shape_{shape}", "Imputer", [rows(F32, shape)], [F32], **attrs)


def joining():
    for kinds in ([F32, F32], [F32, F32, F32], [I64, I64], [F64, F64], [I32, I32]):
        widths = [3, 1, 2][: len(kinds)]
        inputs = [rows(k, (4, w)) for k, w in zip(kinds, widths)]
        label = "_".join(str(np.dtype(k)) for k in kinds)
        yield case(f"vectorizer_{label}", "FeatureVectorizer", inputs, [F32], inputdimensions=widths)
    for shapes in (((0, 3), (0, 1)), ((4, 3), (4, 1)), ((4,), (4, 2))):
        inputs = [rows(F32, s) for s in shapes]
        dims = [s[-1] if len(s) == 2 else 1 for s in shapes]
        yield case(f"vectorizer_{shapes}", "FeatureVectorizer", inputs, [F32], inputdimensions=dims)
    inputs = [rows(F32, (4, 3)), rows(F32, (4, 2))]
    for dims in ([2, 2], [3, 4], [3, 1], [4, 3]):
        yield case(f"vectorizer_cut_{dims}", "FeatureVectorizer", inputs, [F32], inputdimensions=dims)


def picking():
    words = strings(*"abcdefghijkl")
    for dtype, shape in [(d, (4, 3)) for d in (*NUMBERS, STR)] + [(F32, s) for s in ((3,), (2, 2, 3), (0, 3), (1, 3))]:
        x = words.reshape(4, 3) if dtype is STR else rows(dtype, shape)
        for index in ([1], [2, 0], [1, 1, 1, 0]):
            name = f"pick_{np.dtype(dtype)}_{shape}_{index}"
            yield case(name, "ArrayFeatureExtractor", [x, np.array(index, I64)], [dtype])
    x = rows(F32, (4, 3))
    for label, index in (
        ("scalar", np.array(2, I64)),
        ("rows", np.array([[0, 2]], I64)),
        ("square", np.array([[0], [2]], I64)),
    ):
        yield case(f"pick_{label}", "ArrayFeatureExtractor", [x, index], [F32])


def cases():
    yield from scaling()
    yield from imputers()
    yield from joining()
    yield from picking()
