#!/usr/bin/env python3
"""The whole study: study.py FOLDER [--architectures hysparse,swa] [--seeds 2] [--mix kin]

Writes the sequences, trains every architecture on the same ones, one training at a time on each GPU (a single one trains one
after another), measures each, and leaves FOLDER/NAME.SEED.pt, NAME.SEED.jsonl (the curve) and NAME.SEED.json (the
measurements).
"""

import argparse
import concurrent.futures
import itertools
import os
import pathlib
import queue
import subprocess
import sys

import torch

import model
import tasks

HERE = pathlib.Path(__file__).parent


def run(*command, device=None):
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device else {})
    if subprocess.run([sys.executable, *map(str, command)], env=environment).returncode:
        raise RuntimeError(f"{pathlib.Path(command[0]).name} {' '.join(map(str, command[1:]))} failed")


def course(name, seed, mix, folder, devices):
    """One training from start to finish, on a GPU that is free."""
    device, out = devices.get(), folder / f"{name}.{seed}.pt"
    try:
        run(HERE / "train.py", name, folder / "data", out, "--seed", seed, device=device)
        run(HERE / "evaluate.py", name, out, out.with_suffix(".json"), "--mix", mix, device=device)
    finally:
        devices.put(device)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--architectures", default=",".join(model.ARCHITECTURES))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument("--mix", choices=tasks.MIXES, default="main", help="of tasks")
    arguments = parser.parse_args()
    names, devices = arguments.architectures.split(","), queue.SimpleQueue()
    unknown = [name for name in names if name not in model.ARCHITECTURES]
    if unknown:
        sys.exit(f"study.py: no architecture {unknown[0]!r}; there are {', '.join(model.ARCHITECTURES)}")
    for device in range(torch.cuda.device_count()) if torch.cuda.is_available() else [""]:
        devices.put(str(device))
    try:
        run(HERE / "prepare.py", arguments.folder / "data", "--scale", arguments.scale, "--mix", arguments.mix)
        with concurrent.futures.ThreadPoolExecutor(devices.qsize()) as pool:
            jobs = itertools.product(names, range(arguments.seeds))
            list(pool.map(lambda job: course(*job, arguments.mix, arguments.folder, devices), jobs))
    except RuntimeError as error:
        sys.exit(f"study.py: {error}")


if __name__ == "__main__":
    main()
