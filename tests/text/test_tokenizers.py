"""Every shape of tokenizer.json against the `tokenizers` wheel: ids, decoded text and streaming, on random strings.

HYSPARSE_BUILD names the build folder (build/release), HYSPARSE_TOKENIZER_STRINGS the number of strings (210,000).
"""

import json
import os
import pathlib
import random
import subprocess

import make_tokenizers
import pytest
import strings
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HYSPARSE_BUILD", ROOT / "build/release"))
SHAPES = sorted(make_tokenizers.shapes())
PER_SHAPE = -(-int(os.environ.get("HYSPARSE_TOKENIZER_STRINGS", "210000")) // len(SHAPES))
MARKERS = 0xF0000  # private characters that the strings do not have


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    make_tokenizers.write(root)
    return root


@pytest.fixture(params=SHAPES)
def shape(request, folder):
    return Shape(request.param, folder / request.param)


class Shape:
    def __init__(self, name, path):
        self.name, self.path = name, path
        self.document = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
        self.wheel = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.added = [token["content"] for token in self.document["added_tokens"]]
        self.special = [token["content"] for token in self.document["added_tokens"] if token["special"]]
        self.rng = random.Random("seed of " + name)

    def ask(self, requests):
        """The driver's answers, one for each request."""
        command = [str(BUILD / "tests/tokenizer_driver"), str(self.path)]
        done = subprocess.run(command, input="\n".join(requests) + "\n", capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        answers = done.stdout.split("\n")[:-1]
        assert len(answers) == len(requests)
        return answers

    def expected(self, texts, special):
        return [encoding.ids for encoding in self.wheel.encode_batch(texts, add_special_tokens=special)]

    def check_encoding(self, texts):
        for special in (False, True):
            answers = self.ask([f"E {int(special)} {to_hex(text)}" for text in texts])
            report(texts, [to_ids(answer) for answer in answers], self.expected(texts, special))

    def check_decoding(self, sequences):
        for skip in (False, True):
            expected = self.wheel.decode_batch(sequences, skip_special_tokens=skip)
            words = [" ".join(map(str, ids)) for ids in sequences]
            decoded = self.ask([f"D {int(skip)} {ids}".rstrip() for ids in words])
            report(sequences, [from_hex(answer) for answer in decoded], expected)
            streamed = self.ask([f"T {int(skip)} {ids}".rstrip() for ids in words])
            # from_hex is strict: each piece alone must be valid UTF-8.
            report(sequences, ["".join(map(from_hex, answer.split())) for answer in streamed], expected)


def to_hex(text):
    return text.encode().hex() or "-"


def from_hex(answer):
    return "" if answer == "-" else bytes.fromhex(answer).decode()


def to_ids(answer):
    return [int(word) for word in answer.split()] if not answer.startswith("!") else answer


def report(inputs, ours, expected):
    wrong = [i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b]
    shown = "\n".join(f"{inputs[i]!r}\n  ours     {ours[i]!r}\n  expected {expected[i]!r}" for i in wrong[:4])
    assert not wrong, f"{len(wrong)} of {len(inputs)} differ:\n{shown}"


def test_strings(shape):
    texts = [strings.text(shape.rng, shape.added) for _ in range(PER_SHAPE)]
    shape.check_encoding(texts)
    shape.check_decoding(shape.expected(texts[: PER_SHAPE // 2], True))


def test_random_ids(shape):
    """Sequences that no encoding yields: broken characters, byte tokens in any order, special and unknown ids."""
    size = shape.wheel.get_vocab_size()
    tokens = [shape.wheel.token_to_id(token) for token in shape.added]
    tokens += [i for i in range(size) if (shape.wheel.id_to_token(i) or "").startswith("<0x")]
    sequences = []
    for _ in range(PER_SHAPE // 8):
        pick = lambda: shape.rng.choice(tokens) if tokens and shape.rng.random() < 0.4 else shape.rng.randrange(size + 5)  # noqa: E731
        sequences.append([pick() for _ in range(shape.rng.choice((0, 1, 2, 3, 8, 20)))])
    shape.check_decoding(sequences)


@pytest.mark.parametrize("name", ["deepseek", "gpt2", "gpt2_prefix_space", "llama3", "o200k", "qwen", "smollm2"])
def test_round_trip(name, folder):
    """What byte-level tokenizers encode, once it is normalised, they decode to the same text."""
    shape = Shape(name, folder / name)
    texts = [strings.text(shape.rng, []) for _ in range(500)]
    if shape.document["normalizer"]:
        texts = [shape.wheel.normalizer.normalize_str(text) for text in texts]
    encoded = shape.ask([f"E 0 {to_hex(text)}" for text in texts])
    decoded = [from_hex(answer) for answer in shape.ask([f"D 0 {ids}".rstrip() for ids in encoded])]
    if name == "gpt2_prefix_space":
        texts = [text if not text or text.startswith(" ") else " " + text for text in texts]
    report(texts, decoded, texts)


@pytest.mark.parametrize("name", ["llama3", "qwen", "odd_patterns", "unknown_fused"])
def test_every_character(name, folder):
    """All planes that have characters, each between letters, spaces and digits."""
    shape = Shape(name, folder / name)
    codes = [code for code in [*range(0x33480), *range(0xE0000, 0xE0200)] if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"x{chr(c)} {chr(c)}1" for c in codes[i : i + 48]) for i in range(0, len(codes), 48)]
    answers = shape.ask([f"E 0 {to_hex(text)}" for text in texts])
    report(texts, [to_ids(answer) for answer in answers], shape.expected(texts, False))


# What regex_syntax.h rewrites for PCRE2, one by one.
PATTERNS = [
    r"\s+", r"\S+", r"\w+", r"\W", r"\d+", r"\D{3}", r"\h+", r"\H+", r"\v", r"\b", r"\B", r"[\s\S]", r"[^\S\r\n]+",
    r"[\W\d]+", r"[^\P{L}a-c]+", r"\p{^L}+", r"\P{Lu}\p{Lu}", r"\p{N}{1,3}+", r"(?:ab|c){,2}+", r"[a-m]{2}+", r"a++b?|b*+",
    r"x{,3}y", r"{|}|{1", r"(?i:k|ſ|σ|'LL)", r"(?i)straße|é", r"(?m:a.b)", r"a.b|.$|^.", r"\p{Han}+|\p{Hiragana}|\p{Latin}{2}",
    r"[\x41-\x{5a}\u00e0-\u00ff]+", r"(?<=a).|(?<!b)c", r"(?=b)|(?!.)", r"(?>a+)a|a+", r"\p{C}+", r"\p{Cn}|\p{Co}", r"[^\p{Z}\p{C}]+",
    r"a*", r"", r"\Aa|b\z|c\Z", r"[\-\]\\^]+", r"[a\-z]+", r"\.\*\(", r"(a)(b(c)?)?",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern, folder, tmp_path):
    """The regex dialects agree on where a Split cuts."""
    document = json.loads((folder / "gpt2/tokenizer.json").read_text(encoding="utf-8"))
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    shape = Shape(pattern, tmp_path)
    letters = "abcxyzABCkKſßσςΣÉé 12\n\r\v.-^]\\(*{}'"
    texts = [strings.text(shape.rng, []) for _ in range(150)]
    texts += ["".join(shape.rng.choice(letters) for _ in range(shape.rng.randrange(12))) for _ in range(350)]
    answers = shape.ask([f"E 0 {to_hex(text)}" for text in texts])
    report(texts, [to_ids(answer) for answer in answers], shape.expected(texts, False))


SEGMENTED = ["llama3", "qwen", "smollm2", "gpt2_prefix_space", "deepseek", "llama2", "metaspace_first", "o200k"]


@pytest.mark.parametrize("name", SEGMENTED)
def test_segments(name, folder):
    """Special tokens only in trusted segments: the oracle is a tokenizer whose special tokens are spelt otherwise."""
    shape = Shape(name, folder / name)
    respelt = {token: chr(MARKERS + i) for i, token in enumerate(shape.special)}
    document = json.loads(json.dumps(shape.document))
    for token in document["added_tokens"]:
        token["content"] = respelt.get(token["content"], token["content"])
    model = document["model"]
    model["vocab"] = {respelt.get(token, token): i for token, i in model["vocab"].items()}
    model["unk_token"] = respelt.get(model["unk_token"], model["unk_token"])
    oracle = Tokenizer.from_str(json.dumps(document))

    requests, joined, shown = [], [], []
    for _ in range(3000):
        trusted = shape.rng.random() < 0.5
        parts, text = [], ""
        for _ in range(shape.rng.randint(1, 5)):
            part = strings.text(shape.rng, shape.added)
            parts.append(("t" if trusted else "u") + part)
            for token in sorted(respelt, key=len, reverse=True):
                part = part.replace(token, respelt[token]) if trusted else part
            text, trusted = text + part, not trusted
        requests.append("S " + " ".join(part[0] + to_hex(part[1:]) for part in parts))
        joined.append(text)
        shown.append(parts)
    expected = [encoding.ids for encoding in oracle.encode_batch(joined, add_special_tokens=False)]
    report(shown, [to_ids(answer) for answer in shape.ask(requests)], expected)


def test_token_bytes(shape):
    """A token's bytes are what it adds to a text that goes on."""
    letter = next(shape.wheel.token_to_id(c) for c in "aetk" if shape.wheel.token_to_id(c) is not None)
    fallback = "ByteFallback" in json.dumps(shape.document["decoder"])
    ids = range(shape.wheel.get_vocab_size())
    answers = shape.ask([f"B {i}" for i in ids] + ["B 999999"])
    assert answers.pop() == "-"
    for i, answer in zip(ids, answers, strict=True):
        token = shape.wheel.id_to_token(i)
        data = b"" if answer == "-" else bytes.fromhex(answer)
        if fallback and token.startswith("<0x"):
            assert data == bytes([int(token[3:5], 16)])
        elif shape.document["decoder"]:
            text = shape.wheel.decode([letter, i], skip_special_tokens=False)
            assert data.decode(errors="replace") == text[len(shape.wheel.decode([letter])) :], token
        else:
            assert data.decode() == token
