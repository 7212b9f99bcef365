"""Support vector machines and linear models."""

import itertools

import numpy as np

from .case import F32, F64, I32, I64, STR, case
from .trees import POSTS

FLOATS = (F32, F64, I64, I32)


def rows(dtype, n=9, columns=3):
    x = np.random.default_rng(5).normal(size=(n, columns)) * 2
    return (x if np.dtype(dtype).kind == "f" else np.round(x * 2)).astype(dtype)


def numbers(seed, n, scale=1.0):
    return [float(np.float32(v)) for v in np.random.default_rng(seed).normal(size=n) * scale]


def machine(classes, kernel, per_class=4, columns=3, proba=False, seed=0):
    """Attributes of an SVMClassifier with support vectors."""
    n, pairs = classes * per_class, classes * (classes - 1) // 2
    return {
        "kernel_type": kernel,
        "kernel_params": [0.3, 0.5, 2.0],
        "vectors_per_class": [per_class] * classes,
        "support_vectors": numbers(seed, n * columns),
        "coefficients": numbers(seed + 1, (classes - 1) * n),
        "rho": numbers(seed + 2, pairs),
        "prob_a": [-abs(v) for v in numbers(seed + 3, pairs)] if proba else None,
        "prob_b": numbers(seed + 4, pairs, 0.1) if proba else None,
    }


KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def classifiers():
    for kernel, classes, proba, dtype in itertools.product(KERNELS, (2, 3, 4), (False, True), FLOATS):
        attrs = machine(classes, kernel, proba=proba) | {"classlabels_ints": list(range(classes))}
        name = f"svc_{kernel}_{classes}_{proba}_{np.dtype(dtype)}"
        yield case(name, "SVMClassifier", [rows(dtype)], [I64, F32], **attrs)
    for post, classes, proba in itertools.product(POSTS, (2, 3), (False, True)):
        if post == "PROBIT" and not proba:
            continue
        attrs = machine(classes, "RBF", proba=proba) | {
            "post_transform": post,
            "classlabels_strings": ["u", "v", "w"][:classes],
        }
        yield case(f"svc_{post}_{classes}_{proba}", "SVMClassifier", [rows(F32)], [STR, F32], **attrs)
    for post, classes in itertools.product(POSTS, (2, 3)):
        if post == "PROBIT":
            continue
        attrs = {"coefficients": numbers(1, 3 * classes), "rho": numbers(2, classes), "kernel_type": "LINEAR"}
        attrs |= {"classlabels_ints": list(range(classes)), "post_transform": post, "kernel_params": [0.1, 0.0, 3.0]}
        yield case(f"svc_flat_{post}_{classes}", "SVMClassifier", [rows(F32)], [I64, F32], **attrs)
    degrees = machine(3, "POLY") | {"classlabels_ints": [5, 6, 7]}
    for degree in (0.0, 1.0, 3.0, 2.5):
        attrs = degrees | {"kernel_params": [0.3, 9.0, degree]}
        yield case(f"svc_degree_{degree}", "SVMClassifier", [rows(F32)], [I64, F32], **attrs)
    positive = machine(2, "RBF") | {"classlabels_ints": [0, 1]}
    positive["coefficients"] = [abs(v) for v in positive["coefficients"]]
    yield case("svc_all_positive", "SVMClassifier", [rows(F32)], [I64, F32], **positive)
    tied = machine(3, "LINEAR") | {"classlabels_ints": [0, 1, 2], "coefficients": [0.0] * 24, "rho": [0.0] * 3}
    yield case("svc_tied", "SVMClassifier", [rows(F32)], [I64, F32], **tied)
    for shape in ((0, 3), (1, 3), (3,)):
        x = rows(F32)[: shape[0]] if len(shape) == 2 else rows(F32)[0]
        yield case(
            f"svc_shape_{shape}", "SVMClassifier", [x], [I64, F32], **machine(3, "RBF"), classlabels_ints=[0, 1, 2]
        )


def regressors():
    for kernel, one, dtype in itertools.product(KERNELS, (0, 1), FLOATS):
        attrs = {
            "kernel_type": kernel,
            "kernel_params": [0.2, 0.1, 3.0],
            "n_supports": 5,
            "rho": [0.25],
            "one_class": one,
        }
        attrs |= {"support_vectors": numbers(3, 15), "coefficients": numbers(4, 5)}
        yield case(f"svr_{kernel}_{one}_{np.dtype(dtype)}", "SVMRegressor", [rows(dtype)], [F32], **attrs)
    flat = {"kernel_type": "LINEAR", "coefficients": numbers(4, 3), "rho": [0.5], "kernel_params": [0.1, 0.0, 3.0]}
    for post in POSTS:
        yield case(f"svr_flat_{post}", "SVMRegressor", [rows(F32)], [F32], **flat, post_transform=post)
    for shape in ((0, 3), (1, 3), (3,)):
        x = rows(F32)[: shape[0]] if len(shape) == 2 else rows(F32)[0]
        yield case(f"svr_shape_{shape}", "SVMRegressor", [x], [F32], **flat)


def linear():
    for classes, post, dtype in itertools.product((1, 2, 3), POSTS, FLOATS):
        if post == "PROBIT":
            continue
        k = max(classes, 2)
        attrs = {"coefficients": numbers(6, 3 * classes), "intercepts": numbers(7, classes), "post_transform": post}
        attrs["classlabels_ints"] = [4, 9, -3][:k]
        name = f"linear_{classes}_{post}_{np.dtype(dtype)}"
        yield case(name, "LinearClassifier", [rows(dtype)], [I64, F32], **attrs)
    for classes in (1, 2, 3):
        attrs = {"coefficients": numbers(6, 3 * classes), "classlabels_strings": ["p", "q", "r"][: max(classes, 2)]}
        attrs["intercepts"] = numbers(7, classes)
        for multi in (0, 1):
            name = f"linear_strings_{classes}_{multi}"
            yield case(name, "LinearClassifier", [rows(F32)], [STR, F32], **attrs, multi_class=multi)
    unlabelled = {"coefficients": numbers(6, 3), "intercepts": [0.1], "classlabels_ints": [7]}
    yield case("linear_one_label", "LinearClassifier", [rows(F32)], [I64, F32], **unlabelled)
    tied = {"coefficients": [0.5] * 9, "intercepts": [1.0] * 3, "classlabels_ints": [2, 1, 0]}
    yield case("linear_tied", "LinearClassifier", [rows(F32)], [I64, F32], **tied)
    for shape in ((0, 3), (1, 3), (3,)):
        x = rows(F32)[: shape[0]] if len(shape) == 2 else rows(F32)[0]
        yield case(f"linear_shape_{shape}", "LinearClassifier", [x], [I64, F32], **tied)
        yield case(f"linreg_shape_{shape}", "LinearRegressor", [x], [F32], coefficients=numbers(1, 3), intercepts=[0.5])
    for targets, post, dtype in itertools.product((1, 3), POSTS, FLOATS):
        if post == "PROBIT":
            continue
        attrs = {"coefficients": numbers(8, 3 * targets), "intercepts": numbers(9, targets), "targets": targets}
        name = f"linreg_{targets}_{post}_{np.dtype(dtype)}"
        yield case(name, "LinearRegressor", [rows(dtype)], [F32], **attrs, post_transform=post)
    yield case("linreg_bare", "LinearRegressor", [rows(F32)], [F32], coefficients=numbers(8, 3))


def cases():
    yield from classifiers()
    yield from regressors()
    yield from linear()
