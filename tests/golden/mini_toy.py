"""A loud HySparse model (models/mini) at toy size: what training must leave alone, and what its loud heads do to a ranking.

Not collected by itself, since the suites have no PyTorch: PYTHON -m pytest tests/golden/mini_toy.py, with a PYTHON that has
torch, numpy and pytest.
"""

import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models" / "mini"))
import attention  # noqa: E402
import model  # noqa: E402
import optimizer  # noqa: E402
import train  # noqa: E402
import vocabulary  # noqa: E402

LENGTH, BLOCK = 96, 8


class Scores(attention.Dense):
    """Keeps each oracle's scores, by log p and by raw logits."""

    def scores(self, q, k, lse):
        raw = attention.block_scores(q, k, torch.zeros_like(lse), self.block)
        self.seen.append((attention.block_scores(q, k, lse, self.block), raw))
        return self.seen[-1][0]


@pytest.fixture(scope="module")
def trained():
    """After some steps on random tokens, decay as in earnest."""
    torch.manual_seed(3)
    net = model.Model(model.Config(*model.ARCHITECTURES["loud"], hidden=64, inner=32, window=16, block=BLOCK, top=2), Scores)
    net.ops.seen = []
    taught = train.Taught(net)
    optimizers = optimizer.make(taught, 1e-2, train.WEIGHT_DECAY)
    for _ in range(4):
        tokens = torch.randint(0, vocabulary.SIZE, (2, LENGTH))
        tokens[:, 0] = vocabulary.BEGIN
        nothing = torch.zeros(2, 4, dtype=torch.long)
        taught.zero_grad()
        taught(tokens, torch.ones(2, LENGTH), nothing, nothing[..., None].expand(-1, -1, 3))[0].backward()
        for each in optimizers:
            each.step()
    return net


def test_training_leaves_loud_heads_alone(trained):
    fresh = model.Model(trained.c)
    for layer, untrained in zip(trained.model.layers, fresh.model.layers):
        now, first = layer.self_attn, untrained.self_attn
        assert torch.equal(now.q_proj.bias, first.q_proj.bias) and torch.equal(now.k_proj.bias, first.k_proj.bias)
        if now.kind == model.FULL:
            assert not now.q_proj.weight.view(2, 3, 64, -1)[:, -1].any()
            assert torch.equal(now.k_proj.weight.view(2, 64, -1)[:, -2:], first.k_proj.weight.view(2, 64, -1)[:, -2:])
            assert now.q_proj.weight.view(2, 3, 64, -1)[:, 0].any()
        else:
            assert not now.sparse_gate_proj.weight.view(2, 3, -1)[:, -1].any()
        assert not now.o_proj.weight[-1].any() and not layer.mlp.down_proj.weight[-1].any()
    last = trained.model.embed_tokens.weight[:, -1]
    assert last[vocabulary.BEGIN] == model.FIRST_CHANNEL and last.count_nonzero() == 1


@torch.no_grad()
def test_only_log_p_ranks_blocks_behind_a_loud_head(trained):
    trained.ops.seen = []
    tokens = torch.randint(0, vocabulary.SIZE, (1, LENGTH))
    tokens[0, 0] = vocabulary.BEGIN
    trained(tokens)
    for by_log_p, raw in trained.ops.seen:
        rows, later = raw[0, :, -1], by_log_p[0, :, -1, 1:]
        assert rows[:, 0].min() > 2 * model.LOUDNESS  # the first token's block
        assert (rows[:, 1:] - model.LOUDNESS).abs().max() < 0.01  # all others tie
        assert (later.amax(-1) - later.amin(-1)).min() > 0.01  # log p tells them apart
