"""Reductions, arguments of extremes, sorting and scanning along axes."""

from .case import row
from .fill import extremes, fixed, positive

REDUCE = (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
)


def reductions():
    for op in REDUCE:
        yield row(op, positive(2, 3, 4))
        yield row(op, positive(2, 3, 4), keepdims=0)
        yield row(op, positive(2, 3, 4), axes=[1])
        yield row(op, positive(2, 3, 4), axes=[0, -1], keepdims=0, versions=(11, 99))
        yield row(op, positive(2, 3, 4), axes=[0, 2], keepdims=0)
        yield row(op, positive(2, 3, 4), [1])
        yield row(op, positive(2, 3, 4), [-1, 0], keepdims=0)
        yield row(op, positive(2, 3, 4), fixed([]), noop_with_empty_axes=1)
        yield row(op, positive(2, 3, 4), [], noop_with_empty_axes=0)
        yield row(op, positive(2, 3, 4), None, noop_with_empty_axes=1)
        yield row(op, (2, 3, 4), [2])
        yield row(op, (2, 0, 4), [1])
        yield row(op, (2, 0, 4), [0, 2], keepdims=0)
        yield row(op, (2, 0, 4), keepdims=0)
        yield row(op, extremes(2, 7), [0])
        yield row(op, extremes(2, 7), axes=[0])
        yield row(op, ())
        yield row(op, (), [])


def extremes_along():
    for op in ("ArgMax", "ArgMin"):
        yield row(op, (3, 4, 5))
        yield row(op, (3, 4, 5), axis=1, keepdims=0)
        yield row(op, (3, 4, 5), axis=-1, versions=(11, 99))
        yield row(op, [[1, 3, 3], [2, 2, 1], [3, 1, 3]], axis=1, select_last_index=1)
        yield row(op, [[1, 3, 3], [2, 2, 1], [3, 1, 3]], axis=0, select_last_index=1, keepdims=0)
        yield row(op, [[1, 3, 3], [2, 2, 1], [3, 1, 3]], axis=1)
        yield row(op, (7,), keepdims=0)


def scans():
    for op in ("CumSum", "CumProd"):
        for attrs in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
            yield row(op, (2, 3, 4), fixed(1), **attrs)
        yield row(op, (2, 3), fixed(-1))
        yield row(op, (5,), fixed([0]), versions=(99, 99))
        yield row(op, (2, 0), fixed(1))
        yield row(op, (5,), fixed(0))


def sorting():
    yield row("TopK", (3, 5), k=2, outputs=2)
    yield row("TopK", (3, 5), k=3, axis=0, outputs=2)
    yield row("TopK", (3, 5), [2], outputs=2)
    yield row("TopK", (3, 5, 2), [2], axis=1, outputs=2)
    yield row("TopK", (3, 5), [2], axis=0, largest=0, outputs=2)
    yield row("TopK", (3, 5), [5], largest=0, sorted=1, outputs=2)
    yield row("TopK", [[1, 1, 1, 2, 2], [3, 3, 3, 3, 3]], [3], axis=-1, outputs=2)
    yield row("TopK", (3, 5), [0], outputs=2)
    yield row("TopK", (6,), [1])
    yield row("Unique", [2, 1, 1, 3, 4, 3], outputs=4)
    yield row("Unique", [2, 1, 1, 3, 4, 3], sorted=0, outputs=4)
    yield row("Unique", [[1, 0, 0], [1, 0, 0], [2, 3, 4]], axis=0, outputs=4)
    yield row("Unique", [[1, 0, 0], [1, 0, 0], [2, 3, 3]], axis=1, outputs=4)
    yield row("Unique", [[1, 0, 0], [1, 0, 0], [2, 3, 3]], axis=-1, sorted=0, outputs=4)
    yield row("Unique", [[1, 0, 0], [1, 0, 0], [2, 3, 4]], outputs=3)
    yield row("Unique", (0,), outputs=4)
    yield row("Unique", (3, 4))
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        yield row(op, (2, 3, 4))
        yield row(op, (2, 3, 4), axis=0)
        yield row(op, (2, 3, 4), axis=1)
        yield row(op, (2, 3, 4), axis=2)
        yield row(op, (2, 3, 4), axis=-2, versions=(11, 99))
        yield row(op, (5,), axis=0)
        yield row(op, (2, 0), axis=0)
        yield row(op, [[300.0, 300, -300], [1, 1, 1]], axis=1)


def rows():
    for part in (reductions, extremes_along, scans, sorting):
        yield from part()
