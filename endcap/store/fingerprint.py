"""Fingerprints of values: what an output is addressed by."""

from __future__ import annotations

import hashlib
import json

LENGTH = 20


def fingerprint(*parts: object) -> str:
    """The first 20 hex digits of the SHA-256 of the parts as canonical JSON.

    Parts are made of dicts, lists, strings, numbers, booleans and None; dict order does not count.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]
