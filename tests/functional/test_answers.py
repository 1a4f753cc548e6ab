"""hysparse-mini behind the real binary answers questions that it was trained for, on sequences it has never seen."""

import os
import subprocess
import sys

import numpy as np
import pytest

import setting  # first: it sets the path
import questions
import server_process

# The least accuracy by length and task: answers.py prints these tables for new weights.
SCORED = {
    2048: dict(hop1=0.95, hop2=0.95, hop3=0.95, hop4=0.95, count=0.95, copy=0.88, loop=0.44),
    8192: dict(hop1=0.95, hop2=0.93, hop3=0.94, hop4=0.89, count=0.95, copy=0.91, loop=0.68),
    16384: dict(hop1=0.95, hop2=0.95, hop3=0.94, hop4=0.84, count=0.92, copy=0.89, loop=0.44),
}
ASKED = {
    2048: dict(hop1=0.77, hop2=0.77, hop3=0.77, hop4=0.77, count=0.77, copy=0.68, loop=0.3),
    8192: dict(hop1=0.59, hop2=0.59, hop3=0.59, hop4=0.59, count=0.59, copy=0.59, loop=0.59),
}


def cases(table):
    return [(length, task, least) for length, tasks in table.items() for task, least in tasks.items()]


def test_text_is_the_tokens_of_the_sequence(server):
    tokens = questions.sequence(2048, 0).tokens.tolist()
    assert questions.post(server, "/tokenize", prompt=questions.text(tokens))["tokens"] == tokens


@pytest.mark.parametrize("length, task, least", cases(SCORED))
def test_the_likeliest_token_of_a_prompt_is_the_answer(scored, length, task, least):
    right = questions.collect(pair for one in scored(length) for pair in one.results())[task]
    assert np.mean(right) >= least, f"{len(right)} questions"


@pytest.mark.parametrize("length, task, least", cases(ASKED))
def test_the_answer_is_generated(asked, length, task, least):
    right = questions.collect(asked[length])[task]
    assert np.mean(right) >= least, f"{len(right)} questions"


def test_a_user_sees_it_answer(server):
    """models/mini/ask.py, which the quickstart names."""
    done = subprocess.run([sys.executable, setting.ROOT / "models/mini/ask.py", f"http://{server.http}", "--tokens", "2048"],
                          env={**os.environ, "OPENAI_API_KEY": server_process.KEY}, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert sum(line.endswith("right") for line in said) >= len(said) - 2 > 6, done.stdout


def test_contexts_returned_to_pages_that_others_had_used(small, asked):
    assert small.metric("prompt_tokens_cached_total") > 0
    assert small.metric("prefix_cache_lookups_total", result="evicted") > 0
    assert small.metric("prefix_cache_rebuilt_total") > 0


def test_an_answer_is_generated_as_it_is_scored(small, scored):
    """Question by question through sequences, each behind all before it, several at once: the same answers, and for every token
    that was right until then the same log probability, to the last bit."""

    def walk(one):
        for at, question in one.sequence.questions:
            if at > 5000:  # enough: the blocks that are read are one in five by then
                return
            hits, logprobs = questions.generate(small, one.sequence.tokens[:at], question.tokens[question.answer])
            same = hits.index(False) + 1 if False in hits else len(hits)  # from there on the two see other tokens
            assert hits[:same] == one.hits(at, question)[:same].tolist()
            assert logprobs[:same] == one.best[at : at + same].tolist()

    questions.together(walk, [*scored(2048)[:2], *scored(8192)[:1]])
