#!/usr/bin/env python3
"""A student as 8-bit differences from its base, and the base with them as a model folder:

    export.py deltas BASE student.safetensors OUT.safetensors
    export.py merge BASE OUT.safetensors FOLDER                 FOLDER for `hysparse serve`

OUT holds int8 differences with a scale per row, gates and sinks in BF16, config.json, the hashes of the base and of the result.
merge computes in the base's own numbers (NumPy, BF16 result), checks both hashes, and FOLDER appears by a rename when it is
complete.
"""

import argparse
import json
import os
import pathlib
import shutil

import numpy as np

import llama

WEIGHTS = "model.safetensors"
SCALE = ".scale"


def quantized(delta):
    """(int8 [rows, columns], float32 scale [rows]) of a float32 difference."""
    scale = np.abs(delta).max(1) / np.float32(127)
    return np.rint(delta / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8), scale


def merged_entries(tensors, names, deltas):
    """Entries of write_safetensors for base + deltas, in name order."""
    def one(name):
        if name not in deltas:
            return tensors[name]
        if name not in tensors:
            return deltas[name]
        return tensors[name] + deltas[name].astype(np.float32) * deltas[name + SCALE][:, None]

    everything = sorted({*names, *(name for name in deltas.names() if not name.endswith(SCALE))})
    shapes = [(deltas if name in deltas else tensors).shape(name) for name in everything]
    return [(name, "BF16", shape, lambda name=name: one(name)) for name, shape in zip(everything, shapes)]


def open_base(folder):
    config = llama.base_config(folder)
    return llama.base_tensors(folder, config)


def base_hashes(folder):
    return {path.name: llama.sha256(path) for path in llama.base_files(folder)}


def delta_entries(tensors, names, trained):
    """What the student has over the base: nothing where a matrix is as it was."""
    entries = []
    for name in trained.names():
        if name not in names:
            entries.append((name, "BF16", trained.shape(name), lambda name=name: trained[name]))
            continue
        if trained.shape(name) != tensors.shape(name):
            raise llama.Refused(f"tensor {name} has shape {list(trained.shape(name))} in the student and "
                                f"{list(tensors.shape(name))} in the base: is it another base's student?")
        delta = trained[name] - tensors[name]
        if not np.isfinite(delta).all():
            raise llama.Refused(f"the student's {name} is not finite")
        if delta.any():
            integers, scale = quantized(delta)
            entries.append((name, "I8", integers.shape, lambda integers=integers: integers))
            entries.append((name + SCALE, "F32", scale.shape, lambda scale=scale: scale))
    return entries


def deltas(base, student, out):
    tensors, names = open_base(base)
    trained = llama.Tensors([student])
    if "config" not in trained.metadata:
        raise llama.Refused(f"{student} is not what train.py writes: it carries no config")
    metadata = {"config": trained.metadata["config"], "base_sha256": json.dumps(base_hashes(base))}
    entries = delta_entries(tensors, names, trained)
    partial, result = (out.with_name(f".{out.name}.partial-{kind}-{os.getpid()}") for kind in ("deltas", "merged"))
    try:
        llama.write_safetensors(partial, entries, metadata)
        llama.write_safetensors(result, merged_entries(tensors, names, llama.Tensors([partial])), {})
        llama.write_safetensors(partial, entries, {**metadata, "result_sha256": llama.sha256(result)})
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
        result.unlink(missing_ok=True)


def merge(base, source, folder):
    if folder.exists():
        raise llama.Refused(f"{folder} exists; remove it to make it again")
    tensors, names = open_base(base)
    changes = llama.Tensors([source])
    if "result_sha256" not in changes.metadata:
        raise llama.Refused(f"{source} is not what `export.py deltas` writes")
    for name, digest in json.loads(changes.metadata["base_sha256"]).items():
        if not (base / name).exists() or llama.sha256(base / name) != digest:
            raise llama.Refused(f"{base / name} is not the base that {source} was made from (sha256 {digest}): get that one")
    for stale in folder.parent.glob(f".{folder.name}.partial-*"):
        shutil.rmtree(stale)  # of a run that was killed
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        for name in llama.TOKENIZER_FILES:
            if (base / name).exists():
                shutil.copy(base / name, partial / name)
        (partial / "config.json").write_text(json.dumps(json.loads(changes.metadata["config"]), indent=1) + "\n")
        llama.write_safetensors(partial / WEIGHTS, merged_entries(tensors, names, changes), {})
        if llama.sha256(partial / WEIGHTS) != changes.metadata["result_sha256"]:
            raise llama.Refused(f"{source} merged with {base} does not give sha256 {changes.metadata['result_sha256']}: "
                                f"{source} is damaged, get it again")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["deltas", "merge"])
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    with llama.one_line("export.py"):
        (deltas if arguments.command == "deltas" else merge)(arguments.base, arguments.source, arguments.out)


if __name__ == "__main__":
    main()
