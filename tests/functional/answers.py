#!/usr/bin/env python3
"""Which questions test_answers.py puts, to which servers. Run, it prints the tables at the head of test_answers.py for the
weights at hand: each accuracy less a margin for the draw of the questions; tasks that are hardly above chance are left out.
"""

import math

import numpy as np

import setting  # first: it sets the path
import questions
import server_process

# Sequences by length: a token reads 16 blocks of 64 and a window of 128, of 32, 128 and 256 blocks.
SCORED = {2048: 8, 8192: 3, 16384: 1}
ASKED = {2048: (4, 3), 8192: (1, 6)}  # and questions of each task that are asked behind a sequence, all lengths at once
# Steps so short that every prompt runs in chunks, among others' decodes.
_CHUNKS = ["--max-num-batched-tokens", "256", "--max-num-seqs", "16"]
_CHANCE = 0.25  # and less: nothing to hold on to


def large():
    return server_process.Server(setting.MINI, "--kv-cache-memory", "256MiB", *_CHUNKS)


def small():
    """A server whose KV cache holds nearly all contexts that are asked behind, and no answer in advance."""
    return server_process.Server(setting.MINI, "--kv-cache-memory", "18MiB", "--output-reserve", "0", *_CHUNKS)


def score(server, length):
    return questions.score(server, questions.sequences(length, SCORED[length]))


def ask(server):
    """{length: (task, share right) pairs}"""
    asked = [(sequence, count) for length, (number, count) in ASKED.items() for sequence in questions.sequences(length, number)]
    results = {length: [] for length in ASKED}
    for (sequence, _), pairs in zip(asked, questions.ask(server, asked)):
        results[len(sequence.tokens)] += pairs
    return results


def least(right):
    """The accuracy less three standard deviations, no fewer than five points."""
    mean, smooth = float(np.mean(right)), (sum(right) + 1) / (len(right) + 2)
    return math.floor(100 * (mean - max(0.05, 3 * math.sqrt(smooth * (1 - smooth) / len(right))))) / 100


def show(name, results):
    print(f"{name} = {{")
    for length, pairs in results.items():
        by_task = questions.collect(pairs).items()
        least_of = {task: least(right) for task, right in by_task if right}
        print(f"    {length}: dict({', '.join(f'{task}={value}' for task, value in least_of.items() if value > _CHANCE)}),  #",
              ", ".join(f"{task} {100 * np.mean(right):.0f} % of {len(right)}" for task, right in by_task if right))
    print("}")


def main():
    with large() as server:
        show("SCORED", {length: [pair for one in score(server, length) for pair in one.results()] for length in SCORED})
    with small() as server:
        show("ASKED", ask(server))


if __name__ == "__main__":
    main()
