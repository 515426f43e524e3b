"""A set of forbidden items in few bytes: a Bloom filter finds every item of the set, and a few others by mistake.

Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 13 (1970). With ten bits an item, one allowed
item in a hundred is mistaken for a forbidden one; with less room, more are.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

BITS = 10
"""Of each item, as far as there is room."""


@dataclass(frozen=True)
class BloomFilter:
    """A set of items.

    Attributes
    ----------
    bits
        The filter in base85.
    hashes
        How many bits of the filter stand for an item.
    """

    bits: str = ""
    hashes: int = 1

    @classmethod
    def of(cls, items: Collection[str], most: int) -> BloomFilter:
        """Make the filter of these items, of at most `most` bytes."""
        if not items:
            return cls()
        size = max(1, min(most, -(-BITS * len(items) // 8)))
        hashes = min(20, max(1, round(8 * size / len(items) * math.log(2))))
        bits = bytearray(size)
        for item in items:
            for place in _hash_to_places(item, 8 * size, hashes):
                bits[place >> 3] |= 1 << (place & 7)
        return cls(base64.b85encode(bits).decode(), hashes)

    @classmethod
    def read(cls, bits: str, hashes: int) -> BloomFilter:
        """Read a stored filter. Raises ValueError or TypeError if it is none."""
        read = cls(bits, hashes)
        if type(hashes) is not int or not 1 <= hashes <= 20 or len(read._bits) > 1 << 20:
            raise ValueError("no filter")
        return read

    def holds(self, item: str) -> bool:
        """True for each item of the set, and for a few others."""
        bits = self._bits
        return bool(bits) and all(
            bits[place >> 3] >> (place & 7) & 1 for place in _hash_to_places(item, 8 * len(bits), self.hashes)
        )

    @cached_property
    def _bits(self) -> bytes:
        """Raises ValueError if `bits` is not base85."""
        return base64.b85decode(self.bits)


def _hash_to_places(item: str, size: int, hashes: int) -> list[int]:
    """Kirsch and Mitzenmacher, "Less hashing, same performance", 2006: two hashes make all others."""
    digest = hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
    return [(first + number * second) % size for number in range(hashes)]
