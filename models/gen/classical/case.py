"""What a generated model is made of, and how it is written."""

import json
from dataclasses import asdict, dataclass, field

import numpy as np

TIE = 1e-6


@dataclass
class Output:
    """One expected graph output.

    `kind` is label, leaf, score, probability, transform or number. `ties` are the rows whose label the
    source library itself decides by less than 1e-6; `classes` is the order of the columns.
    """

    kind: str
    value: np.ndarray
    ties: list = field(default_factory=list)
    classes: list = field(default_factory=list)


@dataclass
class Made:
    """A converted model with its inputs by name and its expected outputs in graph order."""

    model: object
    inputs: dict
    outputs: list


@dataclass
class Case:
    """One model to make. `build()` gives a `Made` and may add to `options`, which only meta.json tells."""

    name: str
    framework: str
    estimator: str
    build: object
    options: dict = field(default_factory=dict)


def close_rows(scores):
    """The rows where the best score leads by less than `TIE` (binary scores: lies that near 0)."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.ndim == 1:
        margin = np.abs(scores)
    else:
        best = np.sort(scores, axis=1)
        margin = best[:, -1] - best[:, -2]
    return np.flatnonzero(margin < TIE).tolist()


def plain(array):
    """The array without Python objects, so that NumPy needs no pickle to read it."""
    array = np.asarray(array)
    return array.astype(str) if array.dtype == object else array


def save(case, made, folder):
    """Writes model.onnx, inputs.npz, expected.npz and meta.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [output.name for output in made.model.graph.output]
    if len(names) != len(made.outputs):
        raise ValueError(f"{len(made.outputs)} outputs expected, the graph has {names}")
    (folder / "model.onnx").write_bytes(made.model.SerializeToString())
    np.savez(folder / "inputs.npz", **{k: plain(v) for k, v in made.inputs.items()})
    np.savez(folder / "expected.npz", **{n: plain(o.value) for n, o in zip(names, made.outputs)})
    (folder / "meta.json").write_text(json.dumps(meta(case, made, names), indent=1, default=str) + "\n")


def meta(case, made, names):
    """What meta.json says."""
    outputs = []
    for name, output in zip(names, made.outputs):
        row = asdict(output)
        del row["value"]
        row["classes"] = np.asarray(row["classes"]).tolist()
        outputs.append({"name": name, **row})
    return {
        "schema": "kiln-gen/1",
        "name": case.name,
        "framework": case.framework,
        "estimator": case.estimator,
        "options": case.options,
        "opsets": {o.domain or "ai.onnx": o.version for o in made.model.opset_import},
        "inputs": [{"name": n, "dtype": str(a.dtype), "shape": a.shape} for n, a in made.inputs.items()],
        "tolerance": {"relative": 1e-5, "of_range": 1e-5},
        "outputs": outputs,
    }
