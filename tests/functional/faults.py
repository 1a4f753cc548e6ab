#!/usr/bin/env python3
"""What each planted fault costs: the questions put to the production binary and to hysparse_faulty, one fault at a time.

faults.py [FAULT …] prints accuracy in percent, healthy → faulty, by task; a star marks a change that test_faults.py counts.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import tempfile

import numpy as np

import setting  # first: it sets the path
import questions
import server_process
import tasks


@dataclasses.dataclass(frozen=True)
class Exam:
    """Sequences of `length` tokens: how many are scored, and behind the facts of how many is asked (4 questions a task).
    `top`: tokens that the model may select, instead of what its config says."""

    length: int
    scored: int
    asked: int
    top: int | None = None


SHORT = Exam(2048, 3, 0)
RETURN = Exam(2048, 2, 2)  # where contexts are gone on from
TWO = Exam(1024, 8, 0, top=128)  # blocks: where each one counts
SIX = Exam(8192, 1, 0, top=384)  # of 128: where the KV groups need their own
LONG = Exam(8192, 1, 0)  # where the window branch has most to do
# What faulty/ plants, each alone, and the exam that sees it.
FAULTS = {"block-off-by-one": SHORT, "raw-logits": SHORT, "one-block-fewer": TWO, "wrong-group": SIX, "partial-block": SHORT,
          "wrong-kv-group": SHORT, "wrong-oracle": SHORT, "no-sink-window": LONG, "window-127": SHORT, "gate": SHORT,
          "stale-page": SHORT, "lost-copy": RETURN, "rope-position": RETURN}
# What these weights bear: it changes what they say, and no accuracy by ten points at any length or number of blocks tried.
BORNE = {"no-sink-sparse": SHORT}
FLAGS = ["--kv-cache-memory", "64MiB", "--max-num-batched-tokens", "256", "--max-num-seqs", "16"]
FALL = 10.0  # points that a fault must cost somewhere
ALL = "all"  # questions of a way
# Where ten points are more than one answer, or many letters.
COUNTS = [*(("scored", task) for task in tasks.SCORED), ("scored", ALL), ("asked", "copy"), ("asked", "loop"), ("asked", ALL)]


@contextlib.contextmanager
def model(exam):
    """The model's folder, or one beside its weights with the exam's `top` in config.json."""
    if exam.top is None:
        yield setting.FOLDER
        return
    with tempfile.TemporaryDirectory() as made:
        for file in setting.FOLDER.iterdir():
            pathlib.Path(made, file.name).symlink_to(file)
        config = json.loads((setting.FOLDER / "config.json").read_text())
        pathlib.Path(made, "config.json").unlink()
        pathlib.Path(made, "config.json").write_text(json.dumps({**config, "sparse_topk_tokens": exam.top}))
        yield made


@contextlib.contextmanager
def serve(exam, binary=setting.FAULTY, fault=None):
    environment = {"HYSPARSE_FAULT": fault} if fault else {}
    with model(exam) as folder, server_process.Server(folder, *FLAGS, binary=binary, environment=environment) as server:
        yield server


def accuracy(exam, **served):
    """{(way, task): percent}"""
    with serve(exam, **served) as server:
        sequences = questions.sequences(exam.length, exam.scored)
        asked = [(sequence, 4) for sequence in sequences[: exam.asked]]
        results = {"scored": [pair for one in questions.score(server, sequences) for pair in one.results()],
                   "asked": [pair for one in questions.ask(server, asked) for pair in one]}
    accuracies = {}
    for way, pairs in results.items():
        by_task = questions.collect(pairs)
        for task, right in [*by_task.items(), (ALL, [right for _, right in pairs])]:
            if right:
                accuracies[way, task] = 100 * float(np.mean(right))
    return accuracies


def fallen(healthy, faulty):
    """What fell by FALL points or more, of what COUNTS."""
    return [key for key in COUNTS if key in healthy and healthy[key] - faulty[key] >= FALL]


def row(name, way, cells):
    return f"{name:17} {way:7}" + "".join(f"{cell:>10}" for cell in cells)


def main():
    exams = {**FAULTS, **BORNE}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(exams))
    chosen = parser.parse_args().faults or list(exams)
    if unknown := [name for name in chosen if name not in exams]:
        parser.error(f"{unknown[0]} is no fault; one of {', '.join(exams)}")
    healthy = {exam: accuracy(exam, binary=server_process.BINARY) for exam in {exams[fault] for fault in chosen}}
    print(row("", "", [*tasks.SCORED, ALL]))
    for fault in chosen:
        before, after = healthy[exams[fault]], accuracy(exams[fault], fault=fault)
        found = [*fallen(before, after), *fallen(after, before)]
        for way in ("scored", "asked"):
            keys = [(way, task) for task in [*tasks.SCORED, ALL]]
            cells = [f"{before[key]:.0f}→{after[key]:.0f}{'*' if key in found else ' '}" if key in before else "" for key in keys]
            if any(cells):
                print(row(fault, way, cells), flush=True)


if __name__ == "__main__":
    main()
