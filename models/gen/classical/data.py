"""Seeded training tables. Each has the rows to train on and 64 other rows to be asked about."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression

TRAIN, PROBE = 300, 64
STRINGS = np.array(["ash", "birch", "cedar"])


@dataclass(frozen=True)
class Table:
    """Features and targets to fit, and the features of the rows to predict."""

    x: np.ndarray
    y: np.ndarray
    probe: np.ndarray


def _split(x, y, dtype):
    x = np.asarray(x, dtype=dtype)
    return Table(x[:TRAIN], y[:TRAIN], x[TRAIN:])


def classes(dtype, n=3, features=6, labels="int"):
    """A noisy classification; labels are 0..n, 10/20/30 ("sparse") or tree names ("string")."""
    x, y = make_classification(
        TRAIN + PROBE,
        features,
        n_informative=4,
        n_redundant=0,
        n_classes=n,
        class_sep=0.8,
        flip_y=0.08,
        random_state=3 + n,
    )
    if labels == "string":
        y = STRINGS[y]
    elif labels == "sparse":
        y = 10 * (y + 1)
    return _split(x, y, dtype)


def counts(dtype, n=3):
    """Small non-negative whole numbers as features, for naive Bayes and tf-idf."""
    table = classes(np.float64, n)
    x = np.floor(np.abs(np.vstack([table.x, table.probe])) * 2).clip(0, 5)
    return Table(x[:TRAIN].astype(dtype), table.y, x[TRAIN:].astype(dtype))


def holes(dtype, n=2, share=0.15):
    """A classification with missing values."""
    table = classes(dtype, n)
    random = np.random.default_rng(5)
    x = np.vstack([table.x, table.probe])
    x[random.random(x.shape) < share] = np.nan
    return Table(x[:TRAIN], table.y, x[TRAIN:])


def numbers(dtype, targets=1, positive=False, features=6):
    """A noisy regression; `positive` targets suit Poisson, gamma and Tweedie losses."""
    x, y = make_regression(
        TRAIN + PROBE, features, n_informative=4, n_targets=targets, noise=8.0, random_state=11
    )
    y = np.exp(y / 200.0) if positive else y
    return _split(x, y, dtype)


def number_holes(dtype):
    """A regression with missing values."""
    table = numbers(dtype)
    x = np.vstack([table.x, table.probe])
    x[np.random.default_rng(6).random(x.shape) < 0.15] = np.nan
    return Table(x[:TRAIN], table.y, x[TRAIN:])


def many_labels(dtype):
    """Three yes/no labels for each row."""
    x, y = make_multilabel_classification(TRAIN + PROBE, 6, n_classes=3, random_state=2)
    x = x + np.random.default_rng(7).normal(0, 0.3, x.shape)  # whole numbers make equal distances
    return _split(x, y, dtype)


def class_outputs(dtype):
    """Two class labels for each row, of three and of two classes."""
    table = classes(dtype, 3)
    second = (table.x[:, 0] + table.x[:, 1] > 0).astype(np.int64)
    return Table(table.x, np.stack([table.y, second], axis=1), table.probe)


def codes(dtype, n=2):
    """Four numeric features, then two categories written as whole numbers 0..8."""
    table = classes(np.float64, n)
    x = np.vstack([table.x, table.probe])
    random = np.random.default_rng(9)
    x[:, 4:] = random.integers(0, 9, (len(x), 2))
    y = table.y.copy()
    y[np.isin(x[:TRAIN, 4], [1, 4, 7])] = 0
    return Table(x[:TRAIN].astype(dtype), y, x[TRAIN:].astype(dtype))


def words(columns=3):
    """Categories as strings."""
    random = np.random.default_rng(4)
    names = np.array(["red", "green", "blue", "dark grey", "ochre"], dtype=object)
    x = names[random.integers(0, 5, (TRAIN + PROBE, columns))]
    y = ((x[:, 0] == "red") | (x[:, -1] == "blue")).astype(np.int64)
    return Table(x[:TRAIN], y[:TRAIN], x[TRAIN:])


def documents():
    """Short texts over a small vocabulary, in two topics."""
    random = np.random.default_rng(8)
    vocabulary = np.array([f"w{i}" for i in range(60)])
    y = random.integers(0, 2, TRAIN + PROBE)
    texts = []
    for topic in y:
        common = random.integers(0, 60, random.integers(4, 16))
        own = 30 * topic + random.integers(0, 30, 4)
        texts.append(" ".join(vocabulary[np.concatenate([common, own])]))
    x = np.array(texts, dtype=object).reshape(-1, 1)
    return Table(x[:TRAIN], y[:TRAIN], x[TRAIN:])
