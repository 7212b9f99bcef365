"""Every scikit-learn estimator that skl2onnx converts, in several settings each."""

import zlib

import numpy as np
from sklearn.utils import all_estimators

from . import data, export
from .case import Case

OPSETS = (13, 15, 18, 21)
DTYPES = {"f32": np.float32, "f64": np.float64}
ESTIMATORS = dict(all_estimators())


def make(name, **settings):
    """The estimator of that name, seeded if it can be."""
    kind = ESTIMATORS[name]
    if "random_state" in kind().get_params():
        settings.setdefault("random_state", 0)
    return kind(**settings)


def opset_of(name):
    """One of `OPSETS`, spread over the cases but always the same for one name."""
    if "KNNImputer" in name:  # written as a function that needs opset 18
        return 18
    return OPSETS[zlib.crc32(name.encode()) % len(OPSETS)]


def case(name, estimator, factory, table, role, **options):
    """A case that fits `factory()` on `table()` and exports it as `role` says."""

    told = {"opset": opset_of(name), **options}

    def build():
        rows, model = table(), factory()
        told["parameters"] = " ".join(repr(model).split())
        return role(model.fit(rows.x, rows.y), rows.probe, opset_of(name), **options)

    return Case(name, "scikit-learn", estimator, build, told)


# Settings of the classifiers; the first one is made in every data type, label type and output form.
CLASSIFIERS = {
    "AdaBoostClassifier": [dict(n_estimators=12), dict(n_estimators=5, learning_rate=0.5)],
    "BaggingClassifier": [dict(n_estimators=6), dict(n_estimators=5, max_features=0.6)],
    "DecisionTreeClassifier": [dict(max_depth=5), dict(), dict(criterion="entropy", max_leaf_nodes=9)],
    "ExtraTreeClassifier": [dict(max_depth=5)],
    "ExtraTreesClassifier": [dict(n_estimators=12, max_depth=6), dict(n_estimators=9, bootstrap=True)],
    "GaussianNB": [dict()],
    "GaussianProcessClassifier": [dict(optimizer=None)],
    "GradientBoostingClassifier": [dict(n_estimators=15), dict(n_estimators=9, loss="exponential")],
    "HistGradientBoostingClassifier": [dict(max_iter=15), dict(max_iter=9, max_leaf_nodes=7)],
    "KNeighborsClassifier": [dict(), dict(n_neighbors=3, metric="manhattan"), dict(weights="distance")],
    "LinearDiscriminantAnalysis": [dict(), dict(solver="lsqr", shrinkage=0.2)],
    "LinearSVC": [dict(), dict(C=0.1, fit_intercept=False)],
    "LogisticRegression": [dict(max_iter=300), dict(C=0.05, fit_intercept=False)],
    "LogisticRegressionCV": [dict(Cs=3, cv=3, max_iter=300)],
    "MLPClassifier": [dict(hidden_layer_sizes=(9,), max_iter=80)]
    + [dict(hidden_layer_sizes=(7, 5), activation=a, max_iter=60) for a in ("tanh", "logistic", "identity")],
    "NuSVC": [dict(nu=0.3), dict(nu=0.3, probability=True)],
    "PassiveAggressiveClassifier": [dict()],
    "Perceptron": [dict()],
    "QuadraticDiscriminantAnalysis": [dict(), dict(reg_param=0.1)],
    "RadiusNeighborsClassifier": [dict(radius=6.0)],
    "RandomForestClassifier": [
        dict(n_estimators=12, max_depth=6),
        dict(n_estimators=7),
        dict(n_estimators=20, max_leaf_nodes=6, class_weight="balanced"),
    ],
    "RidgeClassifier": [dict(), dict(alpha=20.0)],
    "RidgeClassifierCV": [dict()],
    "SGDClassifier": [dict(loss=l) for l in ("log_loss", "hinge", "modified_huber", "perceptron")],
    "SVC": [dict(), dict(probability=True)]
    + [dict(kernel=k, probability=p) for k in ("linear", "poly", "sigmoid") for p in (True, False)],
}
COUNTED = {
    "BernoulliNB": [dict(binarize=1.0), dict(binarize=1.0, alpha=0.1)],
    "CategoricalNB": [dict(min_categories=6)],
    "ComplementNB": [dict(), dict(norm=True)],
    "MultinomialNB": [dict(), dict(fit_prior=False)],
}
RAW = (
    "GradientBoostingClassifier LinearDiscriminantAnalysis LogisticRegression LogisticRegressionCV LinearSVC "
    "NuSVC Perceptron PassiveAggressiveClassifier RidgeClassifier RidgeClassifierCV SGDClassifier SVC"
).split()
CLASSIFIER_FORMS = [
    ("f32_2", "f32", dict(n=2), dict()),
    ("f32_3", "f32", dict(n=3), dict()),
    ("f64_2", "f64", dict(n=2), dict()),
    ("f64_3s", "f64", dict(n=3, labels="string"), dict()),
    ("f32_2z", "f32", dict(n=2, labels="sparse"), dict(zipmap=True)),
    ("f32_3sz", "f32", dict(n=3, labels="string"), dict(zipmap=True)),
    ("f32_3c", "f32", dict(n=3), dict(zipmap="columns")),
]
RAW_FORMS = [
    ("f32_2raw", "f32", dict(n=2), dict(options={"raw_scores": True})),
    ("f32_3raw", "f32", dict(n=3), dict(options={"raw_scores": True})),
    ("f64_3raw", "f64", dict(n=3), dict(options={"raw_scores": True})),
]


def table(maker, dtype, **settings):
    """A function that makes the table; tables are made when a case is built."""
    return lambda: maker(DTYPES[dtype], **settings)


def classifiers():
    """Every plain classifier: the first setting in every form, the others on three f32 classes."""
    for estimator, settings in CLASSIFIERS.items():
        forms = CLASSIFIER_FORMS + (RAW_FORMS if estimator in RAW else [])
        forms = [f for f in forms if fits(estimator, f)]
        for label, dtype, rows, output in forms:
            yield classifier_case(estimator, settings[0], label, table(data.classes, dtype, **rows), output)
        for number, setting in enumerate(settings[1:], 1):
            classes = 2 if setting.get("loss") == "exponential" else 3
            for dtype in DTYPES:
                rows = table(data.classes, dtype, n=classes)
                yield classifier_case(estimator, setting, f"{dtype}_v{number}", rows, {})
    for estimator, settings in COUNTED.items():
        for number, setting in enumerate(settings):
            for dtype, n in (("f32", 2), ("f32", 3), ("f64", 3)):
                rows = table(data.counts, dtype, n=n)
                yield classifier_case(estimator, setting, f"{dtype}_{n}_v{number}", rows, {})


NO_ZIPMAP = ("LinearSVC",)
NO_COLUMNS = ("RadiusNeighborsClassifier", "RidgeClassifier", "RidgeClassifierCV")
BINARY_ONLY = ("GaussianProcessClassifier",)


def fits(estimator, form):
    """Whether the converter of the estimator offers that form at all."""
    _, _, rows, output = form
    if estimator in BINARY_ONLY and rows["n"] > 2:
        return False
    return not ("zipmap" in output and estimator in NO_ZIPMAP) and not (
        output.get("zipmap") == "columns" and estimator in NO_COLUMNS
    )


def classifier_case(estimator, setting, label, rows, output):
    if estimator in NO_ZIPMAP:
        output = {"zipmap": None, **output}
    name = f"skl_{estimator}_{label}"
    return case(name, estimator, lambda: make(estimator, **setting), rows, export.classifier, **output)


REGRESSORS = {
    "ARDRegression": [dict()],
    "AdaBoostRegressor": [dict(n_estimators=8)],
    "BaggingRegressor": [dict(n_estimators=6), dict(n_estimators=5, max_features=0.6)],
    "BayesianRidge": [dict()],
    "DecisionTreeRegressor": [dict(max_depth=6), dict()],
    "ElasticNet": [dict(alpha=0.3)],
    "ElasticNetCV": [dict(cv=3)],
    "ExtraTreeRegressor": [dict(max_depth=6)],
    "ExtraTreesRegressor": [dict(n_estimators=12, max_depth=7)],
    "GaussianProcessRegressor": [dict(alpha=1.0, optimizer=None)],
    "GradientBoostingRegressor": [dict(n_estimators=20), dict(n_estimators=9, loss="huber")],
    "HistGradientBoostingRegressor": [dict(max_iter=15), dict(max_iter=9, max_depth=3)],
    "HuberRegressor": [dict(max_iter=500)],
    "KNeighborsRegressor": [dict(), dict(n_neighbors=3, metric="manhattan"), dict(weights="distance")],
    "Lars": [dict()],
    "LarsCV": [dict(cv=3)],
    "Lasso": [dict(alpha=0.2)],
    "LassoCV": [dict(cv=3)],
    "LassoLars": [dict(alpha=0.2)],
    "LassoLarsCV": [dict(cv=3)],
    "LassoLarsIC": [dict()],
    "LinearRegression": [dict(), dict(fit_intercept=False), dict(positive=True)],
    "LinearSVR": [dict(max_iter=5000)],
    "MLPRegressor": [dict(hidden_layer_sizes=(12,), max_iter=100), dict(activation="tanh", max_iter=60)],
    "NuSVR": [dict(), dict(kernel="poly", degree=2)],
    "OrthogonalMatchingPursuit": [dict()],
    "OrthogonalMatchingPursuitCV": [dict(cv=3)],
    "PLSRegression": [dict()],
    "PassiveAggressiveRegressor": [dict()],
    "QuantileRegressor": [dict(solver="highs", alpha=0.01)],
    "RANSACRegressor": [dict()],
    "RadiusNeighborsRegressor": [dict(radius=6.0)],
    "RandomForestRegressor": [dict(n_estimators=12, max_depth=7), dict(n_estimators=7)],
    "Ridge": [dict(), dict(alpha=30.0)],
    "RidgeCV": [dict()],
    "SGDRegressor": [dict()],
    "SVR": [dict(C=10.0), dict(kernel="linear"), dict(kernel="poly"), dict(kernel="sigmoid")],
    "TheilSenRegressor": [dict()],
}
POSITIVE = {
    "GammaRegressor": [dict()],
    "PoissonRegressor": [dict()],
    "TweedieRegressor": [dict(power=1.5), dict(power=0)],
    "HistGradientBoostingRegressor": [dict(loss="poisson", max_iter=15)],
}
SEVERAL_TARGETS = {
    "DecisionTreeRegressor": dict(max_depth=6),
    "ExtraTreesRegressor": dict(n_estimators=8, max_depth=6),
    "KNeighborsRegressor": dict(),
    "LinearRegression": dict(),
    "MLPRegressor": dict(hidden_layer_sizes=(9,), max_iter=80),
    "MultiTaskElasticNet": dict(alpha=0.3),
    "MultiTaskElasticNetCV": dict(cv=3),
    "MultiTaskLasso": dict(alpha=0.3),
    "MultiTaskLassoCV": dict(cv=3),
    "PLSRegression": dict(),
    "RandomForestRegressor": dict(n_estimators=8, max_depth=6),
    "Ridge": dict(),
}


def regressors():
    """Every plain regressor in both types, some for positive and some for three targets."""
    groups = [
        ("", REGRESSORS, {}),
        ("_positive", POSITIVE, dict(positive=True)),
        ("_multi", {k: [v] for k, v in SEVERAL_TARGETS.items()}, dict(targets=3)),
    ]
    for suffix, rows, settings in groups:
        for estimator, variants in rows.items():
            for number, setting in enumerate(variants):
                for dtype in DTYPES:
                    name = f"skl_{estimator}{suffix}_{dtype}_v{number}"
                    factory = lambda e=estimator, s=setting: make(e, **s)
                    yield case(name, estimator, factory, table(data.numbers, dtype, **settings), export.regressor)


TRANSFORMERS = {
    "Binarizer": [dict(), dict(threshold=0.5)],
    "GaussianRandomProjection": [dict(n_components=3)],
    "IncrementalPCA": [dict(n_components=3)],
    "KBinsDiscretizer": [
        dict(n_bins=4, encode=e, strategy=s, quantile_method="linear")
        for e, s in (("ordinal", "uniform"), ("onehot-dense", "quantile"))
    ],
    "KNeighborsTransformer": [dict(mode="distance")],
    "KernelPCA": [dict(n_components=3, kernel="rbf"), dict(n_components=3, kernel="poly")],
    "MaxAbsScaler": [dict()],
    "MinMaxScaler": [dict(), dict(feature_range=(-1, 2), clip=True)],
    "NeighborhoodComponentsAnalysis": [dict(n_components=3, max_iter=20)],
    "Normalizer": [dict(norm=n) for n in ("l2", "l1", "max")],
    "PCA": [dict(n_components=3), dict(whiten=True)],
    "PolynomialFeatures": [dict(), dict(degree=3, interaction_only=True), dict(include_bias=False)],
    "PowerTransformer": [dict(), dict(standardize=False)],
    "QuantileTransformer": [dict(n_quantiles=50)],
    "RandomTreesEmbedding": [dict(n_estimators=4, max_depth=3, sparse_output=False)],
    "RobustScaler": [dict(), dict(with_centering=False), dict(quantile_range=(10, 90))],
    "SelectFdr": [dict()],
    "SelectFpr": [dict()],
    "SelectFwe": [dict()],
    "SelectKBest": [dict(k=3)],
    "SelectPercentile": [dict(percentile=50)],
    "GenericUnivariateSelect": [dict(mode="k_best", param=3)],
    "StandardScaler": [dict(), dict(with_mean=False), dict(with_std=False)],
    "TfidfTransformer": [dict(), dict(norm="l1", sublinear_tf=True)],
    "TruncatedSVD": [dict(n_components=3)],
    "VarianceThreshold": [dict(threshold=1.5)],
    "FunctionTransformer": [dict()],
}
ABOVE_ZERO = ("TfidfTransformer",)
WITH_HOLES = {
    "SimpleImputer": [dict(strategy=s) for s in ("mean", "median", "most_frequent")]
    + [dict(strategy="constant", fill_value=-1.0)],
    "KNNImputer": [dict(n_neighbors=3)],
}
OF_WORDS = {
    "OneHotEncoder": [dict(sparse_output=False, handle_unknown="ignore"), dict(drop="first", sparse_output=False)],
    "OrdinalEncoder": [dict(), dict(handle_unknown="use_encoded_value", unknown_value=-1)],
    "TargetEncoder": [dict(), dict(smooth=5.0)],
}


def transformers():
    """Every transformer in both types, and encoders of strings."""
    for estimator, variants in TRANSFORMERS.items():
        maker = data.counts if estimator in ABOVE_ZERO else data.classes
        yield from transformer_cases(estimator, variants, maker)
    for estimator, variants in WITH_HOLES.items():
        yield from transformer_cases(estimator, variants, data.holes)
    for estimator, variants in OF_WORDS.items():
        for number, setting in enumerate(variants):
            factory = lambda e=estimator, s=setting: make(e, **s)
            yield case(f"skl_{estimator}_str_v{number}", estimator, factory, data.words, export.transformer)
    for dtype in DTYPES:
        rows = lambda d=dtype: last_two(table(data.codes, d)())
        yield case(f"skl_OneHotEncoder_{dtype}", "OneHotEncoder", codes_encoder, rows, export.transformer)


def codes_encoder():
    return make("OneHotEncoder", sparse_output=False, handle_unknown="ignore")


def last_two(rows):
    """Only the two columns of category codes, as whole numbers."""
    return data.Table(rows.x[:, 4:].astype(np.int64), rows.y, rows.probe[:, 4:].astype(np.int64))


def transformer_cases(estimator, variants, maker):
    for number, setting in enumerate(variants):
        for dtype in DTYPES:
            factory = lambda e=estimator, s=setting: make(e, **s)
            name = f"skl_{estimator}_{dtype}_v{number}"
            yield case(name, estimator, factory, table(maker, dtype), export.transformer)


def unsupervised():
    """Clusterers, mixtures, outlier detectors and neighbour searches."""
    rows = [
        ("KMeans", dict(n_clusters=5, n_init=1), export.clusterer, {}),
        ("KMeans", dict(n_clusters=12, n_init=1, init="random"), export.clusterer, {}),
        ("MiniBatchKMeans", dict(n_clusters=5, n_init=1), export.clusterer, {}),
        ("IsolationForest", dict(n_estimators=8), export.outliers, {}),
        ("IsolationForest", dict(n_estimators=5, contamination=0.1), export.outliers, dict(score_samples=True)),
        ("LocalOutlierFactor", dict(novelty=True), export.outliers, {}),
        ("LocalOutlierFactor", dict(novelty=True, n_neighbors=9), export.outliers, dict(score_samples=True)),
        ("OneClassSVM", dict(nu=0.2), export.outliers, {}),
        ("OneClassSVM", dict(nu=0.2, kernel="poly", degree=2), export.outliers, {}),
        ("SGDOneClassSVM", dict(), export.outliers, {}),
        ("NearestNeighbors", dict(n_neighbors=4, radius=None), export.neighbours, None),
    ]
    for kind in ("GaussianMixture", "BayesianGaussianMixture"):
        for shape in ("full", "tied", "diag", "spherical"):
            rows.append((kind, dict(n_components=3, covariance_type=shape), export.mixture, {}))
        rows.append((kind, dict(n_components=2), export.mixture, dict(score_samples=True)))
    for number, (estimator, setting, role, options) in enumerate(rows):
        for dtype in DTYPES:
            extra = {"options": options} if options else {}
            factory = lambda e=estimator, s=setting: make(e, **s)
            name = f"skl_{estimator}_{dtype}_v{number}"
            yield case(name, estimator, factory, table(data.classes, dtype), role, **extra)


def cases():
    """All plain estimators; `sklearn_nested` has those made of others."""
    yield from classifiers()
    yield from regressors()
    yield from transformers()
    yield from unsupervised()
