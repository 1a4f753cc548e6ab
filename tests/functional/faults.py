#!/usr/bin/env python3
"""What each planted fault costs: the questions put to the production binary and to hysparse_faulty, one fault at a time.

faults.py [FAULT …] prints accuracy in percent, healthy → faulty, by task; a star marks what test_faults.py takes as found.
"""

import argparse

import numpy as np

import places  # first: it sets the path
import questions
import server_process
import tasks

# What faulty/faults.cc plants, each alone.
FAULTS = ["wrong-group", "block-off-by-one", "raw-logits", "one-block-fewer", "partial-block", "wrong-oracle", "no-sink-window",
          "no-sink-sparse", "window-127", "gate", "stale-page", "lost-copy", "rope-position"]
FLAGS = ["--kv-cache-memory", "64MiB", "--max-num-batched-tokens", "256", "--max-num-seqs", "16"]
FALL = 10.0  # points that a fault must cost somewhere
LENGTH, SCORED, ASKED, OF_EACH = 2048, 8, 3, 3  # tokens, sequences scored and asked behind, questions of each task behind one


def accuracy(fault=None):
    """{(way, task): percent}, of the production binary or of one fault."""
    binary, environment = (places.FAULTY, {"HYSPARSE_FAULT": fault}) if fault else (server_process.BINARY, {})
    with server_process.Server(places.MINI, *FLAGS, binary=binary, environment=environment) as server:
        sequences = questions.sequences(LENGTH, SCORED)
        results = {"scored": [pair for one in questions.score(server, sequences) for pair in one.results()],
                   "asked": questions.ask(server, sequences[:ASKED], OF_EACH)}
    return {(way, task): 100 * float(np.mean(right)) for way, pairs in results.items()
            for task, right in questions.collect(pairs).items()}


def fallen(healthy, faulty):
    """The (way, task) whose accuracy fell by FALL points or more."""
    return [key for key, before in healthy.items() if before - faulty[key] >= FALL]


def row(name, way, cells):
    return f"{name:17} {way:7}" + "".join(f"{cell:>11}" for cell in cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", choices=[[], *FAULTS])
    chosen = parser.parse_args().faults or FAULTS
    healthy = accuracy()
    print(row("", "", tasks.SCORED))
    for fault in chosen:
        faulty = accuracy(fault)
        found = fallen(healthy, faulty)
        for way in ("scored", "asked"):
            keys = [(way, task) for task in tasks.SCORED]
            print(row(fault, way, [f"{healthy[key]:.0f}→{faulty[key]:.0f}{'*' if key in found else ' '}" for key in keys]), flush=True)


if __name__ == "__main__":
    main()
