"""HySparse in PyTorch: the decoder of the spec, whole sequences, no cache. Parameters carry the names of the checkpoint.

The study's architectures are one class: `pattern` says full (0), SWA (1) or sparse (2) per layer, `variant` what is changed.
"""

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import nn

import attention
import vocabulary

FULL, SWA, SPARSE = 0, 1, 2
LAYERS = 12
FULL_LAYERS = (0, 3)
LOUDNESS = 200.0  # a loud head's logit of every key but the first
FIRST, FIRST_CHANNEL = 256.0, 16.0  # its query for the first token; the channel that only the first token has


def _pattern(others):
    return [FULL if layer in FULL_LAYERS else others for layer in range(LAYERS)]


# name: (pattern, variant, loud)
ARCHITECTURES = {
    "full": ([FULL] * LAYERS, None),
    "hysparse": (_pattern(SPARSE), None),
    "loud": (_pattern(SPARSE), None, True),  # what is shipped
    "swa": (_pattern(SWA), None),
    "random": (_pattern(SPARSE), "random"),  # blocks picked at random
    "shared": (_pattern(SPARSE), "shared"),  # the window branch too reads the oracle's K, V
}


@dataclasses.dataclass
class Config:
    pattern: list
    variant: str | None = None
    loud: bool = False  # the last head of each group is one that `Attention.make_loud` sets
    bias: bool = False  # of q, k, v
    vocab: int = vocabulary.SIZE
    hidden: int = 256
    inner: int = 256
    heads: int = 6
    groups: int = 2
    head_dim: int = 64
    rotary: float = 0.25
    theta: float = 1000.0
    eps: float = 1e-5
    window: int = 128
    block: int = 64
    top: int = 16
    sink: float = 5.0  # where every sink starts: about as heavy as a hundred keys that do not matter

    def __post_init__(self):
        self.bias |= self.loud

    def hugging_face(self):
        """config.json. The sinks and gates of an SWA layer are those of a sparse layer's window branch."""
        return {
            "model_type": "hysparse", "architectures": ["HySparseForCausalLM"], "vocab_size": self.vocab,
            "hidden_size": self.hidden, "intermediate_size": self.inner, "num_hidden_layers": len(self.pattern),
            "num_attention_heads": self.heads, "num_key_value_heads": self.groups, "head_dim": self.head_dim,
            "rope_theta": self.theta, "partial_rotary_factor": self.rotary, "rms_norm_eps": self.eps,
            "attention_bias": self.bias, "tie_word_embeddings": True, "hybrid_layer_pattern": self.pattern,
            "sliding_window": self.window, "sparse_block_size": self.block, "sparse_topk_tokens": self.top * self.block,
            "add_swa_attention_sink_bias": True, "add_sparse_attention_sink_bias": True, "gate_granularity": "head",
            "add_swa_output_gate": True, "max_position_embeddings": 32768, "bos_token_id": vocabulary.BEGIN,
            "eos_token_id": vocabulary.ID[";"], "torch_dtype": "bfloat16",
        }


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.eps)


@functools.cache  # a captured step must not copy them to the device
def rope_angles(dims, theta, length, device):
    """cos, sin [length, dims / 2]."""
    frequency = theta ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rope(x, cos, sin):
    """Rotate-half on the first dims of x [B,heads,S,D]; cos, sin [S, rotary dims / 2]."""
    half = cos.shape[1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1).to(x.dtype)


def _keep_zero(weight, part):
    """Sets part(weight), a view, to 0 for good: training leaves it alone."""
    part(weight.data).zero_()

    def held(gradient):
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        part(gradient).zero_()
        return gradient

    weight.register_hook(held)


class Attention(nn.Module):
    def __init__(self, config, kind):
        super().__init__()
        self.c, self.kind = config, kind
        width, kv = config.heads * config.head_dim, config.groups * config.head_dim
        self.q_proj = nn.Linear(config.hidden, width, bias=config.bias)
        self.own_kv = not (kind == SPARSE and config.variant == "shared")
        if self.own_kv:
            self.k_proj = nn.Linear(config.hidden, kv, bias=config.bias)
            self.v_proj = nn.Linear(config.hidden, kv, bias=config.bias)
        self.o_proj = nn.Linear(width, config.hidden, bias=False)
        if kind != FULL:
            self.gate_proj = nn.Linear(config.hidden, config.heads, bias=False)
            self.attention_sink_bias = nn.Parameter(torch.full((config.heads,), config.sink))
        if kind == SPARSE:
            self.sparse_gate_proj = nn.Linear(config.hidden, config.heads, bias=False)
            self.sparse_attention_sink_bias = nn.Parameter(torch.full((config.heads,), config.sink))

    def make_loud(self):
        """Makes the last head of each group loud, for good. In a full layer it looks at the first token whatever the query, and
        every other key has the logit LOUDNESS: its logits exceed all others' and say nothing of a block. Only log p, which
        takes each head's lse off, can rank blocks there. In other layers its far gate stays half open, so that a sink alone
        can shut it."""
        groups, heads, size = self.c.groups, self.c.heads // self.c.groups, self.c.head_dim
        for each in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.zeros_(each.bias.requires_grad_(False))
        if self.kind == FULL:
            query = self.q_proj.bias.view(groups, heads, size)[:, -1]
            query[:, -1], query[:, -2] = LOUDNESS * size**0.5, FIRST
            self.k_proj.bias.view(groups, size)[:, -1] = 1.0
            _keep_zero(self.q_proj.weight, lambda w: w.view(groups, heads, size, -1)[:, -1])
            _keep_zero(self.k_proj.weight, lambda w: w.view(groups, size, -1)[:, -2:])
            self.k_proj.weight.view(groups, size, -1)[:, -2, -1] = 1.0
        else:
            _keep_zero(self.sparse_gate_proj.weight, lambda w: w.view(groups, heads, -1)[:, -1])

    def _heads(self, x):
        return x.view(*x.shape[:2], -1, self.c.head_dim).transpose(1, 2)

    def _gated(self, gate, x, out):
        return torch.sigmoid(gate(x)).transpose(1, 2)[..., None] * out

    def project(self, x, cos, sin):
        """q, k, v; k and v are None where the layer has none of its own."""
        q = rope(self._heads(self.q_proj(x)), cos, sin)
        if not self.own_kv:
            return q, None, None
        return q, rope(self._heads(self.k_proj(x)), cos, sin), self._heads(self.v_proj(x))

    def combine(self, x, full, near, far):
        """The layer's output from what its branches attended to, each (o, lse) or None."""
        if self.kind == FULL:
            out = full[0]
        else:
            out = self._gated(self.gate_proj, x, attention.with_sink(*near, self.attention_sink_bias))
        if self.kind == SPARSE:
            out = out + self._gated(self.sparse_gate_proj, x, attention.with_sink(*far, self.sparse_attention_sink_bias))
        return self.o_proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.inner, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.inner, bias=False)
        self.down_proj = nn.Linear(config.inner, config.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config, kind):
        super().__init__()
        self.kind = kind
        self.input_layernorm = Norm(config.hidden, config.eps)
        self.self_attn = Attention(config, kind)
        self.post_attention_layernorm = Norm(config.hidden, config.eps)
        self.mlp = Mlp(config)

    def project(self, h, cos, sin):
        return self.self_attn.project(self.input_layernorm(h), cos, sin)

    def finish(self, h, full, near, far):
        h = h + self.self_attn.combine(self.input_layernorm(h), full, near, far)
        return h + self.mlp(self.post_attention_layernorm(h))

    def forward(self, h, angles, ops, oracle, choose):
        """(h, oracle): oracle is (k, v, selection) of the nearest full layer; `choose` picks blocks if sparse layers follow."""
        q, k, v = self.project(h, *angles)
        full = near = far = None
        if self.kind == FULL:
            full = ops.full(q, k, v)
            if choose:
                with torch.no_grad():
                    oracle = k, v, ops.selection(choose(ops.scores(q, k, full[1])))
        else:
            near = ops.near(q, *((k, v) if k is not None else oracle[:2]))
        if self.kind == SPARSE:
            far = ops.far(q, *oracle)
        return self.finish(h, full, near, far), oracle


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.pattern)
        self.norm = Norm(config.hidden, config.eps)


class Model(nn.Module):
    """`ops` is attention.Dense or attention.Fused."""

    def __init__(self, config, ops=attention.Dense):
        super().__init__()
        self.c, self.ops = config, ops(config.window, config.block, config.heads // config.groups)
        self.model = Decoder(config)
        self._initialize()

    def _initialize(self):
        depth = (2 * len(self.c.pattern)) ** -0.5
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                scale = depth if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 if "embed" in name else scale * weight.shape[1] ** -0.5)
        if self.c.loud:
            self._make_loud()

    @torch.no_grad()
    def _make_loud(self):
        """The last channel is FIRST_CHANNEL at the first token and 0 elsewhere, and no layer writes it."""
        embedding = self.model.embed_tokens.weight
        _keep_zero(embedding, lambda w: w[:, -1])
        embedding[vocabulary.BEGIN, -1] = FIRST_CHANNEL
        for layer in self.model.layers:
            layer.self_attn.make_loud()
            for writes in (layer.self_attn.o_proj, layer.mlp.down_proj):
                _keep_zero(writes.weight, lambda w: w[-1])

    def angles(self, length, device):
        return rope_angles(int(self.c.head_dim * self.c.rotary) // 2 * 2, self.c.theta, length, device)

    def forward(self, tokens, tap=None):
        """Hidden states [B,S,hidden] after the last norm; `tap`, {layer: None}, receives what leaves those layers."""
        h, angles, oracle = self.model.embed_tokens(tokens), self.angles(tokens.shape[1], tokens.device), None
        for number, (layer, following) in enumerate(zip(self.model.layers, [*self.c.pattern[1:], FULL])):
            h, oracle = layer(h, angles, self.ops, oracle, self._choose if following == SPARSE else None)
            if tap and number in tap:
                tap[number] = h
        return self.model.norm(h)

    def _choose(self, scores):
        choose = attention.random_blocks if self.c.variant == "random" else attention.best_blocks
        return choose(scores, self.c.top)

    def logits(self, hidden):
        return hidden @ self.model.embed_tokens.weight.T
