#!/usr/bin/env python3
"""What each planted fault costs: the questions put to the production binary and to hysparse_faulty, one fault at a time.

faults.py [FAULT …] prints accuracy in percent, healthy → faulty, by task; a star marks a fall that test_faults.py counts.
"""

import argparse

import numpy as np

import setting  # first: it sets the path
import questions
import server_process
import tasks

# What faulty/faults.cc plants, each alone.
FAULTS = ["wrong-group", "block-off-by-one", "raw-logits", "one-block-fewer", "partial-block", "wrong-oracle", "no-sink-window",
          "no-sink-sparse", "window-127", "gate", "stale-page", "lost-copy", "rope-position"]
FLAGS = ["--kv-cache-memory", "64MiB", "--max-num-batched-tokens", "256", "--max-num-seqs", "16"]
FALL = 10.0  # points that a fault must cost somewhere
LENGTH, SCORED, ASKED, OF_EACH = 2048, 8, 3, 3  # tokens, sequences scored and asked behind, questions of each task behind one
ALL = "all"  # questions of a way
# Where 10 points are more than one or two questions.
COUNTS = [*(("scored", task) for task in tasks.SCORED), ("scored", ALL), ("asked", ALL)]


def accuracy(binary=setting.FAULTY, fault=None):
    """{(way, task): percent}"""
    environment = {"HYSPARSE_FAULT": fault} if fault else {}
    with server_process.Server(setting.MINI, *FLAGS, binary=binary, environment=environment) as server:
        sequences = questions.sequences(LENGTH, SCORED)
        results = {"scored": [pair for one in questions.score(server, sequences) for pair in one.results()],
                   "asked": questions.ask(server, sequences[:ASKED], OF_EACH)}
    accuracies = {}
    for way, pairs in results.items():
        by_task = questions.collect(pairs)
        for task, right in [*by_task.items(), (ALL, [right for _, right in pairs])]:
            accuracies[way, task] = 100 * float(np.mean(right))
    return accuracies


def fallen(healthy, faulty):
    """What fell by FALL points or more, of what COUNTS."""
    return [key for key in COUNTS if healthy[key] - faulty[key] >= FALL]


def row(name, way, cells):
    return f"{name:17} {way:7}" + "".join(f"{cell:>10}" for cell in cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    chosen = parser.parse_args().faults or FAULTS
    if unknown := [name for name in chosen if name not in FAULTS]:
        parser.error(f"{unknown[0]} is no fault; one of {', '.join(FAULTS)}")
    healthy = accuracy(server_process.BINARY)
    print(row("", "", [*tasks.SCORED, ALL]))
    for fault in chosen:
        faulty = accuracy(fault=fault)
        found = fallen(healthy, faulty)
        for way in ("scored", "asked"):
            keys = [(way, task) for task in [*tasks.SCORED, ALL]]
            print(row(fault, way, [f"{healthy[key]:.0f}→{faulty[key]:.0f}{'*' if key in found else ' '}" for key in keys]), flush=True)


if __name__ == "__main__":
    main()
