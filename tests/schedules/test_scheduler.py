"""The scheduler in a storm: arrivals, kills, doubles and disorder, on a false clock with the real ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endcap.errors import TransientError
from endcap.events.data_version import DataListing
from endcap.schedules.ledger import read_ledger, update_ledger
from endcap.schedules.ledger_records import RunClaim
from endcap.schedules.part_look import ScheduledPart
from endcap.schedules.process_runs import STILL, ProcessRuns
from endcap.schedules.scheduler import Scheduler
from endcap.spec.schedule import ArrivalSpec, PartSchedule
from endcap.store import Store
from tests.schedules.world import Killed, SchedulerWorld

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
PLACE = ("trial", "train")


class RunInProgress:
    """A run's process, step by step: it takes the claim over, trains, records its end, and settles the claim."""

    def __init__(self, world: World, claim: RunClaim, pid: int) -> None:
        self.world, self.claim, self.pid = world, claim, pid
        self.steps = iter((self._confirm, self._train, self._record, self._settle))
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def advance(self) -> None:
        step = next(self.steps, None)
        if step is None:
            self.end()
        else:
            step()

    def end(self) -> None:
        self.code = 0
        self.world.alive.discard(self.pid)

    def _confirm(self) -> None:
        world = self.world
        now = world.now
        ledger = update_ledger(
            world.store, *PLACE, lambda before: before.confirm(self.claim.run, "here", self.pid, now, timedelta(days=1))
        )
        if ledger.claim is None or ledger.claim.pid != self.pid:
            self.end()
            return
        world.created.append(self.claim.run)
        self._write_run("running")

    def _train(self) -> None:
        version = self.claim.due.version
        # An artifact is made once; another attempt meets it.
        if version not in self.world.trained:
            self.world.trained.append(version)

    def _record(self) -> None:
        self._write_run("succeeded")

    def _settle(self) -> None:
        world = self.world
        now = world.now
        update_ledger(world.store, *PLACE, lambda before: before.settle(self.claim.run, "succeeded", "", now))
        self.end()

    def _write_run(self, state: str) -> None:
        run = self.claim.run
        self.world.store.write_document(f"runs/{run}", {"run": run, "recommender": PLACE[0], "state": state})


class World(SchedulerWorld):
    """A clock, data that change, processes, and schedulers that look at one store."""

    def __init__(self, store: Store, schedule: PartSchedule) -> None:
        super().__init__(store, schedule, 1, BEGIN)
        self.processes: list[RunInProgress] = []
        self.created: list[str] = []

    def make_scheduler(self, host: str = "here") -> Scheduler:
        here = self.make_surroundings(host, lambda: DataListing(self._read_version()))
        self.last_pid = here.pid
        return Scheduler(self.parts, self.store, ProcessRuns(self._start, self.store, here), surroundings=here)

    def kill_scheduler(self) -> None:
        self.alive.discard(self.last_pid)

    def live_processes(self) -> list[RunInProgress]:
        return [process for process in self.processes if process.code is None]

    def run_all(self, scheduler: Scheduler) -> None:
        """Let processes work and the scheduler look until nothing is due or runs."""
        for _ in range(5_000):
            scheduler.look(["trial"])
            for process in self.live_processes():
                process.advance()
            ledger = read_ledger(self.store, *PLACE)
            if ledger.claim is None and not ledger.queue:
                return
            self.pass_time(1)
        raise AssertionError("something is due for ever")

    def _read_version(self) -> str:
        self.strike("reading")
        return self.version

    def _start(self, part: ScheduledPart, claim: RunClaim) -> RunInProgress:
        self.strike("claimed")
        pid = next(self.pids)
        self.alive.add(pid)
        process = RunInProgress(self, claim, pid)
        self.processes.append(process)
        self.strike("started")
        return process


@pytest.fixture
def quick_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for no disk: nothing here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_writes")
def test_a_storm_of_arrivals_trains_each_version_once_in_order(store: Store) -> None:
    arrivals, kills = 500, 50
    schedule = PartSchedule(arrival=ArrivalSpec(notifications=True), catch_up="all")
    world = World(store, schedule)
    schedulers = [world.make_scheduler("there"), world.make_scheduler("here")]
    victims = set(world.chance.sample(range(1, arrivals + 1), kills))
    killed = {"reading": 0, "claimed": 0, "started": 0, "run": 0}
    for number in range(1, arrivals + 1):
        world.version = f"v{number}"
        world.pass_time(world.chance.random() * 5)
        place = world.chance.choice(sorted(killed)) if number in victims else ""
        if place == "run" and world.live_processes():
            victim = world.live_processes()[0]
            victim.code = -9
            world.alive.discard(victim.pid)
            killed["run"] += 1
        elif place:
            world.kill_at = "reading" if place == "run" else place
        # Notifications come twice, late and out of order; both schedulers hear them.
        for _ in range(world.chance.choice([1, 1, 1, 2, 3])):
            for index in world.chance.sample([0, 1], 2):
                try:
                    schedulers[index].look(["trial"])
                except Killed as blow:
                    killed[str(blow)] += 1
                    if index == 1:
                        world.kill_scheduler()
                    schedulers[index] = world.make_scheduler("there" if index == 0 else "here")
                    schedulers[index].look(["trial"])
        for process in world.live_processes():
            for _ in range(world.chance.randrange(12)):
                if process.code is None:
                    process.advance()
    world.kill_at = ""
    world.pass_time(STILL + 1)
    world.run_all(schedulers[1])

    versions = [f"v{number}" for number in range(1, arrivals + 1)]
    assert min(killed.values()) > 0
    assert sum(killed.values()) >= kills * 0.8
    assert world.trained == versions
    ledger = read_ledger(store, *PLACE)
    assert ledger.fates == tuple((version, "ran") for version in versions)
    assert ledger.counts["succeeded"] == arrivals
    assert ledger.counts["started"] == arrivals
    assert len(world.created) == len(set(world.created))
    # A run is created again only after a process that had begun was killed.
    assert len(world.created) - arrivals <= killed["run"] + killed["started"] + killed["claimed"]


def test_of_two_schedulers_one_starts_the_run(store: Store) -> None:
    world = World(store, PartSchedule(arrival=ArrivalSpec(notifications=True)))
    first, second = world.make_scheduler(), world.make_scheduler()
    first.look()
    second.look()
    assert len(world.processes) == 1
    world.run_all(second)
    assert (world.trained, len(world.created)) == (["v0"], 1)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_killed_run_is_finished_by_another_scheduler(store: Store, steps: int) -> None:
    world = World(store, PartSchedule(arrival=ArrivalSpec(notifications=True)))
    world.make_scheduler().look()
    (victim,) = world.processes
    for _ in range(steps):
        victim.advance()
    victim.code = -9
    world.alive.clear()
    world.run_all(world.make_scheduler())
    ledger = read_ledger(store, *PLACE)
    assert (world.trained, ledger.fates, ledger.counts["succeeded"]) == (["v0"], (("v0", "ran"),), 1)
    # A run that had recorded its end is not made again.
    assert len(world.created) == (1 if steps in (0, 3) else 2)


def test_of_another_machine_only_silence_tells_that_a_run_died(store: Store) -> None:
    world = World(store, PartSchedule(arrival=ArrivalSpec(notifications=True)))
    world.make_scheduler("elsewhere").look()
    scheduler = world.make_scheduler()
    for _ in range(3):  # it beats
        update_ledger(store, *PLACE, lambda ledger: ledger.beat(world.processes[0].claim.run))
        scheduler.look()
        world.pass_time(STILL - 1)
    assert len(world.processes) == 1
    scheduler.look()
    world.pass_time(2)
    scheduler.look()
    assert len(world.processes) == 2


def test_no_more_runs_go_on_than_allowed(store: Store) -> None:
    world = World(store, PartSchedule(arrival=ArrivalSpec(notifications=True)))
    (part,) = world.parts
    world.parts = [part, replace(part, part="batch"), replace(part, part="features")]
    scheduler = world.make_scheduler()
    scheduler.look()
    assert len(world.processes) == 1
    assert len(read_ledger(store, "trial", "batch").queue) == 1


def test_a_place_that_does_not_answer_keeps_no_other_schedule_waiting(store: Store, tmp_path: Path) -> None:
    world = World(store, PartSchedule(arrival=ArrivalSpec(notifications=True)))
    (part,) = world.parts
    marked = part.schedule.model_copy(update={"arrival": ArrivalSpec(marker="_SUCCESS", notifications=True)})
    world.parts = [replace(part, part="features", schedule=marked), part]
    scheduler = world.make_scheduler()
    answers = iter([TransientError("it is away", code="store.unavailable")])

    def read(*_: object) -> DataListing:
        for error in answers:
            raise error
        return DataListing("v0")

    scheduler._here = replace(scheduler._here, read_listing=read)
    news = scheduler.look()
    assert [entry.fault.code for entry in news if entry.fault] == ["store.unavailable"]
    assert [entry.entry.step for entry in news if entry.entry] == ["started"]
