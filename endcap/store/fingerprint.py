"""Fingerprints of values and of code: what an output is addressed by."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from pathlib import Path

LENGTH = 20


def fingerprint(*parts: object) -> str:
    """The first 20 hex digits of the SHA-256 of the parts as canonical JSON.

    Parts are made of dicts, lists, strings, numbers, booleans and None; dict order does not count.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


@functools.cache
def code_fingerprint(*modules: str) -> str:
    """Fingerprint of the source of modules or whole packages, by dotted name.

    A step names the packages that make its output, so that a change of their code makes new outputs.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        for file in _sources(name):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:LENGTH]


def _sources(name: str) -> list[Path]:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(name)
    origin = Path(found.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
