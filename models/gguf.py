"""Reads and writes GGUF files: the container that llama.cpp's models come in. Python's standard library and numpy.

    gguf = Gguf(pathlib.Path(path).read_bytes(), path)
    gguf.metadata["llama.block_count"], gguf.tensors["token_embd.weight"].float32()

A file is: magic, version, counts, metadata (key, type, value), tensor infos (name, dimensions innermost first, type,
offset), then the data, each tensor aligned. Every length is checked against the bytes that are left before it is used;
what does not add up raises GgufError with one line that names the file and the part.
"""
import struct

import numpy as np

MAGIC = b"GGUF"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
UINT32, FLOAT32 = 4, 6
# type id: (name, elements a block, bytes a block)
TYPES = {0: ("F32", 1, 4), 3: ("Q4_1", 32, 20), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2)}
TYPE_IDS = {name: number for number, (name, _, _) in TYPES.items()}


class GgufError(ValueError):
    """A file that is not what GGUF says it must be."""


def bf16_bits(array):
    """uint16 bits of float32 values rounded to BF16, to nearest even (finite values)."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Tensor:
    """One tensor's bytes; `shape` is outermost first, as numpy and Hugging Face have it."""

    def __init__(self, name, shape, type_name, data):
        self.name, self.shape, self.type, self._data = name, shape, type_name, data

    def float32(self):
        """Dequantised exactly as ggml does: one rounding for the product, one for the sum."""
        if self.type == "F32":
            values = np.frombuffer(self._data, "<f4")
        elif self.type == "BF16":
            values = from_bf16(np.frombuffer(self._data, "<u2"))
        elif self.type == "Q8_0":  # 32 weights: scale, 32 signed bytes
            block = np.frombuffer(self._data, np.dtype([("d", "<f2"), ("q", "i1", 32)]))
            values = block["d"].astype(np.float32)[:, None] * block["q"].astype(np.float32)
        else:  # Q4_1, 32 weights: scale, minimum, 16 bytes whose low nibbles are weights 0-15 and high ones 16-31
            block = np.frombuffer(self._data, np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]))
            quants = np.concatenate([block["q"] & 15, block["q"] >> 4], axis=1).astype(np.float32)
            values = block["d"].astype(np.float32)[:, None] * quants + block["m"].astype(np.float32)[:, None]
        return values.reshape(self.shape)


class Gguf:
    def __init__(self, data, name="GGUF file"):
        self._data, self._at, self._name = memoryview(data), 0, name
        if bytes(data[:4]) != MAGIC:
            raise GgufError(f"{name}: not a GGUF file (it starts with {bytes(data[:4])!r})")
        self._at = 4
        version = self._scalar("I", "version")
        if version not in (2, 3):
            raise GgufError(f"{name}: GGUF version {version} is not supported, only 2 and 3")
        tensors = self._count("tensor count", 24)
        entries = self._count("metadata count", 12)
        self.metadata = {}
        for _ in range(entries):
            key = self._string("metadata key")
            self.metadata[key] = self._value(self._scalar("I", key), key)
        infos = [self._tensor_info() for _ in range(tensors)]
        self.tensors = dict(self._tensors(infos))

    def _fail(self, what):
        raise GgufError(f"{self._name}: {what}")

    def _take(self, size, what):
        if size > len(self._data) - self._at:
            self._fail(f"ends inside {what}")
        self._at += size
        return self._at - size

    def _scalar(self, code, what):
        return struct.unpack_from("<" + code, self._data, self._take(struct.calcsize("<" + code), what))[0]

    def _count(self, what, smallest):
        """A count of things that each take at least `smallest` bytes."""
        count = self._scalar("Q", what)
        if count * smallest > len(self._data) - self._at:
            self._fail(f"{what} {count} does not fit in the file")
        return count

    def _string(self, what):
        size = self._count("the length of " + what, 1)
        at = self._take(size, what)
        try:
            return bytes(self._data[at : at + size]).decode()
        except UnicodeDecodeError:
            self._fail(f"{what} is not UTF-8")

    def _value(self, kind, key):
        if kind == STRING:
            return self._string(key)
        if kind in SCALARS:
            return self._scalar(SCALARS[kind], key)
        if kind != ARRAY:
            self._fail(f"{key} has the unknown type {kind}")
        element = self._scalar("I", key)
        if element != STRING and element not in SCALARS:
            self._fail(f"{key} is an array of the unknown type {element}")
        size = 8 if element == STRING else struct.calcsize(SCALARS[element])
        return [self._value(element, key) for _ in range(self._count("the size of " + key, size))]

    def _tensor_info(self):
        name = self._string("a tensor's name")
        rank = self._scalar("I", name)
        if not 1 <= rank <= 4:
            self._fail(f"tensor {name} has {rank} dimensions")
        shape = tuple(self._scalar("Q", name) for _ in range(rank))[::-1]
        kind = self._scalar("I", name)
        if kind not in TYPES:
            known = ", ".join(type_name for type_name, _, _ in TYPES.values())
            self._fail(f"tensor {name} has the unsupported type {kind}; supported: {known}")
        return name, shape, kind, self._scalar("Q", name)

    def _tensors(self, infos):
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            self._fail(f"general.alignment is {alignment!r}")
        start = -(-self._at // alignment) * alignment
        for name, shape, kind, offset in infos:
            type_name, per_block, block_bytes = TYPES[kind]
            elements = 1
            for size in shape:
                elements *= size
            if shape[-1] % per_block:
                self._fail(f"tensor {name}: rows of {shape[-1]} are no multiple of {type_name}'s {per_block}")
            size = elements // per_block * block_bytes
            if start + offset + size > len(self._data):
                self._fail(f"tensor {name} ends at byte {start + offset + size} of {len(self._data)}: the file is truncated")
            yield name, Tensor(name, shape, type_name, self._data[start + offset : start + offset + size])


# ---------------------------------------------------------------- writing


def _packed_string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _packed_value(value, kind=None):
    """(type id, bytes). Python ints become UINT32, floats FLOAT32, unless `kind` says otherwise."""
    if isinstance(value, str):
        return STRING, _packed_string(value)
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, list):
        packed = [_packed_value(item, kind) for item in value]
        return ARRAY, struct.pack("<IQ", packed[0][0], len(packed)) + b"".join(raw for _, raw in packed)
    kind = kind if kind is not None else (UINT32 if isinstance(value, int) else FLOAT32)
    return kind, struct.pack("<" + SCALARS[kind], value)


def write_gguf(path, metadata, tensors, kinds=None, alignment=32):
    """Writes {key: value} and [(name, float32 array, "F32" or "BF16")]; `kinds` gives a key's scalar type id."""
    head = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, raw = _packed_value(value, (kinds or {}).get(key))
        head += [_packed_string(key), struct.pack("<I", kind), raw]
    offset = 0
    for name, array, type_name in tensors:
        dimensions = array.shape[::-1]
        head += [_packed_string(name), struct.pack("<I", len(dimensions)), struct.pack(f"<{len(dimensions)}Q", *dimensions),
                 struct.pack("<IQ", TYPE_IDS[type_name], offset)]
        offset += -(-array.size * (4 if type_name == "F32" else 2) // alignment) * alignment
    head = b"".join(head)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % alignment))
        for _, array, type_name in tensors:
            raw = (np.ascontiguousarray(array, "<f4") if type_name == "F32" else bf16_bits(array)).tobytes()
            file.write(raw + bytes(-len(raw) % alignment))
