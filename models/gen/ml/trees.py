"""TreeEnsembleRegressor, TreeEnsembleClassifier and TreeEnsemble."""

import itertools
import math
import operator

import numpy as np
import onnx
from onnx import numpy_helper

from .case import F32, F64, I32, I64, STR, case, tensor

MODES = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
NAN, INF = float("nan"), float("inf")


def rows(dtype, n=12, columns=4, seed=3):
    """Small numbers, so that thresholds are hit exactly; NaN and infinities where there are any."""
    x = np.random.default_rng(seed).integers(-2, 4, (n, columns)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x[1, :2], x[2, 1:3], x[3, 0], x[4, 1] = NAN, NAN, INF, -INF
        x += (np.random.default_rng(seed).integers(0, 2, x.shape) * 0.5).astype(dtype)
    return x


def trees(modes, count=3, depth=3, seed=0, missing=None):
    """Node attributes of full trees over 4 columns, and the (tree, node) of each leaf."""
    rng = np.random.default_rng(seed)
    n = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    tracks, leaves = [], []
    for t in range(count):
        for i in range(2 ** (depth + 1) - 1):
            leaf = i >= 2**depth - 1
            if leaf:
                leaves.append((t, i))
            mode = "LEAF" if leaf else f"BRANCH_{modes[int(rng.integers(len(modes)))]}"
            row = (t, i, int(rng.integers(4)), float(rng.integers(-2, 4)) + 0.5 * int(rng.integers(2)), mode)
            row += (0, 0) if leaf else (2 * i + 1, 2 * i + 2)
            for key, value in zip(n, row):
                n[key].append(value)
            tracks.append(int(rng.integers(2)))
    nodes = {f"nodes_{k}": v for k, v in n.items()}
    if missing:
        nodes["nodes_missing_value_tracks_true"] = (
            tracks if missing == "some" else [int(missing == "all")] * len(tracks)
        )
    return nodes, leaves


def votes(prefix, leaves, targets, each=1, sign=False, seed=1, only=None):
    """Weights of the leaves, `each` per leaf."""
    rng = np.random.default_rng(seed)
    out = {f"{prefix}_{k}": [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree, node in leaves:
        for target in rng.permutation(targets)[:each]:
            weight = float(rng.integers(1, 17)) / 32 * (-1 if sign and rng.random() < 0.5 else 1)
            target = int(target) if only is None else only
            for key, value in zip(out, (tree, node, target, weight)):
                out[key].append(value)
    return out


def wide(attrs):
    """The attributes in double precision, as tensors."""
    out = dict(attrs)
    for key in ("nodes_values", "target_weights", "class_weights", "base_values"):
        if out.get(key) is not None:
            out[f"{key}_as_tensor"] = tensor(np.array(out.pop(key)) + 1e-12, F64)
    return out


def regressors():
    for mode, missing, dtype in itertools.product(
        (*((m,) for m in MODES), MODES), (None, "some"), (F32, F64, I64, I32)
    ):
        nodes, leaves = trees(mode, missing=missing)
        attrs = nodes | votes("target", leaves, 1) | {"n_targets": 1}
        name = f"regress_{'mixed' if len(mode) > 1 else mode[0]}_{missing}_{np.dtype(dtype)}"
        yield case(name, "TreeEnsembleRegressor", [rows(dtype)], [F32], version=1, **attrs)
    nodes, leaves = trees(("LEQ",), missing="some")
    for how, post, targets, base in itertools.product(("SUM", "AVERAGE", "MIN", "MAX"), POSTS, (1, 3), (False, True)):
        if post == "PROBIT" and (targets > 1 or base or how != "AVERAGE"):
            continue
        attrs = nodes | votes("target", leaves, targets, each=targets, sign=post != "PROBIT")
        attrs |= {"n_targets": targets, "aggregate_function": how, "post_transform": post}
        attrs["base_values"] = [0.25, -1.0, 2.0][:targets] if base else None
        yield case(
            f"regress_{how}_{post}_{targets}_{base}", "TreeEnsembleRegressor", [rows(F32)], [F32], version=1, **attrs
        )
    attrs = nodes | votes("target", leaves, 2, each=2, sign=True) | {"n_targets": 2, "base_values": [0.1, 0.2]}
    for dtype in (F32, F64):
        x = rows(dtype)
        yield case(f"regress_wide_{np.dtype(dtype)}", "TreeEnsembleRegressor", [x], [F32], version=3, **wide(attrs))
    for shape in ((0, 4), (1, 4), (4,)):
        x = rows(F32)[: shape[0]] if len(shape) == 2 else rows(F32)[0]
        yield case(f"regress_shape_{shape}", "TreeEnsembleRegressor", [x], [F32], version=1, **attrs)
    for each in (2, 3):
        attrs = nodes | votes("target", leaves, each, each=each, sign=True, only=0) | {"n_targets": 1}
        yield case(f"regress_repeated_{each}", "TreeEnsembleRegressor", [rows(F32)], [F32], version=1, **attrs)
    yield categories()


def categories():
    """A chain of equalities that share a branch, as categorical splits are written."""
    n = 6
    nodes = {
        "nodes_treeids": [0] * (n + 2),
        "nodes_nodeids": list(range(n + 2)),
        "nodes_featureids": [1] * n + [0, 0],
        "nodes_values": [3.0, 0.0, -1.0, 2.0, 2.0, 1.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_EQ"] * n + ["LEAF", "LEAF"],
        "nodes_truenodeids": [n] * n + [0, 0],
        "nodes_falsenodeids": [*range(1, n), n + 1, 0, 0],
        "nodes_missing_value_tracks_true": [0, 0, 0, 1, 0, 0, 0, 0],
    }
    ends = {"target_treeids": [0, 0], "target_nodeids": [n, n + 1], "target_ids": [0, 0], "target_weights": [1.0, -1.0]}
    return case("regress_chain", "TreeEnsembleRegressor", [rows(F32)], [F32], version=1, n_targets=1, **nodes, **ends)


def classifiers():
    nodes, leaves = trees(("LEQ", "GT"), missing="some")
    for post, (classes, only, each), sign, base in itertools.product(
        POSTS, ((2, 0, 1), (2, 1, 1), (2, None, 2), (3, None, 1), (3, None, 3), (4, 2, 1)), (False, True), (0, 1, 9)
    ):
        if base == 1 and classes > 2 or post == "PROBIT" and (sign or base):
            continue
        attrs = nodes | votes("class", leaves, classes, each=each, sign=sign, only=only)
        if post == "PROBIT":
            attrs["class_weights"] = [w / 4 for w in attrs["class_weights"]]
        attrs |= {"post_transform": post, "classlabels_int64s": list(range(classes))}
        attrs["base_values"] = [0.3, -0.2, 0.1, 0.05][: min(base, classes)] if base else None
        name = f"classify_{post}_{classes}_{only}_{each}_{'signed' if sign else 'positive'}_{base}"
        yield case(name, "TreeEnsembleClassifier", [rows(F32)], [I64, F32], version=1, **attrs)
    for dtype, labels in itertools.product((F32, F64, I64, I32), ("ints", "strings")):
        attrs = nodes | votes("class", leaves, 3, each=2)
        attrs |= {"classlabels_strings": ["a", "b", "c"]} if labels == "strings" else {"classlabels_int64s": [7, -1, 3]}
        out = [STR if labels == "strings" else I64, F32]
        yield case(
            f"classify_{labels}_{np.dtype(dtype)}", "TreeEnsembleClassifier", [rows(dtype)], out, version=1, **attrs
        )
        if np.dtype(dtype).kind == "f":
            yield case(
                f"classify_wide_{labels}_{np.dtype(dtype)}",
                "TreeEnsembleClassifier",
                [rows(dtype)],
                out,
                version=3,
                **wide(attrs),
            )
    for shape in ((0, 4), (1, 4), (4,)):
        x = rows(F32)[: shape[0]] if len(shape) == 2 else rows(F32)[0]
        attrs = nodes | votes("class", leaves, 2, only=0) | {"classlabels_int64s": [0, 1]}
        yield case(f"classify_shape_{shape}", "TreeEnsembleClassifier", [x], [I64, F32], version=1, **attrs)


def ensemble(codes, dtype, targets=2, seed=0, missing=False, depth=3, sets=()):
    """Attributes of TreeEnsemble: full trees whose last level leads to leaves."""
    rng = np.random.default_rng(seed)
    per, keys = 2**depth - 1, ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    nodes, splits, modes, leaves = {k: [] for k in keys}, [], [], 0
    for t in range(3):
        for i in range(per):
            last = i >= 2 ** (depth - 1) - 1
            to = (leaves, leaves + 1) if last else (t * per + 2 * i + 1, t * per + 2 * i + 2)
            leaves += 2 * last
            for key, value in zip(keys, (int(rng.integers(4)), to[0], int(last), to[1], int(last))):
                nodes[key].append(value)
            modes.append(int(codes[int(rng.integers(len(codes)))]))
            splits.append(float(rng.integers(-2, 4)))
    members = [v for k in range(modes.count(6)) for v in (*sets[k % len(sets)], NAN)]
    return {f"nodes_{k}": v for k, v in nodes.items()} | {
        "tree_roots": [t * per for t in range(3)],
        "nodes_splits": tensor(splits, dtype),
        "nodes_modes": tensor(modes, np.uint8),
        "nodes_missing_value_tracks_true": [int(rng.integers(2)) for _ in modes] if missing else None,
        "leaf_targetids": [int(rng.integers(targets)) for _ in range(leaves)],
        "leaf_weights": tensor(rng.integers(-8, 9, leaves) / 16, dtype),
        "membership_values": tensor(members, dtype) if members else None,
        "n_targets": targets,
    }


TESTS = (operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne)


def walked(attrs, x):
    """What the specification makes of a model with sets: neither other runtime gets all of these right."""
    table = {k: numpy_helper.to_array(v).tolist() if isinstance(v, onnx.TensorProto) else v for k, v in attrs.items()}
    missing = table["nodes_missing_value_tracks_true"] or [0] * len(table["nodes_modes"])
    members, sets = iter(table["membership_values"] or ()), {}
    for i in (i for i, mode in enumerate(table["nodes_modes"]) if mode == 6):
        sets[i] = set(itertools.takewhile(lambda v: not math.isnan(v), members))
    scores = np.zeros((len(x), table["n_targets"]), x.dtype)
    for row, y in zip(x, scores):
        for i in table["tree_roots"]:
            leaf = False
            while not leaf:
                value = float(row[table["nodes_featureids"][i]])
                mode = table["nodes_modes"][i]
                yes = value in sets[i] if mode == 6 else TESTS[mode](value, table["nodes_splits"][i])
                side = "true" if yes or (math.isnan(value) and missing[i]) else "false"
                leaf, i = table[f"nodes_{side}leafs"][i], table[f"nodes_{side}nodeids"][i]
            y[table["leaf_targetids"][i]] += table["leaf_weights"][i]
    return [scores]


def ensembles():
    sets = ((1.0, 2.0), (-1.0, 0.0, 3.0, 1e9), (3.0,))
    for codes, dtype, missing in itertools.product((*((c,) for c in range(7)), range(7)), (F32, F64), (False, True)):
        attrs = ensemble(codes, dtype, missing=missing, sets=sets)
        name = f"ensemble_{'mixed' if len(codes) > 1 else codes[0]}_{np.dtype(dtype)}_{missing}"
        want = walked(attrs, rows(dtype))
        yield case(name, "TreeEnsemble", [rows(dtype)], [dtype], version=5, want=want, **attrs)
    for how, post, targets in itertools.product(range(4), range(4), (1, 3)):
        attrs = ensemble((0,), F32, targets) | {"aggregate_function": how, "post_transform": post}
        yield case(f"ensemble_{how}_{post}_{targets}", "TreeEnsemble", [rows(F32)], [F32], version=5, **attrs)
    broken = ensemble((6,), F32, sets=((2.5, -1.5), (0.0,)))
    yield case(
        "ensemble_6_fractions", "TreeEnsemble", [rows(F32)], [F32], version=5, want=walked(broken, rows(F32)), **broken
    )
    half = ensemble((0, 6), np.float16, sets=sets[:1])
    yield case("ensemble_float16", "TreeEnsemble", [rows(np.float16)], [np.float16], version=5, **half)
    leaf = {"nodes_featureids": [0], "nodes_splits": tensor([0.0], F32), "nodes_modes": tensor([0], np.uint8)}
    leaf |= {"nodes_truenodeids": [0], "nodes_trueleafs": [1], "nodes_falsenodeids": [0], "nodes_falseleafs": [1]}
    leaf |= {"tree_roots": [0], "leaf_targetids": [0], "leaf_weights": tensor([2.5], F32), "n_targets": 1}
    yield case("ensemble_one_leaf", "TreeEnsemble", [rows(F32)], [F32], version=5, **leaf)


def cases():
    yield from regressors()
    yield from classifiers()
    yield from ensembles()
