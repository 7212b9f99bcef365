"""Whether every rewrite is proved: `kiln optimize --check` over folders of models.

usage: prove.py [--kiln PROGRAM] [--jobs N] [--list FILE] FOLDER|ARCHIVE.zip...

Every `*.onnx` beneath a folder is optimized and checked, with the samples beside it where there
are any: `inputs.npz`, or folders with `input_<j>.pb`. Counted are models that kiln reads, patches,
patches that were compared, and patches that were dropped: a dropped patch is a wrong rewrite.
Models that kiln refuses (training operators, broken on purpose) are counted by the exit code.
Exits 1 where a patch is dropped, a difference is left, or kiln fails otherwise.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# Exit codes of kiln that say: not this model (unsupported, invalid, over a limit).
REFUSED = {3: "unsupported", 4: "invalid", 5: "limit"}
SECONDS = 600


def samples(model):
    """What `--inputs` takes for a model, if anything lies beside it."""
    folder = model.parent
    if (folder / "inputs.npz").exists():
        return folder / "inputs.npz"
    return folder if any(folder.glob("*/input_0.pb")) else None


def prove(program, model):
    """The exit code, the patches of the report, and what was said."""
    with tempfile.TemporaryDirectory() as folder:
        report, out = os.path.join(folder, "report.json"), os.path.join(folder, "o.onnx")
        command = [program, "optimize", str(model), "-o", out, "--check", "--report", report]
        given = samples(model)
        done = None
        for inputs in ([["--inputs", str(given)]] if given else []) + [[]]:
            try:
                done = subprocess.run(
                    command + inputs, capture_output=True, text=True, timeout=SECONDS
                )
            except subprocess.TimeoutExpired:
                return 124, [], f"takes more than {SECONDS} s"
            # Samples of maps or sequences are no tensors: kiln makes its own up.
            if done.returncode not in (2, 4):
                break
        patches = []
        if os.path.exists(report):
            with open(report) as f:
                patches = json.load(f)["patches"]
        return done.returncode, patches, done.stderr


def models_of(places, folder):
    for place in places:
        path = pathlib.Path(place).expanduser()
        if path.suffix == ".zip":
            target = pathlib.Path(folder) / path.stem
            with zipfile.ZipFile(path) as archive:
                archive.extractall(target)
            path = target
        yield from sorted([path] if path.is_file() else path.rglob("*.onnx"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", help="write every fault into this file, too")
    parser.add_argument("places", nargs="+", metavar="FOLDER|ARCHIVE.zip")
    args = parser.parse_args()
    total, faults = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        models = list(models_of(args.places, folder))
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            proofs = pool.map(lambda m: prove(args.kiln, m), models)
            for model, (code, patches, said) in zip(models, proofs):
                total[REFUSED.get(code, "read")] += 1
                total["patches"] += len(patches)
                total["compared"] += sum(p["checked"] for p in patches)
                dropped = [p for p in patches if p["dropped"]]
                total["dropped"] += len(dropped)
                for p in dropped:
                    faults.append(f"{model}: {p['rule']} at {p['root']}: {p['dropped']}")
                if not dropped and code != 0 and code not in REFUSED:
                    last = said.strip().splitlines()[-1:] or [""]
                    faults.append(f"{model}: exit code {code}: {last[0]}")
    print("\n".join(faults))
    print(", ".join(f"{n} {what}" for what, n in total.items()))
    if args.list:
        pathlib.Path(args.list).write_text("\n".join(faults) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
