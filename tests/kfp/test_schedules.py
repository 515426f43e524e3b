"""Runs of schedules on KFP: created exactly once, whatever happens to answers, schedulers and KFP."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from endcap.cli.main import endcap
from endcap.cli.schedule_runs import make_run_parameters
from endcap.events.data_version import DataListing
from endcap.runs import Start
from endcap.schedules.kfp_runs import GRACE, KfpRuns
from endcap.schedules.ledger import ScheduleLedger, read_ledger
from endcap.schedules.part_look import ScheduledPart
from endcap.schedules.process_runs import STILL
from endcap.schedules.scheduler import Scheduler
from endcap.spec.schedule import ArrivalSpec, PartSchedule
from endcap.spec.spec_files import find_spec
from endcap.store import Store, open_store
from endcap_pipelines.kfp import connect
from endcap_pipelines.kfp_scheduled import PreparedPipeline, ScheduledKfp
from tests.kfp.server import Kfp, scene
from tests.schedules.world import Killed, SchedulerWorld
from tests.store.servers import moto

PLACE = ("trial", "train")
CREATE = "POST /apis/v2beta1/runs"
LIST = "GET /apis/v2beta1/runs"
GOING = ("PENDING", "RUNNING")


class World(SchedulerWorld):
    """A clock, data that change, a KFP whose runs go on when they are told, and schedulers on one store."""

    def __init__(self, store: Store, kfp: Kfp, schedule: PartSchedule) -> None:
        super().__init__(store, schedule, 7, datetime.now(UTC))
        self.kfp = kfp
        self.parts_of_data: dict[str, str] = {}

    def make_scheduler(self, host: str = "here") -> Scheduler:
        here = self.make_surroundings(host, lambda: DataListing(self.version, self.parts_of_data))
        server = connect(host=self.kfp.url)

        def make_arguments(part: ScheduledPart, claim: Any) -> dict[str, Any]:
            self.strike("claimed")
            return make_run_parameters(part, claim, {"store": "s3://endcap/store"}, None, page=server.page(""))

        scheduled = server.serve_schedules()
        scheduled.create = self._let_die(scheduled, scheduled.create)
        return Scheduler(
            self.parts, self.store, KfpRuns(scheduled, make_arguments, self.store, here), at_once=9, surroundings=here
        )

    def kill(self, scheduler: Scheduler) -> None:
        self.alive.discard(scheduler.runs._here.pid)  # type: ignore[attr-defined]

    def advance_runs(self, steps: int = 1) -> None:
        """Let runs go on. A run trains what it is of, unless the artifact is there."""
        for run in [run for run in self.kfp.runs if run["state"] in GOING for _ in range(steps)]:
            if run["state"] == "PENDING":
                run["state"] = "RUNNING"
            elif run["state"] == "RUNNING":
                version = get_version(run)
                if version not in self.trained:
                    self.trained.append(version)
                run["state"] = "SUCCEEDED"

    def run_all(self, scheduler: Scheduler) -> ScheduleLedger:
        """Let runs work and the scheduler look until nothing is due or runs."""
        for _ in range(2_000):
            scheduler.look(["trial"])
            self.advance_runs()
            ledger = self.read()
            if ledger.claim is None and not ledger.queue and not any(run["state"] in GOING for run in self.kfp.runs):
                return ledger
            self.pass_time(2)
        raise AssertionError("something is due for ever")

    def read(self) -> ScheduleLedger:
        return read_ledger(self.store, *PLACE)

    def list_states(self) -> list[str]:
        return [str(run["state"]) for run in self.kfp.runs]

    def _let_die(self, server: ScheduledKfp, create: Callable[..., str]) -> Callable[..., str]:
        def die_afterwards(prepared: PreparedPipeline, arguments: Any, name: str) -> str:
            created = create(prepared, arguments, name)
            self.strike("created")
            return created

        return die_afterwards


def get_version(run: dict[str, Any]) -> str:
    return str(Start.from_text(run["runtime_config"]["parameters"]["trigger"]).data["version"])


@pytest.fixture
def world(store: Store, kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # nothing here cuts the power
    return World(store, kfp, PartSchedule(arrival=ArrivalSpec(notifications=True), catch_up="all"))


def test_a_run_is_created_once_and_its_end_is_recorded(world: World, kfp: Kfp) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    claim = world.read().claim
    (run,) = kfp.runs
    assert claim is not None
    assert (claim.run, claim.created, claim.place) == (run["display_name"], run["run_id"], "kfp")
    start = Start.from_text(run["runtime_config"]["parameters"]["trigger"])
    assert (start.how, start.data["version"], start.pipeline) == ("schedule", "v0", "training")
    ledger = world.run_all(scheduler)
    assert (ledger.counts, ledger.entries[-1].created) == ({"started": 1, "succeeded": 1}, run["run_id"])
    requests = len(kfp.requests)
    world.version = "v1"
    scheduler.look(["trial"])
    assert kfp.requests[requests:] == [CREATE]  # what it is created from is known by now


def test_what_woke_a_run_is_handed_on(world: World, kfp: Kfp) -> None:
    scheduler = world.make_scheduler()
    world.parts_of_data = {"s3://log/day=2026-03-01/a.csv": "1", "s3://log/day=2026-03-02/a.csv": "1"}
    world.run_all(scheduler)
    world.version = "v1"
    world.parts_of_data |= {"s3://log/day=2026-03-02/a.csv": "2", "s3://log/day=2026-03-03/a.csv": "1"}
    world.run_all(world.make_scheduler())
    data = Start.from_text(kfp.runs[-1]["runtime_config"]["parameters"]["trigger"]).data
    assert data == {
        "version": "v1",
        "paths": [],
        "added": 1,
        "changed": 1,
        "names": ["s3://log/day=2026-03-03/a.csv", "s3://log/day=2026-03-02/a.csv"],
        "days": ["2026-03-02", "2026-03-03"],
    }


@pytest.mark.parametrize(
    ("state", "step", "reason"), [("FAILED", "failed", "kfp.run-failed"), ("CANCELED", "canceled", "interrupted")]
)
def test_how_a_run_ended_is_read_from_kfp(world: World, kfp: Kfp, state: str, step: str, reason: str) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    kfp.runs[0]["state"] = state
    scheduler.look()
    ledger = world.read()
    assert (ledger.entries[-1].step, ledger.entries[-1].reason, ledger.find_fate("v0")) == (step, reason, "failed")


def test_the_cause_of_a_failure_is_read_from_the_runs_record(world: World, kfp: Kfp, store: Store) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    run = kfp.runs[0]
    run["state"] = "FAILED"
    error = {"code": "features.no-session", "message": "no session is left", "fields": {}}
    store.write_document(f"runs/{run['run_id']}", {"run": run["run_id"], "state": "failed", "error": error})
    scheduler.look()
    assert world.read().entries[-1].reason == "features.no-session"


def test_a_run_that_somebody_deleted_holds_up_nothing(world: World, kfp: Kfp) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    kfp.runs.clear()
    scheduler.look()
    assert world.read().counts["failed:run-gone"] == 1


def test_an_answer_that_is_lost_makes_no_second_run(world: World, kfp: Kfp) -> None:
    kfp.lost = [CREATE]
    scheduler = world.make_scheduler()
    scheduler.look()
    assert world.read().counts["delayed:kfp-away"] == 1
    ledger = world.run_all(scheduler)
    assert (len(kfp.runs), ledger.counts["succeeded"], world.trained) == (1, 1, ["v0"])


def test_a_creation_that_comes_late_is_a_twin_and_is_ended(world: World, kfp: Kfp) -> None:
    kfp.late = [CREATE]
    scheduler = world.make_scheduler()
    scheduler.look()
    world.pass_time(2)
    scheduler.look()  # not there: it is created again
    assert len(kfp.runs) == 1
    kfp.deliver()
    scheduler.look()
    assert world.list_states() == ["PENDING", "CANCELED"]
    assert {run["display_name"] for run in kfp.runs} == {world.read().entries[0].run}
    ledger = world.run_all(scheduler)
    assert (ledger.counts["canceled:twin"], ledger.counts["succeeded"]) == (1, 1)


def test_a_twin_that_comes_after_the_end_is_ended_too(world: World, kfp: Kfp) -> None:
    kfp.late = [CREATE]
    scheduler = world.make_scheduler()
    ledger = world.run_all(scheduler)
    assert len(ledger.strays) == 1
    kfp.deliver()
    world.make_scheduler().look()
    assert (world.list_states(), world.read().counts["canceled:twin"]) == (["SUCCEEDED", "CANCELED"], 1)
    world.pass_time(2 * 86_400)
    scheduler.look()
    assert world.read().strays == ()


@pytest.mark.parametrize("status", [0, 429, 503, 401, 403])
def test_while_kfp_is_away_a_due_run_waits(world: World, kfp: Kfp, status: int) -> None:
    scheduler = world.make_scheduler()
    kfp.trouble = [(CREATE, status), (LIST, status), (CREATE, status)]
    faults = scheduler.look()
    assert [news.fault.code[:4] for news in faults if news.fault is not None] == ["kfp."]
    requests = len(kfp.requests)
    scheduler.look()
    assert len(kfp.requests) == requests  # it is left alone for a while
    ledger = world.run_all(scheduler)
    assert (world.trained, len(kfp.runs), ledger.counts["delayed:kfp-away"]) == (["v0"], 1, 2)


def test_a_run_that_kfp_refuses_has_failed(world: World, kfp: Kfp) -> None:
    kfp.trouble = [(CREATE, 400)]
    scheduler = world.make_scheduler()
    scheduler.look()
    assert world.read().counts["failed:kfp.refused"] == 1


def test_a_pipeline_that_was_deleted_is_uploaded_again(world: World, kfp: Kfp) -> None:
    scheduler = world.make_scheduler()
    world.run_all(scheduler)
    kfp.experiments.clear()
    kfp.runs.clear()
    world.version = "v1"
    world.run_all(scheduler)
    assert (world.trained, len(kfp.experiments)) == (["v0", "v1"], 1)


def test_a_run_past_its_deadline_is_ended(world: World, kfp: Kfp) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    world.pass_time(86_400 + 1)
    scheduler.look()
    assert world.list_states() == ["CANCELED"]
    scheduler.look()
    assert world.read().counts["failed:deadline"] == 1


def test_a_run_that_never_ends_holds_up_nothing(world: World, kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = world.make_scheduler()
    scheduler.look()
    world.pass_time(86_400 + 1)
    for seconds in (0, GRACE.total_seconds()):
        world.pass_time(seconds)
        scheduler.look()
        if world.read().claim is not None:
            kfp.runs[0]["state"] = "CANCELING"
    assert world.read().counts["failed:deadline"] == 1


def test_a_later_run_replaces_the_one_that_goes_on(world: World, kfp: Kfp) -> None:
    (part,) = world.parts
    schedule = PartSchedule(arrival=ArrivalSpec(notifications=True), concurrency="replace")
    world.parts = [replace(part, schedule=schedule)]
    scheduler = world.make_scheduler()
    scheduler.look()
    world.version = "v1"
    ledger = world.run_all(scheduler)
    assert (ledger.counts["canceled:replaced"], world.trained) == (1, ["v1"])


def test_of_two_schedulers_one_creates_the_run_and_either_follows_it(world: World, kfp: Kfp) -> None:
    first, second = world.make_scheduler("here"), world.make_scheduler("there")
    first.look()
    second.look()
    assert len(kfp.runs) == 1
    world.run_all(second)
    assert (world.trained, first.look()) == (["v0"], [])


@pytest.mark.parametrize("place", ["claimed", "created"])
@pytest.mark.parametrize("host", ["here", "there"])
def test_what_a_dead_scheduler_began_another_one_finishes(world: World, kfp: Kfp, place: str, host: str) -> None:
    first = world.make_scheduler()
    world.kill_at = place
    with pytest.raises(Killed):
        first.look()
    world.kill(first)
    second = world.make_scheduler(host)
    second.look()
    if host == "there" and place == "claimed":
        assert kfp.runs == []  # it may still live there
        world.pass_time(STILL + 1)
    ledger = world.run_all(second)
    assert (len(kfp.runs), world.trained, ledger.counts["succeeded"]) == (1, ["v0"], 1)


def test_a_hundred_runs_are_followed_by_one_request_a_page(world: World, kfp: Kfp) -> None:
    names = [f"run-{number}" for number in range(120)]
    for name in names:
        kfp.start()
        kfp.runs[-1]["display_name"] = name
    listed = connect(host=kfp.url).serve_schedules().find_named(names)
    assert sorted(run.name for run in listed) == sorted(names)
    assert sum(LIST in request for request in kfp.requests) == 3
    kfp.runs += [{**kfp.runs[0], "run_id": f"twin-{number}"} for number in range(250)]
    assert len(connect(host=kfp.url).serve_schedules().find_named(["run-0"])) == 251


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_the_command_does_what_is_due_on_kfp(
    kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int
) -> None:
    schedule = "\nschedule:\n  train: {arrival: {}}\n  batch: {cron: 0 3 * * *}\n"
    (tmp_path / "trial.yaml").write_text(find_spec("trial").read_text() + schedule)
    shutil.copytree(find_spec("trial").parent / "shops", tmp_path / "shops")
    kfp.scenes = [scene(state, {})]
    with moto() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        server.client().make_bucket(bucket := state.lower())
        command = ["schedule", "run", str(tmp_path / "trial.yaml"), "--on", "kfp", "--kfp-host", kfp.url, "--once"]
        result = CliRunner().invoke(endcap, [*command, "--store", f"s3://{bucket}/store"])
        assert getattr(result.exception, "code", 0) == ("schedule.run-failed" if code else 0), result.output
        (run,) = kfp.runs
        ledger = read_ledger(open_store(f"s3://{bucket}/store"), *PLACE)
    parameters = run["runtime_config"]["parameters"]
    assert (parameters["store"], parameters["namespace"]) == (f"s3://{bucket}/store", "endcap-serving")
    assert [entry.step for entry in ledger.entries] == ["started", "failed" if code else "succeeded"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--on", "kfp", "--store", "here"], "cli.unreachable-from-cluster"),
        (["--kfp-namespace", "x"], "cli.option-not-here"),
    ],
)
def test_what_the_command_cannot_do_is_refused(
    kfp: Kfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: str
) -> None:
    text = find_spec("trial").read_text() + "\nschedule: {train: {arrival: {}}}\n"
    (tmp_path / "trial.yaml").write_text(text)
    shutil.copytree(find_spec("trial").parent / "shops", tmp_path / "shops")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(endcap, ["schedule", "run", str(tmp_path / "trial.yaml"), "--once", *arguments])
    assert getattr(result.exception, "code", "") == code
    assert not (tmp_path / "here" / "schedules").exists()
    assert kfp.requests == []


@pytest.mark.slow
def test_in_a_storm_each_version_is_trained_once_in_order(world: World, kfp: Kfp) -> None:
    arrivals = 40
    hosts = ["here", "there"]
    schedulers = [world.make_scheduler(host) for host in hosts]
    kinds = {"lost": 0, "late": 0, "503": 0, "gone": 0, "list": 0, "claimed": 0, "created": 0}
    for number in range(1, arrivals + 1):
        world.version = f"v{number}"
        kind = world.chance.choice([*kinds, "", ""])
        if kind:
            kinds[kind] += 1
        kfp.lost += [CREATE] * (kind == "lost")
        kfp.late += [CREATE] * (kind == "late")
        kfp.trouble += {"503": [(CREATE, 503)], "gone": [(CREATE, 0)], "list": [(LIST, 503)]}.get(kind, [])
        world.kill_at = kind if kind in ("claimed", "created") else ""
        for _ in range(world.chance.choice([1, 2, 3])):
            for index in world.chance.sample([0, 1], 2):
                try:
                    schedulers[index].look(["trial"])
                except Killed:
                    world.kill(schedulers[index])
                    schedulers[index] = world.make_scheduler(hosts[index])
            world.pass_time(world.chance.random() * 20)
        world.advance_runs(world.chance.randrange(4))
        if world.chance.random() < 0.3:
            kfp.deliver()
    world.kill_at = ""
    world.pass_time(STILL + 1)
    world.run_all(schedulers[0])
    kfp.deliver()
    ledger = world.run_all(schedulers[1])

    versions = [f"v{number}" for number in range(1, arrivals + 1)]
    assert min(kinds.values()) > 0
    assert world.trained == versions
    assert ledger.fates == tuple((version, "ran") for version in versions)
    assert (ledger.counts["started"], ledger.counts["succeeded"]) == (arrivals, arrivals)
    # A twin was ended, unless it ended before that: then it met the artifacts.
    assert len(kfp.runs) > arrivals
    assert set(world.list_states()) == {"SUCCEEDED", "CANCELED"}
    assert world.list_states().count("SUCCEEDED") >= arrivals
    assert ledger.counts["canceled:twin"] > 0
