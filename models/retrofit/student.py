"""Teacher and student in PyTorch: mini's decoder with the base's weights, and where the new parts start.

A student's sparse branch can read its layer's own K, V, faded into the oracle's while it trains (`ops.share`), can be shut
(`ops.shut`) and can be given random blocks (`random_blocks`).
"""

import pathlib
import sys

import torch
import torch.nn.functional as F

import llama

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "mini"))
import attention  # noqa: E402
import model  # noqa: E402


class Causal:
    """What a teacher needs of attention's forms: plain causal attention."""

    def __init__(self, *_):
        pass

    def full(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), None


def fading(form):
    """attention.Dense or attention.Fused, whose `far` mixes the layer's own K, V (last seen by `near`) with the oracle's."""

    class Fading(form):
        share, shut = 1.0, False

        def near(self, q, k, v):
            self._own = k, v
            return super().near(q, k, v)

        def far(self, q, k, v, selection):
            if self.shut:
                return torch.zeros_like(q), q.new_zeros(q.shape[:3], dtype=torch.float32)
            if self.share < 1:
                k, v = (torch.lerp(own, shared, self.share) for own, shared in zip(self._own, (k, v)))
            return super().far(q, k, v, selection)

    return Fading


class Student(model.Model):
    """`config` is a config.json; the output matrix may be one of its own."""

    def __init__(self, config, ops):
        pattern = config.get("hybrid_layer_pattern") or [llama.FULL] * config["num_hidden_layers"]
        block = config.get("sparse_block_size", 64)
        super().__init__(model.Config(
            pattern, vocab=config["vocab_size"], hidden=config["hidden_size"], inner=config["intermediate_size"],
            heads=config["num_attention_heads"], groups=config["num_key_value_heads"], head_dim=config["head_dim"],
            rotary=config.get("partial_rotary_factor", 1.0), theta=config["rope_theta"], eps=config["rms_norm_eps"],
            window=config.get("sliding_window", 128), block=block,
            top=config.get("sparse_topk_tokens", 1024) // block, sink=0.0, bias=config.get("attention_bias", False)), ops)
        if not config.get("tie_word_embeddings", False):
            self.lm_head = torch.nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def _initialize(self):
        """Nothing: every weight is the base's or set by `start`."""

    @property
    def head(self):
        return self.lm_head.weight if hasattr(self, "lm_head") else self.model.embed_tokens.weight

    def logits(self, hidden):
        return hidden @ self.head.T

    def random_blocks(self, yes=True):
        self.c.variant = "random" if yes else None

    def load(self, tensors, names, source):
        """Takes the named tensors; every parameter that has none keeps what it has. Returns those."""
        rest = self.load_state_dict({name: torch.from_numpy(tensors[name]) for name in names}, strict=False)
        if rest.unexpected_keys:
            raise llama.Refused(f"{source}: tensor {rest.unexpected_keys[0]} has no place in this model")
        return rest.missing_keys


def teacher(config, tensors, names, device):
    net = Student({**config, "hybrid_layer_pattern": None}, Causal)
    net.load(tensors, names, "the base")
    return net.to(device).eval().requires_grad_(False)


@torch.no_grad()
def calibrate(net, tokens, window):
    """Per layer of a teacher: u [hidden] with u·x ≈ 1 for what enters its attention, and per head the median over `tokens`
    [1,S] of the log mass that lies in the window and of that before it."""
    dense = attention.Dense(window, 64, net.c.heads // net.c.groups)
    h, angles, found = net.model.embed_tokens(tokens), net.angles(tokens.shape[1], tokens.device), []
    for layer in net.model.layers:
        x = layer.input_layernorm(h)[0].double()
        ridge = 1e-4 * x.square().sum(0).mean() * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        u = torch.linalg.solve(x.T @ x + ridge, x.sum(0)).float()
        q, k, v = layer.project(h, *angles)
        out, all_mass = dense.full(q, k, v)
        near = dense.near(q, k, v)[1]
        far = all_mass + (-torch.expm1(near - all_mass)).clamp_min(1e-9).log()
        found.append((u, near[0, :, window:].median(-1).values, far[0, :, window:].median(-1).values))
        h = layer.finish(h, (out, None), None, None)
    return found


@torch.no_grad()
def start(net, found, window_gate, sparse_gate, sink_share):
    """Gates at sigmoid(window_gate) and sigmoid(sparse_gate); each branch's sink at a share of the mass that it cannot see."""
    log_share = torch.tensor(sink_share).log().item()
    for layer, (u, near, far) in zip(net.model.layers, found):
        part = layer.self_attn
        if layer.kind != llama.FULL:
            part.gate_proj.weight.copy_(window_gate * u.expand_as(part.gate_proj.weight))
            part.attention_sink_bias.copy_(far + log_share)
        if layer.kind == llama.SPARSE:
            part.sparse_gate_proj.weight.copy_(sparse_gate * u.expand_as(part.sparse_gate_proj.weight))
            part.sparse_attention_sink_bias.copy_(near + log_share)


def choose_trained(net, which):
    """"all": every attention weight. "branch": k, v of the full layers, q, o of the others. Gates and sinks in both."""
    for name, weight in net.named_parameters():
        weight.requires_grad_(".self_attn." in name)
    if which == "branch":
        for layer in net.model.layers:
            for name in llama.PROJECTIONS:
                reader = name in ("q_proj", "o_proj")
                getattr(layer.self_attn, name).requires_grad_(reader == (layer.kind != llama.FULL))
    return [name for name, weight in net.named_parameters() if weight.requires_grad]
