#!/usr/bin/env python3
"""Distils a base into a student on one GPU: train.py BASE DATA OUT --full-layers 0,3,7,14,18,24 [options]

The loss is the KL divergence to the base at every token. A second call with the same options goes on from OUT/state.pt, so that
one training may take several short leases. OUT/curve.jsonl is the curve; when the training is over (the tokens are seen or
the budget of seconds is used, whichever is first) OUT/student.safetensors holds what was trained, for export.py.
"""

import argparse
import concurrent.futures
import json
import lzma
import os
import pathlib
import sys
import time

import numpy as np
import torch
import torch._dynamo

import llama
import student
from student import attention, model

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "mini"))
import optimizer  # noqa: E402

WARM_UP, DECAY = 0.02, 0.5  # shares of the training
LOG_EVERY, SAVE_SECONDS = 10, 120
KL_ROWS = 4096  # tokens whose logits exist at a time


def load_rows(folder, length):
    """[rows, length] token ids of every shard that prepare.py wrote; documents go on from row to row."""
    meta = llama.read_json(folder / "meta.json")

    def read(item):
        name, entry = item
        content = (folder / name).read_bytes()
        if llama.sha256(folder / name) != entry["sha256"]:
            raise llama.Refused(f"{folder / name} does not match {folder / 'meta.json'}: move it again")
        return np.frombuffer(lzma.decompress(content), np.uint16).reshape(entry["rows"], meta["length"])

    with concurrent.futures.ThreadPoolExecutor() as pool:
        rows = np.concatenate(list(pool.map(read, meta["shards"].items())))
    if max(length, meta["length"]) % min(length, meta["length"]):
        raise llama.Refused(f"--length {length} and the data's rows of {meta['length']} do not divide each other")
    return rows.reshape(-1)[: rows.size // length * length].reshape(-1, length)


def batch(rows, step, size):
    """The `step`-th batch: every epoch in another order, none depending on where a training was cut."""
    per_epoch = len(rows) // size
    order = np.random.default_rng([step // per_epoch]).permutation(len(rows))
    return torch.from_numpy(rows[order[step % per_epoch * size :][:size]].astype(np.int64))


def kl_part(hidden, taught, head):
    """(sum over rows of KL(teacher ‖ student), its gradient to hidden): hidden, taught [R,H], head [V,H] of one dtype."""
    ours = (hidden @ head.T).float().log_softmax(-1)
    theirs = (taught @ head.T).float().log_softmax(-1)
    p = theirs.exp()
    return (p * (theirs - ours)).sum(), (ours.exp() - p).to(head.dtype) @ head


class Kl(torch.autograd.Function):
    """Mean KL over rows, without ever holding the logits of all."""

    part = staticmethod(kl_part)

    @staticmethod
    def forward(ctx, hidden, taught, head):
        grad, total = torch.empty_like(hidden), hidden.new_zeros((), dtype=torch.float32)
        for first in range(0, len(hidden), KL_ROWS):
            rows = slice(first, first + KL_ROWS)
            loss, grad[rows] = Kl.part(hidden[rows].to(head.dtype), taught[rows].to(head.dtype), head)
            total += loss
        ctx.save_for_backward(grad / len(hidden))
        return total / len(hidden)

    @staticmethod
    def backward(ctx, upstream):
        return ctx.saved_tensors[0] * upstream, None, None


def rate(done):
    """Of the peak, at a share of the training: warm up, stay, fall to zero in a straight line."""
    return min(1.0, done / WARM_UP, max(0.0, 1 - done) / DECAY)


class Training:
    """The nets, the optimizers, the step and the seconds spent: what state.pt keeps."""

    def __init__(self, arguments, device):
        self.arguments, self.device, self.step, self.spent = arguments, device, 0, 0.0
        base = llama.base_config(arguments.base)
        full = llama.full_layers(arguments.full_layers, base["num_hidden_layers"])
        others = llama.SWA if arguments.others == "swa" else llama.SPARSE
        self.config = llama.student_config(base, full, others, arguments.window, arguments.block, arguments.top)
        tensors, names = llama.base_tensors(arguments.base, base)
        self.rows = load_rows(arguments.data, arguments.length)
        self.teacher = student.teacher(base, tensors, names, device)
        self.net = student.Student(self.config, student.fading(attention.Fused if device.type == "cuda" else attention.Dense))
        self.net.load(tensors, names, arguments.base)
        self.net.to(device)
        sample = torch.from_numpy(self.rows[:1].astype(np.int64)).to(device)
        student.start(self.net, student.calibrate(self.teacher, sample, arguments.window), arguments.window_gate,
                      arguments.sparse_gate, arguments.sink_share)
        if arguments.start:
            earlier = llama.Tensors([arguments.start])
            self.net.load(earlier, earlier.names(), arguments.start)
        self.net.random_blocks(arguments.blocks == "random")
        self.trained = student.choose_trained(self.net, arguments.train)
        self.optimizers = optimizer.make(self.net, arguments.lr)
        self.head = self.net.head.detach().to(torch.bfloat16 if device.type == "cuda" else torch.float32)
        kept = ("full_layers", "others", "blocks", "train", "window", "block", "top", "anneal", "lr", "length", "batch")
        self.settings = {key: getattr(arguments, key) for key in kept}

    def _weights(self):
        return {name: weight for name, weight in self.net.named_parameters() if weight.requires_grad}

    def save(self, path):
        partial = path.with_suffix(".partial")
        torch.save({"settings": self.settings, "step": self.step, "spent": self.spent,
                    "weights": {name: weight.detach() for name, weight in self._weights().items()},
                    "optimizers": [each.state_dict() for each in self.optimizers]}, partial)
        os.replace(partial, path)

    def resume(self, path):
        state = torch.load(path, map_location=self.device)
        for key, value in self.settings.items():
            if state["settings"][key] != value:
                raise llama.Refused(f"{path} was made with --{key.replace('_', '-')} {state['settings'][key]}, not {value}: "
                                    "give the same options, or another OUT")
        with torch.no_grad():
            for name, weight in self._weights().items():
                weight.copy_(state["weights"][name])
        for each, kept in zip(self.optimizers, state["optimizers"]):
            each.load_state_dict(kept)
        self.step, self.spent = state["step"], state["spent"]

    def write_student(self, path):
        weights = {name: weight.detach().float().cpu().numpy() for name, weight in sorted(self._weights().items())}
        entries = [(name, "F32", array.shape, lambda array=array: array) for name, array in weights.items()]
        partial = path.with_suffix(".partial")
        llama.write_safetensors(partial, entries, {"config": json.dumps(self.config), "settings": json.dumps(self.settings)})
        os.replace(partial, path)

    def learn(self, done):
        """One step; the mean loss before it."""
        arguments, total = self.arguments, torch.zeros((), device=self.device)
        self.net.ops.share = min(1.0, done / arguments.anneal) if arguments.anneal else 1.0
        for each in self.optimizers:
            for group in each.param_groups:
                group["lr"] = arguments.lr * rate(done)
        tokens = batch(self.rows, self.step, arguments.batch).to(self.device, non_blocking=True)
        for part in tokens.split(arguments.micro):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                with torch.no_grad():
                    taught = self.teacher(part)
                hidden = self.net(part)
            loss = Kl.apply(hidden.flatten(0, 1), taught.flatten(0, 1), self.head) * len(part) / len(tokens)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self._weights().values(), 1.0)
        for each in self.optimizers:
            each.step()
        self.net.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def run(self, log, state):
        """Learns until the training is over (True) or this piece's time is (False)."""
        began, before, saved = time.time(), self.spent, time.time()
        per_step = self.arguments.batch * self.arguments.length
        while True:
            self.spent = before + time.time() - began
            done = max((self.step + 1) * per_step / (self.arguments.tokens + per_step), self.spent / self.arguments.budget)
            if done >= 1 or time.time() - began > self.arguments.seconds:
                return done >= 1
            loss = self.learn(done)
            if (self.step - 1) % LOG_EVERY == 0:
                log.write(json.dumps({
                    "step": self.step, "tokens": self.step * per_step, "seconds": round(self.spent, 1),
                    "kl": round(loss.item(), 5), "share": round(self.net.ops.share, 3),
                    "gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1)}) + "\n")
                log.flush()
            if time.time() - saved > SAVE_SECONDS:
                self.save(state)
                saved = time.time()


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--full-layers", required=True, help="like 0,3,7,14,18,24")
    parser.add_argument("--others", choices=["sparse", "swa"], default="sparse", help="what the other layers become")
    parser.add_argument("--blocks", choices=["best", "random"], default="best", help="random: a control")
    parser.add_argument("--train", choices=["all", "branch"], default="all",
                        help="all attention weights; or k, v of the full layers and q, o of the others")
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--top", type=int, default=16, help="blocks that a sparse layer reads")
    parser.add_argument("--window-gate", type=float, default=4.0, help="gates start at the sigmoid of this")
    parser.add_argument("--sparse-gate", type=float, default=0.0)
    parser.add_argument("--sink-share", type=float, default=0.3, help="of the mass that is out of sight; sinks start there")
    parser.add_argument("--anneal", type=float, default=0.4, help="share of the training over which the sparse branch's own "
                        "K, V fade into the oracle's; 0: the oracle's from the start")
    parser.add_argument("--start", type=pathlib.Path, help="student.safetensors of an earlier training")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=8, help="sequences a step")
    parser.add_argument("--micro", type=int, default=8, help="sequences at a time; less takes less memory")
    parser.add_argument("--tokens", type=float, default=100e6, help="of the whole training")
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds of the whole training, over all pieces")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop and save after so many, to go on later")
    return parser.parse_args()


def compile_parts():
    torch._dynamo.config.recompile_limit = 64
    for part in ("project", "finish"):
        setattr(model.Layer, part, torch.compile(getattr(model.Layer, part), dynamic=False))
    Kl.part = staticmethod(torch.compile(kl_part, dynamic=False))


def main():
    arguments = options()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with llama.one_line("train.py"):
        training = Training(arguments, device)
        state = arguments.out / "state.pt"
        if state.exists():
            training.resume(state)
        if device.type == "cuda":
            compile_parts()
        with open(arguments.out / "curve.jsonl", "a") as log:
            over = training.run(log, state)
        training.save(state)
        if over:
            training.write_student(arguments.out / "student.safetensors")
        print(f"{training.step} steps, {training.spent:.0f} s: " + ("over" if over else "call again to go on"))


if __name__ == "__main__":
    main()
