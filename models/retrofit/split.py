#!/usr/bin/env python3
"""Moves a file that is too big for one transfer in pieces, and back:

    split.py split FILE FOLDER --megabytes 48     FOLDER/NAME.000, NAME.001, … and NAME.json (hashes of all)
    split.py join FOLDER/NAME.json OUT            checks every piece and the whole
"""

import argparse
import hashlib
import json
import os
import pathlib

import llama


def split(source, folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    pieces = {}
    with open(source, "rb") as file:
        while piece := file.read(size):
            name = f"{source.name}.{len(pieces):03d}"
            (folder / name).write_bytes(piece)
            pieces[name] = hashlib.sha256(piece).hexdigest()
    # Last, so that a folder with this file is complete.
    (folder / f"{source.name}.json").write_text(json.dumps({"sha256": llama.sha256(source), "pieces": pieces}, indent=1) + "\n")


def join(listing, out):
    whole = llama.read_json(listing)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            for name, digest in whole["pieces"].items():
                piece = (listing.parent / name).read_bytes()
                if hashlib.sha256(piece).hexdigest() != digest:
                    raise llama.Refused(f"{listing.parent / name} does not match {listing}: move it again")
                file.write(piece)
        if llama.sha256(partial) != whole["sha256"]:
            raise llama.Refused(f"the pieces of {listing} do not make the whole: split it again")
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    splitter = commands.add_parser("split")
    splitter.add_argument("source", type=pathlib.Path)
    splitter.add_argument("folder", type=pathlib.Path)
    splitter.add_argument("--megabytes", type=int, default=48)
    joiner = commands.add_parser("join")
    joiner.add_argument("listing", type=pathlib.Path)
    joiner.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    with llama.one_line("split.py"):
        if arguments.command == "split":
            split(arguments.source, arguments.folder, arguments.megabytes << 20)
        else:
            join(arguments.listing, arguments.out)


if __name__ == "__main__":
    main()
