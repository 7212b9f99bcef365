"""Estimators made of others, encoders of text and labels, and pipelines over several columns."""

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from . import data, export
from .case import Case, Made, Output
from .sklearn_models import DTYPES, ESTIMATORS, case, make, opset_of, table

LOGISTIC = lambda: make("LogisticRegression", max_iter=300)
LINEAR = lambda: make("LinearRegression")
TREE = lambda: make("DecisionTreeClassifier", max_depth=4)
TREE_REGRESSOR = lambda: make("DecisionTreeRegressor", max_depth=4)
FOREST = lambda: make("RandomForestClassifier", n_estimators=6, max_depth=4)
BAYES = lambda: make("GaussianNB")
SCALER = lambda: make("StandardScaler")


def around(name, *inner, **settings):
    """A function that makes the estimator `name` around others."""
    return lambda: ESTIMATORS[name](*[i() if callable(i) else i for i in inner], **settings)


def named(**parts):
    """Name and estimator pairs, made when called."""
    return lambda: [(name, maker()) for name, maker in parts.items()]


def wrapped_classifiers():
    """Meta-classifiers around small ones: name, estimator, factory, classes."""
    voters = named(a=LOGISTIC, b=TREE, c=BAYES)
    rows = [
        ("CalibratedClassifierCV", "sigmoid", around("CalibratedClassifierCV", BAYES, cv=3)),
        ("CalibratedClassifierCV", "isotonic", around("CalibratedClassifierCV", BAYES, cv=3, method="isotonic")),
        ("GridSearchCV", "tree", around("GridSearchCV", TREE, {"max_depth": [2, 5]}, cv=3)),
        ("GridSearchCV", "logistic", around("GridSearchCV", LOGISTIC, {"C": [0.1, 1.0]}, cv=3)),
        ("OneVsRestClassifier", "logistic", around("OneVsRestClassifier", LOGISTIC)),
        ("OneVsRestClassifier", "tree", around("OneVsRestClassifier", TREE)),
        ("OneVsOneClassifier", "logistic", around("OneVsOneClassifier", LOGISTIC)),
        ("StackingClassifier", "two", around("StackingClassifier", named(a=TREE, b=BAYES), LOGISTIC)),
        ("StackingClassifier", "through", around("StackingClassifier", named(a=TREE), LOGISTIC, passthrough=True)),
        ("VotingClassifier", "soft", around("VotingClassifier", voters, voting="soft", flatten_transform=False)),
        ("VotingClassifier", "weights", weighted(voters)),
        ("BaggingClassifier", "logistic", around("BaggingClassifier", LOGISTIC, 4, random_state=0)),
        ("AdaBoostClassifier", "tree", around("AdaBoostClassifier", TREE, n_estimators=4, random_state=0)),
    ]
    for estimator, label, factory in rows:
        for dtype in DTYPES:
            for n in (2, 3):
                if estimator == "OneVsOneClassifier" and n == 2:
                    continue
                name = f"skl_{estimator}_{label}_{dtype}_{n}"
                yield case(name, estimator, factory, table(data.classes, dtype, n=n), export.classifier)
    factory = around("TunedThresholdClassifierCV", LOGISTIC, cv=3, random_state=0)
    for dtype in DTYPES:
        rows = table(data.classes, dtype, n=2)
        name = f"skl_TunedThresholdClassifierCV_{dtype}"
        yield case(name, "TunedThresholdClassifierCV", factory, rows, tuned)


def weighted(voters):
    return around("VotingClassifier", voters, voting="soft", flatten_transform=False, weights=np.array([1, 3, 2]))


def tuned(model, probe, opset):
    """Like a classifier, but rows within 1e-6 of the tuned threshold count as ties."""
    made = export.classifier(model, probe, opset)
    scores = model.predict_proba(probe)[:, 1] - model.best_threshold_
    made.outputs[0].ties = export.close_rows(scores)
    return made


def wrapped_regressors():
    """Meta-regressors around small ones."""
    both = named(a=LINEAR, b=TREE_REGRESSOR)
    rows = [
        ("GridSearchCV", "ridge", around("GridSearchCV", lambda: make("Ridge"), {"alpha": [1.0, 9.0]}, cv=3), 1),
        ("MultiOutputRegressor", "tree", around("MultiOutputRegressor", TREE_REGRESSOR), 3),
        ("MultiOutputRegressor", "linear", around("MultiOutputRegressor", LINEAR), 2),
        ("StackingRegressor", "two", around("StackingRegressor", both, LINEAR), 1),
        ("VotingRegressor", "two", around("VotingRegressor", both), 1),
        ("VotingRegressor", "weights", around("VotingRegressor", both, weights=np.array([2, 1])), 1),
        ("BaggingRegressor", "linear", around("BaggingRegressor", LINEAR, 4, random_state=0), 1),
        ("AdaBoostRegressor", "linear", around("AdaBoostRegressor", LINEAR, n_estimators=4, random_state=0), 1),
    ]
    for estimator, label, factory, targets in rows:
        for dtype in DTYPES:
            rows = table(data.numbers, dtype, targets=targets)
            yield case(f"skl_{estimator}_{label}_{dtype}", estimator, factory, rows, export.regressor)
    process = lambda: make("GaussianProcessRegressor", alpha=1.0, optimizer=None)
    rows = table(data.numbers, "f64")
    estimator, options = "GaussianProcessRegressor", {"return_std": True}
    yield case(f"skl_{estimator}_std_f64", estimator, process, rows, export.regressor, options=options)


def wrapped_transformers():
    """Feature choices driven by a model, unions, and functions."""
    union = lambda: FeatureUnion([("scale", SCALER()), ("pca", make("PCA", n_components=2))])
    rows = [
        ("RFE", around("RFE", LOGISTIC, n_features_to_select=3)),
        ("RFECV", around("RFECV", LOGISTIC, cv=3)),
        ("SelectFromModel", around("SelectFromModel", FOREST)),
        ("FeatureUnion", union),
        ("Pipeline", lambda: make_pipeline(SCALER(), make("PolynomialFeatures"), make("PCA", n_components=4))),
        ("FunctionTransformer", lambda: FunctionTransformer()),
    ]
    for estimator, factory in rows:
        for dtype in DTYPES:
            name = f"skl_{estimator}_inner_{dtype}"
            yield case(name, estimator, factory, table(data.classes, dtype), export.transformer)


def kernel_cases():
    """Centring of a kernel matrix against 20 training rows."""
    for label in DTYPES:
        name = f"skl_KernelCenterer_{label}"
        rows = lambda d=label: kernel_matrix(table(data.classes, d)())
        yield case(name, "KernelCenterer", lambda: make("KernelCenterer"), rows, export.transformer)


def kernel_matrix(rows):
    few = rows.x[:20]
    return data.Table(few @ few.T, rows.y[:20], rows.probe @ few.T)


def leaf_cases():
    """Trees and forests that also tell their leaves or their paths."""
    trees = {
        "DecisionTreeClassifier": dict(max_depth=4),
        "ExtraTreesClassifier": dict(n_estimators=4, max_depth=4),
        "RandomForestClassifier": dict(n_estimators=5, max_depth=5),
        "DecisionTreeRegressor": dict(max_depth=4),
        "ExtraTreesRegressor": dict(n_estimators=4, max_depth=4),
        "RandomForestRegressor": dict(n_estimators=5, max_depth=5),
    }
    for estimator, setting in trees.items():
        regress = estimator.endswith("Regressor")
        for key in export.LEAVES:
            rows = table(data.numbers if regress else data.classes, "f32")
            role = export.regressor if regress else export.classifier
            factory = lambda e=estimator, s=setting: make(e, **s)
            yield case(f"skl_{estimator}_{key}", estimator, factory, rows, role, options={key: True})


def missing_cases():
    """Models of data with missing values."""
    imputed = lambda: make_pipeline(SimpleImputer(), SCALER(), LOGISTIC())
    rows = [
        ("HistGradientBoostingClassifier", boosting("Classifier"), data.holes, export.classifier),
        ("HistGradientBoostingRegressor", boosting("Regressor"), data.number_holes, export.regressor),
        ("RandomForestClassifier", FOREST, data.holes, export.classifier),
        ("DecisionTreeRegressor", TREE_REGRESSOR, data.number_holes, export.regressor),
        ("Pipeline", imputed, data.holes, export.classifier),
    ]
    for estimator, factory, maker, role in rows:
        for dtype in DTYPES:
            yield case(f"skl_{estimator}_holes_{dtype}", estimator, factory, table(maker, dtype), role)
    estimator, rows = "HistGradientBoostingClassifier", table(data.codes, "f32")
    categories = boosting("Classifier", categorical_features=[4, 5])
    yield case(f"skl_{estimator}_codes", estimator, categories, rows, export.classifier)


def boosting(kind, **settings):
    return lambda: make(f"HistGradientBoosting{kind}", max_iter=15, **settings)


def several_targets():
    """Classifiers of several targets at once."""
    wrapped = around("MultiOutputClassifier", LOGISTIC)
    rows = [
        ("MultiOutputClassifier", wrapped, data.many_labels),
        ("RandomForestClassifier", FOREST, data.many_labels),
        ("KNeighborsClassifier", lambda: make("KNeighborsClassifier"), data.many_labels),
    ]
    for estimator, factory, maker in rows:
        yield case(f"skl_{estimator}_targets_f32", estimator, factory, table(maker, "f32"), export.many_outputs)


def pipelines():
    """Common pipelines, in both types."""
    rows = {
        "scaler_logistic": lambda: make_pipeline(SCALER(), LOGISTIC()),
        "minmax_poly_logistic": lambda: make_pipeline(make("MinMaxScaler"), make("PolynomialFeatures"), LOGISTIC()),
        "pca_svc": lambda: make_pipeline(SCALER(), make("PCA", n_components=4), make("SVC", probability=True)),
        "robust_forest": lambda: make_pipeline(make("RobustScaler"), FOREST()),
        "quantile_mlp": lambda: make_pipeline(
            make("QuantileTransformer", n_quantiles=40), make("MLPClassifier", hidden_layer_sizes=(8,), max_iter=60)
        ),
        "select_boosting": lambda: make_pipeline(
            make("SelectKBest", k=4), make("GradientBoostingClassifier", n_estimators=9)
        ),
        "kbins_bayes": lambda: make_pipeline(
            make("KBinsDiscretizer", n_bins=4, encode="onehot-dense", quantile_method="linear"), make("BernoulliNB")
        ),
        "normalizer_neighbours": lambda: make_pipeline(make("Normalizer"), make("KNeighborsClassifier")),
        "union_lda": lambda: make_pipeline(
            FeatureUnion([("a", SCALER()), ("b", make("PCA", n_components=2))]), make("RidgeClassifier")
        ),
        "svd_extra": lambda: make_pipeline(
            make("TruncatedSVD", n_components=4), make("ExtraTreesClassifier", n_estimators=6, max_depth=5)
        ),
    }
    for label, factory in rows.items():
        for dtype in DTYPES:
            rows = table(data.classes, dtype)
            yield case(f"skl_Pipeline_{label}_{dtype}", "Pipeline", factory, rows, export.classifier)
    regress = lambda: make_pipeline(SCALER(), make("PCA", n_components=5), make("SVR", C=5.0))
    for dtype in DTYPES:
        yield case(f"skl_Pipeline_svr_{dtype}", "Pipeline", regress, table(data.numbers, dtype), export.regressor)
    clusters = lambda: make_pipeline(SCALER(), make("KMeans", n_clusters=4, n_init=1))
    yield case("skl_Pipeline_kmeans_f32", "Pipeline", clusters, table(data.classes, "f32"), export.clusterer)


def frame():
    """A table with two numeric and two string columns, with holes in the numbers."""
    numbers, words = data.holes(np.float32), data.words(2)
    columns = {"n0": numbers.x[:, 0], "n1": numbers.x[:, 1], "c0": words.x[:, 0], "c1": words.x[:, 1]}
    probe = {"n0": numbers.probe[:, 0], "n1": numbers.probe[:, 1], "c0": words.probe[:, 0], "c1": words.probe[:, 1]}
    return data.Table(pd.DataFrame(columns), numbers.y, pd.DataFrame(probe))


def column_cases():
    """Pipelines over named columns of several types."""
    finals = {
        "logistic": LOGISTIC,
        "boosting": lambda: make("GradientBoostingClassifier", n_estimators=12),
        "forest": FOREST,
        "svc": lambda: make("SVC", probability=True),
    }
    for label, final in finals.items():
        for zipmap in (False, True):
            name = f"skl_ColumnTransformer_{label}" + "_zipmap" * zipmap
            build = lambda f=final, z=zipmap, o=opset_of(name): columns_model(f, z, o)
            yield Case(name, "scikit-learn", "ColumnTransformer", build, {"zipmap": zipmap, "opset": opset_of(name)})


def columns_model(final, zipmap, opset):
    rows = frame()
    numeric = make_pipeline(SimpleImputer(strategy="median"), SCALER())
    encoder = make("OneHotEncoder", handle_unknown="ignore", sparse_output=False)
    chosen = ColumnTransformer([("n", numeric, ["n0", "n1"]), ("c", encoder, ["c0", "c1"])])
    model = make_pipeline(chosen, final()).fit(rows.x, rows.y)
    kinds = [(c, (FloatTensorType if c[0] == "n" else StringTensorType)([None, 1])) for c in rows.x]
    target = {"": opset, "ai.onnx.ml": 3}
    onx = to_onnx(model, initial_types=kinds, options={id(model): {"zipmap": zipmap}}, target_opset=target)
    values = model.predict_proba(rows.probe)
    outputs = [
        Output("label", model.predict(rows.probe), ties=export.close_rows(values)),
        Output("probability", values, classes=list(model.classes_)),
    ]
    return Made(onx, {c: rows.probe[c].to_numpy().reshape(-1, 1) for c in rows.probe}, outputs)


def text_cases():
    """Counting words, tf-idf, and classifiers over them."""
    pattern = dict(token_pattern="[a-zA-Z0-9_]+")
    transformers = {
        ("CountVectorizer", "words"): dict(**pattern),
        ("CountVectorizer", "pairs"): dict(ngram_range=(1, 2), max_features=80, **pattern),
        ("CountVectorizer", "binary"): dict(binary=True, **pattern),
        ("CountVectorizer", "chars"): dict(analyzer="char", ngram_range=(2, 2)),
        ("TfidfVectorizer", "words"): dict(**pattern),
        ("TfidfVectorizer", "l1"): dict(norm="l1", smooth_idf=False, **pattern),
        ("TfidfVectorizer", "pairs"): dict(ngram_range=(1, 2), max_features=90, **pattern),
        ("TfidfVectorizer", "sublinear"): dict(sublinear_tf=True, **pattern),
        ("TfidfVectorizer", "cased"): dict(lowercase=False, **pattern),
    }
    for (estimator, label), setting in transformers.items():
        name = f"skl_{estimator}_{label}"
        build = lambda e=estimator, s=setting, o=opset_of(name): text_model(make(e, **s), o)
        yield Case(name, "scikit-learn", estimator, build, {"opset": opset_of(name), **setting})
    for label, final in {"logistic": LOGISTIC, "bayes": lambda: make("MultinomialNB"), "forest": FOREST}.items():
        name = f"skl_TfidfVectorizer_{label}"
        maker = lambda f=final: make_pipeline(make("TfidfVectorizer", **pattern), f())
        build = lambda m=maker, o=opset_of(name): text_model(m(), o)
        yield Case(name, "scikit-learn", "TfidfVectorizer", build, {"opset": opset_of(name)})


def text_model(model, opset):
    rows = data.documents()
    model.fit(rows.x.ravel(), rows.y)
    options = {"zipmap": False} if hasattr(model, "predict") else None
    onx = export.convert(model, rows.probe, opset, options)
    probe = rows.probe.ravel()
    if options:
        values = model.predict_proba(probe)
        outputs = [Output("label", model.predict(probe), ties=export.close_rows(values)), Output("probability", values)]
    else:
        outputs = [Output("transform", model.transform(probe).toarray())]
    return Made(onx, {"X": rows.probe}, outputs)


def label_cases():
    """Encoders of labels."""
    words = np.array(["ash", "birch", "cedar", "birch", "ash", "cedar"] * 4)
    numbers = np.array([4, 9, -2, 9, 4, 4] * 4, dtype=np.int64)
    for label, values in (("str", words), ("int", numbers)):
        for estimator in ("LabelEncoder", "LabelBinarizer"):
            if estimator == "LabelBinarizer" and label == "str":
                continue
            name = f"skl_{estimator}_{label}"
            build = lambda e=estimator, v=values, o=opset_of(name): label_model(make(e), v, o)
            yield Case(name, "scikit-learn", estimator, build, {"opset": opset_of(name)})


def label_model(model, values, opset):
    encoded = np.asarray(model.fit(values).transform(values))
    column = values if isinstance(values[0], str) else values.reshape(-1, 1)
    kind = StringTensorType([None]) if column.ndim == 1 else Int64TensorType([None, 1])
    onx = to_onnx(model, initial_types=[("X", kind)], target_opset={"": opset, "ai.onnx.ml": 3})
    return Made(onx, {"X": column.astype(object) if column.dtype.kind == "U" else column}, [Output("label", encoded)])


def hasher_cases():
    """Feature hashing of single words."""
    for label, setting in {"signed": dict(), "plain": dict(alternate_sign=False)}.items():
        name = f"skl_FeatureHasher_{label}"
        hasher = lambda s=setting: make("FeatureHasher", n_features=16, input_type="string", **s)
        build = lambda h=hasher, o=opset_of(name): hasher_model(h(), o)
        yield Case(name, "scikit-learn", "FeatureHasher", build, {"opset": opset_of(name), **setting})


def hasher_model(model, opset):
    rows = data.words(1)
    values = model.transform([[w] for w in rows.probe.ravel()]).toarray()
    return Made(export.convert(model, rows.probe, opset), {"X": rows.probe}, [Output("transform", values)])


def cases():
    """All of this module."""
    for group in (
        wrapped_classifiers,
        wrapped_regressors,
        wrapped_transformers,
        kernel_cases,
        leaf_cases,
        missing_cases,
        several_targets,
        pipelines,
        column_cases,
        text_cases,
        label_cases,
        hasher_cases,
    ):
        yield from group()
