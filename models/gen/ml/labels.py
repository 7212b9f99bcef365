"""Operators on labels and categories: encoders, maps."""

import itertools

import numpy as np
from onnx import TensorProto, helper

from .case import F32, F64, I32, I64, STR, case, maps, strings, tensor

NAN = float("nan")
KEYS = {"strings": ["a", "", "c"], "int64s": [1, 0, -7], "floats": [1.5, NAN, 0.0]}
VALUES = {"strings": ["x", "y", "z"], "int64s": [10, 20, 30], "floats": [0.5, -1.0, 4.0]}
KIND = {"strings": STR, "int64s": I64, "floats": F32}
INPUT = {
    "strings": strings("a", "b", "", "c", "A"),
    "int64s": np.array([1, 0, 5, -7], I64),
    "floats": np.array([1.5, NAN, 0.0, -0.0, 7.0], F32),
}


def encoders():
    yield case("label_1_strings", "LabelEncoder", [strings("b", "a", "?")], [I64], classes_strings=["a", "b"])
    yield case(
        "label_1_default", "LabelEncoder", [strings("b", "?")], [I64], classes_strings=["a", "b"], default_int64=7
    )
    yield case("label_1_ints", "LabelEncoder", [np.array([1, 0, 9], I64)], [STR], classes_strings=["a", "b"])
    yield case(
        "label_1_word", "LabelEncoder", [np.array([1, -1], I64)], [STR], classes_strings=["a", "b"], default_string="no"
    )
    defaults = {"strings": "none", "int64s": -9, "floats": 2.25}
    singular = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}
    for k, v, given, version in itertools.product(KEYS, VALUES, (False, True), (2, 4)):
        attrs = {f"keys_{k}": KEYS[k], f"values_{v}": VALUES[v]}
        if given:
            attrs[singular[v]] = defaults[v]
        x = INPUT[k].reshape(1, -1) if given else INPUT[k]
        yield case(f"label_{version}_{k}_{v}_{given}", "LabelEncoder", [x], [KIND[v]], version=version, **attrs)
    yield from encoders_by_tensor()
    for shape in ((0,), (1,), (2, 2), ()):
        x = np.zeros(shape, I64)
        attrs = {"keys_int64s": [0], "values_int64s": [5]}
        yield case(f"label_shape_{shape}", "LabelEncoder", [x], [I64], version=4, **attrs)
    twice = {"keys_int64s": [1, 1, 2], "values_strings": ["first", "second", "third"]}
    yield case("label_repeated_key", "LabelEncoder", [np.array([1, 2, 3], I64)], [STR], version=4, **twice)


def encoders_by_tensor():
    types = {F64: [1.5, NAN, -0.0], F32: [1.5, NAN, -0.0], I64: [1, 0, -7], np.int16: [1, 0, -7], I32: [1, 0, -7]}
    inputs = {
        F64: [1.5, NAN, 0.0, 9.0],
        F32: [1.5, NAN, 0.0, 9.0],
        I64: [1, -7, 3],
        np.int16: [1, -7, 3],
        I32: [1, -7, 3],
    }
    for k, v in itertools.product(types, types):
        for given in (False, True):
            attrs = {"keys_tensor": tensor(types[k], k), "values_tensor": tensor(types[v], v)}
            if given:
                attrs["default_tensor"] = tensor([42], v)
            x = np.array(inputs[k], k)
            name = f"label_tensor_{np.dtype(k)}_{np.dtype(v)}_{given}"
            yield case(name, "LabelEncoder", [x], [v], version=4, **attrs)
    words = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"b"])
    attrs = {"keys_tensor": words, "values_tensor": tensor([3, 4], np.int16), "default_tensor": tensor([7], np.int16)}
    yield case("label_tensor_string_int16", "LabelEncoder", [strings("b", "z")], [np.int16], version=4, **attrs)
    back = {"keys_tensor": tensor([3, 4], I64), "values_tensor": words}
    yield case("label_tensor_int64_string", "LabelEncoder", [np.array([4, 5], I64)], [STR], version=4, **back)


def one_hot():
    for dtype, zeros, shape in itertools.product((I64, I32, F32, F64), (0, 1), ((4,), (2, 2), (0,), (1, 1), ())):
        x = np.array([1, 3, 2, 1][: int(np.prod(shape))], dtype).reshape(shape)
        name = f"onehot_{np.dtype(dtype)}_{zeros}_{shape}"
        yield case(name, "OneHotEncoder", [x], [F32], cats_int64s=[1, 2, 3], zeros=zeros)
    for zeros, unknown in itertools.product((0, 1), (False, True)):
        x = strings("b", "?" if unknown else "a")
        yield case(f"onehot_word_{zeros}_{unknown}", "OneHotEncoder", [x], [F32], cats_strings=["a", "b"], zeros=zeros)
        x = np.array([1.9, 9.0 if unknown else -1.9], F32)
        yield case(f"onehot_cut_{zeros}_{unknown}", "OneHotEncoder", [x], [F32], cats_int64s=[1, -1], zeros=zeros)
    yield case("onehot_default_zeros", "OneHotEncoder", [np.array([1, 9], I64)], [F32], cats_int64s=[1, 2])


def categories():
    both = {"cats_int64s": [4, -2, 0], "cats_strings": ["p", "q", ""]}
    for given in (False, True):
        attrs = both | ({"default_int64": 99, "default_string": "what"} if given else {})
        yield case(f"category_words_{given}", "CategoryMapper", [strings("q", "", "zz")], [I64], **attrs)
        yield case(f"category_ints_{given}", "CategoryMapper", [np.array([[0, 4], [5, -2]], I64)], [STR], **attrs)


def zip_maps():
    table = np.arange(6, dtype=F32).reshape(2, 3) / 4
    for x, label in ((table, "rows"), (table[:0], "none"), (table[0], "vector"), (table[:, :1], "column")):
        n = x.shape[-1]
        yield case(f"zipmap_ints_{label}", "ZipMap", [x], [maps(I64)], classlabels_int64s=[5, -1, 2][:n])
        yield case(f"zipmap_words_{label}", "ZipMap", [x], [maps(STR)], classlabels_strings=["b", "a", "c"][:n])


def mapped():
    numbers, words = {3: 1.5, 0: -2.0, 2: 7.9, 11: 3.0}, {3: "1.5", 0: "-2", 2: "x" * 3, 11: "7"}
    numbers = {k: F32(v) for k, v in numbers.items()}
    kinds = {"TO_FLOAT": F32, "TO_INT64": I64, "TO_STRING": STR}
    for to, kind in kinds.items():
        given = [("numbers", numbers), ("words", words | ({2: "8"} if to != "TO_STRING" else {}))]
        for label, data in given:
            yield case(f"castmap_{label}_{to}", "CastMap", [data], [kind], cast_to=to, map_form="DENSE")
            for most in (12, 14):
                attrs = {"cast_to": to, "map_form": "SPARSE", "max_map": most}
                yield case(f"castmap_{label}_{to}_{most}", "CastMap", [data], [kind], **attrs)
    vocabularies = {"string_vocabulary": ["a", "c", "b", "z"], "int64_vocabulary": [5, -1, 7, 0]}
    for (name, vocabulary), value in itertools.product(vocabularies.items(), (F32, F64, I64, STR)):
        one = "w" if value is STR else value(3)
        data = {vocabulary[2]: one, vocabulary[0]: one}
        if name == "int64_vocabulary" and value is I64 or name == "string_vocabulary" and value is STR:
            continue
        yield case(f"dict_{name}_{np.dtype(value)}", "DictVectorizer", [data], [value], **{name: vocabulary})
    stranger = {"a": F32(1), "?": F32(2)}
    yield case("dict_stranger", "DictVectorizer", [stranger], [F32], string_vocabulary=["a", "b"])


def cases():
    for table in (encoders, one_hot, categories, zip_maps, mapped):
        yield from table()
