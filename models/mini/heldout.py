#!/usr/bin/env python3
"""What is measured on: held-out sequences, what an answer counts, and intervals. NumPy only.

heldout.py OUT.npz writes 20 sequences of 4,096 tokens for ../retrofit/parity.py.
"""

import functools
import sys

import numpy as np

import corpus
import tasks

# length: sequences, for 400 questions of every task (of a loop: letters)
LENGTHS = {1024: 280, 2048: 130, 4096: 64, 8192: 40, 32768: 10}
SEED = 77  # training uses another: the first number of a sequence's seed


@functools.cache
def _prose():
    return corpus.Corpus(held_out=True)


def sequence(length, number, seed=SEED, mix="main"):
    return tasks.make(np.random.default_rng([seed, length, number]), _prose(), length, mix=mix)


def sequences(length, count, seed=SEED, mix="main"):
    return [sequence(length, number, seed, mix) for number in range(count)]


def worth(task, hits):
    """What a question counts, from whether each token of its answer is right: a copy when all of its words are, a loop by its
    letters."""
    return float(np.mean(hits)) if task == "loop" else float(all(hits))


def answers(sequence, right):
    """{task: [what each question counts]}, from whether each token is foretold right [S]."""
    counted = {task: [] for task in tasks.TASKS[1:]}
    for at, question in sequence.questions:
        counted[question.task].append(worth(question.task, right[at : at + question.answer.stop - question.answer.start]))
    return counted


def interval(per_sequence):
    """(mean, half of the 95 % interval, samples) from a list of lists: sequences are drawn again, not their questions."""
    sums, counts = np.array([sum(x) for x in per_sequence]), np.array([len(x) for x in per_sequence])
    draws = np.random.default_rng(0).integers(0, len(sums), (1000, len(sums)))
    means = sums[draws].sum(1) / np.maximum(counts[draws].sum(1), 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return round(float(sums.sum() / max(counts.sum(), 1)), 4), round(float(high - low) / 2, 4), int(counts.sum())


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], text=np.stack([one.tokens for one in sequences(4096, 20)]))
