"""Ways to damage a file: bytes anywhere, numbers in headers, and values of JSON."""

from __future__ import annotations

import json
import struct
from typing import Any

from numpy.random import Generator

ODD: tuple[Any, ...] = (
    *(None, True, "", "x", "../../x", "http://localhost/x", [], [[]], {}, {"a": 1}, [1, 2]),
    *(-1, 0, 1, 2.5, 10**9, 10**30, -1e308, float("nan"), "\ud800"),
)
EXTREME = (0, 1, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def damaged(content: bytes, random: Generator) -> bytes:
    """The same bytes, damaged in one of six ways."""
    data, size = bytearray(content), len(content)
    way = int(random.integers(6))
    at = int(random.integers(size))
    if way == 0:  # flipped bits, mostly in the header
        for place in random.integers(min(size, 512) if random.random() < 0.5 else size, size=8):
            data[place] ^= int(random.integers(1, 256))
    elif way == 1:  # broken off
        del data[at:]
    elif way == 2:  # a number in the header that claims too much, or nothing
        place = int(random.integers(max(1, min(size, 512) - 4)))
        order = "<I" if random.random() < 0.5 else ">I"
        data[place : place + 4] = struct.pack(order, EXTREME[random.integers(len(EXTREME))])
    elif way == 3:  # a hole
        data[at : at + 64] = bytes(min(64, size - at))
    elif way == 4:  # something put in between
        data[at:at] = random.bytes(int(random.integers(1, 64)))
    else:  # a piece that comes again
        piece = data[at : at + 256]
        data[at:at] = piece * int(random.integers(1, 4))
    return bytes(data)


def odd_json(text: bytes, random: Generator) -> bytes:
    """The same JSON with one value replaced, left out, or nested too deep."""
    content = json.loads(text)
    place, keys = content, []
    while isinstance(place, (dict, list)) and len(place) and (not keys or random.random() < 0.7):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        parent, key = place, keys[int(random.integers(len(keys)))]
        place = parent[key]
    way = random.random()
    if way < 0.1:
        return b"[" * 100_000
    if way < 0.2:
        del parent[key]
    else:
        parent[key] = ODD[int(random.integers(len(ODD)))]
    return json.dumps(content).encode(errors="surrogatepass")
