#!/usr/bin/env python3
"""The whole study on one GPU: study.py FOLDER. Writes the sequences, trains all architectures side by side on the same ones,
measures each, and leaves FOLDER/NAME.pt, NAME.jsonl (the curve) and NAME.json (the measurements).
"""

import argparse
import pathlib
import subprocess
import sys

import model

HERE = pathlib.Path(__file__).parent


def run(*command):
    return subprocess.Popen([sys.executable, *map(str, command)])


def finished(processes):
    """Ends with one line if any of {name: process} failed."""
    failed = [name for name, process in processes.items() if process.wait() != 0]
    if failed:
        sys.exit(f"study.py: {', '.join(failed)} failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for training, at most")
    arguments = parser.parse_args()
    folder = arguments.folder
    finished({"prepare": run(HERE / "prepare.py", folder, "--scale", arguments.scale)})
    finished({name: run(HERE / "train.py", name, folder, folder / f"{name}.pt", "--seconds", arguments.seconds)
              for name in model.ARCHITECTURES})
    finished({name: run(HERE / "evaluate.py", name, folder / f"{name}.pt", folder / f"{name}.json")
              for name in model.ARCHITECTURES})


if __name__ == "__main__":
    main()
