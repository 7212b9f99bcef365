"""Whether ONNX Runtime gives on the optimized model what it gives on the model itself.

usage: export_agreement.py [--kiln PROGRAM] [FOLDER]...

A folder holds `model.onnx` and `inputs.npz`; all folders of the zoo where none is named. The
optimized model must pass ONNX's checker, load in ONNX Runtime, and give the outputs that ONNX
Runtime gives for the original model, where it loads that. Integers and strings must be equal,
floats within 1e-3 of the largest number of the output. Exits 1 where one is not.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

ZOO = pathlib.Path(os.environ.get("ZOO", "~/.cache/kiln-zoo")).expanduser() / "models"
WITHIN = 1e-3


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {i.name: inputs[i.name] for i in session.get_inputs() if i.name in inputs}
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, given)))


def numbers(value):
    """Rows of maps, too, as arrays."""
    if isinstance(value, list):
        rows = [list(v.values()) if isinstance(v, dict) else v for v in value]
        return np.asarray(rows)
    return np.asarray(value)


def differ(want, got):
    want, got = numbers(want), numbers(got)
    if want.shape != got.shape:
        return f"has the shape {got.shape}, not {want.shape}"
    if want.dtype.kind not in "fc":
        return "" if np.array_equal(want, got) else "is not equal"
    want, got = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return "is finite elsewhere"
    off = np.abs(want[finite] - got[finite]).max(initial=0)
    most = WITHIN * max(1.0, np.abs(want[finite]).max(initial=0))
    return "" if off <= most else f"differs by {off:.2e}, {most:.2e} at most"


def fault(program, folder, scratch):
    model, out = folder / "model.onnx", os.path.join(scratch, "optimized.onnx")
    done = subprocess.run(
        [program, "optimize", model, "-o", out], capture_output=True, text=True
    )
    if done.returncode:
        return f"is not optimized: {done.stderr.strip()}"
    inputs = dict(np.load(folder / "inputs.npz", allow_pickle=True))
    try:
        want = run(model, inputs)
    except Exception as e:  # ONNX Runtime's errors have no common type.
        return f"(skipped: ONNX Runtime refuses the original: {str(e)[:100]})"
    try:
        onnx.checker.check_model(out, full_check=os.path.getsize(out) < 1 << 30)
        got = run(out, inputs)
    except Exception as e:
        return f"is refused: {str(e)[:300]}"
    faults = [(k, differ(v, got[k])) for k, v in want.items()]
    return "; ".join(f"{k} {f}" for k, f in faults if f)


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
