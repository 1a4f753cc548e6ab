"""Muon for the weight matrices, AdamW for everything else (embedding, norms, gates, sinks)."""

import torch


def _orthogonal(update):
    """Newton-Schulz iteration towards the nearest (semi-)orthogonal matrices; update [n, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16()
    wide = x if x.shape[1] <= x.shape[2] else x.transpose(1, 2)
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = wide @ wide.transpose(1, 2)
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if x.shape[1] <= x.shape[2] else wide.transpose(1, 2)


class Muon(torch.optim.Optimizer):
    """Momentum, then the orthogonal factor of the update, scaled as an AdamW step would be. Equal shapes go together. What
    never has a gradient does not decay."""

    def __init__(self, weights, lr, decay=0.0, momentum=0.95):
        shapes = {}
        for weight in weights:
            shapes.setdefault(weight.shape, []).append(weight)
        super().__init__([{"params": group} for group in shapes.values()], {"lr": lr, "decay": decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            gradients = torch.stack([weight.grad for weight in group["params"]])
            state = self.state[group["params"][0]]
            mean = state.setdefault("mean", torch.zeros_like(gradients))
            mean.lerp_(gradients, 1 - group["momentum"])
            update = _orthogonal(gradients.lerp(mean, group["momentum"])).float()
            update *= 0.2 * max(update.shape[1:]) ** 0.5
            if group["decay"]:
                update += group["decay"] * torch.stack(group["params"]) * (mean != 0)
            torch._foreach_add_(group["params"], list((update * -group["lr"]).unbind()))


def make(model, lr, decay=0.0):
    """[Muon, AdamW] over the parameters that are trained; only Muon's decay. `lr` may be a tensor on their device, which a
    captured step reads."""
    matrices, rest = [], []
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        gate = "self_attn" in name and "gate" in name
        (matrices if weight.dim() == 2 and "embed" not in name and not gate else rest).append(weight)
    fused = {"fused": True, "capturable": torch.is_tensor(lr)} if rest[0].is_cuda else {}
    return [Muon(matrices, lr, decay), torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.0, **fused)]
