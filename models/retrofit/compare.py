"""A model's tokens beside its base's, by position, with 95 % intervals over documents. Needs NumPy only.

(nll, top) is the negative log-likelihood and the top token (ids, or their texts) of every next token: [n, S-1] each.
"""

import numpy as np

RANGES = {"0-1k": (0, 1024), "1-2k": (1024, 2048), "2-4k": (2048, 4096), "4-8k": (4096, 8192), "1-8k": (1024, 8192)}
DRAWS = 2000


def windows(text, count):
    """`count` of the held-out windows, spread over seen and unseen packages."""
    return text[:: max(1, len(text) // count)][:count]


def interval(values, weights, of=lambda mean: mean):
    """[of(mean), low, high] of per-document sums `values` and counts `weights`, documents drawn again."""
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    means = values[draws].sum(1) / np.maximum(weights[draws].sum(1), 1)
    return [round(float(of(x)), 4) for x in (values.sum() / max(weights.sum(), 1), *np.quantile(means, [0.025, 0.975]))]


def compare(ours, theirs, mask):
    """Perplexity ratio and top-1 agreement of (nll, top) to (nll, top) where mask [n, S-1]."""
    count = mask.sum(1)
    return {"ratio": interval(((ours[0] - theirs[0]) * mask).sum(1), count, np.exp),
            "agreement": interval(((ours[1] == theirs[1]) * mask).sum(1), count)}


def by_range(ours, theirs):
    at = np.arange(1, ours[0].shape[1] + 1)  # position of the token that is foretold
    return {name: compare(ours, theirs, np.broadcast_to((at >= first) & (at < last), ours[0].shape))
            for name, (first, last) in RANGES.items() if first < at[-1]}
