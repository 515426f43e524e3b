"""Make the attacks: ``python -m tests.chaos [--short] [--seed N] [--only NAME] [--at NUMBER] [--minutes M]``.

Each attack is a process of its own, which is ended when its time is over; where it needs small file systems, in a name
space of mounts of its own. What came of all goes to build/chaos.json, and to standard output as a table in Markdown.
The exit status is 1 where anything was violated, 2 where a name is unknown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos.attack import MOUNT, Attack, missing, own_mounts
from tests.chaos.catalogue import ATTACKS
from tests.chaos.processes import Child
from tests.chaos.table import table

BUILD = Path("build")
SEED = 16
SHORT_SHARE = 1 / 3
"""Of the full form's time, what the short form may take."""


def main() -> int:
    given = arguments()
    unknown = sorted(set(given.only) - set(ATTACKS))
    if unknown:
        print(f"no attack {', '.join(unknown)}; there are: {', '.join(ATTACKS)}", file=sys.stderr)
        return 2
    mounts, deadline = own_mounts(), time.monotonic() + 60 * given.minutes
    results = []
    for name in given.only or ATTACKS:
        results.append(outcome(ATTACKS[name], given, mounts, deadline))
        BUILD.mkdir(exist_ok=True)
        report = {"seed": given.seed, "form": "short" if given.short else "full", "attacks": results}
        (BUILD / "chaos.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{table(results)}", flush=True)
    wrong = [result["name"] for result in results if result["wrong"]]
    not_run = [result["name"] for result in results if result["not_run"]]
    if not_run:
        print(f"\nnot run: {', '.join(not_run)}", flush=True)
    print(f"\nviolated: {', '.join(wrong) or 'nothing'} (build/chaos.json)", flush=True)
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Attack Endcap; repeatable by a seed.")
    parser.add_argument("--short", action="store_true", help="fewer attempts, for every commit")
    parser.add_argument("--seed", type=int, default=SEED, help=f"what the attempts are made out of [{SEED}]")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this attack alone; may be repeated"
    )
    parser.add_argument("--at", type=int, metavar="NUMBER", help="this attempt alone")
    parser.add_argument("--minutes", type=float, default=45.0, help="that all may take [45]")
    return parser.parse_args()


def outcome(
    attack: Attack[Any], given: argparse.Namespace, mounts: list[str] | None, deadline: float
) -> dict[str, Any]:
    """What came of one attack, however it ended; `not_run` says why it was not made."""
    blank = {"name": attack.name, "title": attack.title, "seed": given.seed, "attempts": 0, "kinds": {}, "figures": {}}
    blank |= {"violations": [], "wrong": 0, "seconds": 0.0, "not_run": ""}
    if lacks := missing(attack, mounts):
        print(f"{attack.name}: not run, this machine has no {lacks}", flush=True)
        return {**blank, "not_run": f"no {lacks}"}
    limit = min(attack.limit * (SHORT_SHARE if given.short else 1), deadline - time.monotonic())
    if limit <= 0:
        return {**blank, "wrong": 1, "violations": [_whole(attack, given, "the time for all attacks was over")]}
    report = BUILD / "chaos" / f"{attack.name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    words = ["--seed", str(given.seed), "--folder", str(report.with_suffix("")), "--report", str(report)]
    words += ["--short"] if given.short else []
    words += [] if given.at is None else ["--at", str(given.at)]
    within = (mounts or []) if MOUNT in attack.needs else []
    print(f"{time.strftime('%H:%M:%S')} {attack.name}: {attack.title}", flush=True)
    begun = time.monotonic()
    status = Child([*within, sys.executable, "-m", "tests.chaos.single", attack.name, *words]).wait(limit)
    if report.exists():
        return {**blank, **json.loads(report.read_text())}
    how = f"did not end within {limit:.0f} s" if status is None else f"broke off with status {status}"
    print(f"{attack.name}: {how}", flush=True)
    violation = _whole(attack, given, how)
    return {**blank, "wrong": 1, "violations": [violation], "seconds": round(time.monotonic() - begun, 1)}


def _whole(attack: Attack[Any], given: argparse.Namespace, text: str) -> dict[str, Any]:
    """A violation of no attempt's own."""
    again = f"python -m tests.chaos --only {attack.name} --seed {given.seed}{' --short' if given.short else ''}"
    return {"attempt": -1, "kind": "the attack", "text": text, "again": again}


if __name__ == "__main__":
    sys.exit(main())
