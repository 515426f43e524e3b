"""What a request is answered with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_SCORE, _FALLBACK, _NEXT = b'","score":', b'null,"fallback":true', b'},{"item":"'


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
    reason: str | None = None
    """Why items of it are fallbacks (`endcap.reasons`); None where none is."""
    written: bytes | None = field(default=None, repr=False, compare=False)
    """The items as JSON (`write_items`), where that was made already."""

    def to_json(self) -> dict[str, Any]:
        """``{"items": [{"item", "score"[, "fallback": true]}, …], "unknown": n[, "fallback": {"reason", "items": n}][,
        "removed": …][, "precomputed"]}``."""
        read: dict[str, Any] = orjson.loads(self.to_bytes())
        return read

    def to_bytes(self, extra: Mapping[str, Any] | None = None) -> bytes:
        """`to_json`, and what `extra` has, as JSON."""
        items = self.written
        if items is None:
            scores = [score for score in self.scores if score is not None]
            items = write_items(self.ids, np.array(scores, dtype=np.float32))
        rest: dict[str, Any] = {"unknown": self.unknown}
        if self.reason is not None:
            rest["fallback"] = {"reason": self.reason, "items": self.scores.count(None)}
        if self.removed is not None:
            rest["removed"] = self.removed
        if self.precomputed:
            rest["precomputed"] = True
        rest.update(extra or {})
        return b'{"items":%b,%b' % (items, orjson.dumps(rest)[1:])


def write_items(ids: Sequence[str], scores: NDArray[np.float32]) -> bytes:
    """The items of an answer as JSON, those without a score as fallbacks. A score has the digits of a float32.

    Put together from pieces of two lists written at once: half the time of making dictionaries and writing these.
    """
    if not ids:
        return b"[]"
    pieces = [b"", _SCORE, _FALLBACK, _NEXT] * len(ids)
    # Within a JSON string each quotation mark stands behind a backslash: this one is always between two.
    pieces[::4] = orjson.dumps(ids)[2:-2].split(b'","')
    if len(scores):
        numbers = orjson.dumps(np.ascontiguousarray(scores), option=orjson.OPT_SERIALIZE_NUMPY)
        pieces[2 : 4 * len(scores) : 4] = numbers[1:-1].split(b",")
    pieces[-1] = b"}]"
    return b'[{"item":"%b' % b"".join(pieces)
