"""Pseudonyms in place of shoppers' ids in Envoy's access log.

Envoy can write an id or leave it out, but it has no keyed hash. So Envoy writes the log to a pipe, and its parent
replaces the ids. The hash has a key, because somebody could otherwise hash all possible ids and compare.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
from collections.abc import Callable
from typing import Literal

from endcap.errors import UserError
from endcap.pseudonyms import SHORTEST_KEY, encode_id, hash_keyed
from endcap.secrets import read_variable

ShopperLogging = Literal["plain", "pseudonym", "none"]
"""How the access log shows the shopper of a request: by the id, by a pseudonym of it, or not at all."""
KEY = "ENDCAP_LOG_KEY"
"""The variable with the key. Logs with the same key give a shopper the same pseudonym."""
_SHOPPER = re.compile(rb'"shopper":"((?:[^"\\]|\\.)*)"')
"""A shopper's field in a line. Quotes inside a value are escaped, so no other value can look like this field."""
_CHUNK = 2**20


class Pseudonyms:
    """Makes the pseudonyms of one key.

    Parameters
    ----------
    key
        The key. None: the one in the variable `KEY`, or else a random one, which is lost with this process.

    Raises
    ------
    UserError
        If the key is shorter than `SHORTEST_KEY` bytes: somebody could guess it.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or read_variable(KEY).encode() or secrets.token_bytes(32)
        if len(self._key) < SHORTEST_KEY:
            raise UserError(
                f"{KEY}: found {len(self._key)} characters; allowed: at least {SHORTEST_KEY}; "
                "`openssl rand -hex 32` prints a good one",
                code="serving.log-key-short",
                variable=KEY,
                least=SHORTEST_KEY,
            )

    def make_pseudonym(self, shopper: str) -> str:
        """Return a shopper's pseudonym: the first 80 bits of HMAC-SHA-256 (RFC 2104), as 20 hexadecimal digits."""
        return hash_keyed(self._key, encode_id(shopper), 10)

    def rewrite(self, lines: bytes) -> bytes:
        """Replace the shoppers' ids in whole lines of the access log."""
        return _SHOPPER.sub(self._replace, lines)

    def _replace(self, match: re.Match[bytes]) -> bytes:
        shopper = match[1].decode("utf-8", "replace")
        if b"\\" in match[1]:
            # Envoy escapes bytes that are no UTF-8 in its own way. Such an id is hashed as Envoy wrote it.
            with contextlib.suppress(ValueError):
                shopper = json.loads(f'"{shopper}"')
        return b'"shopper":"%s"' % self.make_pseudonym(shopper).encode()


def start_rewriting(source: int, write: Callable[[bytes], None], pseudonyms: Pseudonyms) -> threading.Thread:
    """Start a thread that rewrites the access log.

    Parameters
    ----------
    source
        A file descriptor. The thread reads it to its end, and closes it.
    write
        It gets whole lines with pseudonyms. If it raises OSError, these lines are lost, as Envoy loses its own on a
        full disk: no request may wait for a log.
    pseudonyms
        The pseudonyms to write.

    Returns
    -------
    threading.Thread
        The thread, which is running.
    """

    def rewrite_all() -> None:
        unfinished_line = b""
        with os.fdopen(source, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_CHUNK):
                lines, newline, unfinished_line = (unfinished_line + chunk).rpartition(b"\n")
                with contextlib.suppress(OSError):
                    write(pseudonyms.rewrite(lines + newline))

    thread = threading.Thread(target=rewrite_all, name="pseudonyms", daemon=True)
    thread.start()
    return thread


def write_all(file: int, content: bytes) -> None:
    """Write all of `content` to a file descriptor. Raises OSError."""
    unwritten = memoryview(content)
    while unwritten:
        unwritten = unwritten[os.write(file, unwritten) :]
