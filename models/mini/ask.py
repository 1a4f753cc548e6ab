#!/usr/bin/env python3
"""Asks a served hysparse-mini some questions about a long context that it has never seen: ask.py URL [--tokens 8192] [--seed 0]

The last two questions of each task, each behind all that precedes it. Prints the end of each, the answer and whether it is
right. Needs NumPy. Where the server wants a key, OPENAI_API_KEY holds it.
"""

import argparse
import json
import os
import urllib.error
import urllib.request

import numpy as np

import corpus
import tasks
import vocabulary

MODEL = "hysparse-mini"
SHOWN = 12  # tokens of an answer


def complete(url, prompt, tokens):
    body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'unused')}"}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)["choices"][0]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--tokens", type=int, default=8192, help="of the longest context, 256 to 32,000")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not 256 <= arguments.tokens <= 32000:
        parser.error(f"--tokens {arguments.tokens} is not between 256 and 32000")
    sequence = tasks.make(np.random.default_rng([arguments.seed, arguments.tokens]), corpus.Corpus(True), arguments.tokens)
    for task in tasks.SCORED:
        asked = [(at, one) for at, one in sequence.questions if one.task == task]
        for at, question in asked[-2:]:
            wanted = question.tokens[question.answer][:SHOWN]
            prompt, wanted, count = vocabulary.decode(sequence.tokens[1:at]), vocabulary.decode(wanted), len(wanted)
            try:
                answer = complete(arguments.url.rstrip("/"), prompt, count)
            except urllib.error.URLError as error:
                parser.exit(1, f"ask.py: {arguments.url}: {error}\n")
            verdict = "right" if answer == wanted else f"wrong:{wanted}"
            print(f"{at:6,} tokens, {task:5} …{prompt[-20:]} →{answer}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
