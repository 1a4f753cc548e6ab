"""Held-out sequences of facts and questions, and two ways of putting the questions to a server over its OpenAI API.

Scoring computes a whole sequence (prefill) and takes the likeliest token at every position. Asking generates the answers after
a context that many questions share (cached prefix, decode). Results are {task: [share right, …]}: a copy counts when all of
its words are right, a loop by its letters.
"""

import concurrent.futures
import json
import urllib.request

import numpy as np

import setting  # first: it sets the path
import heldout
import server_process
import tasks
import vocabulary

SEED = 101  # training and the study's evaluation use others


def sequence(length, number):
    return heldout.sequence(length, number, SEED)


def sequences(length, count):
    return heldout.sequences(length, count, SEED)


def collect(results):
    """{task: [share right, …]} of (task, share right) pairs."""
    collected = {task: [] for task in tasks.SCORED}
    for task, right in results:
        collected[task].append(right)
    return collected


def post(server, path, **body):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server_process.KEY}"}
    request = urllib.request.Request(f"http://{server.http}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def complete(server, prompt, **options):
    """The only choice of a greedy completion of token ids or text."""
    prompt = prompt if isinstance(prompt, str) else list(map(int, prompt))
    return post(server, "/v1/completions", prompt=prompt, temperature=0, logprobs=1, **options)["choices"][0]


def together(call, items, workers=8):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(call, items))


class Scored:
    """A sequence and, of each of its tokens, the log probability of the likeliest one there and whether it is that."""

    def __init__(self, server, sequence):
        logprobs = complete(server, sequence.tokens, echo=True, max_tokens=0)["logprobs"]
        self.sequence = sequence
        self.best = np.array([np.nan, *(max(top.values()) for top in logprobs["top_logprobs"][1:])])
        self.right = np.array([False, *logprobs["token_logprobs"][1:]]) >= self.best

    def results(self):
        return [(question.task, heldout.worth(question.task, self.hits(at, question))) for at, question in self.sequence.questions]

    def hits(self, at, question):
        return self.right[at : at + question.answer.stop - question.answer.start]


def score(server, sequences):
    """[Scored], several at once."""
    return together(lambda sequence: Scored(server, sequence), sequences)


def generate(server, prompt, answer):
    """(whether each token of the answer is right, log probabilities of the tokens that were generated)"""
    choice = complete(server, prompt, max_tokens=len(answer), ignore_eos=True)
    made, wanted = choice["logprobs"]["tokens"], [vocabulary.decode([token]) for token in answer]
    assert len(made) == len(wanted), f"{len(wanted)} tokens were asked for, {len(made)} came"
    return [a == b for a, b in zip(made, wanted)], choice["logprobs"]["token_logprobs"]


def facts(sequence):
    """The tokens before the first question."""
    return sequence.tokens[: min(at - question.answer.start for at, question in sequence.questions)]


def text(tokens):
    """What the server makes `tokens` of: it puts <|begin|> before."""
    return vocabulary.decode(tokens[1:])


def some(sequence, count):
    """The first `count` questions of each task."""
    asked = [question for _, question in sequence.questions]
    return [question for task in tasks.SCORED for question in [one for one in asked if one.task == task][:count]]


def turns(server, context, question):
    """Generates the answer behind the context, a long one in two turns: the second goes on from the right first half."""
    answer, hits, done = question.tokens[question.answer], [], 0
    for end in sorted({len(answer) // 2, len(answer)} - {0}):
        prompt = text([*context, *question.tokens[: question.answer.start + done]])
        hits += generate(server, prompt, answer[done:end])[0]
        done = end
    return question.task, heldout.worth(question.task, hits)


def ask(server, asked, workers=8):
    """[[(task, share right)] of each sequence] of `asked`, [(sequence, how many questions of each task)]: put, as text, right
    behind the sequence's facts; half of all in a first round and half in a second, when every context returns."""
    contexts = [facts(sequence) for sequence, _ in asked]
    jobs = [[(context, question) for question in some(*one)] for context, one in zip(contexts, asked)]
    results = [[] for _ in asked]
    for half in (0, 1):
        together(lambda context: complete(server, text(context), max_tokens=1), contexts, workers)
        numbered = [(number, job) for number, of_one in enumerate(jobs) for job in of_one[half::2]]
        for number, result in together(lambda job: (job[0], turns(server, *job[1])), numbered, workers):
            results[number].append(result)
    return results
