"""XGBoost, LightGBM and CatBoost models, exported and predicted by their own libraries."""

import pathlib
import tempfile

import catboost
import lightgbm
import numpy as np
import onnx
import pandas as pd
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from . import data
from .case import Case, Made, Output, close_rows

SMALL = dict(n_estimators=12, learning_rate=0.2, random_state=0, n_jobs=1)
TWO = lambda: data.classes(np.float32, 2)
THREE = lambda: data.classes(np.float32, 3)
HOLES = lambda: data.holes(np.float32)
HOLES_3 = lambda: data.holes(np.float32, 3)
CODES = lambda: data.codes(np.float32)
NUMBERS = lambda: data.numbers(np.float32)
NUMBER_HOLES = lambda: data.number_holes(np.float32)
POSITIVE = lambda: data.numbers(np.float32, positive=True)
TARGETS = lambda: data.numbers(np.float32, targets=3)


def counts():
    """A regression of whole numbers, for Poisson losses."""
    table = POSITIVE()
    return data.Table(table.x, np.floor(table.y * 3), table.probe)


def unit():
    """A regression of shares between 0 and 1."""
    table = NUMBERS()
    return data.Table(table.x, 1 / (1 + np.exp(-table.y / 100.0)), table.probe)


def class_outputs(model, probe):
    """Label and probabilities as the library gives them."""
    values = np.asarray(model.predict_proba(probe))
    label = np.asarray(model.predict(probe)).ravel()
    columns = list(model.classes_)
    return [Output("label", label, ties=close_rows(values)), Output("probability", values, classes=columns)]


def float_input(probe):
    return [("X", FloatTensorType([None, probe.shape[1]]))]


# XGBoost

XGB_CLASSIFIERS = {
    "binary": (TWO, dict(max_depth=4)),
    "binary_score": (TWO, dict(max_depth=3, base_score=0.3)),
    "binary_deep": (TWO, dict(max_depth=9)),
    "binary_lossguide": (TWO, dict(grow_policy="lossguide", max_leaves=9, tree_method="hist")),
    "binary_holes": (HOLES, dict(max_depth=4)),
    "binary_exact": (TWO, dict(max_depth=4, tree_method="exact")),
    "hinge": (TWO, dict(objective="binary:hinge", max_depth=3)),
    "weighted": (TWO, dict(scale_pos_weight=3.0, subsample=0.7, colsample_bytree=0.7)),
    "multi": (THREE, dict(max_depth=4)),
    "multi_holes": (HOLES_3, dict(max_depth=4)),
    "multi_softmax": (THREE, dict(objective="multi:softmax", max_depth=3)),
    "multi_deep": (THREE, dict(max_depth=8, n_estimators=20)),
    "dart": (TWO, dict(booster="dart", rate_drop=0.3, max_depth=3)),
    "categories": (CODES, dict(max_depth=4, enable_categorical=True, feature_types=["q"] * 4 + ["c"] * 2)),
}
XGB_REGRESSORS = {
    "squared": (NUMBERS, dict(max_depth=4)),
    "squared_score": (NUMBERS, dict(max_depth=3, base_score=40.0)),
    "deep": (NUMBERS, dict(max_depth=9)),
    "holes": (NUMBER_HOLES, dict(max_depth=4)),
    "absolute": (NUMBERS, dict(objective="reg:absoluteerror")),
    "huber": (NUMBERS, dict(objective="reg:pseudohubererror", max_depth=3)),
    "log": (POSITIVE, dict(objective="reg:squaredlogerror", max_depth=3)),
    "quantile": (NUMBERS, dict(objective="reg:quantileerror", quantile_alpha=0.7)),
    "poisson": (counts, dict(objective="count:poisson", max_depth=4)),
    "gamma": (POSITIVE, dict(objective="reg:gamma", max_depth=4)),
    "tweedie": (POSITIVE, dict(objective="reg:tweedie", max_depth=4)),
    "logistic": (unit, dict(objective="reg:logistic", max_depth=3)),
    "targets": (TARGETS, dict(max_depth=3)),
    "parallel": (NUMBERS, dict(num_parallel_tree=3, subsample=0.8, max_depth=4)),
}


def xgb_cases():
    kinds = [("clf", xgboost.XGBClassifier, XGB_CLASSIFIERS), ("reg", xgboost.XGBRegressor, XGB_REGRESSORS)]
    for prefix, kind, rows in kinds:
        for label, (table, setting) in rows.items():
            build = lambda k=kind, t=table, s=setting: xgb_model(k(**{**SMALL, **s}), t())
            yield Case(f"xgb_{prefix}_{label}", "xgboost", kind.__name__, build, setting)
    for label, kind, table in (
        ("clf", xgboost.XGBRFClassifier, TWO),
        ("reg", xgboost.XGBRFRegressor, NUMBERS),
    ):
        build = lambda k=kind, t=table: xgb_model(k(n_estimators=9, max_depth=4, random_state=0, n_jobs=1), t())
        yield Case(f"xgb_rf_{label}", "xgboost", kind.__name__, build, {})
    ranker = lambda: rank_model(xgboost.XGBRanker(**SMALL, max_depth=3), xgb_onnx)
    yield Case("xgb_ranker", "xgboost", "XGBRanker", ranker, {})


def xgb_onnx(model, probe):
    return convert_xgboost(model, initial_types=float_input(probe), target_opset=15)


def xgb_model(model, table):
    model.fit(table.x, table.y)
    onx = xgb_onnx(model, table.probe)
    if isinstance(model, xgboost.XGBClassifier):
        return Made(onx, {"X": table.probe}, class_outputs(model, table.probe))
    return Made(onx, {"X": table.probe}, [Output("number", model.predict(table.probe))])


def rank_model(model, convert):
    """Ranks rows in groups of 20 by graded relevance."""
    table = NUMBERS()
    grade = np.digitize(table.y, np.quantile(table.y, [0.4, 0.7, 0.9]))
    model.fit(table.x, grade, group=[20] * (data.TRAIN // 20))
    return Made(convert(model, table.probe), {"X": table.probe}, [Output("number", model.predict(table.probe))])


# LightGBM

LEAFY = dict(min_child_samples=8, verbose=-1)
LGBM_CLASSIFIERS = {
    "binary": (TWO, dict(num_leaves=15), {}),
    "binary_zipmap": (TWO, dict(num_leaves=15), dict(zipmap=True)),
    "binary_wide": (TWO, dict(num_leaves=63, n_estimators=40), {}),
    "binary_unbalanced": (TWO, dict(is_unbalance=True), {}),
    "binary_sigmoid": (TWO, dict(sigmoid=0.7), {}),
    "binary_holes": (HOLES, dict(num_leaves=15), {}),
    "no_missing": (TWO, dict(use_missing=False), {}),
    "zero_missing": (lambda: zeros(), dict(zero_as_missing=True), {}),
    "multi": (THREE, dict(num_leaves=15), {}),
    "multi_zipmap": (THREE, dict(num_leaves=15), dict(zipmap=True)),
    "multi_holes": (HOLES_3, dict(num_leaves=15), {}),
    "multi_ova": (THREE, dict(objective="multiclassova"), {}),
    "dart": (TWO, dict(boosting_type="dart"), {}),
    "goss": (TWO, dict(data_sample_strategy="goss"), {}),
    "rf": (TWO, dict(boosting_type="rf", subsample=0.7, subsample_freq=1), {}),
    "extra": (TWO, dict(extra_trees=True), {}),
    "codes": (CODES, dict(num_leaves=15), {"categories": [4, 5]}),
}
LGBM_REGRESSORS = {
    "l2": (NUMBERS, dict(num_leaves=15), {}),
    "l2_split": (NUMBERS, dict(num_leaves=15, n_estimators=30), dict(split=10)),
    "l1": (NUMBERS, dict(objective="regression_l1"), {}),
    "huber": (NUMBERS, dict(objective="huber"), {}),
    "fair": (NUMBERS, dict(objective="fair"), {}),
    "quantile": (NUMBERS, dict(objective="quantile", alpha=0.8), {}),
    "mape": (POSITIVE, dict(objective="mape"), {}),
    "cross_entropy": (unit, dict(objective="cross_entropy"), {}),
    "poisson": (counts, dict(objective="poisson"), {}),
    "gamma": (POSITIVE, dict(objective="gamma"), {}),
    "tweedie": (POSITIVE, dict(objective="tweedie"), {}),
    "holes": (NUMBER_HOLES, dict(num_leaves=15), {}),
    "wide": (NUMBERS, dict(num_leaves=63, n_estimators=40), {}),
    "linear": (NUMBERS, dict(linear_tree=True), {}),
    "rf": (NUMBERS, dict(boosting_type="rf", subsample=0.7, subsample_freq=1), {}),
    "codes": (lambda: code_numbers(), dict(num_leaves=15), {"categories": [4, 5]}),
}


def zeros():
    """A classification where one value in five is 0."""
    table = TWO()
    x = np.vstack([table.x, table.probe])
    x[np.random.default_rng(1).random(x.shape) < 0.2] = 0.0
    return data.Table(x[: data.TRAIN], table.y, x[data.TRAIN :])


def code_numbers():
    """A regression with two columns of category codes."""
    table = CODES()
    return data.Table(table.x, np.sin(table.x[:, 4] * 2) * 5 + table.x[:, 0] + (table.x[:, 5] % 3), table.probe)


def lgbm_cases():
    kinds = [("clf", lightgbm.LGBMClassifier, LGBM_CLASSIFIERS), ("reg", lightgbm.LGBMRegressor, LGBM_REGRESSORS)]
    for prefix, kind, rows in kinds:
        for label, (table, setting, extra) in rows.items():
            build = lambda k=kind, t=table, s=setting, e=extra: lgbm_model(k(**{**SMALL, **LEAFY, **s}), t(), **e)
            yield Case(f"lgbm_{prefix}_{label}", "lightgbm", kind.__name__, build, {**setting, **extra})
    ranker = lambda: rank_model(lightgbm.LGBMRanker(**SMALL, **LEAFY), lgbm_onnx)
    yield Case("lgbm_ranker", "lightgbm", "LGBMRanker", ranker, {})


def lgbm_onnx(model, probe, **options):
    return convert_lightgbm(model, initial_types=float_input(probe), target_opset=15, **{"zipmap": False, **options})


def lgbm_model(model, table, categories="auto", **options):
    model.fit(table.x, table.y, categorical_feature=categories)
    onx = lgbm_onnx(model, table.probe, **options)
    if isinstance(model, lightgbm.LGBMClassifier):
        return Made(onx, {"X": table.probe}, class_outputs(model, table.probe))
    return Made(onx, {"X": table.probe}, [Output("number", model.predict(table.probe))])


# CatBoost

CAT = dict(iterations=15, learning_rate=0.2, depth=4, random_seed=0)
CAT |= dict(thread_count=1, verbose=False, allow_writing_files=False)
STRINGS = lambda: data.classes(np.float32, 3, labels="string")
CAT_CLASSIFIERS = {
    "binary": (TWO, {}),
    "binary_deep": (TWO, dict(depth=7)),
    "binary_holes": (HOLES, {}),
    "binary_holes_max": (HOLES, dict(nan_mode="Max")),
    "cross_entropy": (TWO, dict(loss_function="CrossEntropy")),
    "weights": (TWO, dict(auto_class_weights="Balanced")),
    "multi": (THREE, {}),
    "multi_strings": (STRINGS, {}),
    "multi_holes": (HOLES_3, {}),
    "multi_one_all": (THREE, dict(loss_function="MultiClassOneVsAll")),
    "lossguide": (TWO, dict(grow_policy="Lossguide", max_leaves=9)),
    "categories": (CODES, {"cat_features": [4, 5]}),
}
CAT_REGRESSORS = {
    "rmse": (NUMBERS, {}),
    "rmse_deep": (NUMBERS, dict(depth=8)),
    "holes": (NUMBER_HOLES, {}),
    "mae": (NUMBERS, dict(loss_function="MAE")),
    "quantile": (NUMBERS, dict(loss_function="Quantile:alpha=0.8")),
    "huber": (NUMBERS, dict(loss_function="Huber:delta=5")),
    "logcosh": (NUMBERS, dict(loss_function="LogCosh")),
    "mape": (POSITIVE, dict(loss_function="MAPE")),
    "poisson": (counts, dict(loss_function="Poisson")),
    "tweedie": (POSITIVE, dict(loss_function="Tweedie:variance_power=1.5")),
    "targets": (TARGETS, dict(loss_function="MultiRMSE")),
    "ordered": (NUMBERS, dict(boosting_type="Ordered")),
}


def cat_cases():
    kinds = [("clf", catboost.CatBoostClassifier, CAT_CLASSIFIERS), ("reg", catboost.CatBoostRegressor, CAT_REGRESSORS)]
    for prefix, kind, rows in kinds:
        for label, (table, setting) in rows.items():
            build = lambda k=kind, t=table, s=setting: cat_model(k(**{**CAT, **s}), t())
            yield Case(f"cat_{prefix}_{label}", "catboost", kind.__name__, build, setting)
    yield Case("cat_ranker", "catboost", "CatBoostRanker", cat_ranker, {})


def cat_onnx(model):
    """The model that CatBoost writes, read back."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "model.onnx"
        model.save_model(str(file), format="onnx")
        return onnx.load(file)


def cat_model(model, table):
    x = table.x
    if "cat_features" in model.get_params():
        x = pd.DataFrame(x).astype({c: int for c in model.get_params()["cat_features"]})
    model.fit(x, table.y)
    onx = cat_onnx(model)
    name = onx.graph.input[0].name
    if isinstance(model, catboost.CatBoostClassifier):
        return Made(onx, {name: table.probe}, class_outputs(model, table.probe))
    return Made(onx, {name: table.probe}, [Output("number", model.predict(table.probe))])


def cat_ranker():
    table = NUMBERS()
    grade = np.digitize(table.y, np.quantile(table.y, [0.4, 0.7, 0.9]))
    model = catboost.CatBoostRanker(**{**CAT, "loss_function": "YetiRank"})
    model.fit(table.x, grade, group_id=np.repeat(np.arange(data.TRAIN // 20), 20))
    onx = cat_onnx(model)
    return Made(onx, {onx.graph.input[0].name: table.probe}, [Output("number", model.predict(table.probe))])


def cases():
    """All three libraries."""
    yield from xgb_cases()
    yield from lgbm_cases()
    yield from cat_cases()
