"""Runs the engine's forward pass (hysparse_forward) for the suites of this folder. Needs NumPy only."""

import json
import os
import pathlib
import subprocess

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD", ROOT / "build" / "release"))
CACHE = pathlib.Path(
    os.environ.get("HYSPARSE_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hysparse"
)


def prepared(name):
    """The folder of a model that models/get.sh has prepared."""
    folder = CACHE / "models" / name
    assert (folder / "config.json").exists(), f"{folder} is missing: run models/get.sh {name}"
    return folder


class Result:
    """What the engine computed for one job: logprobs [T, V], or [T - 1] of an "observed" job, in float32, and the choices
    {kind: {layer: ids}}."""

    def __init__(self, job):
        values = np.fromfile(job["out"] + ".f32", np.float32)
        self.logprobs = values if job.get("observed") else values.reshape(len(job["tokens"]), -1)
        self.choices = json.loads(pathlib.Path(job["out"] + ".json").read_text())


def run(jobs, folder, isa=None):
    """The results of `jobs` (dicts as forward_main.cc describes, without "out"), in order."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [dict(job, out=str(folder / f"job{i}")) for i, job in enumerate(jobs)]
    path = folder / "jobs.json"
    # Models are loaded one at a time: jobs of one model lie together.
    path.write_text(json.dumps(sorted(jobs, key=lambda job: (str(job["folder"]), job.get("dtype", ""))), default=str))
    env = dict(os.environ, **({"HYSPARSE_MAX_ISA": isa} if isa else {}))
    done = subprocess.run([BUILD / "tests" / "hysparse_forward", path], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [Result(job) for job in jobs]


def cpu_isas():
    """The instruction sets to try: the machine's best one, and those below it that it has."""
    flags = set(pathlib.Path("/proc/cpuinfo").read_text().split("flags")[1].split("\n")[0].split())
    below = [name for name, flag in (("avx2", "avx2"), ("avx512", "avx512bw"), ("avx512_bf16", "avx512_bf16")) if flag in flags]
    return [None] + below
