"""How many nodes are left after optimizing: kiln beside ONNX Runtime at ORT_ENABLE_ALL.

usage: fusion_counts.py [--kiln PROGRAM] [--zoo FOLDER] [--ops] [--update] [MODEL]...

MODEL is the name of a folder of the zoo with a `model.onnx` (see shared/zoo/README.md), or a file.
Counted are nodes that calculate; what only moves or shapes values (PLUMBING) is not, nor are the
nodes of fused functions' bodies. `fusion_counts.txt` beside this script holds what kiln left of
each model when it was last looked at, by operator; `--update` writes it anew. Needs onnx and
onnxruntime. Exits 1 where kiln leaves more than ONNX Runtime, or something else than the file says.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import onnx
import onnxruntime as ort

ZOO = pathlib.Path(os.environ.get("ZOO", "~/.cache/kiln-zoo")).expanduser() / "models"
MODELS = """resnet18 resnet50 mobilenet_v2 mobilenet_v3_large efficientnet_b0 densenet121 vit_b_16
swin_t convnext_tiny minilm_l6_v2_real bert_base_like gpt_small_kv lstm_bi2x256 yolo_like_320
resnet50_int8_qdq bert_base_like_int8_qdq""".split()

SNAPSHOT = pathlib.Path(__file__).with_name("fusion_counts.txt")

PLUMBING = set(
    """Constant Identity Reshape Flatten Squeeze Unsqueeze Transpose Shape Size Cast Concat Slice
    Split Gather Expand ConstantOfShape Range ReorderInput ReorderOutput Pad Tile""".split()
)


def counts(path):
    """Nodes of the main graph by operator, plumbing left out."""
    graph = onnx.load(path, load_external_data=False).graph
    ops = collections.Counter(n.op_type for n in graph.node)
    return collections.Counter({op: n for op, n in ops.items() if op not in PLUMBING})


def by_onnxruntime(model, folder):
    out = os.path.join(folder, "ort.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = out
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return counts(out)


def by_kiln(program, model, folder):
    out = os.path.join(folder, "kiln.onnx")
    command = [program, "optimize", model, "-o", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return counts(out)


def listed(ops):
    kinds = collections.Counter()
    for op, n in ops.items():
        # The number of a function says nothing.
        kinds[re.sub(r"_\d+$", "", op)] += n
    return " ".join(f"{op}:{n}" for op, n in sorted(kinds.items(), key=lambda k: (-k[1], k[0])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--kiln", default="target/release/kiln")
    parser.add_argument("--zoo", type=pathlib.Path, default=ZOO)
    parser.add_argument("--ops", action="store_true", help="list the operators, too")
    parser.add_argument("--update", action="store_true", help="write the snapshot anew")
    args = parser.parse_args()
    lines = SNAPSHOT.read_text().splitlines() if SNAPSHOT.exists() else []
    known = dict(line.split(": ", 1) for line in lines)
    more, changed = [], []
    print(f"{'model':28}{'kiln':>6}{'ONNX Runtime':>14}")
    for name in args.models:
        path = name if os.path.isfile(name) else str(args.zoo / name / "model.onnx")
        if not os.path.exists(path):
            print(f"{name:28}  not in the zoo")
            continue
        with tempfile.TemporaryDirectory() as folder:
            ours = by_kiln(args.kiln, path, folder)
            theirs = by_onnxruntime(path, folder)
        print(f"{name:28}{ours.total():6}{theirs.total():14}", flush=True)
        if args.ops:
            print(f"    kiln          {listed(ours)}\n    ONNX Runtime  {listed(theirs)}")
        if ours.total() > theirs.total():
            more.append(name)
        if known.get(name) != listed(ours):
            changed.append(f"{name}\n  was {known.get(name)}\n  is  {listed(ours)}")
        known[name] = listed(ours)
    if args.update:
        SNAPSHOT.write_text("".join(f"{name}: {ops}\n" for name, ops in sorted(known.items())))
    elif changed:
        print("changed:\n" + "\n".join(changed))
    if more:
        print(f"kiln leaves more nodes: {', '.join(more)}")
    return int(bool(more or changed and not args.update))


if __name__ == "__main__":
    sys.exit(main())
