#!/usr/bin/env python3
"""Prints the tables of docs/simulator.md: runs `hysparse simulate` on the paper's configs, in virtual time.

    loadtest/figures.py [--binary build/release/bin/hysparse] [--jobs 2] [--only sessions mixed-day …]

Needs numpy (tests/requirements.txt). All tables take about 20 minutes of a core. --only sessions: seconds.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import hysparse_reference as reference  # noqa: E402

# As in the paper: hybrid SWA keeps 10 of 36 layers and 9 of 49.
SWA = {"paper-7b": [0 if l % 4 == 0 or l == 35 else 1 for l in range(36)],
       "paper-80b": [0 if l % 6 == 0 else 1 for l in range(49)]}
MODELS = [name + kind for name in SWA for kind in ("", "-full", "-swa")]
MILLION = "duration: 3600\nclasses: [{name: session, prompt: 1048064, output: 512}]\n" \
          "arrivals: [{at: 0, class: session, count: 30}]\n"


class Runs:
    def __init__(self, binary, folder, jobs):
        self.binary, self.folder, self.pool = binary, folder, concurrent.futures.ThreadPoolExecutor(jobs)
        self.started = {}
        for name, swa in SWA.items():
            reference.make(folder / name, name, 0, weights=False)
            config = json.loads((folder / name / "config.json").read_text())
            for kind, pattern in (("-full", [0] * len(swa)), ("-swa", swa)):
                (folder / (name + kind)).mkdir()
                (folder / (name + kind) / "config.json").write_text(json.dumps({**config, "hybrid_layer_pattern": pattern}))
        (folder / "million.yaml").write_text(MILLION)

    def start(self, model, *flags):
        """A future of the report; the same run is started once."""
        parallel = ["--tensor-parallel-size", "2"] if "80b" in model else []
        command = [self.binary, "simulate", model, "--gpu-memory", "141GB", *parallel, "--json", "--workload", *flags]
        if (key := tuple(command)) not in self.started:
            self.started[key] = self.pool.submit(self.run, command)
        return self.started[key]

    def run(self, command):
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
        return json.loads(done.stdout)


def table(title, head, rows):
    """Prints a table whose cells are strings or functions, called once all runs are on their way."""
    rows = list(rows)
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print("| " + " | ".join(cell() if callable(cell) else cell for cell in row) + " |", flush=True)


def sessions(runs):
    def cell(model, flags):
        own, full = runs.start(model, flags), runs.start("-".join(model.split("-")[:2]) + "-full", flags)

        def count():
            most, of_full = (run.result()["most_running"] for run in (own, full))
            return f"{most} ({most / of_full:.1f}x)" if of_full else f"{most}"

        return count

    rows = [[model, cell(model, "long"), cell(model, "million.yaml")] for model in MODELS]
    table("Sessions at once (`--workload long`: 131,072 tokens; a workload of 1,048,576), times full attention's",
          ["model", "131,072 tokens", "1 M tokens"], rows)


def mixed_day(runs):
    def row(model, *flags):
        run = runs.start(model, "mixed-day", "--alone", *flags)

        def chats():
            chat = run.result()["classes"]["chat"]
            day, alone = (1e3 * of["ttft_s"]["p99"] for of in (chat, chat["alone"]))
            return f"{day:.0f} - {alone:.0f} = {day - alone:+.1f} ms"

        def prefill():
            long = run.result()["classes"]["long"]
            day, alone = (of["first_turn_prefill_s"]["mean"] for of in (long, long["alone"]))
            return f"{day:.2f} / {alone:.2f} s = {day / alone:.2f}x"

        return [" ".join([model, *flags]), lambda: f"{run.result()['capacity_sessions_per_s']:.2f}", chats, prefill,
                lambda: f"{run.result()['longest_step_s'] * 1e3:.0f} ms"]

    rows = [row("paper-80b"), row("paper-80b", "--no-depth-budget"), row("paper-80b-swa"), row("paper-80b-full")]
    table("A mixed day at 60 % of capacity (`--workload mixed-day --alone`)",
          ["model", "capacity, sessions/s", "p99 TTFT of chats, less alone", "mean prefill of 200,000, against alone",
           "longest step"], rows)


def overload(runs):
    def ratio(model, seconds, seed):
        once, ten = (runs.start(model, "overload", "--duration", seconds, "--seed", seed, "--load", load) for load in ("1", "10"))
        return lambda: ten.result()["output_tokens_per_s"] / once.result()["output_tokens_per_s"]

    def row(model):
        minutes, longer = [ratio(model, "60", seed) for seed in "123"], ratio(model, "600", "1")

        def minute():
            shares = [each() for each in minutes]
            return f"{statistics.mean(shares):.1%} ({min(shares):.1%} … {max(shares):.1%})"

        return [model, minute, lambda: f"{longer():.1%}"]

    table("Answer tokens a second at 10 times the capacity, of those at 1 (`--workload overload --load 10`, `1`)",
          ["model", "60 s, seeds 1 to 3: mean (least … most)", "600 s"], [row(model) for model in MODELS])


def pressure(runs):
    def row(model, *flags):
        run = runs.start(model, "pressure", *flags)

        def of_answers(what, share):
            return run.result()["classes"]["writer"][what][share]

        return [" ".join([model, *flags]), lambda: f"{run.result()['output_tokens_per_s']:.0f}",
                lambda: f"{run.result()['spills']} + {run.result()['recomputes']}",
                lambda: f"{of_answers('preemptions', 'max'):.0f}", lambda: f"{of_answers('stall_s', 'p99'):.1f} s"]

    settings = [("--kv-host-memory", "256GB"), (), ("--output-reserve", "16384")]
    table("Answers of up to 16,384 tokens, a reserve of 512 or of all of it (`--workload pressure`)",
          ["model", "answer tokens/s", "spills + recomputes", "most of one answer", "p99 of longest wait between tokens"],
          [row(model, *flags) for model in MODELS for flags in settings])


def usable(runs):
    def cell(model, preset, *flags):
        run = runs.start(model, preset, *flags)
        return lambda: " / ".join(f"{100 * run.result()['arena'][what + '_usable_share']:.2f}" for what in ("least", "mean"))

    presets = [("chat",), ("long",), ("mixed-day", "--duration", "14400"), ("overload",), ("pressure", "--kv-host-memory", "256GB")]
    table("Usable share of the arena, %: least / mean over all plans", ["model", *(" ".join(flags) for flags in presets)],
          [[model, *(cell(model, *flags) for flags in presets)] for model in MODELS])


TABLES = {"sessions": sessions, "mixed-day": mixed_day, "overload": overload, "pressure": pressure, "usable": usable}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build" / "release" / "bin" / "hysparse")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(options.binary.resolve(), pathlib.Path(folder), options.jobs)
        for name in options.only:
            TABLES[name](runs)


if __name__ == "__main__":
    main()
