"""Fingerprints of values: what an output is addressed by."""

from __future__ import annotations

import hashlib
import json

LENGTH = 20


def fingerprint(*parts: object) -> str:
    """Compute a fingerprint of values.

    Parameters
    ----------
    parts
        Dicts, lists, strings, numbers, booleans and None. The order of a dict's keys does not count.

    Returns
    -------
    str
        The first 20 hexadecimal digits of the SHA-256 of the canonical JSON.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
