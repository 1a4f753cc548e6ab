#!/usr/bin/env python3
"""Makes what training and measuring read, without a GPU: prepare.py BASE DEBS OUT [--tokens 60e6] [--written FILE.jsonl]

DEBS holds the .deb files of packages.json: cd DEBS && apt-get download $(python3 prepare.py --names)
OUT/train.NNN.u16.xz are rows of 4,096 token ids (documents, what write.py wrote, and far.py's tasks), OUT/heldout.npz what is
never trained on, OUT/meta.json names all of it: packages and versions, the held-out documents, tokens, hashes.
"""

import argparse
import hashlib
import json
import lzma
import multiprocessing
import pathlib

import numpy as np
import tokenizers

import far
import llama
import texts

HERE = pathlib.Path(__file__).parent
LENGTH = 4096
FAR_SHARE = 0.12  # of the rows
PACKAGE_SHARE = 0.04  # of the tokens, at most from one package
HELD_OUT_LENGTH, HELD_OUT_WINDOWS, HELD_OUT_FAR = 8192, 20, 24  # windows of unseen and of seen packages; tasks of a kind
HELD_OUT_OF = 60  # one document in so many of a trained package is held out
SHARD_ROWS = 2048
SEED = 11


def _hash(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _read(job):
    """{path: text} of a package, in an order that its names decide, up to `limit` characters."""
    path, limit = job
    found, total = {}, 0
    for name, text in sorted(texts.documents(path), key=lambda item: _hash(item[0])):
        if total < limit:
            found[name] = text
            total += len(text)
    return found


def packages(folder, listing, pool, limit):
    """({package: {path: text}}, {package: version}) of all that `listing` names."""
    files = {path.name.split("_")[0]: path for path in sorted(folder.glob("*.deb"))}
    wanted = [name for names in listing.values() for name in names]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise llama.Refused(f"{folder} lacks {len(missing)} packages ({', '.join(missing[:3])} …): "
                            f"cd {folder} && apt-get download {' '.join(missing[:3])} …")
    read = pool.imap(_read, [(files[name], limit) for name in wanted])
    versions = {name: files[name].name.split("_")[1].replace("%3a", ":") for name in wanted}
    return dict(zip(wanted, read)), versions


def divide(read, listing):
    """({(package, path): text} held out, the same to train on): no line of the former is in the latter."""
    unseen, held, train = texts.Unseen(), {}, {}
    kept_back = {(package, path) for package in read for path in read[package]
                 if package in listing["held_out"] or _hash(f"{package}/{path}") % HELD_OUT_OF == 0}
    for into, wanted in ((held, True), (train, False)):
        for package in read:
            for path, text in read[package].items():
                if ((package, path) in kept_back) == wanted and (text := unseen(text)):
                    into[package, path] = text
    return held, train


class Encoder:
    def __init__(self, base, separator):
        self._tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
        self.separator = self._tokenizer.token_to_id(separator)
        if self.separator is None:
            raise llama.Refused(f"--separator {separator!r} is no token of {base / 'tokenizer.json'}")

    def one(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def all(self, documents):
        """{key: ids uint16}"""
        encoded = {}
        keys = list(documents)
        for first in range(0, len(keys), 64):
            some = keys[first : first + 64]
            batch = self._tokenizer.encode_batch_fast([documents[key] for key in some], add_special_tokens=False)
            encoded |= {key: np.array(result.ids, np.uint16) for key, result in zip(some, batch)}
        return encoded


def written(path, base):
    """The teacher's own conversations, as its chat template renders them."""
    import jinja2  # only where there are any
    template = jinja2.Environment().from_string(llama.read_json(base / "tokenizer_config.json")["chat_template"])
    found = {}
    for number, line in enumerate(path.read_text().splitlines()):
        turn = json.loads(line)
        messages = [{"role": "user", "content": turn["prompt"]}, {"role": "assistant", "content": turn["answer"]}]
        found["(written)", str(number)] = template.render(messages=messages)
    return found


def rows_of(encoded, separator, tokens, rng):
    """[rows, LENGTH] of documents one after another in a random order, at most `tokens`; no package has more than its share."""
    keys, taken, used, total = list(encoded), [], {}, 0
    for key in (keys[i] for i in rng.permutation(len(keys))):
        share = used.get(key[0], 0)
        if total < tokens and share < tokens * PACKAGE_SHARE:
            taken.append(np.append(np.uint16(separator), encoded[key]))
            used[key[0]] = share + len(taken[-1])
            total += len(taken[-1])
    stream = np.concatenate(taken) if taken else np.zeros(0, np.uint16)
    return stream[: len(stream) // LENGTH * LENGTH].reshape(-1, LENGTH), used


def far_rows(source, separator, count, seed):
    kinds = list(far.KINDS)
    return [far.make(kinds[i % len(kinds)], source, np.random.default_rng([SEED, seed, i]), LENGTH, separator)
            for i in range(count)]


def held_out(encoded, listing, separator):
    """(arrays of heldout.npz, names of the windows): at most one of a package more than of any other."""
    long = sorted((key for key in encoded if len(encoded[key]) >= HELD_OUT_LENGTH), key=lambda key: _hash("/".join(key)))
    windows, names = [], []
    for unseen in (True, False):
        waiting, chosen = [key for key in long if (key[0] in listing["held_out"]) == unseen], []
        while waiting and len(chosen) < HELD_OUT_WINDOWS:
            first_of_each = list({key[0]: key for key in reversed(waiting)}.values())[: HELD_OUT_WINDOWS - len(chosen)]
            chosen += first_of_each
            waiting = [key for key in waiting if key not in first_of_each]
        windows += [np.append(np.uint16(separator), encoded[key])[:HELD_OUT_LENGTH] for key in chosen]
        names += [{"document": "/".join(key), "package": "unseen" if unseen else "seen"} for key in chosen]
    if not windows:
        raise llama.Refused(f"no held-out document has {HELD_OUT_LENGTH} tokens: name more packages under held_out")
    return np.stack(windows), names


def _write_shard(job):
    path, rows = job
    content = lzma.compress(rows.tobytes(), preset=6)
    path.write_bytes(content)
    return path.name, {"rows": len(rows), "sha256": hashlib.sha256(content).hexdigest()}


def prepare(arguments, pool):
    base, out = arguments.base, arguments.out
    llama.base_config(base)
    encoder = Encoder(base, arguments.separator)
    listing = llama.read_json(arguments.packages)
    read, versions = packages(arguments.debs, listing, pool, int(arguments.tokens * PACKAGE_SHARE * 6))
    held, train = divide(read, listing)
    del read
    held, train = encoder.all(held), encoder.all(train | (written(arguments.written, base) if arguments.written else {}))
    windows, names = held_out(held, listing, encoder.separator)

    rng = np.random.default_rng(SEED)
    text, used = rows_of(train, encoder.separator, arguments.tokens * (1 - FAR_SHARE), rng)
    source = far.Source(list(train.values()), encoder.one)
    tasks = far_rows(source, encoder.separator, round(len(text) * FAR_SHARE / (1 - FAR_SHARE)), 0)
    rows = np.concatenate([text, *(ids[None] for ids, _ in tasks)])
    measured = far_rows(far.Source(list(held.values()), encoder.one), encoder.separator, HELD_OUT_FAR * len(far.KINDS), 1)

    out.mkdir(parents=True, exist_ok=True)
    (out / "meta.json").unlink(missing_ok=True)
    np.savez_compressed(out / "heldout.npz", text=windows, far=np.stack([ids for ids, _ in measured]),
                        answer=np.stack([answer for _, answer in measured]))
    shards = pool.map(_write_shard, [(out / f"train.{i:03d}.u16.xz", rows[first : first + SHARD_ROWS])
                                     for i, first in enumerate(range(0, len(rows), SHARD_ROWS))])
    meta = {"length": LENGTH, "rows": len(rows), "far_rows": len(tasks), "separator": arguments.separator, "shards": dict(shards),
            "tokens": dict(sorted(used.items())), "versions": versions, "held_out": names, "far_kinds": list(far.KINDS)}
    # Last, so that a folder with this file is complete.
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=pathlib.Path, nargs="?")
    parser.add_argument("debs", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("--names", action="store_true", help="print the packages to download, and nothing else")
    parser.add_argument("--packages", type=pathlib.Path, default=HERE / "packages.json")
    parser.add_argument("--tokens", type=float, default=60e6)
    parser.add_argument("--separator", default="<|endoftext|>", help="token before every document")
    parser.add_argument("--written", type=pathlib.Path, help="what write.py wrote")
    arguments = parser.parse_args()
    with llama.one_line("prepare.py"):
        if arguments.names:
            print(*(name for names in llama.read_json(arguments.packages).values() for name in names))
            return
        if arguments.out is None:
            parser.error("BASE, DEBS and OUT are needed")
        with multiprocessing.Pool() as pool:
            prepare(arguments, pool)


if __name__ == "__main__":
    main()
