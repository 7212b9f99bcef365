"""How long optimizing takes: kiln's passes beside ONNX Runtime's session creation, on one thread.

usage: optimize_time.py [--kiln PROGRAM] [--zoo FOLDER] [--runs N] [--long] [MODEL]...

MODEL is the name of a folder of the zoo with a `model.onnx` (see shared/zoo/README.md), or a file;
all of them where none is named. Each line is the shortest of N interleaved runs. `--long` adds a
chain and a stack of transformer layers of 5,000 to 20,000 nodes, which must take under 2 s and grow
in proportion. Needs numpy, onnx and onnxruntime. Exits 1 where kiln is slower.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

ZOO = pathlib.Path(os.environ.get("ZOO", "~/.cache/kiln-zoo")).expanduser() / "models"
LONG = (5_000, 10_000, 20_000)
LIMIT = 2.0
# What it raises for a model that it cannot load.
ORT_REFUSES = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, n) for n in ("Fail", "InvalidGraph", "NotImplemented")
)


def by_onnxruntime(model):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    start = time.perf_counter()
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return time.perf_counter() - start


def by_kiln(program, model):
    """Seconds that the passes took, reading and writing of files left out."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        command = [program, "optimize", model, "-o", os.path.join(folder, "o.onnx")]
        subprocess.run(command + ["--report", report], check=True, stdout=subprocess.DEVNULL)
        with open(report) as f:
            return json.load(f)["micros"] / 1e6


def model_of(nodes, weights):
    x, y = (
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 8, 16]) for n in "xy"
    )
    made = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "long", [x], [y], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count):
    """Elementwise nodes one after another, four kinds in turn."""
    nodes = []
    for i in range(count):
        kind = ("Add", "Sigmoid", "Mul", "Tanh")[i % 4]
        x = "x" if i == 0 else f"v{i - 1}"
        inputs = [x, "w"] if kind in ("Add", "Mul") else [x]
        nodes.append(helper.make_node(kind, inputs, ["y" if i == count - 1 else f"v{i}"]))
    return model_of(nodes, {"w": np.full(16, 0.5, np.float32)})


class Stack:
    """Encoder layers as PyTorch's older exporter writes them, normalizations spelled out."""

    def __init__(self, count):
        random = np.random.default_rng(1)
        self.nodes = []
        self.weights = {
            "two": np.float32(2),
            "eps": np.float32(1e-5),
            "root": np.float32(np.sqrt(2)),
            "one": np.float32(1),
            "half": np.float32(0.5),
            "scale": np.float32(2),
            "heads": np.array([0, 0, 4, 4], np.int64),
            "joined": np.array([0, 0, 16], np.int64),
            "w": random.normal(0, 0.2, (16, 16)).astype(np.float32),
            "b": random.normal(0, 0.2, 16).astype(np.float32),
        }
        x = "x"
        while len(self.nodes) < count:
            x = self.norm(self.op("Add", x, self.attention(x)))
            x = self.norm(self.op("Add", x, self.mlp(x)))
        self.nodes.append(helper.make_node("Identity", [x], ["y"]))

    def op(self, kind, *inputs, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def linear(self, x):
        return self.op("Add", "b", self.op("MatMul", x, "w"))

    def attention(self, x):
        split = [self.op("Reshape", self.linear(x), "heads") for _ in range(3)]
        perms = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        q, k, v = (self.op("Transpose", s, perm=p) for s, p in zip(split, perms))
        scores = self.op("Div", self.op("MatMul", q, k), "scale")
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        back = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", back, "joined"))

    def mlp(self, x):
        h = self.linear(x)
        e = self.op("Add", self.op("Erf", self.op("Div", h, "root")), "one")
        return self.linear(self.op("Mul", self.op("Mul", h, e), "half"))

    def norm(self, x):
        d = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        v = self.op("ReduceMean", self.op("Pow", d, "two"), axes=[-1])
        d = self.op("Div", d, self.op("Sqrt", self.op("Add", v, "eps")))
        return self.op("Add", self.op("Mul", d, "b"), "b")


def stack(count):
    made = Stack(count)
    return model_of(made.nodes, made.weights)


def long_models(folder):
    for make in (chain, stack):
        for count in LONG:
            path = pathlib.Path(folder) / f"{make.__name__}_{count}.onnx"
            onnx.save(make(count), path)
            yield path.stem, path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("--zoo", type=pathlib.Path, default=ZOO)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("models", nargs="*", metavar="MODEL")
    args = parser.parse_args()
    zoo = {p.parent.name: p for p in sorted(args.zoo.glob("*/model.onnx"))}
    named = args.models or ([] if args.long else list(zoo))
    slower = 0
    print(f"{'model':32} {'kiln ms':>9} {'ort ms':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        models = [(m, zoo.get(m, pathlib.Path(m))) for m in named]
        models += long_models(folder) if args.long else []
        for name, path in models:
            try:
                pairs = [(by_kiln(args.kiln, path), by_onnxruntime(path)) for _ in range(args.runs)]
            except ORT_REFUSES:
                print(f"{name:32} (ONNX Runtime refuses it)")
                continue
            kiln, peer = (min(p) for p in zip(*pairs))
            late = kiln > (LIMIT if path.parent == pathlib.Path(folder) else peer)
            slower += late
            mark = " <" if late else ""
            print(f"{name:32} {kiln * 1e3:9.1f} {peer * 1e3:9.1f} {kiln / peer:6.2f}{mark}")
    return int(slower > 0)


if __name__ == "__main__":
    sys.exit(main())
