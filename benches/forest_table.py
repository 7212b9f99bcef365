"""What each tactic for trees costs, by shape and instruction set, as a table.

usage: forest_table.py [--read] [-o FILE]

Runs `cargo bench --bench forest` (or, with --read, reads what it measured before) and prints
nanoseconds per row and tree, with the floor beside: a comparison and a mask for each split of a
sweep, two vector instructions a cycle.
"""

import argparse
import json
import pathlib
import subprocess

CRITERION = pathlib.Path("target/criterion")
SHAPES = ["depth 3", "depth 4", "31 leaves", "oblivious 6", "depth 6", "63 leaves", "255 leaves",
          "depth 8", "2000 leaves"]
SPLITS = {"depth 3": 7, "depth 4": 15, "31 leaves": 30, "oblivious 6": 6, "depth 6": 63,
          "63 leaves": 62, "255 leaves": 254, "depth 8": 255, "2000 leaves": 1999}
LANES = {"Avx512": 16, "Avx2": 8, "Scalar": 1}
TREES = 100


def measured(shape, rows, tactic, level):
    """Nanoseconds per row and tree, or None."""
    folder = CRITERION / f"{shape}, {rows} rows" / tactic / level / "new"
    if not (folder / "estimates.json").exists():
        return None
    estimate = json.loads((folder / "estimates.json").read_text())["median"]["point_estimate"]
    return estimate / (rows * TREES)


def cell(value):
    return "" if value is None else f"{value:.2f}"


def table(clock):
    lines = ["| trees | splits | ISA | floor of a sweep | bits | sweep | top | walk |",
             "|---|---|---|---|---|---|---|---|"]
    for shape in SHAPES:
        for level in LANES:
            row = [measured(shape, 4096, t, level) for t in ("Bits", "Sweep", "Top", "Walk")]
            if not any(row):
                continue
            floor = SPLITS[shape] / LANES[level] / clock
            best = min(x for x in row if x is not None)
            cells = [f"**{cell(x)}**" if x == best else cell(x) for x in row]
            lines.append(f"| {shape} | {SPLITS[shape]} | {level.lower()} | {floor:.2f} | "
                         + " | ".join(cells) + " |")
    lines += ["", "| one row, trees | ns per tree |", "|---|---|"]
    lines += [f"| {s} | {cell(measured(s, 1, 'Walk', 'Scalar'))} |" for s in SHAPES]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", action="store_true", help="measure nothing")
    parser.add_argument("--clock", type=float, default=3.0, help="GHz, for the floor")
    parser.add_argument("-o", "--output", type=pathlib.Path)
    args = parser.parse_args()
    if not args.read:
        subprocess.run(["cargo", "bench", "--bench", "forest", "--", "--quick"], check=True)
    text = "\n".join(table(args.clock))
    if args.output:
        page = args.output.read_text() if args.output.exists() else ""
        head = page.split("\n| trees |")[0].rstrip() if page else "# Trees"
        args.output.write_text(f"{head}\n\n{text}\n")
    print(text)


if __name__ == "__main__":
    main()
