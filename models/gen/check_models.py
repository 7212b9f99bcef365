"""Runs generated models through kiln: `python models/gen/check_models.py [FOLDER]`; see README.md here.

Labels must be the source library's except where it leads by less than 1e-6, leaves must be identical, numbers
must lie within 1e-5 of their size or of the range. Failures named in known.toml are told but expected.
Exits 1 if any other model fails.
"""

import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from make_classical import DEFAULT, HERE, known, reason_for

KILN = HERE.parent.parent / "target" / "release" / "kiln"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=DEFAULT, help="models (%(default)s)")
    parser.add_argument("--kiln", type=pathlib.Path, default=KILN, help="the program (target/release/kiln)")
    parser.add_argument("--levels", default="0,3", help="opt levels, each checked (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only models whose name fits")
    parser.add_argument("--oracle", action="store_true", help="ask ONNX Runtime about every failure")
    parser.add_argument("--json", type=pathlib.Path, help="write every result here")
    parser.add_argument("flags", nargs="*", help="after --: more flags of `kiln run`")
    return parser.parse_args()


@dataclass
class Model:
    """One model folder, read."""

    folder: pathlib.Path
    meta: dict
    expected: dict

    @property
    def name(self):
        return self.meta["name"]


def read(folder):
    meta = json.loads((folder / "meta.json").read_text())
    return Model(folder, meta, dict(np.load(folder / "expected.npz")))


def inputs_of(model):
    """The inputs by name; strings as objects, as ONNX's Python side wants them."""
    arrays = dict(np.load(model.folder / "inputs.npz"))
    return {k: v.astype(object) if v.dtype.kind == "U" else v for k, v in arrays.items()}


# Running kiln


def job(model, scratch):
    """The job line for one model; its inputs are written as protobuf files."""
    folder = scratch / model.name
    folder.mkdir(parents=True)
    files = {}
    for number, (name, array) in enumerate(inputs_of(model).items()):
        file = folder / f"input_{number}.pb"
        file.write_bytes(numpy_helper.from_array(array, name).SerializeToString())
        files[name] = str(file)
    path = str((model.folder / "model.onnx").resolve())
    return {"id": model.name, "model": path, "inputs": files, "output_dir": str(folder)}


def run_all(kiln, models, level, scratch, flags):
    """Answers of kiln by model name: (None, outputs) or (reason, None)."""
    lines = "".join(json.dumps(job(m, scratch)) + "\n" for m in models)
    command = [str(kiln), "run", "--jobs", "-", "--opt-level", level, *flags]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=False)
    replies = {r["id"]: r for r in map(json.loads, done.stdout.splitlines())}
    answers = {}
    for model in models:
        reply = replies.get(model.name, {"status": f"no answer (exit {done.returncode})"})
        if reply["status"] == "ok":
            answers[model.name] = (None, outputs_of(model, scratch / model.name))
        else:
            answers[model.name] = (f"{reply['status']}: {reply.get('reason', '')}", None)
    return answers


def outputs_of(model, folder):
    """The outputs by name, as arrays or lists of what a sequence holds."""
    graph = onnx.load(model.folder / "model.onnx").graph
    return {o.name: decode(o.type, folder / f"output_{j}.pb") for j, o in enumerate(graph.output)}


def decode(kind, file):
    data = file.read_bytes()
    if not kind.HasField("sequence_type"):
        return numpy_helper.to_array(onnx.TensorProto.FromString(data))
    sequence = onnx.SequenceProto.FromString(data)
    if kind.sequence_type.elem_type.HasField("map_type"):
        return [map_of(m) for m in sequence.map_values]
    return [numpy_helper.to_array(t) for t in sequence.tensor_values]


def map_of(proto):
    keys = [k.decode() for k in proto.string_keys] or list(proto.keys)
    values = [numpy_helper.to_array(t).item() for t in proto.values.tensor_values]
    return dict(zip(keys, values))


# Comparing


def text(array):
    """Labels as text, so that 1, 1.0 and "1" of source and graph are one label."""
    if array.dtype.kind in "fb":
        array = array.astype(np.int64)
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel()])


def table_of(got, output):
    """Maps as a table in the order of `classes`; sequences of tensors stacked."""
    if not isinstance(got, list):
        return got
    if got and isinstance(got[0], dict):
        return np.array([[row[c] for c in output["classes"]] for row in got])
    return np.stack(got)


def compare_labels(got, want, output):
    """None, or how many labels differ. Rows the source itself barely decides are left out."""
    got, want = text(got), text(want)
    if got.shape != want.shape:
        return f"{got.size} labels for {want.size}"
    differ = got != want
    differ[output["ties"]] = False
    wrong = differ.sum()
    return f"{wrong} of {want.size} labels differ" if wrong else None


def shaped(got, want):
    """Both as f64 of one shape: a binary score may come as [-s, s], a column as [N] or [N, 1]."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if want.ndim == 1 and got.ndim == 2 and got.shape == (len(want), 2):
        want = np.stack([-want, want], axis=1)
    if got.size != want.size:
        raise ValueError(f"shape {list(got.shape)} for {list(want.shape)}")
    return got.ravel(), want.ravel()


def compare_numbers(got, want, tolerance):
    """None, or how many numbers are too far off and by how much."""
    got, want = shaped(got, want)
    finite = want[np.isfinite(want)]
    span = np.ptp(finite) if finite.size else 0.0
    allowed = np.maximum(tolerance["relative"] * np.abs(want), tolerance["of_range"] * span)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        off = np.where(same, 0.0, np.abs(got - want))
    bad = ~same & ~(off <= allowed)
    if not bad.any():
        return None
    return f"{bad.sum()} of {bad.size} off, by up to {np.nanmax(off):.3g} in a range of {span:.3g}"


def compare(model, outputs):
    """Every difference between what was computed and what the source library said."""
    found = []
    for output in model.meta["outputs"]:
        want, name, kind = model.expected[output["name"]], output["name"], output["kind"]
        try:
            got = table_of(outputs[name], output)
            if kind in ("label", "leaf"):
                why = compare_labels(got, want, output)
            else:
                why = compare_numbers(got, want, model.meta["tolerance"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            why = f"{type(error).__name__}: {error}"
        if why:
            found.append(f"{name} ({kind}): {why}")
    return "; ".join(found) or None


# A second opinion


def oracle(model):
    """What ONNX Runtime gives, or ONNX's reference where that refuses the model."""
    feeds = inputs_of(model)
    path = str(model.folder / "model.onnx")
    names = [o["name"] for o in model.meta["outputs"]]
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return "ONNX Runtime", dict(zip(names, session.run(None, feeds)))
    except Exception:  # it refuses with many kinds of error
        from onnx.reference import ReferenceEvaluator

        return "onnx.reference", dict(zip(names, ReferenceEvaluator(path).run(None, feeds)))


def second_opinion(model, outputs):
    """Whether the other runtime gives what kiln gave, and whether it gives the source's answer."""
    try:
        who, theirs = oracle(model)
    except Exception as error:
        return f"no other runtime takes it ({type(error).__name__})"
    if outputs is None:
        return f"{who}: {compare(model, theirs) or 'matches the source'}"
    twin = Model(model.folder, model.meta, {o["name"]: table_of(theirs[o["name"]], o) for o in model.meta["outputs"]})
    apart = compare(twin, outputs)
    if apart is None:
        return f"{who} gives the same as kiln"
    return f"{who} against kiln: {apart}; {who} against the source: {compare(model, theirs) or 'matches'}"


# The table


def check(options, models, level):
    """Results of one opt level: name, state (ok, known, failed), reason, second opinion."""
    rows, results = known("values"), []
    with tempfile.TemporaryDirectory() as scratch:
        answers = run_all(options.kiln, models, level, pathlib.Path(scratch), options.flags)
    for model in models:
        failure, outputs = answers[model.name]
        failure = failure or compare(model, outputs)
        expected = reason_for(rows, model.name)
        state = "ok" if not failure else "known" if expected else "failed"
        ask = failure and options.oracle
        opinion = second_opinion(model, outputs) if ask else ""
        results.append({"name": model.name, "state": state, "why": failure or "", "opinion": opinion})
    return results


def stale_rows(results):
    """The entries of known.toml that no longer excuse any model of this run."""
    wrong = [r["name"] for r in results if r["state"] == "known"]
    right = [r["name"] for r in results if r["state"] == "ok"]
    cases = [row["case"] for row in known("values")]
    return [c for c in cases if fnmatch.filter(right, c) and not fnmatch.filter(wrong, c)]


def tell(results, level):
    for row in results:
        if row["state"] != "ok":
            print(f"{row['state']:6} {row['name']:55} {row['why']}")
            if row["opinion"]:
                print(f"{'':7}{row['opinion']}")
    for stale in stale_rows(results):
        print(f"note: {stale} is in known.toml, but its models match")
    count = {s: sum(r["state"] == s for r in results) for s in ("ok", "known", "failed")}
    print(
        f"opt-level {level}: {count['ok']} of {len(results)} models match, "
        f"{count['known']} differ as known, {count['failed']} fail"
    )
    return count["failed"]


def main():
    options = arguments()
    folders = sorted(p.parent for p in options.folder.glob("*/meta.json"))
    models = [read(f) for f in folders if fnmatch.fnmatchcase(f.name, options.only)]
    if not models:
        raise SystemExit(f"no models in {options.folder}: run make_classical.py first")
    report, failed = {}, 0
    for level in options.levels.split(","):
        report[level] = check(options, models, level)
        failed += tell(report[level], level)
    if options.json:
        options.json.write_text(json.dumps({"schema": "kiln-check/1", "levels": report}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
