"""Attention of the spec's sections 2 and 3, twice: Dense (any device and dtype; the reference, and what is measured) and Fused
(PyTorch's flex_attention, for training on a GPU).

Shapes: q [B,N,S,D]; k, v [B,G,S,D]; output [B,N,S,D]; lse [B,N,S] fp32; scores and selection [B,G,S,blocks], fp32 and bool.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

_ROWS = 512  # queries at a time of the dense form
_TILE = 128  # of flex_attention


def block_scores(q, k, lse, block, first=0):
    """max over a group's heads and a block's keys of log p, of queries that stand at `first` and after; -inf: a block ahead."""
    group, keys, rows = q.shape[1] // k.shape[1], k.shape[2], q.shape[2]
    logits = (q @ k.repeat_interleave(group, 1).transpose(2, 3)).float() / math.sqrt(q.shape[3])
    at, key = torch.arange(first, first + rows, device=q.device)[:, None], torch.arange(keys, device=q.device)
    logp = torch.where(key <= at, logits - lse[..., None], -math.inf)
    logp = F.pad(logp, (0, -keys % block), value=-math.inf)
    return logp.view(q.shape[0], k.shape[1], group, rows, -1, block).amax((2, 5))


def best_blocks(score, top):
    """The `top` best blocks of each row, ties to the lower one."""
    order = score.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    chosen = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)
    return chosen & (score > -math.inf)


def random_blocks(score, top):
    """`top` random ones of the blocks that have begun."""
    return best_blocks(torch.rand_like(score).masked_fill(score == -math.inf, -math.inf), top)


def with_sink(out, lse, sink):
    """A softmax whose denominator also has exp(sink): sink [N]."""
    return out * torch.sigmoid(lse - sink[:, None])[..., None].to(out.dtype)


class Dense:
    """Masked softmax over the keys that can be seen, some rows at a time."""

    def __init__(self, window, block, group):
        self.window, self.block, self.group = window, block, group

    def _run(self, q, k, v, visible, reach=None):
        """`reach`: how many keys back a query sees at most; None: all."""
        group = q.shape[1] // k.shape[1]
        wide_k, wide_v = k.repeat_interleave(group, 1).transpose(2, 3), v.repeat_interleave(group, 1)
        parts = []
        for first in range(0, q.shape[2], _ROWS):
            rows = slice(first, min(first + _ROWS, q.shape[2]))
            keys = slice(max(0, first + 1 - reach) if reach else 0, rows.stop)
            at = torch.arange(rows.start, rows.stop, device=q.device)[:, None]
            key = torch.arange(keys.start, keys.stop, device=q.device)
            logits = (q[:, :, rows] @ wide_k[..., keys]).float() / math.sqrt(q.shape[3])
            logits = logits.masked_fill(~visible(rows, at, key), -math.inf)
            lse = logits.logsumexp(-1)
            parts.append(((logits - lse[..., None]).exp().to(v.dtype) @ wide_v[:, :, keys], lse))
        return tuple(torch.cat(part, 2) for part in zip(*parts))

    def full(self, q, k, v):
        return self._run(q, k, v, lambda rows, at, key: key <= at)

    def scores(self, q, k, lse):
        starts = range(0, q.shape[2], _ROWS)
        return torch.cat([block_scores(q[:, :, s : s + _ROWS], k, lse[:, :, s : s + _ROWS], self.block, s) for s in starts], 2)

    def near(self, q, k, v):
        return self._run(q, k, v, lambda rows, at, key: (key <= at) & (at - key < self.window), self.window)

    def selection(self, chosen):
        """What `far` takes, from a bool [B,G,S,blocks]."""
        return chosen

    def far(self, q, k, v, selection):
        def visible(rows, at, key):
            keys = selection[:, :, rows].repeat_interleave(self.block, 3)[..., : len(key)]
            return keys.repeat_interleave(q.shape[1] // k.shape[1], 1) & (key <= at)
        return self._run(q, k, v, visible)


class Fused:
    """The same through flex_attention. Lengths are multiples of its tile."""

    _flex = staticmethod(torch.compile(flex_attention, dynamic=False))
    _block_scores = staticmethod(torch.compile(block_scores, dynamic=False))

    def __init__(self, window, block, group):
        self.window, self.block, self.group = window, block, group
        self._masks = {}

    def _run(self, q, k, v, mask):
        out, more = self._flex(q, k, v, block_mask=mask, enable_gqa=True, return_aux=AuxRequest(lse=True))
        return out, more.lse

    def _mask(self, kind, length, device):
        key = kind, length, self.window
        if key not in self._masks:
            self._masks[key] = getattr(self, f"_{kind}_mask")(length, device)
        return self._masks[key]

    def _full_mask(self, length, device):
        return create_block_mask(lambda b, h, at, key: key <= at, None, None, length, length, device=device)

    def _near_mask(self, length, device):
        window = self.window
        return create_block_mask(lambda b, h, at, key: (key <= at) & (at - key < window), None, None, length, length,
                                 device=device)

    def full(self, q, k, v):
        return self._run(q, k, v, self._mask("full", q.shape[2], q.device))

    def scores(self, q, k, lse):
        return self._block_scores(q, k, lse, self.block)

    def near(self, q, k, v):
        return self._run(q, k, v, self._mask("near", q.shape[2], q.device))

    def _far_mask(self, length, device):
        """Every tile up to the diagonal: another token may choose any block."""
        tiles = length // _TILE
        count = torch.arange(1, tiles + 1, dtype=torch.int32, device=device)[None, None]
        index = torch.arange(tiles, dtype=torch.int32, device=device).repeat(1, 1, tiles, 1)
        return BlockMask.from_kv_blocks(count, index, BLOCK_SIZE=_TILE)

    def selection(self, chosen):
        """The tiles of `_far_mask`, masked token by token. A token's blocks are the bits of one word: read once a row."""
        if chosen.shape[3] > 64:
            raise ValueError(f"{chosen.shape[3]} blocks do not fit into 64 bits: train on shorter sequences or larger blocks")
        group, block, mask = self.group, self.block, copy.copy(self._mask("far", chosen.shape[2], chosen.device))
        bits = (chosen.long() << torch.arange(chosen.shape[3], device=chosen.device)).sum(3)

        def visible(b, h, at, key):
            return ((bits[b, h // group, at] >> (key // block)) & 1).bool() & (key <= at)

        mask.mask_mod = visible
        return mask

    def far(self, q, k, v, selection):
        return self._run(q, k, v, selection)
