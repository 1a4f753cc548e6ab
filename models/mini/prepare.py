#!/usr/bin/env python3
"""Writes the training sequences of every stage, the same for all architectures: prepare.py FOLDER"""

import argparse
import functools
import json
import multiprocessing
import pathlib

import numpy as np

import corpus
import tasks

# Stages of (length, sequences a step, steps, window, share that is not prose; None: any). Short ones first, so that retrieval
# emerges soon; their window is shorter too, for one as long as the sequence would teach what does not last. "finish" goes on
# from weights that can already look things up.
CURRICULA = {
    "study": [(128, 96, 1800, 32, 0.9), (512, 24, 600, 128, None), (2048, 6, 350, 128, None), (4096, 3, 150, 128, None)],
    "finish": [(512, 64, 500, 128, None), (2048, 16, 800, 128, None), (4096, 8, 300, 128, None)],
}
SEED = 5
STAGES = "stages.json"
PARTS = ("tokens", "task", "weight")
_SHARD = 256


@functools.cache
def _prose():
    return corpus.Corpus(held_out=False)


def _shard(job):
    length, density, first, count = job
    rows = [tasks.make(np.random.default_rng([SEED, length, i]), _prose(), length, density) for i in range(first, first + count)]
    return [np.stack([getattr(row, part) for row in rows]) for part in PARTS]


def write(folder, length, density, count, pool):
    jobs = [(length, density, first, min(_SHARD, count - first)) for first in range(0, count, _SHARD)]
    parts = zip(*pool.imap(_shard, jobs))
    for name, shards in zip(PARTS, parts):
        np.save(folder / f"{length}.{name}.npy", np.concatenate(shards))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--curriculum", choices=CURRICULA, default="study")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    stages = [(length, batch, max(1, round(steps * arguments.scale)), window, density)
              for length, batch, steps, window, density in CURRICULA[arguments.curriculum]]
    with multiprocessing.Pool() as pool:
        for length, batch, steps, _, density in stages:
            write(arguments.folder, length, density, batch * steps, pool)
    # Last, so that a folder with this file is complete.
    (arguments.folder / STAGES).write_text(json.dumps([[length, batch, window] for length, batch, _, window, _ in stages]))


if __name__ == "__main__":
    main()
