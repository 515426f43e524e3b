"""An A/B test as users run it: predictors, Envoy, the intake, the loop of `endcap serve`, and shoppers who click."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from endcap.ab.controller import AbController
from endcap.deploy import find_state
from endcap.experiments.ab_log import AbLog, AbLogEntry
from endcap.experiments.ab_state import AbCommand
from endcap.registry import Registry, get_default_uri
from endcap_serving.local.events import AbChanged, ServingEvent
from endcap_serving.local.serve import serving
from tests.serving.test_rollout_loop import Shoppers, make_store

ROLLOUT: dict[str, Any] = {
    "metrics": [{"kind": "ctr", "types": ["click"], "window": "1s", "delay": "1s"}],
    "guardrails": [{"kind": "errors"}],
    "first_share": 0.4,
    "steps": [],
    "margin": 0.4,
    "look_every": "2s",
}
AB: dict[str, Any] = {"epoch": "4s", "look_every": "2s", "min_epochs": 1, "longest": "5m", "at_end": "keep"}
ENOUGH = 0.45
"""The share from which the better version is taken to have won shoppers, of a third at the begin."""


def wait_for_share(store: Any, version: str, patience: float) -> AbLogEntry:
    deadline = time.monotonic() + patience
    last = None
    while time.monotonic() < deadline:
        last = AbLog(store, "quick").find_last()
        assert last is not None
        challenger = last.after.find_challenger(version)
        assert challenger is not None
        if last.after.layout.weigh(challenger.arm) > ENOUGH * 1_000_000:
            return last
        time.sleep(0.3)
    raise AssertionError(last)


@pytest.mark.slow
def test_shoppers_move_to_the_better_version_and_a_command_gives_it_to_everyone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ROLLOUT, 3, ab=AB)
    events: list[ServingEvent] = []
    with (
        serving(store, "quick", listener=events.append) as address,
        Shoppers(address, {"1": 0.3, "2": 0.3, "3": 0.6}) as shoppers,
    ):
        controller = AbController(store, "quick")
        controller.start(["2", "3"], "ann", "new models")
        wait_for_share(store, "3", 120)
        controller.command(AbCommand("promote", "ann", "it is better", "3"))
    assert shoppers.statuses == {200}
    state = find_state("quick", store)
    assert state is not None
    assert (state.stable.version, state.ab) == ("3", None)
    champion = Registry(get_default_uri(store)).find_champion("quick")
    assert champion is not None
    assert champion.version == "3"
    log = AbLog(store, "quick")
    assert log.verify() > 3
    evidence = [entry.evidence for entry in log.read_entries() if entry.evidence is not None]
    for each in (challenger for look in evidence for challenger in look.challengers):
        assert each.mismatches == 0
    # All three versions answered, and each ranking says by which layout.
    assert all(each.effects[0].exposures["stable"] > 0 for each in evidence[-1].challengers)
    assert all(each.guardrails[0].events > 0 for each in evidence[-1].challengers)
    assert "unknown-layout" not in evidence[-1].refusals
    kinds = [event.kind for event in events if isinstance(event, AbChanged)]
    assert "ab.moved" in kinds
