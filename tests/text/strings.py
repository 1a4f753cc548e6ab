"""Random text that finds differences between tokenizers: many scripts, code, white space, broken-up special tokens."""

SCRIPTS = [
    (0x20, 0x7E), (0x20, 0x7E), (0x41, 0x5A), (0x61, 0x7A), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x52F), (0x530, 0x58F), (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x7BF), (0x8A0, 0x8FF), (0x900, 0x97F),
    (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F),
    (0x2070, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2581, 0x2581), (0x2600, 0x27BF),
    (0x2E80, 0x2FFF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3130, 0x318F), (0x3200, 0x33FF), (0x4E00, 0x9FFF),
    (0xA640, 0xA69F), (0xA720, 0xA7FF), (0xA960, 0xA97F), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FF), (0xE000, 0xE0FF),
    (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF), (0x10000, 0x100FF), (0x10D00, 0x10D8F),
    (0x11000, 0x1107F), (0x11900, 0x1195F), (0x12000, 0x1203F), (0x16D40, 0x16D7F), (0x1D400, 0x1D7FF), (0x1E030, 0x1E08F),
    (0x1F100, 0x1F1FF), (0x1F300, 0x1F6FF), (0x20000, 0x2007F), (0x2EBF0, 0x2EC10), (0x2F800, 0x2FA1F), (0xE0100, 0xE01EF),
]  # fmt: skip
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\v", "\f", "\x1c", "\x85", "\xa0", "\u1680", "\u180e", "\u2003",
          "\u2028", "\u200b", "\u202f", "\u205f", "\u3000", "\ufeff", "\u2060"]  # fmt: skip
WORDS = ["don't", "I'LL", "we've", "'S", "'ſ", "it'd", "x's't", "naïve", "e\u0301te\u0301", "Straße", "İstanbul", "ﬁn", "日本語", "東京2024年",
         "한국어", "\u1112\u1161\u11ab", "मैं", "ไทย", "שלום", "مرحبا", "привет", "▁", "▁▁a", "²³¹¼", "Ⅷ", "٣٤٥", "1234567", "3.14e-10",
         "0x1F", "<0x41>", "<0xE4>", "def f(x):\n    return x\n", "a[i++] += b->c;", "{\"k\": [1, 2]}", "http://a.b/c?d=e&f", "#include <x>",
         "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "\u200d", "--", "...", "?!", "</w>", "##ing", "\x00", "\x7f", "\u0085"]  # fmt: skip


def character(rng):
    kind = rng.random()
    if kind < 0.04:  # anywhere, assigned or not
        code = rng.randrange(0x110000)
        return chr(code) if not 0xD800 <= code < 0xE000 else "\ud7ff"
    first, last = rng.choice(SCRIPTS)
    return chr(rng.randint(first, last))


def piece(rng, tokens):
    kind = rng.randrange(16)
    if kind < 3:
        return rng.choice(WORDS)
    if kind < 6:
        return rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 5))
    if kind < 8 and tokens:
        return rng.choice(tokens)
    if kind == 8 and tokens:  # a token broken in two, or not quite
        token = rng.choice(tokens)
        cut = rng.randrange(len(token) + 1)
        return token[:cut] + rng.choice(["", " ", token, "é", token[:1]]) + token[cut:]
    if kind < 11:
        first, last = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))
    if kind == 11:
        return character(rng) * rng.choice((1, 2, 3, 40))
    if kind == 12:  # marks in any order, in front of a letter or behind it
        marks = "".join(chr(rng.choice((0x300, 0x301, 0x308, 0x316, 0x327, 0x334, 0x345, 0x5B0, 0x64B, 0x94D, 0x898, 0x3099)))
                        for _ in range(rng.randint(1, 5)))  # fmt: skip
        return rng.choice("aeo가カΑи") + marks
    if kind == 13:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz' ") for _ in range(rng.randint(1, 20)))
    return "".join(character(rng) for _ in range(rng.randint(1, 10)))


def text(rng, tokens):
    """`tokens`: the spellings of special and added tokens to strew in."""
    return "".join(piece(rng, tokens) for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 6, 9))))
