"""What the questions ask follows from the text before them, and from nothing else: each is answered here by reading it."""

import pytest

import setting  # noqa: F401  first: it sets the path
import heldout
import tasks
from vocabulary import ID, IDS

TAGS, NAMES, TARGETS = set(IDS["tag"]), set(IDS["name"]), {*IDS["name"], *IDS["value"]}


class Read:
    """The facts of a sequence, up to its first question."""

    def __init__(self, sequence):
        end = min(at - question.answer.start for at, question in sequence.questions)
        text = [*sequence.tokens[:end].tolist(), 0, 0, 0]
        self.facts, self.copies, self.marks = {}, {}, []
        for i in range(end):
            a, b, c, d = text[i : i + 4]
            if a in TAGS and b in NAMES and c in TARGETS and d == ID[";"]:
                assert self.facts.setdefault((a, b), c) == c, "two facts are known by the same tag and name"
            elif a == ID["mark"] and b in TAGS and c == ID[";"]:
                self.marks.append(b)
            elif a == ID["copy"] and b in TAGS and c == ID[":"]:
                self.copies[b] = text[i + 3 : i + 3 + tasks.COPY_WORDS]

    def chain(self, tag, name):
        hops = []
        while name in NAMES:
            hops.append(name := self.facts[tag, name])
        return hops

    def answer(self, question):
        """The answer's tokens, from those before it."""
        asked = question.tokens[: question.answer.start]
        if question.task.startswith("hop"):
            hops = self.chain(*asked[1:3])
            assert question.task == f"hop{len(hops)}"
            return hops[-1:]
        if question.task == "count":
            return [ID[("one", "two", "three", "four", "five", "six")[self.marks.count(asked[1]) - 1]]]
        if question.task == "copy":
            return self.copies[asked[1]]
        if question.task == "loop":
            return asked[1:]
        listed = list(zip(asked[1:-2:2], asked[2:-2:2]))
        return [name for tag, name in listed if self.facts[tag, name] == asked[-1]]


@pytest.mark.parametrize("mix, length", [("main", 2048), ("main", 16384), ("kin", 512), ("kin", 4096)])
def test_every_answer_can_be_read(mix, length):
    seen = set()
    for sequence in heldout.sequences(length, 8, mix=mix):
        read = Read(sequence)
        for at, question in sequence.questions:
            begin = at - question.answer.start
            assert sequence.tokens[begin : begin + len(question.tokens)].tolist() == question.tokens
            assert read.answer(question) == question.tokens[question.answer], question
            seen.add(question.task)
    assert seen >= set(tasks.scored(mix)) - ({"loop"} if length < 1024 else set())
