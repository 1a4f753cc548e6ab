#!/usr/bin/env python3
"""Compares hysparse with llama.cpp on the same weights, the same threads and the same machine, in alternating runs.

    llamacpp.py [--hysparse build/release/bin/hysparse] [--model FOLDER] [--threads N] [--rounds 5] [--type BF16] [--json]

Each round starts both programs one after the other, in changing order; each loads, warms up and measures a prefill of
2,048 tokens, decode at short context (16 tokens) and decode at 2,048 tokens, batch 1. Medians are printed, and the median of
the rounds' ratios. Needs numpy and llama-cpp-python 0.3.36 in the Python that runs this, and a model prepared by
models/get.sh. llama.cpp is called through its C API, without sampling and without HTTP; hysparse through its engine, with
sampling and without HTTP.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFILL, SHORT, DECODE_SHORT, DECODE_LONG = 2048, 16, 128, 64
FIGURES = ("prefill 2048", "decode short", "decode 2k")


def prepared_model():
    cache = os.environ.get("HYSPARSE_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hysparse")
    return os.path.join(cache, "models", "smollm2-135m")


def run_llamacpp(gguf, threads):
    """One measurement of each figure, in tokens a second. Runs in a process of its own."""
    import llama_cpp
    import numpy as np

    model = llama_cpp.Llama(gguf, n_ctx=PREFILL + DECODE_LONG + 64, n_batch=PREFILL, n_threads=threads, n_threads_batch=threads,
                            verbose=False)
    context = model.ctx if hasattr(model, "ctx") else model._ctx.ctx
    rng = np.random.default_rng(0)

    def decode(tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_get_logits(context)  # waits for the result

    def run(prompt, output):
        """(seconds of the prefill, seconds of `output` decodes)"""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = time.perf_counter()
        decode([int(token) for token in rng.integers(100, 40000, prompt)])
        middle = time.perf_counter()
        for token in rng.integers(100, 40000, output):
            decode([int(token)])
        return middle - start, time.perf_counter() - middle

    run(PREFILL, 8)
    _, short = run(SHORT, DECODE_SHORT)
    prefill, long = run(PREFILL, DECODE_LONG)
    return dict(zip(FIGURES, (PREFILL / prefill, DECODE_SHORT / short, DECODE_LONG / long)))


def run_hysparse(binary, folder, threads, dtype):
    done = subprocess.run([binary, "bench", folder, "--runs", "1", "--ceilings", "false", "--threads", str(threads), "--dtype", dtype,
                           "--json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads(done.stdout)
    return dict(zip(FIGURES, (report["prefill"]["2048"]["tokens_per_s"], report["decode"]["1 sequence, short"]["tokens_per_s"],
                              report["decode"]["1 sequence, 2k context"]["tokens_per_s"])))


def compare(args):
    with tempfile.TemporaryDirectory() as folder:
        gguf = os.path.join(folder, f"model-{args.type}.gguf")
        subprocess.run([sys.executable, ROOT / "loadtest" / "peers" / "make_gguf.py", args.model, gguf, "--type", args.type], check=True)
        dtype = {"F32": "float32", "BF16": "bfloat16"}[args.type]

        def llamacpp():
            child = subprocess.run([sys.executable, __file__, "--child", gguf, "--threads", str(args.threads)],
                                   capture_output=True, text=True)
            if child.returncode:
                sys.exit(child.stderr)
            return json.loads(child.stdout)

        contenders = {"hysparse": lambda: run_hysparse(args.hysparse, args.model, args.threads, dtype), "llama.cpp": llamacpp}
        results = {name: [] for name in contenders}
        for round_number in range(args.rounds):
            order = list(contenders)[:: 1 if round_number % 2 == 0 else -1]
            for name in order:
                results[name].append(contenders[name]())
                if sys.stderr.isatty():
                    sys.stderr.write(f"\rround {round_number + 1} of {args.rounds}: {name}   ")
        if sys.stderr.isatty():
            sys.stderr.write("\n")
    report = {}
    for figure in FIGURES:
        report[figure] = {name: statistics.median(run[figure] for run in runs) for name, runs in results.items()}
        report[figure]["ratio"] = statistics.median(
            ours[figure] / theirs[figure] for ours, theirs in zip(results["hysparse"], results["llama.cpp"]))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hysparse", default=str(ROOT / "build" / "release" / "bin" / "hysparse"))
    parser.add_argument("--model", default=prepared_model())
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--type", choices=("BF16", "F32"), default="BF16")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run_llamacpp(args.child, args.threads)))
        return
    report = compare(args)
    if args.json:
        print(json.dumps(report, indent=2))
        return
    print(f"tokens/s, {args.type}, {args.threads} threads, medians of {args.rounds} alternating runs")
    print(f"{'':14}{'hysparse':>10}{'llama.cpp':>11}{'ratio':>8}")
    for figure, speed in report.items():
        print(f"{figure:14}{speed['hysparse']:10.1f}{speed['llama.cpp']:11.1f}{speed['ratio']:7.2f}x")


if __name__ == "__main__":
    main()
