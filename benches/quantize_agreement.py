#!/usr/bin/env python3
"""Quantizes models with `kiln quantize` and measures what that costs.

    python benches/quantize_agreement.py --zoo ~/.cache/kiln-zoo --small /path/to/small \
        [--kiln target/release/kiln] [--method minmax] [--only resnet18,...]

Needs numpy and onnxruntime. Samples are made up from a seed: images of soft blobs and noise,
sentences of random words and lengths; those measured on are others than those calibrated on.

A line per model:

    cosine      of the quantized model's outputs against those of the model, run by ONNX Runtime
                (and by kiln, in brackets)
    steps       the largest difference between kiln and ONNX Runtime on the written model, where a
                step is 1/255 of the range of the outputs
    bytes       of the file, before and after

Forests must give the same bits, in both runtimes. Exit code 1 says that something is worse than
a cosine of 0.99, a difference of one step, or the same bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort


def images(n, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(n, 3, 7, 7)).astype(np.float32)
    soft = coarse.repeat(32, axis=2).repeat(32, axis=3)
    fine = rng.normal(size=(n, 3, 224, 224)).astype(np.float32)
    return {"x": (soft + 0.3 * fine).astype(np.float32)}


def sentences(n, seed, length=64):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1000, 29000, size=(n, length))
    lengths = rng.integers(8, length + 1, size=n)
    mask = (np.arange(length)[None, :] < lengths[:, None]).astype(np.int64)
    ids = np.where(mask == 1, ids, 0).astype(np.int64)
    ids[:, 0] = 101
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
    }


def kiln_run(kiln, model, inputs, outputs, folder):
    """The outputs of one batch, by name."""
    path = os.path.join(folder, "in.npz")
    np.savez(path, **inputs)
    files = {name: os.path.join(folder, f"out{i}.npy") for i, name in enumerate(outputs)}
    flags = [flag for name, file in files.items() for flag in ("-o", f"{name}={file}")]
    subprocess.run([kiln, "run", model, "--inputs", path, *flags], check=True)
    return [np.load(files[name]) for name in outputs]


def ort_run(model, inputs, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs), [o.name for o in session.get_outputs()]


def cosine(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def network(args, name, model, make):
    with tempfile.TemporaryDirectory() as folder:
        calib = os.path.join(folder, "calib.npz")
        np.savez(calib, **make(args.samples, 1))
        small = os.path.join(folder, "small.onnx")
        quantize = [args.kiln, "quantize", model, "-o", small, "--calib", calib]
        subprocess.run([*quantize, "--method", args.method, *args.flag], check=True)
        inputs = make(4, 2)
        want, names = ort_run(model, inputs)
        plain, _ = ort_run(small, inputs, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        fast, _ = ort_run(small, inputs)
        ours = kiln_run(args.kiln, small, inputs, names, folder)
        step = (want[0].max() - want[0].min()) / 255
        steps = [float(np.abs(a[0] - b[0]).max() / step) for a, b in
                 ((ours, plain), (ours, fast), (plain, fast))]
        before, after = os.path.getsize(model), os.path.getsize(small)
    cosines = cosine(fast[0], want[0]), cosine(ours[0], want[0])
    print(f"{name:14} cosine {cosines[0]:.5f} ({cosines[1]:.5f})  steps {steps[0]:.3f} "
          f"(fused {steps[1]:.3f}; ONNX Runtime with itself {steps[2]:.3f})  "
          f"bytes {before} -> {after}", flush=True)
    return min(cosines) >= 0.99 and min(steps[:2]) <= 1


def forest(args, name, model, inputs):
    with tempfile.TemporaryDirectory() as folder:
        small = os.path.join(folder, "small.onnx")
        subprocess.run([args.kiln, "quantize", model, "-o", small], check=True)
        inputs = dict(np.load(inputs))
        want, names = ort_run(model, inputs)
        got, _ = ort_run(small, inputs)
        equal = [all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
                     for a, b in zip(want, got, strict=True))]
        sides = [kiln_run(args.kiln, m, inputs, names, folder) for m in (model, small)]
        equal.append(all(a.tobytes() == b.tobytes() for a, b in zip(*sides, strict=True)))
    print(f"{name:14} same bits: ONNX Runtime {equal[0]}, kiln {equal[1]}", flush=True)
    return all(equal)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", default=os.path.expanduser("~/.cache/kiln-zoo"))
    parser.add_argument("--small", required=True, help="the folder of small models")
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("--method", default="minmax")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--only", default="")
    parser.add_argument("--flag", action="append", default=[], help="passed on to kiln quantize")
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    rows = [
        ("resnet18", network, f"{args.zoo}/models/resnet18/model.onnx", images),
        ("mobilenet_v2", network, f"{args.zoo}/models/mobilenet_v2/model.onnx", images),
        ("minilm", network, f"{args.zoo}/minilm/model.onnx", sentences),
    ]
    for name in ("rf_clf_100x8_higgs", "xgb_100x6_higgs_nan", "hgb_reg_500_mslr"):
        at = f"{args.small}/{name}"
        rows.append((name, forest, f"{at}/model.onnx", f"{at}/inputs.npz"))
    good = [run(args, name, model, rest) for name, run, model, rest in rows
            if not only or name in only]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
