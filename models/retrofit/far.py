"""Texts whose later part can only be foretold from far back, made of documents and of facts: rows of token ids.

- codes: facts with near-duplicate names between passages, asked for at the end
- table: a list of records, looked up in another order after a passage
- again: passages, then the same passages in another order: every token of the second time is far retrieval
"""

import numpy as np

import llama

_PLACES = ("Aldermoor Brightwater Castleton Dunmore Eastvale Farnham Glenrock Harrowgate Ironbridge Kingsford Lakeside "
           "Millbrook Northgate").split()
_THINGS = "archive boathouse chapel depot engine factory garage harbour kitchen library museum nursery observatory pantry".split()
_FIELDS = {"colour": "red green blue yellow black white orange purple brown grey".split(),
           "owner": "Alice Bruno Carla David Elena Felix Greta Henry Irene Jonas Karen Louis".split(),
           "city": "Paris Cairo Lima Oslo Delhi Tokyo Rome Boston Berlin Madrid Dublin Vienna".split()}
_PASSAGE = (150, 400)  # tokens of what stands between or is repeated


class Source:
    """Passages of documents, as token ids."""

    def __init__(self, documents, encode):
        self.documents = [ids for ids in documents if len(ids) >= 2 * _PASSAGE[1]]
        self.encode = encode
        if not self.documents:
            raise llama.Refused(f"no document has {2 * _PASSAGE[1]} tokens to take passages from")

    def passage(self, rng, tokens=None):
        ids = self.documents[rng.integers(len(self.documents))]
        size = tokens or int(rng.integers(*_PASSAGE))
        begin = int(rng.integers(0, max(1, len(ids) - size)))
        return ids[begin : begin + size]


class _Row:
    def __init__(self, source):
        self.source, self.ids, self.answer = source, [], []

    def put(self, ids, answer=False):
        self.ids.extend(ids)
        self.answer.extend([answer] * len(ids))

    def say(self, text, answer=False):
        self.put(self.source.encode(text), answer)


def _fill(row, rng, length):
    """Passages up to `length`."""
    while len(row.ids) < length:
        row.put(row.source.passage(rng, min(length - len(row.ids), _PASSAGE[1])))


def _codes(row, rng, length):
    places = rng.choice(_PLACES, 4, replace=False)
    names = [f"the {place} {thing}" for place in places for thing in rng.choice(_THINGS, 4, replace=False)]
    codes = {name: f" {rng.integers(10000, 100000)}" for name in names}
    end = length - 16 * len(names) - 24
    for number, name in enumerate(rng.permutation(names)):
        _fill(row, rng, end * number // len(names))
        row.say(f"\nThe access code of {name} is{codes[name]}.\n")
    _fill(row, rng, end)
    row.say("\n\nAs stated above:\n")
    for name in rng.permutation(names):
        row.say(f"The access code of {name} is")
        row.say(codes[name], answer=True)
        row.say(".\n")


def _table(row, rng, length):
    field, values = list(_FIELDS.items())[rng.integers(len(_FIELDS))]
    keys = rng.choice(np.arange(100, 1000), 40, replace=False).tolist()
    value = {key: f" {values[rng.integers(len(values))]}" for key in keys}
    _fill(row, rng, int(rng.integers(0, length // 3)))
    row.say(f"\n\nRecords ({field}):\n")
    for key in keys:
        row.say(f"Item {key}: {field}{value[key]}\n")
    _fill(row, rng, length - 9 * len(keys))
    row.say(f"\n\nThe {field} of some of the items above:\n")
    for key in rng.permutation(keys):
        row.say(f"Item {key}: {field}")
        row.say(value[key], answer=True)
        row.say("\n")


def _again(row, rng, length):
    passages, total = [], 0
    while total < length * 0.35:
        passages.append(row.source.passage(rng))
        total += len(passages[-1])
    for passage in passages:
        row.say("\n\n")
        row.put(passage)
    _fill(row, rng, min(int(len(row.ids) + rng.integers(0, length // 4)), length - total // 2))
    for index in rng.permutation(len(passages)):
        row.say("\n\n")
        row.put(passages[index][:8])  # which passage it is cannot be known from far back
        row.put(passages[index][8:], answer=True)


KINDS = {"codes": _codes, "table": _table, "again": _again}


def make(kind, source, rng, length, separator):
    """(ids [length] uint16, answer [length] bool): which tokens need what is far back."""
    row = _Row(source)
    row.put([separator])
    KINDS[kind](row, rng, length)
    _fill(row, rng, length)
    return np.array(row.ids[:length], np.uint16), np.array(row.answer[:length])
