"""The model and the coder once more, slow and plain: what the compiled loops are tested against.

One object for each thing that learns, one call for each bit, Python's own integers.
"""

from __future__ import annotations

from tersely.compress.archive.model.histories import histories
from tersely.compress.logistic import EDGE, squash_table, stretch_table

_SQUASH = [int(p) for p in squash_table()]
_STRETCH = [int(x) for x in stretch_table()]
_FOLLOWING = histories().following.tolist()
_FIRST = [int(first) >> 10 for first in histories().first]
_LOW = 0xFFFFFFFF


def encode(blocks: list[bytes], memory: int) -> list[bytes]:
    """The coded bytes of each block, all under one model."""
    model = PlainModel(memory)
    coded: list[bytes] = []
    for block in blocks:
        low, high, out = 0, _LOW, bytearray()
        for bit in (byte >> shift & 1 for byte in block for shift in range(7, -1, -1)):
            middle = low + ((high - low) * model.predict() >> 16)
            low, high = (low, middle) if bit else (middle + 1, high)
            model.learn(bit)
            while low >> 24 == high >> 24:
                out.append(high >> 24)
                low, high = low << 8 & _LOW, high << 8 & _LOW | 255
        coded.append(bytes(out) + high.to_bytes(4))
    return coded


def decode(coded: list[bytes], sizes: list[int], memory: int) -> list[bytes]:
    """The blocks again, whose sizes must be known."""
    model = PlainModel(memory)
    blocks: list[bytes] = []
    for source, size in zip(coded, sizes, strict=True):
        low, high, at, block = 0, _LOW, 4, bytearray()
        value = int.from_bytes(source[:4].ljust(4, b"\0"))
        for _ in range(size):
            byte = 0
            for _ in range(8):
                middle = low + ((high - low) * model.predict() >> 16)
                bit = int(value <= middle)
                low, high = (low, middle) if bit else (middle + 1, high)
                model.learn(bit)
                byte = byte << 1 | bit
                while low >> 24 == high >> 24:
                    low, high = low << 8 & _LOW, high << 8 & _LOW | 255
                    value = value << 8 & _LOW | (source[at] if at < len(source) else 0)
                    at += 1
            block.append(byte)
        blocks.append(bytes(block))
    return blocks


class PlainModel:
    """Predicts the next bit, then learns what it was."""

    def __init__(self, memory: int) -> None:
        self.slots = bytearray(memory)
        self.behind, self.seen = bytearray(memory // 8), [0] * (memory // 32)
        self.text = bytearray()
        self.bits: list[int] = []  # of this byte
        self.words, self.lines = [0, 0, 0], [0, 0]
        self.hashes, self.at = [0] * 12, [0] * 12
        self.match, self.length, self.expected = 0, 0, -1
        self.maps = [[_Place(_FIRST[state]) for state in range(256)] for _ in range(12)]
        self.match_maps = [_Place(1 << 21) for _ in range(64)]
        self.order0 = [_Place(1 << 21) for _ in range(256)]
        self.order1: dict[tuple[int, int], _Place] = {}
        self.mixers: dict[tuple[int, int, int, int], list[int]] = {}
        self.final: dict[int, list[int]] = {}
        self.corrections: dict[tuple[int, int, int], int] = {}
        self._find()

    def predict(self) -> int:
        """The probability of a 1, of 65,536."""
        known = self._ask()
        length = min(self.match_class, 31)
        trust = (length > 0) + (length > 8) + (length > 15)
        last = self.text[-1] if self.text else 0
        bit = len(self.bits)
        self.chosen = [(0, self.partial, 0, 0), (1, known, trust, bit), (2, last, 0, 0)]
        self.said = [_clipped(_dot(self._weights(set_), self.inputs)) for set_ in self.chosen]
        x = _clipped(_dot(self._final(), self.said))
        self.mixed = _SQUASH[x + EDGE]
        corrected = self._correct(last, x)
        return min(65535, max(1, (self.mixed + 3 * corrected + 2) // 4))

    def learn(self, bit: int) -> None:
        """Takes in the bit that was predicted."""
        for set_, said in zip(self.chosen, self.said, strict=True):
            error = ((bit << 16) - _SQUASH[said + EDGE]) * 8
            _teach(self._weights(set_), self.inputs, error)
        _teach(self._final(), self.said, ((bit << 16) - self.mixed) * 4)
        for at, state, place in self.asked:
            place.move(bit)
            self.slots[at] = _FOLLOWING[state][bit]
        if self.match_place:
            self.match_place.move(bit)
        self.order0[self.partial].move(bit)
        self.order1_place.move(bit)
        old = self._point(*self.nearer)
        self.corrections[self.nearer] = old + ((bit * _LOW - old) >> 7)
        self.bits.append(bit)
        if self.expected >= 0 and self.expected >> (8 - len(self.bits)) & 1 != bit:
            self.expected = -1
        if len(self.bits) == 8:
            self._next_byte(self.partial & 255)
        if len(self.bits) in (0, 4):
            self._find()

    @property
    def partial(self) -> int:
        """The bits of this byte with a 1 before them."""
        return int("1" + "".join(map(str, self.bits)), 2)

    @property
    def match_class(self) -> int:
        """The class of the length of the match; 0 if there is none."""
        n = self.length if self.expected >= 0 else 0
        return n if n < 16 else 16 + (n - 16) // 4 if n < 32 else 20 + (n - 32) // 32

    def _ask(self) -> int:
        node = int("1" + "".join(map(str, self.bits[len(self.bits) // 4 * 4 :])), 2)
        self.inputs: list[int] = []
        self.asked: list[tuple[int, int, _Place]] = []
        known = 0
        for i in range(12):
            state = self.slots[self.at[i] + node]
            place = self.maps[i][state]
            self.asked.append((self.at[i] + node, state, place))
            self.inputs.append(place.opinion() if state else 0)
            known += state > 0 and i < 5
        self.match_place = None
        if self.expected >= 0:
            bit = self.expected >> (7 - len(self.bits)) & 1
            self.match_place = self.match_maps[2 * min(self.match_class, 31) + bit]
        self.inputs.append(self.match_place.opinion() if self.match_place else 0)
        last = self.text[-1] if self.text else 0
        self.order1_place = self.order1.setdefault((last, self.partial), _Place(1 << 21))
        self.inputs += [self.order1_place.opinion(), self.order0[self.partial].opinion(), 256]
        return known

    def _weights(self, set_: tuple[int, int, int, int]) -> list[int]:
        return self.mixers.setdefault(set_, [13000] * 16)

    def _final(self) -> list[int]:
        return self.final.setdefault(self.partial, [21845] * 3)

    def _correct(self, last: int, x: int) -> int:
        step, beyond = divmod(min(2303, max(-2303, x)) + 2304, 144)
        self.nearer = (last, self.partial, step + (2 * beyond >= 144))
        lower, upper = self._point(last, self.partial, step), self._point(last, self.partial, step + 1)
        return (lower * (144 - beyond) + upper * beyond) // (144 << 16)

    def _point(self, last: int, partial: int, step: int) -> int:
        return self.corrections.get((last, partial, step), _SQUASH[(step - 16) * 144 + EDGE] << 16)

    def _find(self) -> None:
        for i, h in enumerate(self.hashes):
            h = _mixed(h, self.partial) if self.bits else h
            line = 64 * (h // 256 % (len(self.slots) // 64))
            four = range(line, line + 64, 16)
            same = [at for at in four if self.slots[at] == h % 256]
            self.at[i] = same[0] if same else min(four, key=lambda at: self.slots[at + 1])
            if not same:
                self.slots[self.at[i] : self.at[i] + 16] = bytes([h % 256]) + bytes(15)

    def _next_byte(self, byte: int) -> None:
        self.bits = []
        self.behind[len(self.text) % len(self.behind)] = byte
        self.text.append(byte)
        letter = byte + 32 if byte in range(65, 91) else byte
        if letter in range(97, 123) or byte >= 128:
            self.words[0] = _mixed(self.words[0] + letter, 1)
        elif self.words[0]:
            self.words = [0, *self.words[:2]]
        if byte == 10:
            self.lines = [len(self.text), len(self.text) - self.lines[0]]
        self._hash(byte)
        self._follow_match(byte)

    def _hash(self, byte: int) -> None:
        one, two, four, six, eight = (self._last(n) for n in (1, 2, 4, 6, 8))
        width = self.lines[1]
        above = (
            self.behind[(len(self.text) - width) % len(self.behind)] if 0 < width < len(self.behind) else 0
        )
        word, word1, word2 = self.words
        pair = word * 3 + byte + word1 * 0x1F35B1
        column = min(255, len(self.text) - self.lines[0])
        self.hashes = [
            _mixed(one, 2),
            _mixed(two, 3),
            _mixed(self._last(3), 4),
            _mixed(four, 5),
            _mixed(four + (six >> 32) * 0x1F35B1D7, 6),
            _mixed(four + (eight >> 32) * 0x1F35B1D7, 7),
            _mixed(word + byte * 0x1F35B1D7, 8),
            _mixed(pair, 9),
            _mixed(pair + word2 * 0x51B1, 10),
            _mixed(above * 256 + byte, 11),
            _mixed(column * 256 + above, 12),
            _mixed(four & 0xF0F0F0FF, 13),
        ]

    def _last(self, n: int) -> int:
        return int.from_bytes(self.text[-n:])

    def _follow_match(self, byte: int) -> None:
        size, here = len(self.behind), len(self.text)
        if self.length and self.behind[self.match % size] == byte:
            self.match, self.length = self.match + 1, min(self.length + 1, 65535)
        else:
            self.length = 0
        key = _mixed(self._last(4) + (self._last(6) >> 32) * 0x1F35B1D7, 14) % len(self.seen)
        if not self.length:
            self.match = self.seen[key]
            while self.match and self.length < 400:
                if (
                    self.behind[(self.match - self.length - 1) % size]
                    != self.behind[(here - self.length - 1) % size]
                ):
                    break
                self.length += 1
            self.length = self.length if self.length >= 5 else 0
        self.seen[key] = here % size
        self.expected = self.behind[self.match % size] if self.length else -1


class _Place:
    """A probability that adapts, of 22 bits, the more slowly the more it has seen."""

    def __init__(self, p: int) -> None:
        self.p, self.count = p, 0

    def opinion(self) -> int:
        """Its logistic."""
        return _STRETCH[self.p >> 10]

    def move(self, bit: int) -> None:
        """Learns a bit."""
        self.p += ((bit << 22) - self.p) * (131072 // (2 * self.count + 3)) >> 16
        self.count = min(self.count + 1, 1023)


def _mixed(a: int, b: int) -> int:
    h = (a & _LOW) * 0x2F0B4C47 + (b & _LOW) * 0x3D4D51CB
    h = ((h ^ h >> 29) & _LOW) * 0x2545F491
    return (h >> 13 ^ h) & _LOW


def _dot(weights: list[int], inputs: list[int]) -> int:
    return sum(w * x for w, x in zip(weights, inputs, strict=True)) >> 16


def _clipped(x: int) -> int:
    return min(EDGE, max(-EDGE, x))


def _teach(weights: list[int], inputs: list[int], error: int) -> None:
    for i, x in enumerate(inputs):
        weights[i] += (x * error + (1 << 19)) >> 20
