"""What an attack is: attempts that are made out of a seed, and a judge who says of each what must not have happened."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar


@dataclass(frozen=True)
class Seen:
    """What was seen of one attempt. number: the attempt's, which repeats it; kind: what is counted under that name."""

    number: int
    kind: str


S = TypeVar("S", bound=Seen)


@dataclass
class Stage:
    """Where an attack takes place.

    folder: empty, and removed afterwards unless something was wrong. seconds: how long an attack goes on that has a
    length; short: the short form. figures: what an attack measured, by name.
    """

    name: str
    folder: Path
    seed: int
    count: int
    seconds: float
    short: bool
    only: int | None = None
    say: Callable[[str], None] = print
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def numbers(self) -> Iterable[int]:
        """Of the attempts that are to be made."""
        return range(self.count) if self.only is None else [self.only]

    def chance(self, number: int) -> random.Random:
        """An attempt's own source of chance, so that it can be repeated without those before it."""
        return random.Random(f"{self.seed}/{self.name}/{number}")

    def place(self, name: str) -> Path:
        """A new folder."""
        made = self.folder / name
        made.mkdir(parents=True)
        return made


@dataclass(frozen=True)
class Attack(Generic[S]):
    """One kind of attack.

    attempts: makes them on a stage, one after the other. judge: what was wrong with one, nothing where all was right;
    it looks at what was seen alone, so that it can be tried on what never happened. full, short: how many attempts.
    limit: seconds that the full form may take, the short form a third of it. seconds: see `Stage`, full and short.
    needs: programs and abilities without which it cannot be made.
    """

    name: str
    title: str
    attempts: Callable[[Stage], Iterator[S]]
    judge: Callable[[S], Iterable[str]]
    full: int
    short: int
    limit: float
    seconds: tuple[float, float] = (0.0, 0.0)
    needs: tuple[str, ...] = ()


MOUNT = "mount"
"""The ability to mount a small file system, in a name space of the attack's own."""


def own_mounts() -> list[str] | None:
    """The words that start a command in a name space of mounts of its own; None where this user may have none."""
    if shutil.which("unshare") is None:
        return None
    for words in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        tried = [*words, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return words
    return None


def missing(attack: Attack[Any], mounts: list[str] | None) -> str:
    """What an attack needs and this machine does not have; empty where there is nothing."""
    lacks = [need for need in attack.needs if (mounts is None if need == MOUNT else shutil.which(need) is None)]
    return ", ".join(lacks)


def wait_until(met: Callable[[], bool], patience: float, pause: float = 0.05) -> float | None:
    """Poll until it is met; the seconds that it took, None where it was not met in `patience` seconds."""
    begun = time.monotonic()
    while not met():
        if time.monotonic() - begun > patience:
            return None
        time.sleep(pause)
    return time.monotonic() - begun
