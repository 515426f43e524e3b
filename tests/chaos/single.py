"""Make one attack in this process, and write what came of it: ``python -m tests.chaos.single NAME …``."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.catalogue import ATTACKS

SAID_EVERY = 15.0
"""Seconds between two lines of progress."""
MOST_KEPT, MOST_SAID = 50, 8
"""Violations that are kept in words, and that are said in lines; all are counted."""


def make(attack: Attack[Any], stage: Stage) -> dict[str, Any]:
    """Make the attack; what is kept of it. A violation has the attempt's number and the command that repeats it."""
    kinds: Counter[str] = Counter()
    violations: list[dict[str, Any]] = []
    wrong = 0
    begun = said = time.monotonic()
    for seen in _whole(attack, stage):
        kinds[seen.kind] += 1
        for text in [seen.text] if isinstance(seen, Broken) else attack.judge(seen):
            wrong += 1
            violation = {"attempt": seen.number, "kind": seen.kind, "text": text, "again": again(stage, seen.number)}
            if len(violations) < MOST_KEPT:
                violations.append(violation)
            if wrong <= MOST_SAID:
                stage.say(f"VIOLATION {seen.kind}: {text}\n    again: {violation['again']}")
        if time.monotonic() - said > SAID_EVERY:
            said = time.monotonic()
            stage.say(f"{kinds.total():,} of {stage.count:,} in {said - begun:.0f} s, violations {wrong:,}")
    seconds = round(time.monotonic() - begun, 1)
    return {
        "name": attack.name,
        "title": attack.title,
        "seed": stage.seed,
        "attempts": kinds.total(),
        "kinds": dict(sorted(kinds.items())),
        "figures": stage.figures,
        "violations": violations,
        "wrong": wrong,
        "seconds": seconds,
    }


@dataclass(frozen=True)
class Broken(Seen):
    """The attack could not go on. text: why."""

    text: str = ""


def _whole(attack: Attack[Any], stage: Stage) -> Iterator[Seen]:
    """The attempts; what was seen before an error is not lost with it, and the error is no success."""
    try:
        yield from attack.attempts(stage)
    except LateError:
        yield Broken(-1, "broken off", "the attack did not end within its time")
    except Exception:
        yield Broken(-1, "broken off", f"the attack broke off: {traceback.format_exc()}")


class LateError(BaseException):
    """The time of the attack is over."""


def _time_is_over(number: int, frame: object) -> None:
    raise LateError


def again(stage: Stage, number: int) -> str:
    """The command that repeats an attempt. A negative number is the attack's as a whole."""
    at = f" --at {number}" if number >= 0 else ""
    short = " --short" if stage.short else ""
    return f"python -m tests.chaos --only {stage.name} --seed {stage.seed}{short}{at}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.single")
    parser.add_argument("name", choices=sorted(ATTACKS))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--at", type=int)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _time_is_over)
    attack = ATTACKS[given.name]
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)

    def say(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {given.name}: {line}", flush=True)

    count, seconds = (attack.short if given.short else attack.full), attack.seconds[given.short]
    stage = Stage(attack.name, given.folder.resolve(), given.seed, count, seconds, given.short, given.at, say)
    report = make(attack, stage)
    given.report.write_text(json.dumps(report, indent=1) + "\n")
    if not report["wrong"]:
        shutil.rmtree(given.folder, ignore_errors=True)
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
