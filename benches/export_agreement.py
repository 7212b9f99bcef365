"""Whether ONNX Runtime gives on the optimized model what it gives on the model itself.

usage: export_agreement.py [--kiln PROGRAM] [FOLDER]...

A folder holds `model.onnx` and `inputs.npz`; all folders of the zoo where none is named. The
optimized model must pass ONNX's checker, load in ONNX Runtime, and give the outputs that ONNX
Runtime gives for the original model, where it loads that. Integers and strings must be equal,
floats within 1e-3 of the largest number of the output. Quantized models round to whole steps and
detectors sort by scores, so that two right orders of the same sums can end a step or a rank apart:
a difference that is larger is held to what ONNX Runtime's own levels differ by on the untouched
model, and is printed. Where the peer misses the `expected.npz` of the library that made the model,
the optimized model may miss it by no more. kiln's own outputs must lie as close to ONNX Runtime's
on the optimized model. Exits 1 where one is not.
"""

import argparse
import functools
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

ZOO = pathlib.Path(os.environ.get("ZOO", "~/.cache/kiln-zoo")).expanduser() / "models"
WITHIN = 1e-3


def run(path, inputs, optimized=True):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {i.name: inputs[i.name] for i in session.get_inputs() if i.name in inputs}
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, given)))


def run_kiln(program, folder, names, scratch):
    """kiln's tensors by name; sequences and maps are not read back."""
    command = [program, "run", folder / "model.onnx", "--inputs", folder / "inputs.npz"]
    subprocess.run(command + ["--output-dir", scratch], capture_output=True, check=True)
    tensors = {}
    for j, name in enumerate(names):
        try:
            tensor = onnx.load_tensor(os.path.join(scratch, f"output_{j}.pb"))
            tensors[name] = numpy_helper.to_array(tensor)
        except Exception:  # A protobuf of another message has no common error.
            continue
    return tensors


def numbers(value):
    """Rows of maps, too, as arrays."""
    if isinstance(value, list):
        rows = [list(v.values()) if isinstance(v, dict) else v for v in value]
        return np.asarray(rows)
    return np.asarray(value)


def distance(want, got):
    """The largest difference of two outputs, or how many integers or strings are not equal;
    infinite where they are not of one form."""
    want, got = numbers(want), numbers(got)
    if want.shape != got.shape:
        return np.inf
    if want.dtype.kind not in "fc":
        return float((want != got.astype(want.dtype)).sum())
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return np.inf
    return np.abs(want[finite].astype(np.float64) - got[finite]).max(initial=0)


def bound(want):
    """What a float output may be off by: a thousandth of its largest number."""
    want = numbers(want)
    if want.dtype.kind not in "fc":
        return 0.0
    return WITHIN * max(1.0, np.abs(want[np.isfinite(want)]).max(initial=0))


def expected(folder):
    path = folder / "expected.npz"
    return dict(np.load(path, allow_pickle=True)) if path.exists() else {}


def fault(program, folder, scratch):
    path, out = folder / "model.onnx", os.path.join(scratch, "optimized.onnx")
    done = subprocess.run([program, "optimize", path, "-o", out], capture_output=True, text=True)
    if done.returncode:
        return f"is not optimized: {done.stderr.strip()}"
    if not (folder / "inputs.npz").exists():
        return "(skipped: it has no inputs.npz)"
    inputs = dict(np.load(folder / "inputs.npz", allow_pickle=True))
    try:
        want = run(path, inputs)
    except Exception as e:  # ONNX Runtime's errors have no common type.
        return f"(skipped: ONNX Runtime refuses the original: {str(e)[:100]})"
    try:
        onnx.checker.check_model(out, full_check=os.path.getsize(out) < 1 << 30)
        got = run(out, inputs)
    except Exception as e:
        return f"is refused: {str(e)[:300]}"
    kiln = run_kiln(program, folder, list(want), scratch)
    plain = functools.cache(lambda: run(path, inputs, optimized=False))
    truth = expected(folder)
    faults, notes = [], []
    for name, value in want.items():
        missed = distance(truth.get(name, value), value)
        sure = missed <= bound(value) or missed == np.inf
        aim = value if sure else truth[name]
        mine = kiln.get(name, got[name])
        off = max(distance(aim, got[name]), distance(got[name] if sure else aim, mine))
        if off <= bound(value):
            continue
        own = distance(value, plain()[name]) if sure else missed
        if off > own:
            faults.append(f"{name} differs by {off:.2e}, {bound(value):.2e} at most")
        else:
            notes.append(f"{name} is off by {off:.2e}, the peer itself by {own:.2e}")
    return "; ".join(faults) or (f"({'; '.join(notes)})" if notes else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("folders", nargs="*", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    folders = args.folders or sorted(p.parent for p in ZOO.glob("*/model.onnx"))
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            what = fault(args.kiln, folder, scratch)
            wrong += bool(what) and not what.startswith("(")
            if what:
                print(f"{folder.name}: {what}", flush=True)
    print(f"{len(folders)} models, {wrong} differ or are refused")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
