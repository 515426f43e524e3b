"""Specs that are wrong in every way: each is refused by an error of Endcap's, or read, in a bounded time and memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from endcap.spec.load import load
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.bodies import VALUES, bent, leaves, put
from tests.chaos.child import call
from tests.chaos.step_kills import RECOMMENDER, SHOP

LIMIT, MEMORY = 10.0, 1 << 30
SECONDS = 3.0
"""In which a spec is read or refused; an error of 342 bytes of YAML is to come within one on a quiet machine."""
KINDS = ("a wrong leaf", "bent", "aliases", "depth", "size", "tags", "variables", "layers", "bytes")


@dataclass(frozen=True)
class Read(Seen):
    """A spec that was read. how: see `Outcome`."""

    how: str = "refused"
    said: str = ""
    seconds: float = 0.0


def attempts(stage: Stage) -> Iterator[Read]:
    for number in stage.numbers:
        kind, chance, place = KINDS[number % len(KINDS)], stage.chance(number), stage.place(f"spec-{number}")
        (place / "shops").mkdir()
        files = {"corner.yaml": RECOMMENDER, "shops/corner.yaml": SHOP.format(log=place)}
        hit = chance.choice(list(files))
        for name, text in files.items():
            (place / name).write_bytes(_hostile(kind, text, chance) if name == hit else text.encode())
        said = call(lambda place=place: bool(_read(place)), LIMIT, MEMORY)
        yield Read(number, kind, said.how, str(said.value)[:500], said.seconds)


def _read(place: Path) -> Any:
    return load(place / "corner.yaml")


def _hostile(kind: str, text: str, chance: random.Random) -> bytes:
    document = yaml.safe_load(text)
    if kind == "a wrong leaf":
        # As JSON, which is YAML too.
        return json.dumps(put(document, chance.choice(list(leaves(document))), chance.choice(VALUES))).encode()
    if kind == "bent":
        return bent(text.encode(), chance)
    key = chance.choice(list(document))
    return {
        "aliases": lambda: _with(document, key, _aliases(chance)),
        "depth": lambda: _with(
            document, key, chance.choice(["[" * 5000, "[" * 500 + "]" * 500, "{a: " * 2000 + "1" + "}" * 2000])
        ),
        "size": lambda: _with(document, key, "x" * chance.choice([1_000_000, 20_000_000, 50_000_000])),
        "tags": lambda: _with(document, key, chance.choice(_TAGS)),
        "variables": lambda: _with(document, key, chance.choice(_VARIABLES)),
        "layers": lambda: text.encode() + chance.choice(_LAYERS).encode(),
        "bytes": lambda: chance.choice(
            [chance.randbytes(500), b"", b"\0", text.encode("utf-16"), b"\xff" + text.encode(), b"---\n---\n"]
        ),
    }[kind]()


def _with(document: dict[str, Any], key: str, value: str) -> bytes:
    """The document with text in the place of a key's value."""
    rest = {name: below for name, below in document.items() if name != key}
    return f"{yaml.safe_dump(rest)}{key}: {value}\n".encode()


def _aliases(chance: random.Random) -> str:
    """Lists of lists, each named ten times in the next: a thousand million values in a few hundred bytes."""
    levels = chance.randrange(6, 12)
    lines = ["[&a0 [x, x]" + ", x" * 9]
    lines += [f"&a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return ", ".join(lines) + "]"


_TAGS = (
    '!!python/object/apply:os.system ["touch pwned"]',
    "!!binary x",
    "!unknown {}",
    "!!set {a, b}",
    "!!timestamp x",
    "&a [*a]",
    "*nowhere",
    "!!float x",
    "!!omap []",
)
_VARIABLES = (
    "${" * 500,
    "${HOME}${HOME:-${HOME}}",
    "${A:-" * 200 + "}" * 200,
    "$" * 5000,
    "${\x41\n}",
    "~root/../../etc/passwd",
    "${}",
)
_LAYERS = (
    "\nextends: corner\n",
    "\nextends: ../corner\n",
    "\nextends: /dev/zero\n",
    "\nextends: /etc/passwd\n",
    "\nextends: [[a]]\n",
    "\nextends: {}\n",
    "\nextends: shops/corner.yaml\n",
)


def judge(seen: Read) -> Iterator[str]:
    if seen.how not in ("returned", "refused"):
        yield f"it {seen.how}: {seen.said}"
    elif seen.seconds > SECONDS:
        yield f"it took {seen.seconds} s"


ATTACK = Attack("specs", "specs that are wrong in every way", attempts, judge, full=360, short=36, limit=300)
