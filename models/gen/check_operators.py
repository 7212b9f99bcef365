"""Runs the models of make_operators.py through kiln: `python models/gen/check_operators.py`; see README.md here.

A model passes if kiln agrees with one oracle; where oracles differ, that is told with `--disputed`.
Models of which known.toml says why every oracle is wrong are counted as known.
Exits 1 if any model fails.
"""

import argparse
import collections
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

from make_classical import known, reason_for
from make_operators import DEFAULT

KILN = pathlib.Path(__file__).resolve().parent.parent.parent / "target" / "release" / "kiln"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=DEFAULT, help="models (%(default)s)")
    parser.add_argument("--kiln", type=pathlib.Path, default=KILN, help="the program (target/release/kiln)")
    parser.add_argument("--levels", default="0,3", help="opt levels, each checked (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only models whose name fits")
    parser.add_argument("--disputed", action="store_true", help="tell where one oracle disagrees")
    parser.add_argument("--brief", action="store_true", help="one line for each operator and reason")
    return parser.parse_args()


def run(kiln, models, level, scratch):
    """Answers of kiln by name."""
    lines = []
    for meta, folder in models:
        out = scratch / meta["name"]
        out.mkdir()
        files = {n: str(folder / f"input_{j}.pb") for j, n in enumerate(meta["inputs"])}
        job = {"id": meta["name"], "model": str(folder / "model.onnx"), "inputs": files, "output_dir": str(out)}
        lines.append(json.dumps(job) + "\n")
    command = [str(kiln), "run", "--jobs", "-", "--opt-level", level]
    done = subprocess.run(command, input="".join(lines), stdout=subprocess.PIPE, text=True, check=False)
    return {r["id"]: r for r in map(json.loads, done.stdout.splitlines())}


def decode(kind, file):
    data = file.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def differ(got, want, rtol, atol):
    """None, or how the two differ."""
    if isinstance(got, list) or isinstance(want, list):
        if not (isinstance(got, list) and isinstance(want, list)) or len(got) != len(want):
            return "sequences of other lengths"
        return next((d for g, w in zip(got, want) if (d := differ(g, w, rtol, atol))), None)
    if got is None or want is None:
        return None if got is want else "one is an empty optional"
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
    if np.isinf(rtol):
        return None
    if got.dtype.kind in "biuOSU":
        bad = got != want
    else:
        bad = ~close(got, want, rtol, atol)
    if not np.any(bad):
        return None
    at = tuple(np.argwhere(bad)[0])
    return f"{np.sum(bad)} of {bad.size} differ: {str(got[at])[:30]} for {str(want[at])[:30]} at {[int(i) for i in at]}"


def close(got, want, rtol, atol):
    """Where floats agree to the precision of their type."""
    name = want.dtype.name
    if name in ("float16", "bfloat16"):
        rtol = max(rtol, 2.0**-9 if name == "float16" else 2.0**-6)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    got, want = got.astype(wide), want.astype(wide)
    with np.errstate(all="ignore"):
        near = (np.abs(got - want) <= atol + rtol * np.abs(want)) & np.isfinite(want)
    return near | (got == want) | (np.isnan(got) & np.isnan(want))


def judge(meta, folder, reply, out):
    """What each oracle says against kiln's outputs: {oracle: difference or None}, or the reason of a failure."""
    if reply is None:
        return "no answer"
    if reply["status"] != "ok":
        return f"{reply['status']}: {reply.get('reason', '')}"
    outputs = onnx.load(folder / "model.onnx").graph.output
    got = [decode(o.type, out / f"output_{j}.pb") for j, o in enumerate(outputs)]
    # Of what chance decides, only type and shape are known.
    rtol = np.inf if meta["shape_only"] else meta["rtol"]
    verdicts = {}
    for who in meta["oracles"]:
        want = [decode(o.type, folder / f"{who}_{j}.pb") for j, o in enumerate(outputs)]
        found = [f"y{j}: {d}" for j, (g, w) in enumerate(zip(got, want)) if (d := differ(g, w, rtol, meta["atol"]))]
        verdicts[who] = "; ".join(found) or None
    return verdicts


def state_of(meta, verdict):
    if not meta["oracles"]:
        return "silent", verdict if isinstance(verdict, str) else ""
    if isinstance(verdict, str):
        return "failed", verdict
    wrong = {k: v for k, v in verdict.items() if v}
    told = " | ".join(f"{k}: {v}" for k, v in wrong.items())
    if not wrong:
        return "ok", ""
    return ("failed" if len(wrong) == len(verdict) else "disputed"), told


def check(options, models, level):
    counts, groups, rows = collections.Counter(), collections.defaultdict(list), known("operators")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        replies = run(options.kiln, models, level, scratch)
        for meta, folder in models:
            name = meta["name"]
            verdict = judge(meta, folder, replies.get(name), scratch / name)
            state, why = state_of(meta, verdict)
            if state == "failed" and reason_for(rows, name):
                state = "known"
            counts[state] += 1
            if state == "failed" or (state == "silent" and why) or (state == "disputed" and options.disputed):
                line = f"{state:8} {name}: {why}"
                groups[name.split(".")[0] if options.brief else name].append(line)
    for lines in groups.values():
        print(lines[0][:400] + (f"  (+{len(lines) - 1})" if len(lines) > 1 else ""))
    print(f"opt-level {level}: " + ", ".join(f"{v} {k}" for k, v in sorted(counts.items())))
    return counts["failed"]


def main():
    options = arguments()
    found = sorted(options.folder.glob("*/meta.json"))
    models = [(json.loads(f.read_text()), f.parent) for f in found if fnmatch.fnmatchcase(f.parent.name, options.only)]
    failed = sum(check(options, models, level) for level in options.levels.split(","))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
