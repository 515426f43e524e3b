"""Pseudonyms in the place of shoppers' ids in Envoy's access log.

Envoy can write an id or leave it out, and has no keyed hash. So it writes to a pipe, and its parent hashes on the way:
with a key, because ids are few enough to try all of them.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Callable
from typing import Literal

from endcap.errors import UserError
from endcap.secrets import read_variable

Shoppers = Literal["plain", "pseudonym", "none"]
"""What the access log says of who is asked for: the id, a pseudonym of it, nothing."""
KEY = "ENDCAP_LOG_KEY"
"""The variable with the key. Logs of the same key have the same pseudonym of a shopper."""
SHORTEST_KEY = 16
_SHOPPER = re.compile(rb'"shopper":"((?:[^"\\]|\\.)*)"')
"""Quotes inside of a value are escaped, so that no value can look like this key."""
_CHUNK = 2**20


class Pseudonyms:
    """Of one key. None: the one that `KEY` has, else one that is drawn now, and forgotten with this process.

    Raises UserError where the key is too short to keep anything.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or read_variable(KEY).encode() or secrets.token_bytes(32)
        if len(self._key) < SHORTEST_KEY:
            raise UserError(
                f"{KEY}: found {len(self._key)} characters; allowed: at least {SHORTEST_KEY}, such as "
                "`openssl rand -hex 32` prints",
                code="serving.log-key-short",
                variable=KEY,
                least=SHORTEST_KEY,
            )

    def of(self, shopper: str) -> str:
        """80 bits of HMAC-SHA-256."""
        return hmac.digest(self._key, shopper.encode("utf-8", "surrogatepass"), "sha256")[:10].hex()

    def lines(self, lines: bytes) -> bytes:
        """Whole lines of the access log, with pseudonyms."""
        return _SHOPPER.sub(self._replace, lines)

    def _replace(self, match: re.Match[bytes]) -> bytes:
        shopper = match[1].decode("utf-8", "replace")
        if b"\\" in match[1]:
            # What Envoy escapes in its own way, as bytes that are no UTF-8, stays as it wrote it.
            with contextlib.suppress(ValueError):
                shopper = json.loads(f'"{shopper}"')
        return b'"shopper":"%s"' % self.of(shopper).encode()


def start_rewriting(source: int, write: Callable[[bytes], None], pseudonyms: Pseudonyms) -> threading.Thread:
    """A thread that reads lines from the file descriptor `source` to its end, and hands them on with pseudonyms.

    Lines that cannot be written are lost, as Envoy loses its own on a full disk: nobody may wait for a log.
    """

    def run() -> None:
        begun = b""
        with os.fdopen(source, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_CHUNK):
                whole, newline, begun = (begun + chunk).rpartition(b"\n")
                with contextlib.suppress(OSError):
                    write(pseudonyms.lines(whole + newline))

    thread = threading.Thread(target=run, name="pseudonyms", daemon=True)
    thread.start()
    return thread


def write_all(file: int, content: bytes) -> None:
    """Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
