"""Several operators in the shapes that converters write."""

import itertools

import numpy as np
from onnx import helper, numpy_helper

from .case import F32, F64, I64, ML, STR, graph, maps, strings
from .trees import trees, votes
from .vectors import machine, numbers

X = np.random.default_rng(21).normal(size=(6, 4)).astype(F32)
X[1, 2] = X[4, 0] = np.nan
COLORS = strings("red", "blue", "?", "red", "green", "")


def ml(op, given, made, **attrs):
    return helper.make_node(op, given.split(), made.split(), domain=ML, **attrs)


def node(op, given, made, **attrs):
    return helper.make_node(op, given.split(), made.split(), **attrs)


def constant(name, array):
    return node("Constant", "", name, value=numpy_helper.from_array(np.asarray(array), name))


CLEAN = [
    ml("Imputer", "x", "filled", imputed_value_floats=[0.5, 0.25, -1.0, 2.0], replaced_value_float=float("nan")),
    ml("Scaler", "filled", "scaled", offset=[0.1, 0.2, 0.3, 0.4], scale=[1.5, 2.0, 0.5, 1.0]),
]


def endings():
    """What a pipeline of numbers ends in."""
    nodes, leaves = trees(("LEQ",), missing="some")
    forest = (
        nodes
        | votes("class", leaves, 3, each=3)
        | {"classlabels_strings": ["a", "b", "c"], "post_transform": "SOFTMAX"}
    )
    logistic = {"coefficients": numbers(3, 12), "intercepts": numbers(4, 3), "classlabels_strings": ["a", "b", "c"]}
    vectors = machine(3, "RBF", columns=4, proba=True) | {"classlabels_strings": ["a", "b", "c"]}
    yield "forest", ml("TreeEnsembleClassifier", "scaled", "label scores", **forest)
    yield (
        "logistic",
        ml("LinearClassifier", "scaled", "label scores", **logistic, post_transform="LOGISTIC", multi_class=1),
    )
    yield "machine", ml("SVMClassifier", "scaled", "label scores", **vectors)


def classifiers():
    for (name, last), n in itertools.product(endings(), (6, 1, 0)):
        norm = ml("Normalizer", "scores", "shares", norm="L1")
        plain = graph(f"pipe_{name}_{n}", [*CLEAN, last, norm], {"x": X[:n]}, {"label": STR, "shares": F32}, {ML: 1})
        if n or name != "machine":
            yield plain
        zipped = ml("ZipMap", "shares", "maps", classlabels_strings=["a", "b", "c"])
        yield graph(
            f"pipe_{name}_{n}_map",
            [*CLEAN, last, norm, zipped],
            {"x": X[:n]},
            {"label": STR, "maps": maps(STR)},
            {ML: 1},
        )


def columns():
    """Words and numbers side by side, as a ColumnTransformer or a CoreML pipeline has them."""
    hot = ml("OneHotEncoder", "c", "hot", cats_strings=["red", "green", "blue"], zeros=1)
    flat = [constant("shape", np.array([-1, 3], I64)), node("Reshape", "hot shape", "flat")]
    feeds = {"x": X, "c": COLORS.reshape(-1, 1)}
    for how, join in (
        ("concat", node("Concat", "scaled flat", "all", axis=1)),
        ("vectorizer", ml("FeatureVectorizer", "scaled flat", "all", inputdimensions=[4, 3])),
    ):
        last = ml("LinearRegressor", "all", "y", coefficients=numbers(5, 7), intercepts=[0.5])
        yield graph(f"pipe_columns_{how}", [*CLEAN, hot, *flat, join, last], feeds, {"y": F32}, {ML: 1})
    codes = ml(
        "LabelEncoder",
        "c",
        "code",
        keys_strings=["red", "green", "blue"],
        values_floats=[0.0, 1.0, 2.0],
        default_float=-1.0,
    )
    both = node("Concat", "scaled code", "all", axis=1)
    pick = [constant("which", np.array([4, 0], I64)), ml("ArrayFeatureExtractor", "all which", "y")]
    yield graph("pipe_codes", [*CLEAN, codes, both, *pick], feeds, {"y": F32}, {ML: 2})
    mapper = ml(
        "CategoryMapper", "c", "code", cats_strings=["red", "green", "blue"], cats_int64s=[5, 6, 7], default_int64=-2
    )
    again = ml("OneHotEncoder", "code", "y", cats_int64s=[5, 6, 7], zeros=1)
    yield graph("pipe_mapper", [mapper, again], {"c": COLORS}, {"y": F32}, {ML: 1})


def dictionaries():
    """A map in, as DictVectorizer of scikit-learn and CoreML have it."""
    row = {"a": F32(1.5), "z": F32(-2.0), "unknown": F32(9.0)}
    to_row = ml("DictVectorizer", "m", "x", string_vocabulary=["a", "b", "z", "k"])
    nodes, leaves = trees(("LEQ", "GT"))
    tree = ml("TreeEnsembleRegressor", "scaled", "y", **nodes, **votes("target", leaves, 2, each=2), n_targets=2)
    yield graph("pipe_dictionary", [to_row, *CLEAN, tree], {"m": row}, {"y": F32}, {ML: 1})
    cast = ml("CastMap", "m", "x", cast_to="TO_FLOAT", map_form="DENSE")
    line = ml("LinearRegressor", "x", "y", coefficients=[1.0, 2.0, 3.0], intercepts=[0.5])
    yield graph("pipe_cast_map", [cast, line], {"m": {4: F32(1), 2: F32(2), 9: F32(3)}}, {"y": F32}, {ML: 1})


def labels():
    """What converters write after a classifier to give labels and margins."""
    nodes, leaves = trees(("LT",), missing="some")
    boosted = (
        nodes | votes("class", leaves, 2, only=0, sign=True) | {"classlabels_int64s": [0, 1], "base_values": [0.25]}
    )
    tree = ml("TreeEnsembleClassifier", "x", "label scores", **boosted, post_transform="LOGISTIC")
    named = ml("LabelEncoder", "label", "name", keys_int64s=[0, 1], values_strings=["no", "yes"], default_string="?")
    yield graph("pipe_boosted", [tree, named], {"x": X}, {"name": STR, "scores": F32}, {ML: 2})
    last = [constant("one", np.array([1], I64)), ml("ArrayFeatureExtractor", "scores one", "second")]
    over = [ml("Binarizer", "second", "over", threshold=0.5), node("Cast", "over", "y", to=7)]
    yield graph("pipe_threshold", [tree, *last, *over], {"x": X}, {"label": I64, "y": I64}, {ML: 1})
    best = [
        constant("classes", strings("no", "yes", "maybe")),
        ml("LinearRegressor", "x", "y", coefficients=numbers(6, 12), intercepts=numbers(7, 3), targets=3),
        node("ArgMax", "y", "best", axis=1, keepdims=0),
        ml("ArrayFeatureExtractor", "classes best", "row"),
        constant("flat", np.array([-1], I64)),
        node("Reshape", "row flat", "name"),
    ]
    x = np.nan_to_num(X)
    yield graph("pipe_argmax", best, {"x": x}, {"name": STR, "y": F32}, {ML: 1})
    yield graph("pipe_doubles", doubles(), {"x": x.astype(F64)}, {"y": F64}, {ML: 1})


def doubles():
    """Double precision around operators that give singles."""
    nodes, leaves = trees(("LEQ",))
    half = [
        ml("TreeEnsembleRegressor", "x", "single", **nodes, **votes("target", leaves, 1), n_targets=1),
        node("Cast", "single", "wide", to=11),
        constant("rate", np.array([0.1], F64)),
        node("Mul", "wide rate", "step"),
        constant("start", np.array([2.5], F64)),
    ]
    return [*half, node("Add", "step start", "y")]


def cases():
    yield from classifiers()
    yield from columns()
    yield from dictionaries()
    yield from labels()
