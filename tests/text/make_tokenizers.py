"""Writes one small tokenizer.json for each shape that the differential suite covers, without the network.

    python3 tests/text/make_tokenizers.py FOLDER

The `tokenizers` wheel trains each BPE vocabulary on a corpus that this script makes from a seed, so two runs write the
same files.
"""

import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Every construct that regex_syntax.h rewrites.
ODD = (
    r"\h{2,4}:|\w+(?=\b)|[^\S\n]+|[\W\d&]{2}+|\p{^Lu}\p{Lu}{,2}|(?m:<.*?>)|[\x{3040}-\u30ff]++|(?<!a)\v|\p{Han}|[\P{L}\s]|\B."
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
SYLLABLES = "ka to mi ren sol va ing er the and of st pre un able tion re co de in us ly ment ful".split()
SCRIPTS = [
    (0x41, 0x5A), (0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939),
    (0xE01, 0xE2E), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4E80), (0xAC00, 0xAC80), (0x1F600, 0x1F640),
]  # fmt: skip


def corpus(seed=7, lines=3000):
    rng = random.Random(seed)
    words = ["".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4))) for _ in range(1200)]
    for _ in range(150):
        first, last = rng.choice(SCRIPTS)
        words.append("".join(chr(rng.randint(first, last)) for _ in range(rng.randint(2, 6))))
    ends = [". ", ", ", "! ", "? ", "; ", ": ", "\n", "\n\n", "\t", "  ", "    ", "'s ", "'ll ", " - ", "(", ") ", "{}", " = ", "\r\n"]
    out = []
    for _ in range(lines):
        line = []
        for _ in range(rng.randint(3, 18)):
            word = rng.choice(words) if rng.random() < 0.93 else str(rng.randint(0, 10 ** rng.randint(1, 6)))
            line.append(word.capitalize() if rng.random() < 0.15 else word)
            line.append(" " if rng.random() < 0.7 else rng.choice(ends))
        out.append("".join(line))
    return out


def train(tokenizer, vocabulary, **options):
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False, **options)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(pre, normalizer=None, vocabulary=2000, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, vocabulary, initial_alphabet=ALPHABET)


def isolated(*patterns):
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def gpt2_prefix_space():
    """RoBERTa's form: a space in front of each piece, <s> … </s> around, a mask that swallows the space on its left."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    ids = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ids)
    return tokenizer


def llama3():
    tokenizer = byte_level(isolated(LLAMA3), ignore_merges=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    bos = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
    template = processors.TemplateProcessing(single=f"{bos[0]} $A", pair=f"{bos[0]} $A {bos[0]}:1 $B:1", special_tokens=[bos])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def qwen():
    tokenizer = byte_level(isolated(QWEN), normalizers.NFC())
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def smollm2():
    pre = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = byte_level(pre_tokenizers.Sequence(pre))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"])
    return tokenizer


def deepseek():
    tokenizer = byte_level(isolated(r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK), normalizers.Sequence([]))
    tokenizer.add_special_tokens(["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"])
    bos = ("<｜begin▁of▁sentence｜>", tokenizer.token_to_id("<｜begin▁of▁sentence｜>"))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    return tokenizer


def o200k():
    tokenizer = byte_level(isolated(O200K), normalizers.NFKC())
    tokenizer.add_special_tokens(["<|start|>", "<|message|>", "<|end|>"])
    return tokenizer


def odd_patterns():
    """Whatever the regex translation touches, and the split behaviours that no known model uses."""
    split = pre_tokenizers.Split
    steps = [
        split(Regex(ODD), "isolated"),
        split("--", "merged_with_next"),
        split(Regex(r"[.!?]+"), "merged_with_previous"),
        split(Regex(r"[a-z]"), "contiguous"),
        split(Regex(r"\p{Lu}"), "removed"),
        split(Regex(r"[^,]+"), "isolated", invert=True),
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer = byte_level(pre_tokenizers.Sequence(steps), normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]))
    tokenizer.add_tokens([AddedToken("ÉTÉ", normalized=True), AddedToken("[X]", single_word=True, normalized=False)])
    return tokenizer


def sentencepiece(tokenizer, unknown="<unk>"):
    pieces = [unknown, "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    train(tokenizer, 1500, special_tokens=pieces, limit_alphabet=300)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(document))


def llama2():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Trained on words, used without a pre-tokenizer: merges never cross a word.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer = sentencepiece(tokenizer)
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(document))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def metaspace(scheme="first"):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    train_with = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.pre_tokenizer, final = train_with, tokenizer.pre_tokenizer
    tokenizer = sentencepiece(tokenizer)
    tokenizer.pre_tokenizer = final if scheme == "first" else train_with
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    if scheme == "never":
        tokenizer.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme=scheme), decoders.ByteFallback()])
    return tokenizer


def unknowns(fuse):
    """No byte fallback and a tiny alphabet: most characters are unknown; affixes mark the position in a word."""
    affixes = {"continuing_subword_prefix": "##"} if fuse else {"end_of_word_suffix": "</w>"}
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=fuse, **affixes))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace() if fuse else pre_tokenizers.WhitespaceSplit()
    train(tokenizer, 600, special_tokens=["[UNK]", "[CLS]", "[SEP]"], limit_alphabet=40, **affixes)
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ids)
    return tokenizer


def added_flags():
    """Added tokens of every combination of flags, some of them each other's prefixes."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Lowercase())
    tokens = []
    for flags in range(32):
        names = ("single_word", "lstrip", "rstrip", "normalized", "special")
        options = {name: bool(flags >> bit & 1) for bit, name in enumerate(names)}
        tokens.append(AddedToken(f"<T{flags}>" if flags % 3 else f"Tok{flags}", **options))
    tokens += [AddedToken("<T", normalized=False), AddedToken("<T1>>", normalized=False), AddedToken("  ", normalized=False)]
    tokens += [AddedToken("é", normalized=False), AddedToken("日本", normalized=True, single_word=True)]
    tokenizer.add_tokens(tokens)
    tokenizer.add_special_tokens([token for token in tokens if token.special])
    return tokenizer


def shapes():
    return {
        "gpt2": gpt2,
        "gpt2_prefix_space": gpt2_prefix_space,
        "llama3": llama3,
        "qwen": qwen,
        "smollm2": smollm2,
        "deepseek": deepseek,
        "o200k": o200k,
        "odd_patterns": odd_patterns,
        "llama2": llama2,
        "metaspace_first": metaspace,
        "metaspace_always": lambda: metaspace("always"),
        "metaspace_never": lambda: metaspace("never"),
        "unknown_fused": lambda: unknowns(True),
        "unknown_single": lambda: unknowns(False),
        "added_flags": added_flags,
    }


def write(root):
    for name, make in shapes().items():
        folder = pathlib.Path(root) / name
        folder.mkdir(parents=True, exist_ok=True)
        document = json.loads(make().to_str())
        if name == "llama2":  # the older spelling of merges
            document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]
        (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
