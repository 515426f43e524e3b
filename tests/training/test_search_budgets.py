"""What a search makes of its time, its memory and its members, with trials in threads in place of Ray."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from endcap.cpus import measure_core_time
from endcap.errors import UserError
from endcap.models import checkpoint
from endcap.progress import Notice
from endcap.spec import ModelSpec, Recommender
from endcap.spec.model import EASESpec
from endcap.spec.neural import GRU4RecSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, list_members
from endcap.store import Store
from endcap.training import describe, train
from endcap.training.search import checkpoints
from endcap.training.search.cost_model import DataSize, estimate_cost
from endcap.training.search.job import SearchJob, Task
from endcap.training.search.record import ModelTrials, SearchRecord, Trial
from endcap.training.search.throughput import Throughput
from endcap.training.search.trial_queue import Next, TrialQueue
from tests.features.logs import recommender
from tests.refusals import refused
from tests.training.datasets import SPLIT, little_dataset, sleeper
from tests.training.stand_ins import PATH
from tests.training.threads import Threads

# Its package exports a function of the same name.
searching = sys.modules["endcap.training.search.search"]
GIB = 2**30
SMALL = DataSize(items=100, events=1000, predictions=100)
NEVER = 10_000.0


@pytest.fixture
def dataset(store: Store) -> str:
    return little_dataset(store)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[SearchJob]:
    """The jobs that are run in threads."""
    monkeypatch.setattr(searching, "RayProcess", Threads)
    monkeypatch.setattr(searching, "read_cpu_limit", lambda: 2)
    monkeypatch.setattr(Threads, "jobs", [], raising=False)
    # A run in MLflow costs more than all else here; what is logged is tested with Ray.
    monkeypatch.setattr(searching, "SearchRuns", _NoRuns)
    return Threads.jobs


class _NoRuns:
    def __init__(self, *arguments: object) -> None:
        pass

    def begin(self) -> None: ...

    def write_trial(self, label: str, trial: Trial) -> None: ...

    def abandon(self, status: str) -> None: ...

    def end(self, record: SearchRecord) -> str:
        return "run"


def run_search(store: Store, spec: Recommender, dataset: str, lines: list[str] | None = None) -> dict[str, Any]:
    told = [] if lines is None else lines
    facts: dict[str, Any] = store.manifest(train(spec, dataset, store, progress=told.append))["facts"]
    return facts


@pytest.mark.parametrize("budget", ["400ms", "1s"])
def test_a_short_search_is_never_below_the_model_as_written(
    store: Store, dataset: str, threads: list[SearchJob], budget: str
) -> None:
    # As written it would reach 0.9; the best of two epochs is another.
    spec = sleeper({"trials": 9, "time_budget": budget, "overtime": "20s"}, x=0.8, max_epochs=12, seconds=0.15)
    lines: list[str] = []
    facts = run_search(store, spec, dataset, lines)
    found = facts["search"]
    assert found["as_written"] == {"state": "complete", "value": pytest.approx(0.9), "epochs": 12}
    best = found["trials"][found["best"] - 1]
    assert best["value"] >= found["as_written"]["value"]
    assert best["state"] == "complete"
    assert 1 in found["finished"]
    assert found["finish"]["limit"] == "20s"
    assert 0.2 < found["finish"]["seconds"] < 10
    assert found["failed"] == 0
    assert {trial["state"] for trial in found["trials"] if trial["number"] not in found["finished"]} <= {
        "cut",
        "complete",
        "pruned",
    }
    assert facts["found"] == {"epochs": 12}
    assert f"finished in {found['finish']['seconds']:.0f} s" in describe(facts)


@pytest.mark.slow
def test_where_the_time_to_finish_ends_too_the_model_as_written_is_fitted_to_its_end_and_compared(
    store: Store, dataset: str, threads: list[SearchJob]
) -> None:
    # At its end it is worth 0.9; or less than what a rival reached before its end.
    for x, wins in ((0.8, True), (-0.2, False)):
        spec = sleeper({"trials": 9, "time_budget": "500ms", "overtime": "400ms"}, x=x, max_epochs=30, seconds=0.1)
        lines: list[str] = []
        facts = run_search(store, spec, dataset, lines)
        found, own = facts["search"], facts["search"]["as_written"]
        assert found["trials"][0]["state"] == "cut"
        assert found["seconds"] < 15
        assert any("it goes on" in line for line in lines)
        assert (own["state"], own["value"]) == ("complete", pytest.approx(1 - abs(x - 0.7)))
        reached = {trial["number"]: trial["value"] or 0.0 for trial in found["trials"]} | {1: own["value"]}
        assert reached[found["best"]] == max(reached.values())
        assert (found["best"] == 1) == wins
        assert facts["found"]["epochs"] == (30 if wins else found["trials"][found["best"] - 1]["epochs"])
        assert facts["model"]["parameters"]["x"] == (
            x if wins else found["trials"][found["best"] - 1]["parameters"]["x"]
        )


def test_without_time_to_finish_the_best_so_far_is_taken_and_what_ran_is_cut(
    store: Store, dataset: str, threads: list[SearchJob]
) -> None:
    spec = sleeper({"trials": 9, "time_budget": "600ms", "overtime": "0s"}, max_epochs=1000, seconds=0.05)
    found = run_search(store, spec, dataset)["search"]
    assert found["finished"] == []
    assert found["finish"] == {"limit": "0s", "seconds": 0}
    assert [trial["state"] for trial in found["trials"]] == ["cut"] * found["cut"]
    assert "error" not in found["trials"][0]


@pytest.mark.slow
def test_a_model_that_ends_no_epoch_in_its_time_is_fitted_as_written_in_the_time_to_finish(
    store: Store, dataset: str, threads: list[SearchJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the second, it ends its first epoch after the time to finish, and goes on from there.
    for finish, epochs in (("20s", 2), ("100ms", 3)):
        spec = sleeper({"trials": 9, "time_budget": "300ms", "overtime": finish}, max_epochs=epochs, seconds=0.9)
        found = run_search(store, spec, dataset)["search"]
        assert (found["as_written"]["state"], found["as_written"]["value"]) == ("complete", pytest.approx(0.4))
        assert found["trials"][0]["state"] == ("complete" if finish == "20s" else "cut")
    monkeypatch.setattr(searching, "_FIRST_EPOCH", 0.3)
    with refused(UserError, "search.time-over", limit="300ms", finish="200ms"):
        train(sleeper({"trials": 9, "time_budget": "300ms", "overtime": "200ms"}, seconds=NEVER), dataset, store)


def blend(search: dict[str, Any], **members: dict[str, Any]) -> Recommender:
    own = {
        label: {"name": "custom", "class": PATH, "parameters": {"x": 0.8, **parameters}}
        for label, parameters in members.items()
    }
    model = {"name": "blend", "members": {"pop": {"name": "popularity"}, **own}}
    return recommender(model=model, classes=[PATH], split=SPLIT, search=search)


@pytest.mark.slow
def test_members_that_diverge_or_never_end_are_left_out_and_the_others_blended(
    store: Store, dataset: str, threads: list[SearchJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_FIRST_EPOCH", 0.3)
    search = {"trials": 9, "time_budget": "2500ms", "overtime": "2500ms"}
    spec = blend(search, good={"seconds": 0.02}, broken={"fault": "diverges"}, endless={"seconds": NEVER})
    lines: list[str] = []
    facts = run_search(store, spec, dataset, lines)
    found = facts["search"]
    assert list(facts["model"]["members"]) == ["good", "pop"] or list(facts["model"]["members"]) == ["pop", "good"]
    assert found["left_out"].keys() == {"broken", "endless"}
    assert "the loss of epoch 1 is nan" in found["left_out"]["broken"]
    notices = {line.fields["member"]: line for line in lines if isinstance(line, Notice)}
    assert notices.keys() == {"broken", "endless"}
    # At once: before the next member is searched.
    (begun,) = [number for number, line in enumerate(lines) if "no trial of endless ended an epoch" in line]
    assert lines.index(notices["broken"]) < begun < lines.index(notices["endless"])
    assert found["members"]["good"]["as_written"]["state"] == "complete"
    assert found["members"]["endless"]["cut"] >= 1
    assert found["members"]["endless"]["failed"] == 0
    assert set(facts["found"]["weights"]) == {"pop", "good"}


@pytest.mark.slow
def test_a_member_that_did_not_come_to_its_end_as_written_goes_on_in_the_blend_s_fit(
    store: Store, dataset: str, threads: list[SearchJob]
) -> None:
    # The start, x 0.5, is ahead when the time is up; what the member as written reaches at its end nobody knows then.
    spec = blend(
        {"trials": 9, "time_budget": "1s", "overtime": "500ms"}, slow={"x": 0.1, "seconds": 0.1, "max_epochs": 30}
    )
    facts = run_search(store, spec, dataset)
    found = facts["search"]["members"]["slow"]
    assert found["as_written"]["state"] == "cut"
    values = {trial["number"]: trial["value"] or 0.0 for trial in found["trials"]}
    assert max(values, key=lambda number: values[number]) == 2
    assert found["best"] == 1
    assert facts["model"]["members"]["slow"]["parameters"]["x"] == 0.1
    (first, *_) = [row for row in facts["history"] if "slow/began_at" in row]
    # A thread cannot be killed in the midst of an epoch.
    assert first["slow/began_at"] - found["as_written"]["epochs"] in (0, 1)
    assert facts["found"]["members"]["slow"] == {"epochs": 30}


def test_too_many_failures_end_the_step_at_once_with_the_reasons(
    store: Store, dataset: str, threads: list[SearchJob]
) -> None:
    spec = sleeper({"trials": 4, "time_budget": "4m", "max_failed_share": 0.25}, fault="diverges")
    with refused(UserError, "search.too-many-failed", failed=2, limit=0.25) as caught:
        train(spec, dataset, store)
    assert "the loss of epoch 1 is nan" in caught.value.fields["reasons"]


def test_a_search_of_which_no_member_is_left_is_an_error(store: Store, dataset: str, threads: list[SearchJob]) -> None:
    own = {label: {"name": "custom", "class": PATH, "parameters": {"fault": "diverges"}} for label in ("one", "two")}
    model = {"name": "blend", "members": own}
    search = {"trials": 4, "time_budget": "2s"}
    spec = recommender(model=model, classes=[PATH], split=SPLIT, search=search)
    with refused(UserError, "search.too-many-failed", limit=0.5):
        train(spec, dataset, store)


def test_trials_are_shared_by_searches_with_other_budgets(store: Store, dataset: str, threads: list[SearchJob]) -> None:
    parameters: dict[str, Any] = {"max_epochs": 3, "seconds": 0.02}
    first = run_search(store, sleeper({"trials": 4, "time_budget": "20s"}, **parameters), dataset)["search"]
    assert (first["inherited"], len(threads)) == (0, 1)
    more = {"trials": 6, "time_budget": "30s", "concurrency": 1, "nice": 3, "overtime": "1s", "max_failed_share": 0.9}
    second = run_search(store, sleeper(more, **parameters), dataset)["search"]
    assert (second["inherited"], second["key"]) == (4, first["key"])
    assert [trial.get("inherited", False) for trial in second["trials"]] == [True] * 4 + [False] * 2
    assert [trial["value"] for trial in second["trials"][:4]] == [trial["value"] for trial in first["trials"]]
    assert [trial.number for trial in threads[1].known] == [1, 2, 3, 4]
    # All that it would try is known: nothing runs.
    third = run_search(store, sleeper({"trials": 3, "time_budget": "20s"}, **parameters), dataset)["search"]
    assert (third["inherited"], len(threads)) == (6, 2)
    # Another seed, or another space, gives other trials.
    other = sleeper({"trials": 4, "time_budget": "20s", "space": {"x": {"values": [0.3, 0.4]}}}, **parameters)
    assert run_search(store, other, dataset)["search"]["inherited"] == 0


def test_the_winner_of_a_search_is_not_fitted_from_nothing(
    store: Store, dataset: str, threads: list[SearchJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    gru = {"name": "gru4rec", "width": 8, "batch_size": 4, "negatives": 4, "max_epochs": 3, "patience": 3}
    rates = {"values": [0.05, 0.1]}
    fixed = [name for name in GRU4RecSpec.space if name != "learning_rate"]
    search = {"trials": 2, "time_budget": "1m"}
    single = recommender(
        model=gru, split=SPLIT, refit=False, search={**search, "space": {"learning_rate": rates}, "fixed": fixed}
    )
    lines: list[str] = []
    facts = run_search(store, single, dataset, lines)
    assert "going on after epoch 3" in lines
    assert not [line for line in lines if line.startswith("epoch ")]
    best = facts["search"]["trials"][facts["search"]["best"] - 1]
    assert facts["history"] == best["history"]
    model = {"name": "blend", "members": {"gru": gru, "pop": {"name": "popularity"}}}
    search |= {"space": {"gru.learning_rate": rates}, "fixed": [f"gru.{name}" for name in fixed]}
    lines = []
    facts = run_search(store, recommender(model=model, split=SPLIT, refit=False, search=search), dataset, lines)
    assert "going on after epoch 3" in lines
    assert not [line for line in lines if line.startswith("epoch ")]


# What is tried, by a clock of the test's own.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_queue(model: dict[str, Any], clock: Clock, **changed: Any) -> tuple[TrialQueue, list[dict[str, Any]]]:
    spec = recommender(model=model, classes=[PATH], split=SPLIT, search={"trials": 20})
    document = TrainSettings.of(spec).model_dump_json(by_alias=True)
    points: list[Values] = changed.pop("points", [{"x": 0.1}, {"x": 0.5}])
    settings: dict[str, Any] = {
        "task": Task("", "", document, "test", "key", "", None),
        "seconds": 100.0,
        "finish": 50.0,
        "first_epoch": 120.0,
        "trials": 20,
        "known": [],
        "first": [Trial(number, point) for number, point in enumerate(points, 1)],
        "written": points[0],
        "spared": len(points),
        "most_failed": 10.0,
        "concurrency": 2,
        "size": SMALL,
        "memory": 8 * GIB,
    }
    events: list[dict[str, Any]] = []
    return TrialQueue(SearchJob(**{**settings, **changed}), events.append, clock), events


def get_number(chosen: Next) -> int:
    assert not isinstance(chosen, str), chosen
    return chosen[0]


SLEEPER = {"name": "custom", "class": PATH, "parameters": {"x": 0.1, "max_epochs": 9}}


def row(epoch: int, value: float, waited: float | None = 0.0) -> dict[str, Any]:
    return {"row": {"epoch": epoch, "validation": value}, "waited": waited}


def test_on_a_loaded_machine_fewer_run_at_once_and_none_begins_that_could_not_end_an_epoch() -> None:
    clock = Clock()
    own, events = make_queue(SLEEPER, clock)
    assert [get_number(own.next()), get_number(own.next()), own.next()] == [1, 2, "wait"]
    clock.now = 30.0
    own.add_epoch(1, row(1, 0.1, waited=0.55), 1, 0.1)
    own.add_epoch(2, row(1, 0.2, waited=0.55), 1, 0.2)
    assert {"event": "pace", "at_once": 1} in events
    own.end_trial(2, {"state": "complete", "value": 0.2})
    assert own.next() == "wait", "another would only slow the first"
    clock.now = 71.0
    own.end_trial(1, {"state": "complete", "value": 0.3})
    assert own.next() == "done", "the first epochs took 30 s, and 29 s are left"
    assert events[-1] == {"event": "finishing", "numbers": []}
    quiet, _ = make_queue(SLEEPER, Clock())
    quiet.next(), quiet.next()
    quiet.add_epoch(1, row(1, 0.1, waited=0.05), 1, 0.1)
    quiet.add_epoch(2, row(1, 0.1, waited=None), 1, 0.1)
    quiet.end_trial(2, {"state": "complete", "value": 0.1})
    assert get_number(quiet.next()) == 3


def test_known_good_starts_may_be_stopped_where_time_is_short() -> None:
    clock = Clock()
    own, _ = make_queue(SLEEPER, clock, points=[{"x": number / 10} for number in range(1, 5)])
    own.next(), own.next()
    assert own.is_spared(4)
    for epoch in (1, 2):
        clock.now += 4.0
        own.add_epoch(1, row(epoch, 0.1 * epoch), epoch, 0.1 * epoch)
    # Four starts of ten epochs, two at once, are 80 s.
    assert own.is_spared(1)
    assert not own.is_spared(4)


def test_when_the_time_is_up_the_model_as_written_and_its_best_rival_alone_go_on() -> None:
    clock = Clock()
    own, events = make_queue(SLEEPER, clock, concurrency=3)
    for _ in range(3):
        own.next()
    for number, value in ((1, 0.1), (2, 0.2), (3, 0.3)):
        own.add_epoch(number, row(1, value), 1, value)
    clock.now = 100.5
    own.check_time()
    assert [event for event in events if event["event"] == "ended"] == [{"event": "ended", "number": 2, "state": "cut"}]
    assert events[-1] == {"event": "finishing", "numbers": [1, 3]}
    assert own.was_cut(2)
    assert not own.was_cut(3)
    assert own.is_spared(3)
    own.end_trial(3, {"state": "complete", "value": 0.4})
    assert own.next() == "wait"
    clock.now = 149.0
    own.check_time()
    assert not own.over
    clock.now = 151.0
    own.check_time()
    assert own.over
    assert own.was_cut(1)


def test_a_search_that_was_killed_while_it_finished_tries_nothing_more() -> None:
    first = [Trial(2, {"x": 0.5}, value=0.3), Trial(1, {"x": 0.1}, value=0.2), Trial(3, {"x": 0.7})]
    own, events = make_queue(SLEEPER, Clock(), seconds=0.0, first=first)
    assert [get_number(own.next()), get_number(own.next())] == [1, 2]
    assert events[0] == {"event": "finishing", "numbers": [1, 2]}
    assert own.next() == "wait"


def test_a_model_as_written_without_an_epoch_goes_on_up_to_its_first_but_not_for_ever() -> None:
    for ends in (True, False):
        clock = Clock()
        own, _ = make_queue(SLEEPER, clock, finish=20.0)
        own.next(), own.next()
        for clock.now in (100.0, 121.0):
            own.check_time()
        assert own.was_cut(2)
        assert not own.over
        if ends:
            own.add_epoch(1, row(1, 0.1), 1, 0.1)
        else:
            clock.now = 221.0
        own.check_time()
        assert own.over
        assert own.was_cut(1)


def test_memory_limits_how_many_run_at_once_and_what_cannot_fit_is_not_begun() -> None:
    large = DataSize(items=30_000, events=1_000_000, predictions=20_000)
    model = {"name": "ease"}
    points = [{"regularisation": 200.0}, {"regularisation": 100.0}]
    one, _ = make_queue(model, Clock(), points=points, size=large, memory=12 * GIB)
    assert [get_number(one.next()), one.next()] == [1, "wait"]
    two, _ = make_queue(model, Clock(), points=points, size=large, memory=24 * GIB)
    assert [get_number(two.next()), get_number(two.next())] == [1, 2]
    none, events = make_queue(model, Clock(), points=points, size=large, memory=6 * GIB)
    assert none.next() == "done"
    skipped = [event for event in events if event["event"] == "ended"]
    assert {event["state"] for event in skipped} == {"skipped"}
    assert "8.3 GB" in skipped[0]["error"]


def test_the_cost_of_ease_is_cubic_in_items_and_its_memory_quadratic() -> None:
    def of(items: int) -> Any:
        return estimate_cost(EASESpec(), DataSize(items, 10**6, 10**4))

    assert (of(3_000).seconds, of(6_000).seconds) == (pytest.approx(1.4, rel=0.05), pytest.approx(5.3, rel=0.05))
    assert of(30_000).seconds > 100 * of(6_000).seconds
    assert 7.2e9 < of(30_000).bytes < 9e9


@pytest.mark.parametrize("name", ["sequential-rules", "vsknn", "ease", "item-knn", "gru4rec", "sasrec", "neumf"])
def test_more_items_and_events_cost_more(name: str) -> None:
    spec = list_members(TypeAdapter[ModelSpec](ModelSpec).validate_python({"name": name}))[""]
    small, large = (estimate_cost(spec, DataSize(times * 5_000, times * 50_000, times * 500)) for times in (1, 4))
    assert large.bytes > small.bytes > 0
    assert large.work > small.work > 0


def test_the_pace_rises_again_when_cores_are_free() -> None:
    pace = Throughput(2, 100.0, Clock())
    pace.start_trial(1, 1.0), pace.start_trial(2, 1.0)
    pace.end_epoch(1, 0.5), pace.end_epoch(2, 0.5)
    assert pace.at_once == 1
    pace.end_trial(2, complete=True)
    pace.end_epoch(1, 0.02)
    assert pace.at_once == 2


def test_a_record_of_another_budget_is_inherited_and_its_cut_trials_go_on(tmp_path: Path) -> None:
    record = SearchRecord(tmp_path, "key", [""], "short")
    record._before = 60.0
    part = record.parts[""]
    part.trials = {
        1: Trial(1, {"x": 1}, "cut", 0.4, [{"epoch": 1.0, "validation": 0.4}]),
        2: Trial(2, {"x": 2}, "complete", 0.5),
        3: Trial(3, {"x": 3}, "failed", error="no memory"),
        4: Trial(4, {"x": 4}, "skipped", error="too large"),
    }
    part.over, part.finishing = True, [1]
    record.save()
    same = SearchRecord(tmp_path, "key", [""], "short")
    assert (same.identity, same.parts[""].over) == (record.identity, True)
    long = SearchRecord(tmp_path, "key", [""], "long")
    assert long.identity != record.identity
    assert long.seconds == pytest.approx(60, abs=5)
    assert not long.parts[""].over
    assert not long.parts[""].finishing
    assert {one.number: (one.state, one.inherited) for one in long.parts[""].trials.values()} == {
        1: ("running", False),
        2: ("complete", True),
    }


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "elsewhere"])
def test_checkpoints_stay_for_what_may_go_on_and_for_the_winner(
    store: Store, tmp_path: Path, is_elsewhere: bool
) -> None:
    task = Task(store.root, "", "", "test", "key", "", None if is_elsewhere else str(tmp_path / "fits"))
    values = {"x": 0.1}

    def kept(number: int) -> bool:
        return checkpoints.copy(task, store, Trial(number, values), tmp_path / f"copy-{number}")

    for number in (1, 2, 3, 4):
        with checkpoints.workspace(task, store, number, values) as work:
            work.mkdir(parents=True, exist_ok=True)
            checkpoint.write(work, "fit", {"number": number}, {})
    with pytest.raises(ArithmeticError), checkpoints.workspace(task, store, 4, values):
        raise ArithmeticError
    part = ModelTrials(
        {1: Trial(1, values, "cut", 0.1), 2: Trial(2, values, "pruned", 0.2), 3: Trial(3, values, "complete", 0.3)}
    )
    checkpoints.prune(task, store, part, set())
    assert [kept(number) for number in (1, 2, 3, 4)] == [True, False, True, False]
    part.trials[1].state = "complete"
    checkpoints.prune(task, store, part, set())
    assert [kept(number) for number in (1, 3)] == [False, True]
    found = checkpoint.read(tmp_path / "copy-3", "fit")
    assert found is not None
    assert found[0] == {"number": 3}
    checkpoints.prune(task, store, part, set(), every=True)
    assert not kept(3)


def test_how_long_threads_ran_and_waited_for_cores_is_read_of_the_kernel(tmp_path: Path) -> None:
    assert measure_core_time(tmp_path) is None
    for thread, said in (("7", "5000 300 2\n"), ("8", "1000 20 1\n")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(said)
    assert measure_core_time(tmp_path) == (6000, 320)


def test_what_goes_on_when_the_time_is_up() -> None:
    def part(*trials: Trial) -> list[int]:
        return ModelTrials({trial.number: trial for trial in trials}).list_unfinished()

    assert part() == [1]
    assert part(Trial(1, {}, "complete", 0.5), Trial(2, {}, "running", 0.4)) == []
    assert part(Trial(1, {}, "complete", 0.5), Trial(2, {}, "pruned", 0.6)) == [2]
    assert part(Trial(1, {}, "cut", 0.5), Trial(2, {}, "complete", 0.4)) == [1]
    assert part(Trial(1, {}, "running"), Trial(2, {}, "running"), Trial(3, {}, "running")) == [1, 2]
    assert part(Trial(1, {}, "failed"), Trial(2, {}, "cut", 0.1)) == [2]
