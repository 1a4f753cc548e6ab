"""The filler between facts: English prose that every Python installation carries (pydoc's topics), as runs of words. It changes a
little with Python's version, and a seed's sequences with it."""

import pydoc_data.topics
import re

import numpy as np

import vocabulary

# Never trained on; no other topic quotes them.
HELD_OUT = {"assert", "await", "conversions", "raise", "strings", "typesmodules"}


def _clean(text):
    """ASCII words with one space before each."""
    return "".join(" " + word for word in re.sub(r"[^\x20-\x7e]+", " ", text).split() if len(word) <= 24)


class Corpus:
    """Tokens of the training or the held-out topics, and where words start in them."""

    def __init__(self, held_out):
        chosen = [name for name in sorted(pydoc_data.topics.topics) if (name in HELD_OUT) == held_out]
        ids, starts = [], []
        for name in chosen:
            for word in _clean(pydoc_data.topics.topics[name]).split(" ")[1:]:
                starts.append(len(ids))
                ids.extend(vocabulary.encode(" " + word))
        self.ids = np.array(ids, np.int16)
        self.starts = np.array(starts)

    def run(self, rng, tokens):
        """At most `tokens` ids that start and end between words."""
        first = int(rng.integers(0, len(self.starts) - 1))
        begin = self.starts[first]
        last = int(np.searchsorted(self.starts, begin + tokens, side="right")) - 1
        return self.ids[begin : self.starts[last]]
