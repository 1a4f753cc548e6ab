"""The vocabulary of hysparse-mini: 256 bytes, one special token and whole words, each with the space before it.

Words come from words.json: `tag`, `name` and `value` are what facts are made of, `sign` what frames them, `text` the most
frequent words of the filler. tokenizer.json is a byte-level BPE without merges (`ignore_merges` takes whole words), so that a
word's id is its place in the list and everything else falls to bytes.
"""

import json
import pathlib
import re

BEGIN = 256  # <|begin|>
FIRST_WORD = 257
WORDS = json.loads((pathlib.Path(__file__).parent / "words.json").read_text())
ALL_WORDS = [word for kind in ("sign", "tag", "name", "value", "text") for word in WORDS[kind]]
SIZE = FIRST_WORD + len(ALL_WORDS)
ID = {word: FIRST_WORD + i for i, word in enumerate(ALL_WORDS)}
IDS = {kind: [ID[word] for word in words] for kind, words in WORDS.items()}

# GPT-2's pre-tokenizer on text of ASCII words with single spaces between them.
_PIECE = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+")


def encode(text):
    """Ids of ASCII text, as the tokenizer of the served model gives them (without <|begin|>)."""
    ids = []
    for piece in _PIECE.findall(text):
        word = ID.get(piece[1:]) if piece.startswith(" ") else None
        ids.extend([word] if word is not None else piece.encode())
    return ids


def decode(ids):
    return "".join(" " + ALL_WORDS[i - FIRST_WORD] if i >= FIRST_WORD else chr(i) for i in ids if i != BEGIN)


def _letters():
    """GPT-2's printable letter of each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def tokenizer():
    """(tokenizer.json, tokenizer_config.json)."""
    letters = _letters()
    vocab = {letters[byte]: byte for byte in range(256)}
    vocab |= {letters[32] + word: token for word, token in ID.items()}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    begin = {"id": BEGIN, "content": "<|begin|>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
    piece = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    post = {"type": "TemplateProcessing", "single": [piece, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [piece, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|begin|>": {"id": "<|begin|>", "ids": [BEGIN], "tokens": ["<|begin|>"]}}}
    definition = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [begin], "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": post, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": vocab, "merges": []},
    }
    template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": None,
                "clean_up_tokenization_spaces": False, "chat_template": template}
    return definition, settings
