"""Text without secrets: an address without its credentials, and a message that quotes such addresses.

Errors, logs, run records and tables show addresses, and client libraries quote them. `redact` is the only function that
makes them fit to be shown; `endcap.errors.EndcapError` calls it for every message and field.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HIDDEN = "…"
"""Stands where a secret stood."""
_PARAMETERS = (
    r"[\w.-]*password|passwd|pwd|[\w.-]*token|[\w.-]*secret|api_?key|[\w.-]*access_?key|sig|"
    r"X-Amz-Signature|X-Amz-Credential"
)
_WORDS = r"(?:ssl|pg)?password|passwd|pwd|secret_access_key|aws_secret_access_key|mlflow_tracking_(?:password|token)"
"""Names of secrets in a driver's `name=value`, and in a mapping that is printed."""
_WEBHOOKS = (
    r"hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/|"
    r"[\w-]+\.webhook\.office\.com/webhookb2/"
)
"""Hosts whose paths are the secret: whoever knows one may write to a channel."""
SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?P<shown>[?&](?:{_PARAMETERS})=)[^&\s]+", re.IGNORECASE), "a secret in an address"),
    (re.compile(rf"(?P<shown>(?:^|[\s'\"(,;{{])(?:{_WORDS})=['\"]?)[^\s'\",;)}}]+", re.IGNORECASE), "a password"),
    (re.compile(rf"(?P<shown>(?P<quote>['\"])(?:{_WORDS})(?P=quote): ?['\"])[^'\"]+", re.IGNORECASE), "a password"),
    (re.compile(rf"(?P<shown>\b(?:{_WEBHOOKS}))[\w/%-]+", re.IGNORECASE), "an address of a webhook"),
    (re.compile(r"(?P<shown>\b(?:Bearer|Basic) )[\w.~+/=-]{8,}"), "a token"),
    (re.compile(r"(?P<shown>)\beyJ[\w-]{8,8000}+\.[\w-]++\.[\w-]*"), "a token"),
    (re.compile(r"(?P<shown>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "an access key"),
    (re.compile(r"(?P<shown>)\bya29\.[\w.-]{8,}"), "a token"),
    (re.compile(r"(?P<shown>-----BEGIN [A-Z ]*PRIVATE KEY-----)[^-]+"), "a private key"),
    (re.compile(r"(?P<shown>)\b(?:gh[pousr]_|glpat-|xox[abp]-|hvs\.|sk-)[\w-]{16,}"), "a token"),
)
"""What is a secret wherever it stands, and the words for it. `shown`: the part of a match that may stay."""
_WORD = re.compile(r"\S+")
_SCHEME_SIGNS = frozenset(string.ascii_letters + string.digits + "+.-")
_PLAIN = ("file", "gs", "http", "https", "s3", "sqlite")
"""Schemes whose paths may hold an @ that ends no credentials."""


def redact(text: str) -> str:
    """Replace every secret in a text by HIDDEN; return text without secrets unchanged.

    The credentials of an address reach to the last @ before a space, since passwords hold /, ?, # and @ too. Where an
    address might hold a password or a path, it is taken for a password.
    """
    if "://" in text:
        text = _WORD.sub(_redact_word, text)
    for pattern, _ in SECRETS:
        text = pattern.sub(rf"\g<shown>{HIDDEN}", text)
    return text


def redact_all(value: Any) -> Any:
    """Do the same with each text in mappings, lists and tuples; return other values unchanged."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_all(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redact_all(part) for part in value) if type(value) in (list, tuple) else value
    return value


def find_secret(text: str) -> str | None:
    """Name the first secret in a text, such as `a token`; None if there is none. A user name alone is no secret."""
    for word in _WORD.findall(text) if "://" in text else ():
        if (address := _redact_address(word)) and _hides(address) and address.hidden.partition(":")[2]:
            return "a password in an address"
    return next((kind for pattern, kind in SECRETS if pattern.search(text)), None)


@dataclass(frozen=True)
class _Address:
    """An address in a word. before, after: the rest of the word. hidden: what stands between :// and the last @."""

    before: str
    scheme: str
    hidden: str
    after: str


def _redact_address(word: str) -> _Address | None:
    """The first address of a word that has an @ behind its scheme.

    Each sign is looked at a fixed number of times: texts in errors are whatever others send, of any length.
    """
    end = word.rfind("@")
    begin = word.find("://", 0, max(end, 0))
    while begin >= 0:
        first = begin
        while first and word[first - 1] in _SCHEME_SIGNS:
            first -= 1
        while first < begin and not word[first].isalpha():
            first += 1
        if first < begin:
            return _Address(word[:first], word[first:begin], word[begin + 3 : end], word[end + 1 :])
        begin = word.find("://", begin + 3, end)
    return None


def _redact_word(match: re.Match[str]) -> str:
    address = _redact_address(match[0])
    if address is None or not _hides(address):
        return match[0]
    return f"{address.before}{address.scheme}://{HIDDEN}@{address.after}"


def _hides(address: _Address) -> bool:
    """Whether what stands before the @ may be credentials, and not a path."""
    authority = re.split(r"[/?#]", address.hidden, maxsplit=1)[0]
    ends_there = authority == address.hidden or "@" in authority
    return ends_there or ":" in authority or address.scheme.lower() not in _PLAIN
