"""Keyed pseudonyms in place of the ids of customers and sessions.

A pseudonym is `PREFIX` and 32 hexadecimal digits: 96 bits of HMAC-SHA-256 (RFC 2104) of the id, then 32 bits that
are a hash of these under the same key. By the second part a pseudonym of the key is recognised, and stays as it is:
ingest reads what the intake has written, and a service may ask with an id from a list. An id that only looks like a
pseudonym does not pass for one. Without the key nobody can tell whose a pseudonym is, not even by hashing all ids.

This form never changes. What is stored under pseudonyms could not be joined otherwise.
"""

from __future__ import annotations

import functools
import hmac
import re
from collections.abc import Mapping

from endcap.errors import UserError
from endcap.secrets import read_variable

KEY = "ENDCAP_PSEUDONYM_KEY"
"""The variable with the key. It is never in a store, a log or an argument list."""
SECRET = "endcap-pseudonyms"  # noqa: S105 (a name)
"""The Kubernetes Secret whose key of the variable's name has the key: for steps, and where manifests name no other."""
SHORTEST_KEY = 16
"""Bytes. A shorter key can be guessed."""
PREFIX = "p-"
PATTERN = "^p-[0-9a-f]{32}$"
"""What texts match that look like pseudonyms, as RE2 and Python have it."""
_SHAPE = re.compile("p-[0-9a-f]{32}", re.ASCII)
_CACHED = 1 << 16
"""Ids whose pseudonyms are remembered: an id of a customer or a session comes many times."""
_BYTES, _CHECK_BYTES = 12, 4
# No id has a control character, so no id hashes to one of these.
_OF_CHECK, _OF_KEY = b"\x00check\x00", b"\x00key\x00"


class Pseudonymiser:
    """Makes the pseudonyms of one key.

    Parameters
    ----------
    key
        The key, at least `SHORTEST_KEY` bytes.
    variable
        The variable that it comes from, for the error.

    Raises
    ------
    UserError
        If the key is too short (`pseudonyms.key-short`).

    Notes
    -----
    Its text form does not show the key, and it cannot be pickled, so no file or message holds the key by accident.

    Examples
    --------
    >>> pseudonymiser = Pseudonymiser(b"an example, no secret")
    >>> pseudonymiser.pseudonymise("anna")
    'p-8bb75bc9fbfac37b7d3ee72a292725bc'
    """

    def __init__(self, key: bytes, *, variable: str = KEY) -> None:
        if len(key) < SHORTEST_KEY:
            raise UserError(
                f"{variable}: the key has {len(key)} bytes; allowed: at least {SHORTEST_KEY}. `openssl rand -hex 32` "
                "prints a good key",
                code="pseudonyms.key-short",
                variable=variable,
                bytes=len(key),
                least=SHORTEST_KEY,
            )
        self._key = key
        self._make_cached = functools.lru_cache(_CACHED)(self._make)
        self.key_id = hash_keyed(key, _OF_KEY, 4)
        """Eight hexadecimal digits that tell keys apart and do not give the key away. They may be stored and shown."""

    def pseudonymise(self, text: str) -> str:
        """Return the pseudonym of an id. A pseudonym of this key stays as it is."""
        return self._make_cached(text)

    def _make(self, text: str) -> str:
        if self.recognise(text):
            return text
        digits = hash_keyed(self._key, encode_id(text), _BYTES)
        return f"{PREFIX}{digits}{self._compute_check(digits)}"

    def recognise(self, text: str) -> bool:
        """Return whether a text is a pseudonym of this key."""
        if not looks_like_pseudonym(text):
            return False
        split = len(PREFIX) + 2 * _BYTES
        return hmac.compare_digest(self._compute_check(text[len(PREFIX) : split]), text[split:])

    def _compute_check(self, digits: str) -> str:
        return hash_keyed(self._key, _OF_CHECK + digits.encode(), _CHECK_BYTES)

    def __repr__(self) -> str:
        return f"Pseudonymiser(key_id={self.key_id!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a pseudonymiser holds a key and is not pickled; hand on the variable")


def read_pseudonymiser(variable: str = KEY, environment: Mapping[str, str] | None = None) -> Pseudonymiser | None:
    """Make the pseudonymiser of the key in a variable; None if the variable is not set.

    Raises
    ------
    UserError
        If the key is too short (`pseudonyms.key-short`), or has a control character inside.
    """
    text = read_variable(variable, environment)
    return Pseudonymiser(text.encode(), variable=variable) if text else None


def require_pseudonymiser(reason: str, key_id: str | None = None) -> Pseudonymiser:
    """Make the pseudonymiser of the key in `KEY`.

    Parameters
    ----------
    reason
        Why there must be one, for the error.
    key_id
        The id of the key that it must be. None: any.

    Raises
    ------
    UserError
        If the variable is not set (`pseudonyms.key-missing`) or has another key (`pseudonyms.key-differs`), or as
        `read_pseudonymiser` does.
    """
    pseudonymiser = read_pseudonymiser()
    if pseudonymiser is None:
        raise UserError(
            f"{KEY} is not set, and {reason}. Set it to the key that all parts of the shop share",
            code="pseudonyms.key-missing",
            variable=KEY,
            reason=reason,
        )
    if key_id not in (None, pseudonymiser.key_id):
        raise UserError(
            f"{KEY} has the key {pseudonymiser.key_id}, and {reason}, made with the key {key_id}. Set the variable to "
            "that key, or make the data and the versions anew with this one",
            code="pseudonyms.key-differs",
            variable=KEY,
            actual=pseudonymiser.key_id,
            expected=key_id,
            reason=reason,
        )
    return pseudonymiser


def looks_like_pseudonym(text: str) -> bool:
    """Return whether a text has the form of a pseudonym, of whichever key."""
    return _SHAPE.fullmatch(text) is not None


def hash_keyed(key: bytes, message: bytes, length: int) -> str:
    """Return the first bytes of HMAC-SHA-256 (RFC 2104) as hexadecimal digits. length: how many bytes."""
    return hmac.digest(key, message, "sha256")[:length].hex()


def encode_id(text: str) -> bytes:
    """Return an id's bytes. Halves of surrogate pairs, which logs may hold, have bytes too."""
    return text.encode("utf-8", "surrogatepass")
