"""Cooling: weights whose logits are far larger than a decided softmax needs are halved until they are not.

Layers that look a fixed number of tokens back, or up one fact among hundreds, learn logits of hundreds. FP32 keeps four decimals
of those, and where two keys nearly tie a log-probability then differs by a hundredth between two right computations. Halving is
exact in BF16. Only what no other layer reads is halved: a window branch's keys and a full layer's queries.
"""

import math

import torch

import attention
import heldout
import model

LARGEST = 96.0  # of a log-sum-exp: the largest logit, or a few more
LENGTH, NUMBER, SEED = 4096, 0, 5  # of the sequence on which it is measured; nothing else uses it


class _Watching(attention.Dense):
    """Keeps the largest log-sum-exp of each layer's own attention, not of the far one."""

    def full(self, q, k, v):
        return self._kept(super().full(q, k, v))

    def near(self, q, k, v):
        return self._kept(super().near(q, k, v))

    def _kept(self, result):
        self.largest.append(result[1].amax().item())
        return result


@torch.no_grad()
def factors(config, tensors):
    """{name: factor}, powers of two, of the weights that are too large."""
    net = model.Model(config, _Watching)
    net.load_state_dict(tensors)
    net.float().ops.largest = []
    net(torch.from_numpy(heldout.sequence(LENGTH, NUMBER, SEED).tokens.astype("int64"))[None])
    return {f"model.layers.{layer}.self_attn.{'q' if kind == model.FULL else 'k'}_proj.weight":
            0.5 ** math.ceil(math.log2(max(1.0, largest / LARGEST)))
            for layer, (kind, largest) in enumerate(zip(config.pattern, net.ops.largest))}


def cooled(config, tensors):
    """`tensors` with those weights scaled."""
    scale = factors(config, tensors)
    return {name: weight * scale.get(name, 1.0) for name, weight in tensors.items()}
