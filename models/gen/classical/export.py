"""Converts a fitted scikit-learn estimator and asks scikit-learn for what the graph must give."""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from .case import Made, Output, close_rows

TYPES = {"f": {4: FloatTensorType, 8: DoubleTensorType}, "i": {8: Int64TensorType}}


# Their converters compare the target opset with a number, and so take no opset of ai.onnx.ml.
ONE_OPSET = (GaussianMixture, BayesianGaussianMixture)


def input_type(array):
    """The converter's name for the type of a two-dimensional array."""
    width = [None] + list(array.shape[1:])
    if array.dtype.kind in "OU":
        return StringTensorType(width)
    return TYPES[array.dtype.kind][array.dtype.itemsize](width)


def convert(model, probe, opset, options=None):
    """The ONNX model of `model` with one input `X` like `probe`."""
    return to_onnx(
        model,
        initial_types=[("X", input_type(probe))],
        options={id(model): options} if options else None,
        target_opset=opset if isinstance(model, ONE_OPSET) else {"": opset, "ai.onnx.ml": 3},
    )


def classifier(model, probe, opset, zipmap=False, options=None):
    """Label and probabilities, or label and decision function (`raw_scores` or no probabilities)."""
    options = dict(options or {})
    if zipmap is not None:
        options["zipmap"] = zipmap
    onx = convert(model, probe, opset, options)
    label = model.predict(probe)
    kind, values = class_scores(model, probe, options.get("raw_scores", False))
    ties = close_rows(values)
    outputs = [Output("label", label, ties=ties)]
    if zipmap == "columns":
        outputs += [Output(kind, values[:, i]) for i in range(values.shape[1])]
    else:
        outputs.append(Output(kind, values, classes=list(model.classes_)))
    outputs += [Output("leaf", leaves(model, probe, key)) for key in LEAVES if options.get(key)]
    return Made(onx, {"X": probe}, outputs)


def class_scores(model, probe, raw):
    """Probabilities, unless the model has none or raw scores are wanted."""
    if hasattr(model, "predict_proba") and not raw:
        return "probability", model.predict_proba(probe)
    return "score", model.decision_function(probe)


LEAVES = ("decision_path", "decision_leaf")


def leaves(model, probe, key):
    """Leaf numbers, or the decision path as text of 0 and 1, one column per tree."""
    if key == "decision_leaf":
        numbers = model.apply(probe)
        return numbers.reshape(len(probe), -1)
    trees = [model] if hasattr(model, "tree_") else [t for t in np.ravel(model.estimators_)]
    paths = [tree.decision_path(probe).toarray() for tree in trees]
    return np.array([["".join(map(str, path[row])) for path in paths] for row in range(len(probe))])


def regressor(model, probe, opset, options=None):
    """Predicted numbers; a Gaussian process can add their deviation, a forest its leaves."""
    options = dict(options or {})
    onx = convert(model, probe, opset, options)
    if options.get("return_std"):
        outputs = [Output("number", v) for v in model.predict(probe, return_std=True)]
    else:
        outputs = [Output("number", model.predict(probe))]
    outputs += [Output("leaf", leaves(model, probe, key)) for key in LEAVES if options.get(key)]
    return Made(onx, {"X": probe}, outputs)


def transformer(model, probe, opset, options=None):
    """Transformed features, dense."""
    values = model.transform(probe)
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return Made(convert(model, probe, opset, options), {"X": probe}, [Output("transform", values)])


def clusterer(model, probe, opset, options=None):
    """Cluster numbers and the distances to every centre."""
    distances = model.transform(probe)
    outputs = [Output("label", model.predict(probe), ties=close_rows(-distances)), Output("score", distances)]
    return Made(convert(model, probe, opset, options), {"X": probe}, outputs)


def mixture(model, probe, opset, options=None):
    """Component numbers, their probabilities and, on demand, the likelihood of each row."""
    options = dict(options or {})
    values = model.predict_proba(probe)
    outputs = [Output("label", model.predict(probe), ties=close_rows(values)), Output("probability", values)]
    if options.get("score_samples"):
        outputs.append(Output("score", model.score_samples(probe)))
    return Made(convert(model, probe, opset, options), {"X": probe}, outputs)


def outliers(model, probe, opset, options=None):
    """Inlier (1) or outlier (-1), the decision function and, on demand, the raw score."""
    options = dict(options or {})
    values = model.decision_function(probe)
    outputs = [Output("label", model.predict(probe), ties=close_rows(values)), Output("score", values)]
    if options.get("score_samples"):
        outputs.append(Output("score", model.score_samples(probe)))
    return Made(convert(model, probe, opset, options), {"X": probe}, outputs)


def many_outputs(model, probe, opset):
    """Labels of several targets, and the probabilities of each target as a sequence."""
    onx = convert(model, probe, opset, {"zipmap": False})
    values = model.predict_proba(probe)
    outputs = [Output("label", model.predict(probe))]
    if isinstance(values, list) and len({v.shape for v in values}) == 1:
        values = np.stack(values)
    outputs.append(Output("probability", values))
    return Made(onx, {"X": probe}, outputs)


def neighbours(model, probe, opset):
    """The numbers of the nearest training rows, and how far they are."""
    distances, rows = model.kneighbors(probe)
    outputs = [Output("leaf", rows), Output("score", distances)]
    return Made(convert(model, probe, opset), {"X": probe}, outputs)
