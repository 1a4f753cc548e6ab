#!/usr/bin/env python3
"""Prints the tables of README.md from what study.py left in FOLDER: report.py FOLDER [--lengths 2048,8192] [--coverage]

Accuracy in percent by architecture, length and task, with half of the 95 % interval over sequences where it is above half a
point; NLL of held-out prose; KV cache of one sequence in BF16.
"""

import argparse
import json
import pathlib

import evaluate
import model


def cell(mean, half, _):
    return f"{100 * mean:.0f}" + (f" ± {100 * half:.0f}" if half > 0.005 else "")


def rows(results, lengths):
    """(length, name, what was measured) of those that were."""
    return [(int(length), name, result[length]) for length in lengths for name, result in results if length in result]


def accuracy(results, lengths):
    scored = list(next(iter(results[0][1].values()))["accuracy"])
    print("| tokens | | " + " | ".join(scored) + " | prose | KV cache |\n" + "| --- " * (len(scored) + 4) + "|")
    for length, name, found in rows(results, lengths):
        cells = [cell(*found["accuracy"][task]) for task in scored]
        config = model.Config(*model.ARCHITECTURES[name.split(".")[0]])
        kept = f"{evaluate.kv_bytes(config, length) / 2**20:.1f} MiB"
        print(f"| {length:,} | `{name}` | {' | '.join(cells)} | {found['prose_nll']:.2f} | {kept} |")


def coverage(results, lengths):
    layers = [layer for layer, kind in enumerate(model.ARCHITECTURES["hysparse"][0]) if kind == model.SPARSE]
    print("| tokens | | " + " | ".join(map(str, layers)) + " |\n" + "| --- " * (len(layers) + 2) + "|")
    for length, name, found in rows(results, lengths):
        if found["coverage"]:
            print(f"| {length:,} | `{name}` | " + " | ".join(f"{x:.2f}" for x in found["coverage"]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--lengths", default="2048,8192")
    parser.add_argument("--coverage", action="store_true", help="the oracle's, by sparse layer, instead")
    arguments = parser.parse_args()
    order = list(model.ARCHITECTURES)
    paths = sorted(arguments.folder.glob("*.json"), key=lambda path: (order.index(path.name.split(".")[0]), path.name))
    if not paths:
        parser.error(f"{arguments.folder} holds no NAME.SEED.json of study.py")
    results = [(path.stem, json.loads(path.read_text())) for path in paths]
    (coverage if arguments.coverage else accuracy)(results, arguments.lengths.split(","))


if __name__ == "__main__":
    main()
