"""A/B tests as they run: what shoppers do, decided and carried out, also after a kill, and beside rollouts."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.ab import carrying_out
from endcap.ab.controller import AbController
from endcap.deploy import deploy
from endcap.deploy.pins import pin_state, unpin_state
from endcap.deploy.state import change_state
from endcap.errors import EndcapError, IntegrityError, NotFoundError, UserError
from endcap.experiments.ab_log import AB_FOLDER, AbLog
from endcap.experiments.ab_state import AbCommand
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.exclusion import refuse_during_rollout
from endcap.experiments.layout import count_movers
from endcap.experiments.rollout_state import RolloutCommand
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from tests.ab.shop import AbShop
from tests.rollout.shop import MINUTE


@pytest.fixture
def shop(shop_store: Store) -> AbShop:
    return AbShop(shop_store)


@contextlib.contextmanager
def refused(kind: type[EndcapError], code: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.code == code


def test_shoppers_move_to_the_version_that_works_and_it_serves_everyone(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3"], "ann", "new models")
    assert shop.state.ab is not None
    assert {round(target.share, 3) for target in shop.state.ab.arms.values()} == {0.333}
    last = shop.run_test(controller, 40, v1=0.2, v2=0.2, v3=0.3)
    assert (last.after.phase, last.after.winner, last.after.reason) == ("promoted", "3", "shown-best")
    assert (shop.state.stable.version, shop.state.ab) == ("3", None)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "3"
    kinds = [message.kind for message in shop.told]
    assert (kinds[0], kinds[-1]) == ("ab.begun", "ab.ended")
    assert "ab.moved" in kinds
    moves = [entry for entry in controller.log.read_entries() if entry.decision and entry.decision.action == "move"]
    shares = [entry.after.weights["challenger-2"] for entry in moves]
    assert shares[-1] > 333_333
    for entry in moves:
        assert entry.before is not None
        assert entry.decision is not None
        assert entry.decision.allocation is not None
        moved = count_movers(entry.before.layout, entry.after.layout) / 1_000_000
        assert moved == pytest.approx(entry.decision.allocation.moved)
    looks = [entry.evidence for entry in controller.log.read_entries() if entry.evidence is not None]
    assert all(each.mismatches == 0 for look in looks for each in look.challengers)
    assert all("unknown-layout" not in look.refusals for look in looks)
    assert controller.log.verify() == len(looks) + 1
    # A new loop knows the same from the files alone.
    document: Any = shop.store.read_document("ab/shoes/log-000000")
    changed = next(entry for entry in document["entries"] if entry["decision"] and entry["decision"]["seed"])
    changed["decision"]["seed"] += 1
    shop.store.update_document("ab/shoes/log-000000", lambda before: document)
    with refused(IntegrityError, "experiments.log-differs"):
        AbLog(shop.store, "shoes").verify()


def test_a_worse_version_leaves_and_the_others_go_on(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3"])
    for _ in range(20):
        shop.visit(1_500, v1=0.3, v2=0.1, v3=0.3)
        entry = controller.look_if_due()
        if entry is not None and entry.after.challengers[0].left:
            break
    assert entry is not None
    assert [each.left for each in entry.after.challengers] == ["metric-harmed", ""]
    assert shop.state.ab is not None
    assert list(shop.state.ab.arms) == ["challenger-2"]
    assert shop.registry.get_version("shoes", "2").state == "rejected"
    assert shop.told[-1].kind == "ab.dropped"
    # The other one goes on to be measured.
    shop.visit(1_500, v1=0.3, v3=0.3)
    entry = shop.make_test().look()
    assert entry is not None
    assert entry.evidence is not None
    assert [each.version for each in entry.evidence.challengers] == ["3"]
    assert controller.log.verify() > 2


@pytest.mark.slow
def test_a_loop_that_starts_anew_knows_the_same(shop: AbShop) -> None:
    first = shop.make_test()
    first.start(["2", "3"])
    shop.run_test(first, 4, v1=0.2, v2=0.2, v3=0.3)
    shop.visit(1_500, v1=0.2, v2=0.2, v3=0.3)
    known = first.look()
    # Another loop decides at the same moment, by the same evidence.
    second = shop.make_test()
    again = second.look()
    assert known is not None
    assert again is not None
    assert known.evidence is not None
    assert again.evidence is not None
    assert [each.effects for each in again.evidence.challengers] == [
        each.effects for each in known.evidence.challengers
    ]
    assert known.after.layouts > 1


def test_exposures_of_another_arm_hold_the_test(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2"])
    shop.visit(300, arm="challenger-1", v1=0.2, v2=0.2)
    entry = controller.look()
    assert entry is not None
    shop.now += 10 * MINUTE
    entry = controller.look()
    assert entry is not None
    assert (entry.after.reason, entry.after.phase) == ("audit-mismatch", "holding")
    assert shop.told[-1].kind == "ab.attention"


def test_a_version_that_vanishes_or_is_rejected_leaves(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3", "4"])
    shop.registry.client.delete_model_version("shoes", "2")
    shop.registry.reject("shoes", "4", by="ann", why="too dear")
    entry = controller.look()
    assert entry is not None
    assert [each.left for each in entry.after.challengers] == ["version-vanished", "", "version-rejected"]
    assert shop.state.ab is not None
    assert list(shop.state.ab.arms) == ["challenger-2"]
    shop.registry.client.delete_model_version("shoes", "3")
    entry = controller.look()
    assert entry is not None
    assert (entry.after.phase, shop.state.ab, shop.state.stable.version) == ("kept", None, "1")


def test_the_whole_package_may_be_gone(shop: AbShop) -> None:
    shop.make_test().start(["2", "3"])
    for version in ("2", "3"):
        shutil.rmtree(Path(shop.store.root.removeprefix("file://")) / "packages" / "shoes" / version)
    with refused(NotFoundError, "store.not-found"):
        shop.make_test().command(AbCommand("promote", "ann", version="3"))
    stopped = shop.make_test().command(AbCommand("stop", "ann", "enough"))
    assert (stopped.after.phase, shop.state.ab) == ("kept", None)
    assert shop.state.stable.version == "1"


def test_commands_of_a_person(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3", "4"])
    controller.command(AbCommand("drop", "ann", "too dear", "3"))
    assert shop.state.ab is not None
    assert list(shop.state.ab.arms) == ["challenger-1", "challenger-3"]
    # Dropped by a person, and not shown to do harm: it may be deployed another time.
    assert shop.registry.get_version("shoes", "3").state == "approved"
    controller.command(AbCommand("promote", "ann", "sure", "4"))
    assert (shop.state.stable.version, shop.state.ab) == ("4", None)
    with refused(UserError, "experiments.no-test-runs"):
        controller.command(AbCommand("stop", "ann"))
    controller.start(["2"])
    controller.command(AbCommand("stop", "ann"))
    assert (shop.state.stable.version, shop.state.ab) == ("4", None)
    assert controller.log.verify() == 5


@pytest.mark.parametrize(
    ("versions", "code"),
    [
        ([], "ab.challengers"),
        (["2", "2"], "ab.challengers"),
        (["2", "3", "4", "5", "6", "7", "8", "9"], "ab.challengers"),
        (["1"], "rollout.version-unfit"),
        (["2", "3"], "rollout.version-unfit"),
    ],
)
def test_versions_that_cannot_be_tested_are_refused(shop: AbShop, versions: list[str], code: str) -> None:
    shop.registry.reject("shoes", "3", by="ann", why="slow")
    with refused(UserError, code):
        shop.make_test().start(versions)
    assert AbLog(shop.store, "shoes").find_last() is None


def test_a_test_does_not_begin_beside_a_canary_or_for_another_champion(shop: AbShop) -> None:
    deploy(shop.spec, "2", shop.store)
    with refused(UserError, "ab.canary-serves"):
        shop.make_test().start(["3"])
    deploy(shop.spec, "1", shop.store, end_canary=True)
    shop.registry.promote("shoes", "2")
    with refused(UserError, "ab.champion-not-served"):
        shop.make_test().start(["3"])
    # Nothing was begun, so nothing is half done.
    assert AbLog(shop.store, "shoes").find_last() is None


def test_a_floor_leaves_room_for_so_many_arms(shop_store: Store) -> None:
    shop = AbShop(shop_store, {"floor": 0.3})
    shop.make_test().start(["2", "3"])
    shop.make_test().command(AbCommand("stop", "ann"))
    with refused(UserError, "ab.challengers"):
        shop.make_test().start(["2", "3", "4"])
    with refused(NotFoundError, "registry.version-not-found"):
        shop.make_test().start(["9"])


def test_neither_a_rollout_nor_a_deployment_comes_in_between(shop: AbShop) -> None:
    rollouts, controller = shop.make_controller(), shop.make_test()
    rollouts.start("2")
    with refused(UserError, "rollout.runs"):
        controller.start(["3"])
    rollouts.command(RolloutCommand("promote", "ann"))
    assert shop.state.previous is not None
    # During the guard a test may begin, and the previous version leaves.
    controller.start(["3"])
    assert (shop.state.previous, shop.state.stable.version) == (None, "2")
    assert rollouts.look_if_due() is None
    assert rollouts.find_running() is None
    with refused(UserError, "ab.runs"):
        rollouts.start("4")
    with refused(UserError, "ab.runs"):
        rollouts.command(RolloutCommand("abort", "ann"))
    with refused(UserError, "ab.runs"):
        rollouts.roll_back("", "ann", "bad week")
    with refused(UserError, "ab.runs"):
        controller.start(["4"])
    with refused(UserError, "ab.runs"):
        deploy(shop.spec, "4", shop.store)
    with refused(UserError, "ab.runs"):
        refuse_during_rollout("shoes", shop.store, "endcap registry promote")
    with refused(UserError, "deploy.ab-runs"):
        change_share(shop)
    # A new version waits for the end, and begins then. One that was tested does not begin by itself.
    queue = VersionQueue(rollouts)
    assert queue.offer("4") is None
    assert queue.start_waiting() is None
    controller.command(AbCommand("stop", "ann"))
    started = queue.start_waiting()
    assert started is not None
    assert (started.after.version, shop.state.canary and shop.state.canary.version) == ("4", "4")
    rollouts.command(RolloutCommand("abort", "ann"))
    assert queue.offer("3") is None


def change_share(shop: AbShop) -> None:
    """Change shares without asking anybody."""
    change_state("shoes", shop.store, lambda before: before.model_copy(update={"ab": None}) if before else shop.state)


def test_a_version_waits_for_a_test_where_there_was_never_a_rollout(shop: AbShop) -> None:
    controller, queue = shop.make_test(), VersionQueue(shop.make_controller())
    controller.start(["2", "3"])
    assert queue.offer("4") is None
    controller.command(AbCommand("promote", "ann", version="3"))
    started = queue.start_waiting()
    assert started is not None
    assert (started.after.version, started.after.previous_version) == ("4", "3")


def test_a_guard_of_another_champion_is_over_after_a_test(shop: AbShop) -> None:
    rollouts, controller = shop.make_controller(), shop.make_test()
    rollouts.start("2")
    rollouts.command(RolloutCommand("promote", "ann"))
    controller.start(["3"])
    controller.command(AbCommand("promote", "ann", version="3"))
    assert rollouts.look_if_due() is None
    assert shop.state.stable.version == "3"
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "3"
    # The champion before comes back by a command, as ever.
    rollouts.roll_back("", "ann", "bad week")
    assert shop.state.stable.version == "2"


def test_a_pin_keeps_the_test_as_it_is(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3"])
    pin_state("shoes", shop.store, by="ann", why="sale")
    layout = controller.log.find_last().after.layout  # type: ignore[union-attr]
    for _ in range(4):
        shop.visit(1_500, v1=0.2, v2=0.2, v3=0.5)
        entry = controller.look_if_due()
    assert entry is not None
    assert (entry.after.reason, entry.after.layout) == ("pinned", layout)
    with refused(UserError, "deploy.pinned"):
        controller.command(AbCommand("stop", "ann"))
    unpin_state("shoes", shop.store)
    shop.visit(1_500, v1=0.2, v2=0.2, v3=0.5)
    entry = controller.look_if_due()
    assert entry is not None
    assert entry.after.layout != layout


def test_a_layout_that_somebody_changed_is_put_back(shop: AbShop) -> None:
    controller = shop.make_test()
    controller.start(["2", "3"])
    state = controller.log.find_last().after  # type: ignore[union-attr]
    other = state.layout.change({"stable": 1_000_000})

    def edit(before: Any) -> Any:
        return before.model_copy(update={"ab": before.ab.model_copy(update={"layout": other})})

    change_state("shoes", shop.store, edit, is_of_ab=True)
    shop.now += 10 * MINUTE
    entry = controller.look()
    assert entry is not None
    assert entry.after.reason == "layout-restored"
    assert shop.state.ab is not None
    assert shop.state.ab.layout == state.layout


STEPS = (
    (carrying_out, "_route"),
    (carrying_out, "_decide_in_registry"),
    (carrying_out, "describe_ab_entry"),
    (EntryProgress, "note"),
    (AbLog, "begin"),
    (AbLog, "command"),
)
ACTS: tuple[Callable[[AbController], object], ...] = (
    lambda controller: controller.start(["2", "3"], "ann"),
    lambda controller: controller.command(AbCommand("drop", "ann", version="2")),
    lambda controller: controller.command(AbCommand("promote", "ann", version="3")),
)


@pytest.mark.parametrize(("place", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_between_any_two_steps_neither_repeats_nor_skips_one(
    shop: AbShop, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, after: bool
) -> None:
    original = getattr(place, name)
    is_armed = True

    def kill(*arguments: Any, **options: Any) -> Any:
        nonlocal is_armed
        result = original(*arguments, **options) if after or not is_armed else None
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(place, name, kill)
    for act in ACTS:
        is_armed = True
        with contextlib.suppress(KeyboardInterrupt):
            act(shop.make_test())
        progress = EntryProgress(shop.store, "shoes", AB_FOLDER)
        last = AbLog(shop.store, "shoes").find_last()
        if last is not None and not progress.is_carried_out(last):
            with refused(UserError, "ab.step-unfinished"):
                deploy(shop.spec, "1", shop.store)
        # The same call goes on where the killed one ended, unless another has done the rest.
        with contextlib.suppress(UserError):
            act(shop.make_test())
    entries = list(AbLog(shop.store, "shoes").read_entries())
    assert [entry.kind for entry in entries] == ["begin", "command", "command"]
    assert AbLog(shop.store, "shoes").verify() == 3
    assert (shop.state.stable.version, shop.state.ab) == ("3", None)
    champion = shop.registry.find_champion("shoes")
    assert champion is not None
    assert champion.version == "3"
    assert {message.kind for message in shop.told} >= {"ab.begun", "ab.dropped", "ab.ended"}


def test_of_two_loops_at_once_each_step_is_one_loops(shop: AbShop) -> None:
    first, second = shop.make_test(), shop.make_test()
    first.start(["2", "3"])
    for number in range(8):
        if shop.state.ab is None:
            break
        shop.visit(800, v1=0.2, v2=0.2, v3=0.4)
        for controller in (first, second) if number % 2 else (second, first):
            controller.look_if_due()
    entries = list(first.log.read_entries())
    assert [entry.number for entry in entries] == list(range(len(entries)))
    assert first.log.verify() == len(entries)
    looks = [entry for entry in entries if entry.evidence is not None]
    # A loop whose look was due found that the other one had looked.
    assert len(looks) <= 8
    assert max(entry.after.layouts for entry in entries) > 1
    assert all("unknown-layout" not in entry.evidence.refusals for entry in looks if entry.evidence)
