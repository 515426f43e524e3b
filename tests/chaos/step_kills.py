"""A pipeline is killed in each of its steps in turn, and run to its end: results are those of a run that nobody killed.

Every file of every artifact is compared byte by byte, but for those that say how long things took or where they lie.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from endcap.registry.factory import open_registry
from endcap.steps import list_steps
from endcap.store import open_store
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.intake_kills import temporary
from tests.chaos.stack import ENDCAP

TRAINING = [step.name for step in list_steps("training")]
TIMED = ("report.json", "report.html", "info.json", "croissant.json")
"""Files with durations, times and addresses in them."""
LATER = "recipes"
"""What a run makes that meets a champion: the one after a kill in register or deploy does, the first one does not."""
STEP_COMES = 120.0
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: corner
events:
  sources: [{{path: {log}/events}}]
  columns: {{session: session, customer: customer, item: item, time: time, type: type}}
items:
  sources: [{{path: {log}/items.csv}}]
  columns: {{item: item, title: title, category: category, price: price}}
filters: {{min_item_events: 3}}
"""
RECOMMENDER = """
apiVersion: endcap/v2
kind: Recommender
name: corner
shop: corner
split: {by: time, test: 1d, validation: 1d}
model: {name: gru4rec, width: 16, batch_size: 32, negatives: 32, max_epochs: 6, patience: 6}
baselines: [{name: popularity}]
evaluation: {bootstrap: 100}
gate: [{metric: mrr@20, against: popularity, min: 0.0}]
"""


@dataclass(frozen=True)
class Killed(Seen):
    """A run that was killed. status: its exit status; reached: whether the step had begun."""

    status: int = -signal.SIGKILL
    reached: bool = True


@dataclass(frozen=True)
class Ended(Seen):
    """The run that got to its end after kills. differing: files that are not as the undisturbed run's; versions: that
    are registered, with their aliases."""

    status: int = 0
    differing: tuple[str, ...] = ()
    compared: int = 0
    versions: tuple[tuple[str, ...], ...] = (("champion",),)
    temporary: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Seen]:
    _write_specs(stage.folder)
    with ThreadPoolExecutor(1) as pool:
        undisturbed = pool.submit(_run, stage.folder, "undisturbed")
        # Rounds, so that each step is killed as often as any other; a single attempt is a round of one.
        numbers = list(stage.numbers)
        rounds = [numbers[at : at + len(TRAINING)] for at in range(0, len(numbers), len(TRAINING))]
        for of_round in rounds:
            store = f"store-{of_round[0]}"
            for number in of_round:
                yield _kill(stage, number, store)
            status, reference = _run(stage.folder, store), undisturbed.result()
            assert reference == 0, (stage.folder / "undisturbed.log").read_text()
            yield _ended(stage, of_round[0], store, status)


def _kill(stage: Stage, number: int, store: str) -> Killed:
    chance = stage.chance(number)
    # The short form kills in a step by chance.
    of_round = number % len(TRAINING)
    step = TRAINING[of_round] if stage.count >= len(TRAINING) else chance.choice(TRAINING[:-1])
    before = _logs(stage.folder, store, step)
    process = subprocess.Popen(
        [*ENDCAP, "run", "corner.yaml", "--store", store],
        cwd=stage.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(),
    )
    deadline = time.monotonic() + STEP_COMES
    while not (reached := bool(_logs(stage.folder, store, step) - before)) and process.poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 2.5))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return Killed(number, f"kill in {step}", process.wait(), reached)


def _ended(stage: Stage, number: int, store: str, status: int) -> Ended:
    there, expected = _files(stage.folder / store), _files(stage.folder / "undisturbed")
    differing = sorted(name for name in there.keys() | expected.keys() if there.get(name) != expected.get(name))
    versions = open_registry(None, open_store(str(stage.folder / store))).list_versions("corner")
    aliases = tuple(tuple(version.aliases) for version in versions)
    return Ended(number, "whole run", status, tuple(differing), len(expected), aliases, temporary(stage.folder / store))


def _files(store: Path) -> dict[str, str]:
    """Checksums of all files of all artifacts, but those with durations, and what only a later run makes."""
    known = {}
    for manifest in store.glob("[a-z]*/*/*/manifest.json"):
        if manifest.relative_to(store).parts[0] == LATER:
            continue
        for name, described in json.loads(manifest.read_text())["files"].items():
            if name not in TIMED:
                known[f"{manifest.parent.relative_to(store)}/{name}"] = described["sha256"]
    return known


def _run(folder: Path, store: str) -> int:
    with (folder / f"{store}.log").open("w") as log:
        command = [*ENDCAP, "run", "corner.yaml", "--store", store]
        return subprocess.run(command, cwd=folder, stdout=log, stderr=log, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """One thread, since sums of several differ in their last bits."""
    return {**{name: value for name, value in os.environ.items() if name != "ENDCAP_ONLINE"}, "OMP_NUM_THREADS": "1"}


def _logs(folder: Path, store: str, step: str) -> set[Path]:
    return set((folder / store).glob(f"runs/*/{step}.log"))


def _write_specs(folder: Path) -> None:
    (folder / "shops").mkdir()
    (folder / "shops" / "corner.yaml").write_text(SHOP.format(log=folder / "log"))
    (folder / "corner.yaml").write_text(RECOMMENDER)
    size = ["--events=8000", "--items=200", "--customers=600", "--days=6"]
    made = subprocess.run([*ENDCAP, "events", "simulate", "log", *size], cwd=folder, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr


def judge(seen: Seen) -> Iterator[str]:
    if isinstance(seen, Killed):
        if not seen.reached:
            yield "the step did not begin"
        elif seen.status not in (-signal.SIGKILL, 0):  # 0: the run was over sooner than the kill came
            yield f"the run ended with status {seen.status} before it was killed"
    elif isinstance(seen, Ended):
        if seen.status:
            yield f"the run after the kills ended with status {seen.status}"
        if seen.differing or not seen.compared:
            yield f"{len(seen.differing)} of {seen.compared} files differ: {', '.join(seen.differing[:5])}"
        if seen.versions != (("champion",),):
            yield f"registered, by their aliases: {seen.versions}; wanted is one champion"
        if seen.temporary:
            yield f"temporary files are left: {', '.join(seen.temporary[:5])}"


ATTACK = Attack(
    "step-kills", "SIGKILL of a pipeline in each of its steps", attempts, judge, full=21, short=1, limit=1500
)
