"""Makes thousands of models of one operator: `python models/gen/make_operators.py [OUT]`; see README.md here.

Each is a folder with model.onnx, input_J.pb, ORACLE_J.pb (by each oracle that takes it) and meta.json.
Prints which (operator, version, type) no model covers. Exits 1 if a table makes a model that cannot be.
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import time
import warnings

from onnx import numpy_helper

PATIENCE = 60  # seconds without any result
DEFAULT = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kiln-operators"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=DEFAULT, help="folder (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only models whose name fits")
    parser.add_argument("--refused", action="store_true", help="say why no oracle takes a model")
    parser.add_argument("--uncovered", action="store_true", help="list what no model covers")
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def all_cases():
    from operators import tables
    from operators.case import Row, cases_of

    counts = {}
    for entry in tables():
        if not isinstance(entry, Row):
            yield entry
            continue
        number = counts[entry.op] = counts.get(entry.op, -1) + 1
        yield from cases_of(entry, number)


def write(value, kind, file):
    """A value as the proto that its declared type asks for."""
    if kind.HasField("sequence_type"):
        proto = numpy_helper.from_list(value)
    elif kind.HasField("optional_type"):
        proto = numpy_helper.from_optional(value)
    else:
        proto = numpy_helper.from_array(value)
    file.write_bytes(proto.SerializeToString())


def save(case, out):
    """Writes one case. Returns its name, why each oracle refused it, and who gave an opinion."""
    from operators import oracle

    warnings.filterwarnings("ignore")
    found, refused = oracle.opinions(case)
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    inputs = [i for i in case.model.graph.input if i.name in case.inputs]
    for n, info in enumerate(inputs):
        write(case.inputs[info.name], info.type, folder / f"input_{n}.pb")
    for who, outputs in found.items():
        for n, (value, info) in enumerate(zip(outputs, case.model.graph.output)):
            write(value, info.type, folder / f"{who}_{n}.pb")
    meta = {
        "schema": "kiln-operators/1",
        "name": case.name,
        "inputs": [i.name for i in inputs],
        "outputs": len(case.model.graph.output),
        "oracles": list(found),
        "refused": refused,
        "rtol": case.rtol,
        "atol": case.atol,
        "shape_only": case.shape_only,
    }
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return case.name, refused, list(found)


def work(job):
    case, out = job
    try:
        return save(case, out)
    except Exception as error:  # a table's mistake, told by name
        return case.name, {"table": f"{type(error).__name__}: {error}"}, None


def answers(pool, jobs):
    """What each job gave. An oracle that crashes takes its worker along: then those that are left are told."""
    waiting = {case.name for case, _ in jobs}
    results = pool.imap_unordered(work, jobs)
    while waiting:
        try:
            result = results.next(timeout=PATIENCE)
        except multiprocessing.TimeoutError:
            yield from ((name, {"crash": "an oracle crashed or hangs"}, []) for name in sorted(waiting))
            return
        waiting.discard(result[0])
        yield result


def uncovered(covered):
    """Every (domain, operator, since, variable, type) of the schemas that no model uses."""
    from operators.case import SCHEMAS, allowed

    for (domain, name), versions in sorted(SCHEMAS.items()):
        if domain.startswith(("ai.onnx.preview.training", "ai.onnx.ml")):
            continue
        for since, schema in sorted(versions.items()):
            if schema.deprecated or (domain, name, since, None, None) in covered:
                continue
            wanted = {(k, t) for k, v in allowed(schema).items() for t in v}
            missing = sorted((k, t) for k, t in wanted if (domain, name, since, k, t) not in covered)
            if missing:
                yield domain, name, since, missing, len(missing) == len(wanted)


def main():
    options = arguments()
    start = time.monotonic()
    cases = [c for c in all_cases() if fnmatch.fnmatchcase(c.name, options.only)]
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only == "*":
        for meta in options.out.glob("*/meta.json"):
            shutil.rmtree(meta.parent)
    covered, silent, broken = set(), 0, 0
    cover = {c.name: c.covers for c in cases}
    with multiprocessing.Pool(options.workers) as pool:
        for name, refused, found in answers(pool, [(c, options.out) for c in cases]):
            if found is None:
                broken += 1
                print(f"broken  {name}: {refused}")
            elif not found:
                silent += 1
                if options.refused:
                    print(f"refused {name}: {refused}")
            else:
                covered |= set(cover[name])
    if options.uncovered:
        for domain, name, since, missing, whole in uncovered(covered):
            what = "nothing" if whole else ", ".join(f"{k}={t[0]} {t[1]}" for k, t in missing)
            print(f"uncovered {domain}:{name}-{since}: {'all' if whole else what}")
    print(f"{len(cases)} models in {time.monotonic() - start:.0f} s; no oracle takes {silent}, {broken} are broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
