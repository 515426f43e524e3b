"""A request that is hostile, or something like one, as bytes on a connection; and ordinary ones to bend."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from tests.chaos import bodies

NAME = "shoes"
PATHS = {
    "v1": [f"/v1/models/{NAME}:predict", f"/{NAME}/v1/models/{NAME}:predict"],
    "v2": [f"/v2/models/{NAME}/infer", f"/{NAME}/v2/models/{NAME}/infer"],
    "events": ["/v1/events"],
    "impressions": ["/v1/impressions"],
    "orders": ["/v1/orders"],
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True)
class Hostile:
    """A request, or something like one. pieces: sent one after the other, `pause` seconds apart.

    then: what the client does when it has sent all: `read` until it is answered or closed; `half`: it says that it
    sends no more, and reads; `leave`: it goes away at once. least: answers that it can expect, at least.
    """

    kind: str
    pieces: tuple[bytes, ...]
    pause: float = 0.0
    then: str = "read"


def post(
    path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST", version: str = "1.1"
) -> bytes:
    """A whole request."""
    given = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1", "replace") + body


def any_kind(chance: random.Random) -> str:
    return chance.choice(["v1", "v1", "v1", "v2", "v2", "events", "impressions", "orders"])


def ordinary(kind: str) -> bytes:
    return json.dumps(bodies.ORDINARY[kind]).encode()
