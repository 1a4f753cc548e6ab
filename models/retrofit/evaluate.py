#!/usr/bin/env python3
"""Measures merged students against their base on held-out documents:

    evaluate.py BASE DATA OUT.json STUDENT [--swa FOLDER] [--windows N]

BASE, STUDENT and the hybrid-SWA control are model folders, as export.py merges them; everything is computed in FP32. Rows:
the student, the same with random blocks, the same with its sparse gate shut, hybrid SWA. Per range of positions: the
perplexity ratio to the base, exp(mean NLL − mean NLL of the base), and how often both have the same top token; then the
answers of far.py's tasks, and what random blocks and the shut gate cost. All with 95 % intervals over documents, drawn in
pairs.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

import llama
import student
from compare import by_range, compare, interval, windows
from student import attention


@torch.no_grad()
def scores(net, rows, device):
    """(NLL, top token) of every next token: [n, S-1] each."""
    nll, top = [], []
    for row in rows:
        tokens = torch.from_numpy(row.astype(np.int64))[None].to(device)
        hidden = net(tokens)[0, :-1]
        for part, target in zip(hidden.split(1024), tokens[0, 1:].split(1024)):
            logprob = net.logits(part).float().log_softmax(-1)
            nll.append(-logprob.gather(1, target[:, None])[:, 0].cpu().numpy())
            top.append(logprob.argmax(-1).cpu().numpy())
    return [np.concatenate(parts).reshape(len(rows), -1) for parts in (nll, top)]


def far_answers(ours, theirs, data, kinds):
    """Per kind of task: the share of answer tokens foretold, and the ratio to the base on them."""
    target, answer, found = data["far"][:, 1:], data["answer"][:, 1:], {}
    for index, kind in enumerate(kinds):
        rows = slice(index, None, len(kinds))
        hits = ((ours[1][rows] == target[rows]) * answer[rows]).sum(1)
        found[kind] = {"right": interval(hits, answer[rows].sum(1)),
                       **compare([part[rows] for part in ours], [part[rows] for part in theirs], answer[rows])}
    return found


def load(folder, device):
    config = llama.read_json(folder / "config.json")
    if config.get("model_type") != "hysparse":
        raise llama.Refused(f"{folder / 'config.json'}: model_type is {config.get('model_type')!r}, not hysparse: merge it first")
    net = student.Student(config, student.fading(attention.Dense))
    tensors = llama.Tensors(llama.base_files(folder))
    missing = net.load(tensors, tensors.names(), folder)
    if missing:
        raise llama.Refused(f"{folder}: tensor {missing[0]} is missing")
    return net.to(device).eval()


def rows_to_measure(arguments, device):
    """(name, net) one at a time; the base first."""
    base = llama.base_config(arguments.base)
    yield "base", student.teacher(base, *llama.base_tensors(arguments.base, base), device)
    net = load(arguments.student, device)
    yield "student", net
    if llama.SPARSE in net.c.pattern:
        net.random_blocks()
        yield "random blocks", net
        net.random_blocks(False)
        net.ops.shut = True
        yield "sparse gate off", net
    if arguments.swa:
        yield "hybrid SWA", load(arguments.swa, device)


def measure(arguments, device):
    data, kinds = np.load(arguments.data / "heldout.npz"), llama.read_json(arguments.data / "meta.json")["far_kinds"]
    text, measured, result = windows(data["text"], arguments.windows), {}, {}
    far_data = {key: data[key][: arguments.windows * len(kinds)] for key in ("far", "answer")}
    for name, net in rows_to_measure(arguments, device):
        torch.manual_seed(0)
        measured[name] = scores(net, text, device), scores(net, far_data["far"], device)
        result[name] = {"perplexity": {key: entry["ratio"][0] for key, entry in
                                       by_range(measured[name][0], [np.zeros_like(part) for part in measured[name][0]]).items()},
                        "far": far_answers(measured[name][1], measured["base"][1], far_data, kinds)}
        if name != "base":
            result[name]["to base"] = by_range(measured[name][0], measured["base"][0])
        if name not in ("base", "student"):
            result[name]["to student"] = by_range(measured[name][0], measured["student"][0])
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result[name].get("to base", {}).get("1-8k")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("student", type=pathlib.Path)
    parser.add_argument("--swa", type=pathlib.Path, help="the hybrid-SWA control of the same budget")
    parser.add_argument("--windows", type=int, default=40, help="of held-out text, and of tasks of a kind, at most")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    with llama.one_line("evaluate.py"):
        measure(arguments, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
