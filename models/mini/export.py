#!/usr/bin/env python3
"""Writes a Hugging Face folder of BF16 weights: export.py ARCHITECTURE WEIGHTS.pt FOLDER

FOLDER must not exist: it is written beside itself and renamed at the end.
"""

import argparse
import json
import os
import pathlib
import shutil
import struct
import sys

import torch

import model
import vocabulary


def bf16_file(tensors):
    """The bytes of a safetensors file, tensors in name order."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        blobs.append(tensors[name].bfloat16().contiguous().view(torch.int16).numpy().tobytes())
        span = [offset, offset + len(blobs[-1])]
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": span}
        offset = span[1]
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(blobs)


def files(config, tensors):
    definition, settings = vocabulary.tokenizer()
    special = {"bos_token_id": vocabulary.BEGIN, "eos_token_id": vocabulary.ID[";"]}
    documents = {"config.json": config.hugging_face(), "generation_config.json": special, "tokenizer.json": definition,
                 "tokenizer_config.json": settings}
    texts = {name: (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode() for name, document in documents.items()}
    return {**texts, "model.safetensors": bf16_file(tensors)}


def check(architecture, path):
    """(config, tensors) of a training's result; what does not fit ends in one line."""
    config = model.Config(*model.ARCHITECTURES[architecture])
    if config.variant:
        raise ValueError(f"{architecture} exists in the study only: no config.json describes it")
    tensors = torch.load(path, map_location="cpu")
    for name, weight in model.Model(config).state_dict().items():
        if name not in tensors or tensors[name].shape != weight.shape:
            raise ValueError(f"{path} is no {architecture}: {name} is missing or has another shape")
        if not tensors[name].isfinite().all():
            raise ValueError(f"{path}: {name} is not finite")
    return config, tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architecture", choices=model.ARCHITECTURES)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"export.py: {arguments.folder} exists; remove it to make it again")
    partial = arguments.folder.with_name(f".{arguments.folder.name}.partial-{os.getpid()}")
    try:
        config, tensors = check(arguments.architecture, arguments.weights)
        contents = files(config, tensors)
        partial.mkdir(parents=True)
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        partial.rename(arguments.folder)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"export.py: {str(error).splitlines()[0]}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main()
