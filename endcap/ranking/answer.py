"""What a request is answered with."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_FALLBACK = b'null,"fallback":true'


@dataclass(frozen=True)
class Answer:
    """Item ids, best first. A score of None marks a fallback: an item that the model had no opinion on."""

    ids: list[str]
    scores: list[float | None]
    """Fallbacks stand behind all others."""
    unknown: int = 0
    """How many of the request's session items and candidates the model does not know."""
    removed: list[dict[str, Any]] | None = None
    """What rules took away, where the request asked: ``{"item", "rule"}`` of candidates, else ``{"rule", "items"}``
    with how many items the rule takes out of the catalogue."""
    precomputed: bool = False
    """Whether it is the customer's list of the last batch."""
    written: bytes | None = field(default=None, repr=False, compare=False)
    """The items as JSON (`write_items`), where that was made already."""

    def to_json(self) -> dict[str, Any]:
        """``{"items": [{"item", "score"[, "fallback": true]}, …], "unknown": n[, "removed": …][, "precomputed"]}``."""
        read: dict[str, Any] = orjson.loads(self.to_bytes())
        return read

    def to_bytes(self, extra: Mapping[str, Any] | None = None) -> bytes:
        """`to_json`, and what `extra` has, as JSON."""
        items = self.written
        if items is None:
            scores = [score for score in self.scores if score is not None]
            items = write_items([head(item) for item in self.ids], np.array(scores, dtype=np.float32))
        rest: dict[str, Any] = {"unknown": self.unknown}
        if self.removed is not None:
            rest["removed"] = self.removed
        if self.precomputed:
            rest["precomputed"] = True
        rest.update(extra or {})
        return b'{"items":%b,%b' % (items, orjson.dumps(rest)[1:])


class Names:
    """The ids of a vocabulary, and what each is written as in an answer."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = np.empty(len(ids), dtype=object)
        self.ids[:] = ids

    @functools.cached_property
    def heads(self) -> NDArray[np.object_]:
        """`head` of each id: some 80 bytes an item."""
        heads = np.empty(len(self.ids), dtype=object)
        heads[:] = [head(item) for item in self.ids]
        return heads


def head(item: str) -> bytes:
    """An item of an answer as JSON up to its score, behind the end of the item before it."""
    return b'},{"item":%b,"score":' % orjson.dumps(item)


def write_items(heads: Sequence[bytes], scores: NDArray[np.float32]) -> bytes:
    """The items of an answer as JSON, those without a score as fallbacks. A score has the digits of a float32.

    Put together from pieces that are there already: half the time of making dictionaries and writing these.
    """
    if not heads:
        return b"[]"
    pieces: list[bytes] = [_FALLBACK] * (2 * len(heads))
    pieces[::2] = heads
    # Each head ends the item before it, and before the first there is none.
    pieces[0] = b"[" + heads[0][2:]
    if len(scores):
        numbers = orjson.dumps(np.ascontiguousarray(scores), option=orjson.OPT_SERIALIZE_NUMPY)
        pieces[1 : 2 * len(scores) : 2] = numbers[1:-1].split(b",")
    pieces.append(b"}]")
    return b"".join(pieces)
