"""Compares kiln with ONNX Runtime and ONNX's reference on one operator at a time: `python models/gen/make_ml.py`.

Makes the models of ai.onnx.ml and of text in `ml/*.py`, runs them through all three, and tells where kiln is
alone: where it differs from every other runtime that takes the model, or refuses what another takes. The rows of
ml/known.toml say where that is right, and why. Exits 1 if kiln is alone anywhere else.
"""

import argparse
import fnmatch
import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from check_models import KILN, decode
from ml import columns, labels, pipelines, text, trees, vectors
from ml.case import map_proto

HERE = pathlib.Path(__file__).resolve().parent
FLOATS = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.DOUBLE: np.float64}
TABLES = (trees, vectors, columns, labels, pipelines, text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kiln", type=pathlib.Path, default=KILN, help="the program (target/release/kiln)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only cases whose name fits")
    parser.add_argument("--level", default="0", help="opt level (%(default)s)")
    parser.add_argument("--all", action="store_true", help="tell every difference, with values")
    parser.add_argument("--out", type=pathlib.Path, help="keep the models in this folder")
    return parser.parse_args()


def every_case():
    cases = [c for table in TABLES for c in table.cases()]
    seen = [c.name for c in cases]
    twice = sorted({n for n in seen if seen.count(n) > 1})
    if twice:
        raise SystemExit(f"two cases of one name: {twice}")
    return cases


def write(case, folder):
    """Writes a case; returns the job line that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(case.model, path)
    files = {}
    for name, value in case.inputs.items():
        files[name] = str(folder / f"{name}.pb")
        proto = map_proto(name, value) if isinstance(value, dict) else numpy_helper.from_array(value, name)
        pathlib.Path(files[name]).write_bytes(proto.SerializeToString())
    return {"id": case.name, "model": str(path), "inputs": files, "output_dir": str(folder)}


def ask_kiln(options, cases, folder):
    """What kiln says, by name: outputs, or a text."""
    places = {c.name: folder / str(i) for i, c in enumerate(cases)}
    lines = "".join(json.dumps(write(c, places[c.name])) + "\n" for c in cases)
    command = [str(options.kiln), "run", "--jobs", "-", "--opt-level", options.level]
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=False)
    replies = {r["id"]: r for r in map(json.loads, done.stdout.splitlines())}
    answers = {}
    for case in cases:
        reply = replies.get(case.name, {"status": f"no answer (exit {done.returncode})"})
        if reply["status"] == "ok":
            out = case.model.graph.output
            answers[case.name] = [decode(o.type, places[case.name] / f"output_{j}.pb") for j, o in enumerate(out)]
        else:
            answers[case.name] = f"{reply['status']}: {reply.get('reason', '')}"
    return answers


def ask(run):
    """The outputs, or why there are none."""
    try:
        return run()
    except Exception as error:  # they refuse with many kinds of error
        return f"{type(error).__name__}: {error}"


def run_ort(model, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return ask(lambda: session.run(None, inputs))


class Runtime:
    """ONNX Runtime in a process of its own: some models end it."""

    def __init__(self):
        self.pool = None

    def __call__(self, case):
        self.pool = self.pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return self.pool.submit(run_ort, case.model.SerializeToString(), case.inputs).result()
        except BrokenProcessPool:
            self.pool = None
            return "crashed"
        except Exception as error:  # it refuses with many kinds of error
            return f"{type(error).__name__}: {error}"


def ask_reference(case):
    with np.errstate(all="ignore"):
        return ask(lambda: ReferenceEvaluator(case.model).run(None, case.inputs))


def same(a, b):
    """Whether two answers are one: types, shapes and values within single precision."""
    if isinstance(a, str) or isinstance(b, str):
        return False
    return len(a) == len(b) and all(map(same_value, a, b))


def same_value(a, b):
    if isinstance(a, list) or isinstance(b, list):
        return list(map(plain, a)) == list(map(plain, b))
    a, b = np.asarray(a), np.asarray(b)
    words = "OUS"
    if a.shape != b.shape or (a.dtype.kind in words) != (b.dtype.kind in words):
        return False
    if a.dtype.kind in words:
        return list(map(word, a.ravel())) == list(map(word, b.ravel()))
    if a.dtype != b.dtype:
        return False
    tolerance = 2e-3 if a.dtype == np.float16 else 2e-5
    with np.errstate(all="ignore"):
        return bool(np.allclose(a, b, rtol=tolerance, atol=1e-6, equal_nan=True))


def word(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def plain(row):
    """A map with plain keys and rounded values."""
    return {word(k): round(float(v), 5) for k, v in row.items()}


def short(answer):
    if isinstance(answer, str):
        return " ".join(answer.split())[:230]
    return " | ".join(
        f"{np.asarray(a).dtype}{list(np.shape(a))} {np.asarray(a).ravel()[:24].tolist()}" for a in answer
    )[:700]


def typed(case, answer):
    """The answer in the types that the model declares: the reference is loose about them."""
    if isinstance(answer, str):
        return answer
    kinds = [o.type for o in case.model.graph.output]
    return [value_as(v, k) for v, k in zip(answer, kinds, strict=True)]


def value_as(value, kind):
    want = FLOATS.get(kind.tensor_type.elem_type) if kind.HasField("tensor_type") else None
    array = np.asarray(value) if want else None
    return array.astype(want) if want and array.dtype.kind == "f" else value


def judge(case, mine, ort, reference):
    """How kiln stands to the others: `ort` is where it agrees with that one only, and so on."""
    if case.want is not None:
        return "ok" if same(mine, case.want) else "wrong"
    with_ort, with_reference = same(mine, ort), same(mine, reference)
    answered = [not isinstance(o, str) for o in (ort, reference)]
    if with_ort or with_reference:
        if all(with_it or not there for with_it, there in zip((with_ort, with_reference), answered)):
            return "ok"
        return "ort" if with_ort else "reference"
    if isinstance(mine, str) and not answered[0]:
        return "refused"
    return "alone" if any(answered) else "only kiln"


def known():
    return tomllib.loads((HERE / "ml" / "known.toml").read_text()).get("alone", [])


def main():
    options = arguments()
    cases = [c for c in every_case() if fnmatch.fnmatchcase(c.name, options.only)]
    with tempfile.TemporaryDirectory() as scratch:
        answers = ask_kiln(options, cases, options.out or pathlib.Path(scratch))
    counts, excused, bad, ask_ort = {}, set(), 0, Runtime()
    for case in cases:
        mine, ort, reference = answers[case.name], ask_ort(case), typed(case, ask_reference(case))
        state = judge(case, mine, ort, reference)
        row = next((r for r in known() if fnmatch.fnmatchcase(case.name, r["case"])), None)
        if state in ("alone", "wrong") and row:
            state = "known"
            excused.add(row["case"])
        counts[state] = counts.get(state, 0) + 1
        bad += state in ("alone", "wrong")
        if state in ("alone", "wrong") or (options.all and state != "ok"):
            print(f"{state:8} {case.name}\n  kiln {short(mine)}\n  ort  {short(ort)}\n  ref  {short(reference)}")
    if options.only == "*":
        for row in known():
            if row["case"] not in excused:
                print(f"note: {row['case']} is in known.toml, but kiln is not alone there")
    print(f"{len(cases)} models: " + ", ".join(f"{n} {state}" for state, n in sorted(counts.items())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
