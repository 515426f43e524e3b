"""The answer to a ranking request."""

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
    """The items of one ranking, best first. A score of None marks a fallback, an item that the model did not score."""

    ids: list[str]
    scores: list[float | None]
    """One score for each item. Fallbacks come last."""
    unknown: int = 0
    """The number of the request's session items and candidates that the model does not know."""
    removed: list[dict[str, Any]] | None = None
    """What rules removed, if the request asks for an explanation. With candidates: ``{"item", "rule"}`` for each
    removed one. Otherwise ``{"rule", "items"}`` with the number of items that the rule removes from the catalogue."""
    precomputed: bool = False
    """Whether the items are the customer's list of the last batch."""
    reason: str | None = None
    """Why some items are fallbacks (`endcap.fallback_reasons`). None: no item is one."""
    written: bytes | None = field(default=None, repr=False, compare=False)
    """The items as JSON (`write_items`), if they were written before."""
    together: int = field(default=0, repr=False, compare=False)
    """How many sessions the model scored in one call, this one among them; 0: it scored none. The last bits of a score
    may depend on it."""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON values.

        Returns
        -------
        dict
            ``{"items": [{"item", "score"[, "fallback": true]}, …], "unknown": n[, "fallback": {"reason", "items": n}][,
            "removed": …][, "precomputed"]}``.
        """
        content: dict[str, Any] = orjson.loads(self.to_bytes())
        return content

    def to_bytes(self, extra: Mapping[str, Any] | None = None) -> bytes:
        """Return `to_json`, extended by the keys of `extra`, as encoded JSON."""
        items = self.written
        if items is None:
            scores = [score for score in self.scores if score is not None]
            items = write_items(self.ids, np.array(scores, dtype=np.float32))
        fields: dict[str, Any] = {"unknown": self.unknown}
        if self.reason is not None:
            fields["fallback"] = {"reason": self.reason, "items": self.scores.count(None)}
        if self.removed is not None:
            fields["removed"] = self.removed
        if self.precomputed:
            fields["precomputed"] = True
        fields.update(extra or {})
        return b'{"items":%b,%b' % (items, orjson.dumps(fields)[1:])


def write_items(ids: Sequence[str], scores: NDArray[np.float32]) -> bytes:
    """Return the items of an answer as JSON.

    Parameters
    ----------
    ids
        Item ids, best first.
    scores
        The scores of the first items. The other items are fallbacks. A score keeps the digits of a float32.

    Notes
    -----
    The text is joined from two encoded lists. That takes half the time of encoding one dictionary for each item.
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
