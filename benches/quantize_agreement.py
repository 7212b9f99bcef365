#!/usr/bin/env python3
"""Quantizes models with `kiln quantize` and measures what that costs.

    python benches/quantize_agreement.py --zoo ~/.cache/kiln-zoo --small /path/to/small \
        [--kiln target/release/kiln] [--method minmax] [--only resnet18,...]

Needs numpy and onnxruntime. Samples are made up from a seed: images of soft blobs and noise,
sentences of random words and lengths; those measured on are others than those calibrated on.

Two lines per model:

    cosine      of the quantized model's outputs against those of the model, run by ONNX Runtime
                (and by kiln, in brackets); bytes of the file, before and after
    steps       the largest difference between kiln and ONNX Runtime on the written model. Each
                stretch between two quantized tensors is run by kiln on what ONNX Runtime has in
                front of it, so that one rounding does not grow on its way through the layers: a
                step is one integer, or 1/255 of the range of an output in floats. The difference
                of the outputs of the whole model is shown beside that of ONNX Runtime with itself
                (all optimizations against none): what roundings grow to.

Forests must give the same bits, in both runtimes. Exit code 1 says that something is worse than
a cosine of 0.99, a difference of one step, or the same bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort


PLAIN = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


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
    # What a stretch of constants reads is nothing.
    given = ["--inputs", path] if inputs else []
    subprocess.run([kiln, "run", model, *given, *flags], check=True)
    return [np.load(files[name]) for name in outputs]


def ort_run(model, inputs, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs), [o.name for o in session.get_outputs()]


def cosine(a, b):
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def cuts(model):
    """The tensors between which a model is compared, and the node that makes each tensor."""
    makers = {o: n for n in model.graph.node for o in n.output if o}
    ends = {o.name for o in model.graph.output}
    kinds = ("QuantizeLinear", "LayerNormalization")
    ends |= {o for o, n in makers.items() if n.op_type in kinds and o == n.output[0]}
    return ends, makers


def stretch(model, end, ends, makers):
    """The nodes between `end` and what was cut before it, in order, and the tensors they read."""
    inputs = {i.name for i in model.graph.input}
    seen, reads, ways = set(), set(), [end]
    while ways:
        node = makers.get(ways.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        for name in node.input:
            if name in ends or name in inputs:
                reads.add(name)
            else:
                ways.append(name)
    return [n for n in model.graph.node if id(n) in seen], sorted(reads)


def steps_of(kiln, path, inputs, folder):
    """The largest difference of each stretch of a written model, in steps."""
    model = onnx.load(path)
    ends, makers = cuts(model)
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    outputs = {o.name for o in model.graph.output}
    whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in sorted(ends - outputs))
    made, names = ort_run(whole.SerializeToString(), inputs, PLAIN)
    known = dict(zip(names, made, strict=True)) | inputs
    constants = {t.name: t for t in model.graph.initializer}
    worst = {}
    for end in sorted(ends):
        nodes, reads = stretch(model, end, ends, makers)
        used = {name for n in nodes for name in n.input if name in constants}

        def info(name):
            dtype = onnx.helper.np_dtype_to_tensor_dtype(known[name].dtype)
            return onnx.helper.make_tensor_value_info(name, dtype, known[name].shape)

        graph = onnx.helper.make_graph(
            nodes, "stretch", [info(n) for n in reads], [info(end)],
            [constants[n] for n in sorted(used)])
        part = onnx.helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        file = os.path.join(folder, "part.onnx")
        onnx.save(part, file)
        [got] = kiln_run(kiln, file, {n: known[n] for n in reads}, [end], folder)
        want = known[end].astype(np.float64)
        step = 1 if known[end].dtype.kind in "iu" else np.ptp(want) / 255
        worst[end] = float(np.abs(got.astype(np.float64) - want).max() / step)
    return worst


def network(args, name, model, make):
    with tempfile.TemporaryDirectory() as folder:
        calib = os.path.join(folder, "calib.npz")
        np.savez(calib, **make(args.samples, 1))
        small = os.path.join(folder, "small.onnx")
        quantize = [args.kiln, "quantize", model, "-o", small, "--calib", calib]
        subprocess.run([*quantize, "--method", args.method, *args.flag], check=True)
        inputs = make(4, 2)
        [want], names = ort_run(model, inputs)
        [plain], _ = ort_run(small, inputs, PLAIN)
        [fast], _ = ort_run(small, inputs)
        [ours] = kiln_run(args.kiln, small, inputs, names, folder)
        ends = [float(np.abs(a - b).max() * 255 / np.ptp(want))
                for a, b in ((ours, plain), (plain, fast))]
        before, after = os.path.getsize(model), os.path.getsize(small)
        worst = steps_of(args.kiln, small, {k: v[:1] for k, v in inputs.items()}, folder)
    cosines = cosine(fast, want), cosine(ours, want)
    most = max(worst, key=worst.get)
    print(f"{name:14} cosine {cosines[0]:.5f} ({cosines[1]:.5f})  bytes {before} -> {after}")
    print(f"{'':14} steps  {worst[most]:.3f} in {len(worst)} stretches, the most at {most}; "
          f"outputs {ends[0]:.2f}, ONNX Runtime with itself {ends[1]:.2f}", flush=True)
    return min(cosines) >= 0.99 and worst[most] <= 1


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
    parser.add_argument("--flag", action="append", default=["--max-drop=0.008"],
                        help="passed on to kiln quantize")
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
