"""ModelRollouts from request to end, in a cluster whose objects are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from endcap.deploy import switch_back
from endcap.deploy.pins import pin_state, unpin_state
from endcap.errors import TransientError
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.operations import ArmSources, PageReader
from endcap.experiments.rollout_state import RolloutCommand
from endcap.registry import Registry
from endcap.rollout.feed import IntakeOutput
from endcap.rollout.lift import read_lift
from endcap.rollout.request_watcher import GuardrailWatcher
from endcap.store import Store
from tests.rollout.cluster_shop import ALONE, ClusterShop, Json, serve_from_a_bucket
from tests.rollout.shop import MINUTE, POLICY


@pytest.fixture(autouse=True)
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    serve_from_a_bucket(monkeypatch)


@pytest.fixture
def shop(shop_store: Store) -> ClusterShop:
    shop = ClusterShop(shop_store)
    shop.ask("2")
    shop.tick(4)
    return shop


def run(shop: ClusterShop, looks: int, until: tuple[str, ...], **rates: float) -> str:
    for _ in range(looks):
        shop.receive(600, **rates)
        shop.tick()
        if shop.status("2")["phase"] in until:
            break
    shop.tick(3)
    return str(shop.status("2")["phase"])


def test_a_resource_begins_a_rollout_and_a_good_version_gets_everyone(shop: ClusterShop) -> None:
    assert shop.served == ("1", "2", 0.1)
    status = shop.status("2")
    # It begins before anyone has met the version.
    assert (status["phase"], status["sharePercent"], status["previousVersion"]) == ("rising", "10 %", "1")
    assert run(shop, 60, ("promoted",), stable=0.2, canary=0.21) == "promoted"
    assert shop.served == ("2", "", 0.0)
    status = shop.status("2")
    assert status["effect"].startswith("+")
    assert shop.conditions("2")["Promoted"][0] == shop.conditions("2")["Served"][0] == "True"
    events = shop.events()
    assert (events[0], events[-1]) == ("Started", "ShownNoHarm")
    assert "RiskExcluded" in events
    assert shop.make_controller().log.verify() == status["entry"] + 1


def test_the_effect_that_promoted_a_version_is_shown_until_another_is_known(shop_store: Store) -> None:
    shop = ClusterShop(shop_store, POLICY)
    shop.ask("2")
    shop.tick(4)
    assert run(shop, 20, ("guarding",), stable=0.2, canary=0.3) == "guarding"
    effect = shop.status("2")["effect"]
    assert effect.startswith("+")
    shop.now += 3 * MINUTE
    shop.tick(3)
    status = shop.status("2")
    assert (status["reason"], status["effects"][0]["text"], status["effect"]) == ("guarded", "unknown", effect)


def test_a_version_that_harms_is_taken_back_from_the_cluster_too(shop: ClusterShop) -> None:
    assert run(shop, 20, ("rolled-back",), stable=0.2, canary=0.1) == "rolled-back"
    assert shop.served == ("1", "", 0.0)
    assert shop.conditions("2")["Promoted"][0] == "False"
    assert shop.status("2")["sharePercent"] == "0 %"
    warnings = [one for (plural, _), one in shop.api.objects.items() if plural == "events" and one["type"] == "Warning"]
    assert warnings[-1]["reason"].startswith("MetricHarmed")


@pytest.mark.parametrize(
    ("method", "canary", "served"), [("promote", 0.3, ("2", "", 0.0)), ("reject", 0.1, ("1", "", 0.0))]
)
def test_shoppers_do_not_wait_for_a_registry(
    shop: ClusterShop, monkeypatch: pytest.MonkeyPatch, method: str, canary: float, served: tuple[str, str, float]
) -> None:
    seen = []

    def fail(*_: Any, **__: Any) -> None:
        seen.append(shop.served)
        raise TransientError("the registry does not answer", code="registry.unreachable")

    monkeypatch.setattr(Registry, method, fail)
    for _ in range(60):
        shop.receive(600, stable=0.2, canary=canary)
        shop.loop.tick()
        if seen:
            break
    assert seen[0] == served


def test_what_a_resource_asks_for_is_done_once_however_often_it_is_read(shop: ClusterShop) -> None:
    shop.want("2", paused=True, why="a sale")
    shop.tick(3)
    assert shop.status("2")["phase"] == "paused"
    shop.want("2", paused=False)
    shop.tick(3)
    assert shop.status("2")["phase"] == "rising"
    # Without the key nobody asks by the resource: what a person says by a command stays.
    shop.api.edit("modelrollouts", "shoes-2", lambda thing: thing["spec"].pop("paused"))
    shop.make_controller().command(RolloutCommand("pause", "ann"))
    shop.tick(3)
    assert shop.status("2")["phase"] == "paused"
    shop.want("2", outcome="Promote")
    shop.tick(3)
    assert (shop.status("2")["phase"], shop.served) == ("promoted", ("2", "", 0.0))
    shop.want("2", outcome="Abort")
    shop.tick(3)
    assert (shop.status("2")["phase"], shop.served) == ("aborted", ("1", "", 0.0))
    actions = [entry.command.action for entry in shop.make_controller().log.read_entries() if entry.command]
    assert actions == ["pause", "resume", "pause", "promote", "abort"]


def test_an_agreement_may_be_given_before_it_is_waited_for(shop_store: Store) -> None:
    shop = ClusterShop(shop_store, {**ALONE, "approval": "start"})
    shop.ask("2")
    shop.tick(2)
    assert (shop.status("2")["phase"], shop.served[1:]) == ("waiting-approval", ("", 0.0))
    shop.want("2", outcome="Promote")
    shop.tick()
    assert shop.conditions("2")["Accepted"] == ("False", "NotStarted")
    shop.want("2", approved=["start"], outcome="Decide")
    shop.tick()
    shop.now += 3 * MINUTE
    shop.tick(4)
    assert shop.served == ("1", "2", 0.1)


def test_a_newer_request_waits_and_overtakes_older_ones(shop: ClusterShop) -> None:
    shop.now += MINUTE
    shop.ask("3")
    shop.tick(2)
    assert shop.conditions("3")["Accepted"] == ("False", "WaitsForRollout")
    shop.want("2", outcome="Abort")
    shop.tick(5)
    assert (shop.status("2")["phase"], shop.status("3")["phase"]) == ("aborted", "rising")
    assert shop.served == ("1", "3", 0.1)
    # A request that was waiting meanwhile, and is older, does not begin later.
    shop.api.delete("modelrollouts", "shoes-2")
    shop.want("3", outcome="Abort")
    shop.tick(3)
    assert shop.served == ("1", "", 0.0)


@pytest.mark.parametrize("gap", [0, 60], ids=["watched", "away for an hour"])
def test_a_rollout_whose_resource_is_deleted_ends_and_nobody_keeps_the_version(shop: ClusterShop, gap: int) -> None:
    shop.api.delete("modelrollouts", "shoes-2")
    if gap:
        shop.now += gap * MINUTE
        shop.loop = shop.start_loop()
    shop.tick(3)
    assert shop.served == ("1", "", 0.0)
    last = shop.make_controller().log.find_last()
    assert last is not None
    assert (last.after.phase, last.command and last.command.action) == ("aborted", "abort")
    # Asked for again, it is rolled out again.
    shop.ask("2")
    shop.tick(4)
    assert shop.served == ("1", "2", 0.1)


def test_a_controller_that_was_away_for_an_hour_goes_on_and_repeats_nothing(shop: ClusterShop) -> None:
    before = len(list(shop.make_controller().log.read_entries()))
    shop.now += 60 * MINUTE
    shop.loop = shop.start_loop()
    shop.tick(3)
    entries = list(shop.make_controller().log.read_entries())
    assert [entry.kind for entry in entries[before:]] == ["decision"]
    assert shop.status("2")["reason"] == "no-feed"
    assert shop.served == ("1", "2", 0.1)


def test_two_controllers_that_both_act_do_each_step_once(shop: ClusterShop) -> None:
    other = shop.start_loop()
    shop.want("2", outcome="Promote")
    for _ in range(3):
        shop.tick()
        other.tick()
    actions = [entry.command.action for entry in shop.make_controller().log.read_entries() if entry.command]
    assert (actions, shop.served) == (["promote"], ("2", "", 0.0))


def test_a_version_that_vanishes_from_the_registry_is_taken_from_everyone(
    shop: ClusterShop,
) -> None:
    shop.registry.client.delete_model_version("shoes", "2")
    shop.now += 3 * MINUTE
    shop.tick(3)
    assert (shop.status("2")["phase"], shop.served) == ("aborted", ("1", "", 0.0))
    shop.ask("9")
    shop.tick()
    assert shop.conditions("9")["Accepted"][0] == "False"


def test_a_namespace_that_is_being_deleted_stops_nobody_and_the_rollout_ends(shop: ClusterShop) -> None:
    shop.api.ending = True
    shop.api.delete("modelrollouts", "shoes-2")
    shop.api.delete("inferenceservices", "shoes")
    shop.loop.tick()
    last = shop.make_controller().log.find_last()
    assert last is not None
    assert (last.after.phase, shop.state.canary) == ("aborted", None)
    shop.api.ending = False
    shop.now += MINUTE
    shop.ask("3")
    shop.tick(4)
    assert [entry.after.version for entry in shop.make_controller().log.read_entries() if entry.kind == "begin"] == [
        "2",
        "3",
    ]
    assert shop.served == ("1", "3", 0.1)


def test_objects_that_were_edited_by_hand_say_again_what_the_log_says(shop: ClusterShop) -> None:
    def take_traffic(service: Json) -> None:
        service["metadata"]["annotations"]["endcap.dev/canary-share"] = "0.9"

    def promote(thing: Json) -> None:
        thing["status"] |= {"phase": "promoted", "entry": 900}

    assert shop.served[2] == 0.1
    shop.api.edit("inferenceservices", "shoes", take_traffic)
    shop.api.edit("modelrollouts", "shoes-2", promote)
    assert shop.served[2] == 0.9
    shop.tick(2)
    assert shop.served[2] == 0.1
    assert (shop.status("2")["phase"], shop.status("2")["entry"]) == ("rising", 1)


def test_a_switch_that_is_thrown_in_the_cluster_alone_is_taken_over_and_the_rollout_holds(shop: ClusterShop) -> None:
    def thrown(word: str) -> bool:
        annotations = shop.api.get("inferenceservices", "shoes")["metadata"]["annotations"]
        annotations["endcap.dev/popularity-only"] = word
        shop.tick(3)
        assert shop.api.variants is not None
        return shop.api.variants.popularity_only

    # Nothing could answer in place of the versions: the gateway waits, and all else goes on.
    assert thrown("true")
    assert shop.state.switch is None
    assert not thrown("false")
    shop.begin_baseline(0.2)
    assert thrown("true")
    assert shop.state.switch is not None
    assert "endcap.dev/popularity-only" in shop.state.switch.why
    run(shop, 2, (), stable=0.2, canary=0.2, baseline=0.2)
    assert (shop.status("2")["reason"], shop.served) == ("popularity-only", ("1", "2", 0.1))
    switch_back("shoes", shop.store)
    shop.tick(2)
    assert shop.api.variants is not None
    assert not shop.api.variants.popularity_only


class BrokenWatcher:
    """Reports a broken guardrail at each reading."""

    def poll(self, *_: Any) -> bool:
        return True

    def measure(self, *_: Any) -> tuple[Iterable[GuardrailEvidence], Mapping[str, str]]:
        return (GuardrailEvidence("errors", 1e9, observed=0.5, reference=0.01, events=100),), {}


def test_a_pin_holds_a_broken_version_without_a_look_in_each_round(shop_store: Store) -> None:
    shop = ClusterShop(shop_store, {**ALONE, "guardrails": [{"kind": "errors"}]})
    shop.ask("2")
    shop.tick(2)
    pin_state("shoes", shop.store, by="ann", why="a sale")
    shop.loop = shop.start_loop(make_watcher=lambda name: BrokenWatcher())
    shop.tick(30)
    reasons = [entry.after.reason for entry in shop.make_controller().log.read_entries() if entry.kind == "decision"]
    assert reasons[-1] == "pinned-harm"
    # What was due before, what the guardrail asked for, and what is due meanwhile.
    assert len(reasons) <= 4
    assert shop.served == ("1", "2", 0.1)
    unpin_state("shoes", shop.store)
    shop.now += 2 * MINUTE
    shop.tick(2)
    assert (shop.status("2")["phase"], shop.served) == ("rolled-back", ("1", "", 0.0))


def test_a_page_that_no_guardrail_needs_holds_no_rollout(shop: ClusterShop) -> None:
    asked = []

    def list_sources() -> dict[str, ArmSources]:
        asked.append(True)
        raise TransientError("nobody answers", code="cluster.unreachable")

    shop.loop = shop.start_loop(make_watcher=lambda name: GuardrailWatcher(shop.store, list_sources, PageReader()))
    assert run(shop, 60, ("promoted",), stable=0.2, canary=0.3) == "promoted"
    assert asked == []


def test_reports_are_read_where_the_intake_writes_and_tell_the_lift(shop: ClusterShop, tmp_path: Path) -> None:
    shop.begin_baseline(0.2)
    # What is reported beside the store is then nowhere, as with an intake that has a bucket of its own.
    beside, elsewhere = Path(shop.store.root.removeprefix("file://")) / "intake", tmp_path / "reports"
    elsewhere.mkdir()
    beside.symlink_to(elsewhere)
    loop = shop.start_loop(intake=IntakeOutput(str(elsewhere)))
    (report,) = loop.look_at_lifts()
    assert (report.recommender, dict(report.errors)) == ("shoes", {})
    beside_files = sorted(elsewhere.rglob("*.parquet"))
    assert beside_files == []
    for _ in range(12):
        shop.receive(600, stable=0.3, canary=0.3, baseline=0.2)
        loop.look_at_lifts()
    beside.unlink()
    lift = read_lift("shoes", shop.store)
    assert lift is not None
    assert lift.table.metrics[0].lower > 0
