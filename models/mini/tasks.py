"""The tasks of hysparse-mini, as sequences of tokens that hold facts, prose and questions. NumPy only; seeded.

    amber fox crane ; amber owl drum ;  …  amber crane bell ; amber hen fox ;  …  ? amber fox bell ;

| task | fact | question |
| --- | --- | --- |
| hop1 … hop4 | `TAG NAME VALUE ;`, `TAG NAME NAME ;` | `? TAG NAME VALUE ;`: the value at the end of a chain of 1 … 4 facts of the tag |
| count | `mark TAG ;`, 1 to 6 times, scattered | `total TAG = NUMBER ;` |
| copy | `copy TAG : 16 names and values ;` | `paste TAG : the same 16 words ;` |
| loop | | `loop`, 128 random letters of four, the same 128 again: each is what stood 128 tokens before |
| kin | `TAG NAME KIND ;` of four tags and two kinds | `= TAG NAME TAG NAME TAG NAME TAG NAME ? KIND NAME ;`: the one listed that is of this kind |

Every tag and every name occurs in many facts, so that a fact is known only by both. The facts of a tag stand in two or three
passages, as many as FACTS says: more than one look at the tag brings along, few enough blocks to be chosen. A chain goes on in
another passage at each hop, so that it cannot be followed while a passage is read. Who finds the tag but cannot follow a chain
has one chance in as many as the tag has chains, about eight. Facts fill the first part of a sequence, questions the second,
prose the rest. A mix says which tasks there are: `kin`, in a mix of its own, asks the window for what was looked up where its
tokens stand, and not for the tokens.
"""

import dataclasses

import numpy as np

from vocabulary import BEGIN, ID, IDS

HOPS = 4
CHAIN_SHARES = [0.15, 0.2, 0.3, 0.35]  # of 1 … 4 hops
FACTS = (12, 24)  # of a tag; fewer in a short sequence
ASKED = 5  # chains of a tag, at most
MOST = 6  # marks
COPY_WORDS = 16
LOOP = 128  # the spec's window: the farthest token that it shows
KIN_TAGS, KIN_ASKED = 4, 6
TASKS = ["text", *(f"hop{h}" for h in range(1, HOPS + 1)), "count", "copy", "loop", "kin"]
SCORED = TASKS[1:-1]  # in the main mix
NOT_SCORED = -1
# What a token counts in the loss: an answer of one token 1, of many tokens less; what cannot be foretold nothing.
WEIGHT = {"text": 0.003, "count": 1.0, "copy": 0.25, "loop": 0.1, "kin": 1.0} | {f"hop{h}": 1.0 for h in range(1, HOPS + 1)}
END_WEIGHT = 0.1

_EQUAL, _END, _ASK, _COLON, _MARK, _TOTAL, _COPY, _PASTE, _LOOP = (
    ID[sign] for sign in ("=", ";", "?", ":", "mark", "total", "copy", "paste", "loop"))
_NUMBERS = [ID[word] for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
_LETTERS = [ID[letter] for letter in "klmn"]


@dataclasses.dataclass
class Question:
    task: str
    tokens: list  # the answer included
    answer: slice  # where it stands in tokens
    looks: tuple = ()  # (where in tokens something is looked up, what each hop from there leads to)


@dataclasses.dataclass
class Sequence:
    tokens: np.ndarray  # [S] int16
    task: np.ndarray  # [S] int8: index into TASKS of what the token answers, or NOT_SCORED
    weight: np.ndarray  # [S] float16: of the token as a target of training
    questions: list  # (position of the first answer token, Question)


class _Pool:
    """What a sequence draws from. A short one has few names and words, so that each occurs about as often as in a long one:
    what follows a name would else be known without its tag."""

    def __init__(self, rng, length, loop):
        self.names = rng.permutation(IDS["name"])[: max(10, length // 24)]
        self.facts = [int(np.clip(length // share, few, most)) for share, few, most in ((48, 6, FACTS[0]), (25, 9, FACTS[1]))]
        self.words = np.concatenate([self.names, rng.permutation(IDS["value"])[: len(self.names)]])
        self.loop = loop


def _hops(rng, facts):
    """Lengths of chains that have `facts` facts together."""
    hops = []
    while facts:
        hops.append(min(facts, int(rng.choice(HOPS, p=CHAIN_SHARES)) + 1))
        facts -= hops[-1]
    return hops


def _group(rng, tags, pool):
    """The passages of one tag, and questions: a chain is asked for at most once, from its start or from later."""
    (tag,), count = tags, int(rng.integers(pool.facts[0], pool.facts[1] + 1))
    hops, passages = _hops(rng, count), [[] for _ in range(int(rng.integers(2, 4)))]
    names = iter(rng.choice(pool.names, count, replace=False).tolist())
    questions = []
    for length, value in zip(hops, rng.choice(IDS["value"], len(hops), replace=False).tolist()):
        chain, first = [next(names) for _ in range(length)], int(rng.integers(len(passages)))
        for i, (name, target) in enumerate(zip(chain, [*chain[1:], value])):
            passages[(first + i) % len(passages)].append([tag, name, target, _END])
        skip = int(rng.integers(0, length)) if rng.random() < 0.25 else 0
        path = (*chain[skip + 1 :], value)
        questions.append(Question(f"hop{len(path)}", [_ASK, tag, chain[skip], value, _END], slice(3, 4), ((2, path),)))
    for passage in passages:
        rng.shuffle(passage)
    asked = rng.permutation(len(questions))[: int(rng.integers(2, ASKED + 1))]
    return [sum(passage, []) for passage in passages if passage], [questions[i] for i in asked]


def _count(rng, tags, _):
    (tag,), number = tags, int(rng.integers(1, MOST + 1))
    question = Question("count", [_TOTAL, tag, _EQUAL, _NUMBERS[number - 1], _END], slice(3, 4))
    return [[_MARK, tag, _END]] * number, [question]


def _copy(rng, tags, pool):
    (tag,), words = tags, rng.choice(pool.words, COPY_WORDS).tolist()
    question = Question("copy", [_PASTE, tag, _COLON, *words, _END], slice(3, 3 + COPY_WORDS))
    return [[_COPY, tag, _COLON, *words, _END]], [question]


def _loop(rng, _, pool):
    letters = rng.choice(_LETTERS, pool.loop).tolist()
    return [], [Question("loop", [_LOOP, *letters, *letters, _END], slice(1 + pool.loop, 1 + 2 * pool.loop))]


def _kin(rng, tags, pool):
    """A passage of facts for each tag; a question lists a name of each, one of them of the kind that is asked for."""
    kinds, members = rng.choice(IDS["value"], 2, replace=False).tolist(), []
    for _ in tags:
        names = rng.choice(pool.names, pool.facts[0], replace=False).tolist()
        members.append((names[::2], names[1::2]))  # of either kind
    passages = [[[tag, name, kind, _END] for kind, names in zip(kinds, both) for name in names]
                for tag, both in zip(tags, members)]
    questions = []
    for _ in range(KIN_ASKED):
        one, asked = int(rng.integers(len(tags))), int(rng.integers(2))
        of = [asked if i == one else 1 - asked for i in range(len(tags))]
        names = [int(rng.choice(both[kind])) for both, kind in zip(members, of)]
        listed = [token for pair in zip(tags, names) for token in pair]
        looks = tuple((2 + 2 * i, (kinds[kind],)) for i, kind in enumerate(of))
        tokens, end = [_EQUAL, *listed, _ASK, kinds[asked], names[one], _END], len(listed) + 3
        questions.append(Question("kin", tokens, slice(end, end + 1), looks))
    for passage in passages:
        rng.shuffle(passage)
    return [sum(passage, []) for passage in passages], questions


_MAKERS = {"group": _group, "count": _count, "copy": _copy, "loop": _loop, "kin": _kin}
MIXES = {"main": {"group": 0.53, "count": 0.3, "copy": 0.15, "loop": 0.02},
         "kin": {"group": 0.48, "count": 0.17, "copy": 0.13, "loop": 0.02, "kin": 0.2}}


def scored(mix):
    return TASKS[1:] if mix == "kin" else SCORED


def _items(rng, budget, pool, mix):
    """(facts, questions) of random tasks that take at most `budget` tokens together."""
    kinds, shares = list(MIXES[mix]), list(MIXES[mix].values())
    tags = {kind: rng.permutation(IDS["tag"]).tolist() for kind in kinds}
    facts, questions, used = [], [], 0
    while True:
        kind = kinds[rng.choice(len(kinds), p=shares)]
        number, of = (KIN_TAGS, tags["group"]) if kind == "kin" else (1, tags[kind])  # their facts look alike
        if len(of) < number:
            return facts, questions, used
        some_facts, some_questions = _MAKERS[kind](rng, [of.pop() for _ in range(number)], pool)
        size = sum(map(len, some_facts)) + sum(len(question.tokens) for question in some_questions)
        if used + size > budget:
            if kind == "loop":
                continue  # the only one that may be too long for a short sequence
            return facts, questions, used
        facts, questions, used = facts + some_facts, questions + some_questions, used + size


class _Writer:
    def __init__(self, length):
        self.tokens = np.full(length, BEGIN, np.int16)
        self.task = np.full(length, NOT_SCORED, np.int8)
        self.weight = np.zeros(length, np.float16)
        self.at = 1

    def put(self, tokens):
        begin, self.at = self.at, min(self.at + len(tokens), len(self.tokens))
        self.tokens[begin : self.at] = tokens[: self.at - begin]
        return begin

    def prose(self, tokens):
        begin = self.put(tokens)
        self.task[begin : self.at] = 0
        self.weight[begin : self.at] = WEIGHT["text"]

    def question(self, question):
        begin = self.put(question.tokens)
        answer = slice(begin + question.answer.start, begin + question.answer.stop)
        self.task[answer] = TASKS.index(question.task)
        self.weight[answer] = WEIGHT[question.task]
        self.weight[answer.stop] = END_WEIGHT
        return answer.start


def make(rng, corpus, length, density=None, loop=LOOP, mix="main"):
    """One Sequence of `length` tokens; `density` is the share that is not prose, 0.4 to 0.9 by default."""
    budget = int((length - 1) * (density or rng.uniform(0.4, 0.9)))
    facts, questions, used = _items(rng, budget, _Pool(rng, length, loop), mix)
    writer, asked = _Writer(length), []
    prose = length - 1 - used
    before = int(prose * rng.uniform(0.3, 0.9))
    for parts, write, share in ((facts, writer.put, before), (questions, None, prose - before)):
        order = rng.permutation(len(parts))
        gaps = rng.multinomial(share, rng.dirichlet(np.full(len(parts) + 1, 0.15)))
        for gap, index in zip(gaps, [*order, None]):
            if gap > 8:
                writer.prose(corpus.run(rng, gap))
            if index is not None and write:
                write(parts[index])
            elif index is not None:
                asked.append((writer.question(parts[index]), parts[index]))
    while writer.at < length:
        writer.prose(corpus.run(rng, min(64, length - writer.at) + 24))
    return Sequence(writer.tokens, writer.task, writer.weight, asked)
