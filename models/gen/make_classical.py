"""Makes hundreds of classical models: `python models/gen/make_classical.py [OUT]`; see README.md here.

Each is a folder with model.onnx, inputs.npz, expected.npz (by the source library) and meta.json.
Exits 1 if a model that should convert does not, or if one convertible estimator has no case.
"""

import argparse
import fnmatch
import os
import pathlib
import shutil
import sys
import time
import tomllib
import warnings

HERE = pathlib.Path(__file__).resolve().parent
DEFAULT = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "kiln-classical"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=DEFAULT, help="folder (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only cases whose name fits")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    return parser.parse_args()


def all_cases():
    """Every case of every framework, with unique names."""
    from classical import boosters, compat

    compat.install()
    from classical import sklearn_models, sklearn_nested

    cases = [c for module in (sklearn_models, sklearn_nested, boosters) for c in module.cases()]
    names = [c.name for c in cases]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SystemExit(f"two cases of one name: {twice}")
    return cases


def known(table):
    """The rows of one table of known.toml."""
    return tomllib.loads((HERE / "known.toml").read_text()).get(table, [])


def reason_for(rows, name):
    """Why the case of that name is on the list, or None."""
    row = row_for(rows, name)
    return row and row["reason"]


def row_for(rows, name):
    return next((r for r in rows if fnmatch.fnmatchcase(name, r["case"])), None)


def make(case, out, rows):
    """Makes one model. Returns None, or what went wrong; says so if that was known."""
    from classical.case import save

    shutil.rmtree(out / case.name, ignore_errors=True)
    row = row_for(rows, case.name)
    if row and not row.get("attempt", True):
        return "known", row["reason"]
    try:
        save(case, case.build(), out / case.name)
    except Exception as error:  # whatever a converter raises is the finding
        first = str(error).strip().split("\n")[0][:160]
        return ("known" if row else "failed", f"{type(error).__name__}: {first}")
    return ("stale", "converts now: take it off the list") if row else ("made", "")


def sweep(out, cases):
    """Removes folders of cases that are no more, and of nothing else."""
    names = {c.name for c in cases}
    for meta in out.glob("*/meta.json"):
        if meta.parent.name not in names and '"kiln-gen/1"' in meta.read_text():
            shutil.rmtree(meta.parent)


def uncovered(cases):
    """Estimators that skl2onnx lists but no case uses."""
    from skl2onnx import supported_converters  # noqa: F401  (fills the table)
    from skl2onnx._supported_operators import sklearn_operator_name_map as supported
    from sklearn.utils import all_estimators

    listed = {kind.__name__ for kind in supported}
    done = {c.estimator for c in cases} | {r["estimator"] for r in known("estimator")}
    return sorted(listed & {name for name, _ in all_estimators()} - done)


def main():
    options = arguments()
    warnings.filterwarnings("ignore")
    cases = all_cases()
    chosen = [c for c in cases if fnmatch.fnmatchcase(c.name, options.only)]
    if options.list:
        print("\n".join(c.name for c in chosen))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    sweep(options.out, cases)
    rows, start = known("convert"), time.monotonic()
    results = []
    for case in chosen:
        state, why = make(case, options.out, rows)
        results.append((case.name, state))
        if state != "made":
            print(f"{state:7} {case.name}: {why}", flush=True)
    missing = uncovered(cases)
    if missing:
        print("no case for: " + ", ".join(missing))
    counts = {s: sum(r[1] == s for r in results) for s in ("made", "known", "failed", "stale")}
    print(
        f"{counts['made']} of {len(results)} models made in {time.monotonic() - start:.0f} s; "
        f"{counts['known']} known not to convert, {counts['failed']} failed, {counts['stale']} stale entries"
    )
    return 1 if counts["failed"] or counts["stale"] or missing else 0


if __name__ == "__main__":
    sys.exit(main())
