#!/usr/bin/env python3
"""Measures prepared models as they are served and prints the tables of ../README.md:

    table.py DATA/heldout.npz --models BASE,STUDENT,CONTROL [--windows 20] [--evaluated OUT.json]

Every model is a `hysparse serve` of its own, asked over HTTP: held-out windows are scored token by token beside the first
model's scores, prompts.json is answered greedily. --evaluated adds the rows that cannot be served (random blocks, a shut sparse
gate) from what evaluate.py wrote for the same windows. Brackets are 95 % intervals over documents, or over prompts. Needs NumPy.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import sys
import zipfile

import numpy as np

import compare
import llama
import served

PROMPTS = pathlib.Path(__file__).parent / "prompts.json"
CONTEXTS = (2048, 8192)
ANSWER, BEGINNING = 96, 8  # tokens of an answer, and of its beginning
UNSERVED = ("random blocks", "sparse gate off")
SAME_PERPLEXITY = 0.01  # how far BF16 served and FP32 in PyTorch may be apart on the same windows


def held_out(path, count):
    try:
        text = np.load(path)["text"]
    except (ValueError, KeyError, zipfile.BadZipFile):
        raise llama.Refused(f"{path} is not the heldout.npz that prepare.py writes") from None
    if not 1 <= count <= len(text):
        raise llama.Refused(f"--windows {count} is not between 1 and the {len(text)} of {path}")
    return compare.windows(text, count)


def both(scored):
    """(nll, top) of scores of texts of one length."""
    return [-np.array([logprobs for logprobs, _ in scored]), np.array([top for _, top in scored])]


def ask(server, prompt):
    """The greedy answer, in text and tokens; the prompt's tokens."""
    roles = ["user", "assistant"] * len(prompt["ask"])
    messages = [{"role": role, "content": text} for role, text in zip(roles, prompt["ask"])]
    answer = server.answer(messages, ANSWER)
    ids = server.tokenize(prompt=answer, add_special_tokens=False) if answer else []
    return {"answer": answer, "ids": ids, "prompt": server.tokenize(messages=messages)}


def along(server, taken):
    """Scores of the tokens of another's answer: log-probabilities and top tokens."""
    first = len(taken["prompt"]) - 1
    logprobs, top = server.score(taken["prompt"] + taken["ids"])
    return logprobs[first:], top[first:]


def measure(model, flags, text, prompts, base):
    """Scores of the windows, answers of the prompts, and scores of the base's answers (its own where it is the base)."""
    with served.Served(model, *flags) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        scored = []
        for number, ids in enumerate(text):
            print(f"\r{model}: window {number + 1} of {len(text)}", end="", file=sys.stderr, flush=True)
            scored.append(server.score(ids))
        print(f"\r{model}: prompts{' ' * 16}", file=sys.stderr)
        answers = list(pool.map(lambda prompt: ask(server, prompt), prompts))
        taken = [answer for answer in (base["answers"] if base else answers) if answer["ids"]]
        return {"text": both(scored), "answers": answers, "along": list(pool.map(lambda answer: along(server, answer), taken)),
                "kv": [served.plan(model, context)["context"]["allocated_bytes"]["total"] for context in CONTEXTS]}


def passed(prompts, answers):
    checks = [bool(re.search(prompt["expect"], answer["answer"], re.IGNORECASE | re.DOTALL))
              for prompt, answer in zip(prompts, answers) if "expect" in prompt]
    return f"{sum(checks)} of {len(checks)}"


def shown(values, digits=3):
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} [{low}, {high}]"


def answers_row(found, base, prompts):
    begun = np.array([ours["ids"][:BEGINNING] == theirs["ids"][:BEGINNING] for ours, theirs in zip(found["answers"], base["answers"])])
    count = np.array([len(logprobs) for logprobs, _ in base["along"]])
    logprob = np.array([sum(logprobs) for logprobs, _ in found["along"]])
    same = np.array([sum(a == b for a, b in zip(ours[1], theirs[1])) for ours, theirs in zip(found["along"], base["along"])])
    return [passed(prompts, found["answers"]), shown(compare.interval(begun, np.ones(len(begun))), 2),
            shown(compare.interval(same, count)), shown(compare.interval(logprob, count))]


def unserved_rows(path, base):
    """{name: by_range's figures} of evaluate.py's rows, which must be of the same windows."""
    if path is None:
        return {}
    measured = llama.read_json(path)
    try:
        theirs, rows = measured["base"]["perplexity"], {name: measured[name]["to base"] for name in UNSERVED}
    except (KeyError, TypeError):
        raise llama.Refused(f"{path} is not what evaluate.py writes for a HySparse student") from None
    for name, ours in perplexities(base).items():
        if abs(theirs.get(name, np.inf) / ours - 1) > SAME_PERPLEXITY:
            raise llama.Refused(f"{path} is of other windows: the base's perplexity at {name} is {theirs.get(name)} there and "
                                f"{ours:.4f} here; give the --windows that evaluate.py had")
    return rows


def perplexities(found):
    nothing = [np.zeros_like(part) for part in found["text"]]
    return {name: entry["ratio"][0] for name, entry in compare.by_range(found["text"], nothing).items()}


def print_table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_tables(names, results, unserved, prompts, windows, dtype):
    base = results[0]
    rows = {f"`{name}`": compare.by_range(found["text"], base["text"]) for name, found in zip(names[1:], results[1:])}
    rows |= {f"{name} (PyTorch)": entry for name, entry in unserved.items()}
    ranges = list(perplexities(base))
    made = " Rows marked PyTorch cannot be served; evaluate.py computed them in FP32." if unserved else ""
    print(f"Perplexity of `{names[0]}`, and the others' ratio to it, by position in {windows} held-out documents, as "
          f"`hysparse serve --dtype {dtype}` scores them.{made}\n")
    print_table(["", *ranges], [[f"`{names[0]}`", *(f"{value:.2f}" for value in perplexities(base).values())],
                                *([name, *(shown(entry[key]["ratio"]) for key in ranges)] for name, entry in rows.items())])
    print(f"How often the top token is that of `{names[0]}`:\n")
    print_table(["", *ranges], [[name, *(shown(entry[key]["agreement"]) for key in ranges)] for name, entry in rows.items()])
    print(f"KV cache of a session, and {len(prompts)} everyday prompts answered greedily; the last three columns are beside "
          f"`{names[0]}`: answers that begin with the same {BEGINNING} tokens, and along its own answers the same top token and "
          "the mean log-probability:\n")
    print_table(["", *(f"KV at {context // 1024}k" for context in CONTEXTS), "checks passed", "same beginning", "same top token",
                 "log-probability"],
                [[f"`{name}`", *(f"{size / 2**20:.2f} MiB ({first / size:.2f}×)" for size, first in zip(found["kv"], base["kv"])),
                  *answers_row(found, base, prompts)] for name, found in zip(names, results)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heldout", type=pathlib.Path)
    parser.add_argument("--windows", type=int, default=20, help="held-out documents to score")
    parser.add_argument("--evaluated", type=pathlib.Path, help="what evaluate.py wrote")
    parser.add_argument("--models", required=True, help="names or folders, the base first")
    parser.add_argument("--dtype", default="bfloat16", help="that the models are served in")
    arguments = parser.parse_args()
    with llama.one_line("table.py"):
        text, prompts = held_out(arguments.heldout, arguments.windows), llama.read_json(PROMPTS)
        names, results, unserved = arguments.models.split(","), [], {}
        for name in names:
            base = results[0] if results else None
            results.append(measure(name, ["--dtype", arguments.dtype], text, prompts, base))
            unserved = unserved or unserved_rows(arguments.evaluated, results[0])  # refused before the others run
        print_tables([pathlib.Path(name).name for name in names], results, unserved, prompts, len(text), arguments.dtype)


if __name__ == "__main__":
    main()
