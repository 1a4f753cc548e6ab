#!/usr/bin/env python3
"""Draws what `hysparse simulate --json` wrote: sessions and KV bytes over time, time to first token by class.

    hysparse simulate MODEL --gpu-memory 141GB --workload mixed-day --json > day.json
    loadtest/plot.py day.json [other.json …] -o day.png        one column each

Needs matplotlib.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(column, name, run):
    sessions, memory, first = column
    series = run["series"]
    hours = [at / 3600 for at in series["at_s"]]
    for key in ("running", "waiting", "spilled"):
        sessions.plot(hours, series[key], label=key, linewidth=0.8)
    sessions.set(title=name, ylabel="sessions", xlabel="hours")
    total = run["arena"]["bytes"] / 1e9
    layers = [[value / 1e9 for value in series[key]] for key in ("referenced_bytes", "cached_bytes")]
    memory.stackplot(hours, *layers, labels=["referenced", "cached"])
    memory.axhline(total, color="black", linewidth=0.8, label="arena")
    memory.set(ylabel="KV of a GPU, GB", xlabel="hours")
    shares = ("p50", "p90", "p99", "max")
    for label, of in run["classes"].items():
        for what, figures, style in ((label, of, "o-"), (label + " alone", of.get("alone"), "o:")):
            if figures and figures["ttft_s"]["count"]:
                first.plot(shares, [figures["ttft_s"][share] for share in shares], style, label=what)
    first.set(ylabel="time to first token, s", yscale="log")
    for axes in column:
        axes.legend(fontsize="small")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("simulation.png"))
    options = parser.parse_args()
    figure, axes = plt.subplots(3, len(options.runs), figsize=(7 * len(options.runs), 10), squeeze=False)
    for i, path in enumerate(options.runs):
        draw(axes[:, i], path.stem, json.loads(path.read_text()))
    figure.tight_layout()
    figure.savefig(options.output, dpi=120)


if __name__ == "__main__":
    main()
