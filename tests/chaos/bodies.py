"""Hostile JSON: ordinary bodies of each kind, with something else in the place of a leaf, or bent as text."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[str | int, ...]

RANK = {
    "items": ['item "1" ü', 'item "2" ü'],
    "k": 5,
    "customer": "customer 1 ö",
    "session": "s-1",
    "candidates": ['item "3" ü'],
    "exclude": ['item "4" ü'],
    "category": "boots",
    "filter": {"category": ["boots", "sandals"]},
    "explain": True,
}
V1 = {"instances": [RANK]}
V2 = {
    "id": "r-1",
    "inputs": [{"name": "request", "shape": [1], "datatype": "BYTES", "data": [json.dumps(RANK)]}],
    "parameters": {"binary_data": False},
}
EVENT = {"id": "e-1", "item": "p1", "session": "s-1", "customer": "c-1", "type": "view", "time": 1_767_268_800_000}
IMPRESSION = {"id": "i-1", "ranking_id": "r-1.0", "item": "p1", "position": 0, "surface": "home", "session": "s-1"}
ORDER = {
    "id": "o-1",
    "customer": "c-1",
    "items": [{"item": "p1", "quantity": 1, "price": 59.9}],
    "time": "2026-01-01T12:00:00Z",
}
ORDINARY: dict[str, Any] = {"v1": V1, "v2": V2, "events": [EVENT], "impressions": [IMPRESSION], "orders": [ORDER]}

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**63,
    10**30,
    -0.0,
    "",
    "x" * 5000,
    "a\x00b",
    "line\nbreak",
    "\u202egnp",
    "../../etc/passwd",
    "😀" * 300,
    "2026-13-45T99:99:99Z",
    [],
    {},
    [[[[]]]],
    {"a": {"b": {}}},
    ["x"] * 300,
    {"__proto__": 1, "constructor": {}},
    [None, 1, "a", {}],
]
TEXTS = [
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-1e-400",
    b"9" * 4000,
    b"0x10",
    b"01",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b"\x00",
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"'single'",
    b"/* comment */ 1",
    b"[1,]",
    b"undefined",
]
"""What stands in the place of a value as it is, JSON or not."""
_MARK = "\ue000here\ue000"
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9.]+|true|false|null|[\[\]{}]')


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The places of all values of a document, the document itself among them."""
    yield path
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in rows:
        yield from leaves(below, (*path, key))


def put(value: Any, path: Path, other: Any) -> Any:
    """The document with something else at a place."""
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], other)
    return copy


def with_wrong_leaf(kind: str, chance: random.Random) -> bytes:
    """An ordinary body with one value of a wrong type or size; in a V2 element, which is JSON in a text, too."""
    if kind == "v2" and chance.random() < 0.5:
        instance = put(RANK, chance.choice(list(leaves(RANK))), chance.choice(VALUES))
        return json.dumps(put(V2, ("inputs", 0, "data", 0), json.dumps(instance))).encode()
    document = ORDINARY[kind]
    place = chance.choice(list(leaves(document)))
    if chance.random() < 0.5:
        return json.dumps(put(document, place, chance.choice(VALUES))).encode()
    return json.dumps(put(document, place, _MARK)).encode().replace(json.dumps(_MARK).encode(), chance.choice(TEXTS))


def with_odd_keys(kind: str, chance: random.Random) -> bytes:
    """Keys twice, thousands of them, none that is known, or empty ones."""
    text = json.dumps(ORDINARY[kind]).encode()
    extra = chance.choice(
        [
            b'"k":1,' * chance.randrange(1, 2000),
            b'"":"",',
            b'"items":[],"items":{},',
            b"".join(b'"x%d":%d,' % (number, number) for number in range(chance.randrange(1, 3000))),
            b'"' + b"k" * 20_000 + b'":1,',
            b'"\\ud800":1,',
        ]
    )
    places = [match.end() for match in re.finditer(rb"\{", text)]
    at = chance.choice(places)
    return text[:at] + extra + text[at:]


def as_a_whole(chance: random.Random) -> bytes:
    """A body that is odd from its first byte on."""
    count = chance.randrange(1, 20_000)
    body: Callable[[], bytes] = chance.choice(
        [
            lambda: b"",
            lambda: b" " * count,
            lambda: b"[" * count,
            lambda: b'{"instances":' + b"[" * count + b"]" * count + b"}",
            lambda: b'{"instances":[' + b",".join([b'{"items":[]}'] * (count // 4)) + b"]}",
            lambda: b'{"instances":[{"items":[],"candidates":[' + b",".join([b'"x"'] * (5 * count)) + b"]}]}",
            lambda: b'{"instances":[{"items":["' + b"x" * (5 * count) + b'"]}]}',
            lambda: b'{"events":[' + b",".join([b"{}"] * count) + b"]}",
            lambda: json.dumps(V1).encode("utf-16"),
            lambda: json.dumps(V1).encode("utf-8-sig"),
            lambda: json.dumps(V1).encode("utf-32"),
            lambda: chance.randbytes(count),
            lambda: b"instances=%5B%5D",
            lambda: b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            lambda: b"\x1f\x8b\x08\x00" + chance.randbytes(50),
        ]
    )
    return body()


def bent(body: bytes, chance: random.Random) -> bytes:
    """A body with something cut, doubled, turned, or put in the place of a value."""
    at, end = sorted(chance.randrange(len(body) + 1) for _ in range(2))
    how = chance.randrange(4)
    if how == 0 or not body:
        return body[:at]
    if how == 1:
        return body[:at] + body[at:end] * chance.randrange(2, 50) + body[end:]
    if how == 2:
        place = chance.randrange(len(body))
        return body[:place] + bytes([body[place] ^ (1 << chance.randrange(8))]) + body[place + 1 :]
    tokens = list(_TOKENS.finditer(body))
    if not tokens:
        return body[:at]
    token = chance.choice(tokens)
    return body[: token.start()] + chance.choice(TEXTS) + body[token.end() :]


def hostile(kind: str, chance: random.Random) -> tuple[str, bytes]:
    """What was done, and a body of this kind to which it was done."""
    how = chance.choice(["leaf", "leaf", "leaf", "bent", "bent", "keys", "whole"])
    if how == "leaf":
        return how, with_wrong_leaf(kind, chance)
    if how == "keys":
        return how, with_odd_keys(kind, chance)
    if how == "whole":
        return how, as_a_whole(chance)
    return how, bent(json.dumps(ORDINARY[kind]).encode(), chance)
