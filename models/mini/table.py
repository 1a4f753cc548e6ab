#!/usr/bin/env python3
"""Measures a model as it is served and prints the table of ../README.md: table.py [MODEL] [--lengths 1024,2048,4096,8192]

A `hysparse serve` of its own scores held-out sequences over HTTP: how many questions of each task it answers, with 95 %
intervals over sequences, and the KV cache of a session beside full attention's, as `hysparse plan` says. Needs NumPy.
"""

import argparse
import pathlib
import sys

import heldout
import tasks
import vocabulary

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "retrofit"))
import llama  # noqa: E402
import served  # noqa: E402


def measure(server, length, count):
    """{task: interval}"""
    counted = []
    for number, sequence in enumerate(heldout.sequences(length, count)):
        print(f"\r{length} tokens: {number + 1} of {count}", end="", file=sys.stderr, flush=True)
        _, likeliest = server.score(sequence.tokens)
        right = [False, *(vocabulary.decode([token]) == top for token, top in zip(sequence.tokens[1:], likeliest))]
        counted.append(heldout.answers(sequence, right))
    print(file=sys.stderr)
    return {task: heldout.interval([one[task] for one in counted]) for task in tasks.SCORED}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="hysparse-mini", help="a prepared model's name, or a folder")
    parser.add_argument("--lengths", default=",".join(map(str, heldout.LENGTHS)))
    parser.add_argument("--sequences", type=int, help="per length, instead of the number that gives 400 questions a task")
    parser.add_argument("--dtype", default="auto", help="that the model is served in")
    arguments = parser.parse_args()
    print("| tokens | " + " | ".join(tasks.SCORED) + " | questions | KV cache |\n" + "| --- " * (len(tasks.SCORED) + 3) + "|")
    with llama.one_line("table.py"), served.Served(arguments.model, "--dtype", arguments.dtype) as server:
        for length in map(int, arguments.lengths.split(",")):
            found = measure(server, length, arguments.sequences or heldout.LENGTHS.get(length, 20))
            cells = [f"{mean:.3f} ± {half:.3f}" for mean, half, _ in found.values()]
            least, most = (of(count for *_, count in found.values()) for of in (min, max))
            context = served.plan(arguments.model, length)["context"]
            kept, full = context["allocated_bytes"]["total"], context["full_attention_bytes"]
            kv = f"{kept / 2**20:.2f} MiB, {full / kept:.1f}× less"
            print(f"| {length:,} | {' | '.join(cells)} | {least}–{most} | {kv} |", flush=True)


if __name__ == "__main__":
    main()
