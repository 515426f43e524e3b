"""An A/B test's state carried out: traffic first, then the registry, then the message.

Each part can be repeated without harm, as for rollouts (`endcap.rollout.carrying_out`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from endcap.ab.messages import describe_ab_entry
from endcap.deploy.ab_arms import begin_ab, change_layout, end_ab
from endcap.deploy.gateway_settings import make_settings
from endcap.deploy.popularity import make_baseline
from endcap.deploy.state import Target, find_state
from endcap.errors import NotFoundError
from endcap.experiments.ab_log import AB_FOLDER, AbLogEntry
from endcap.experiments.ab_state import AbState
from endcap.experiments.entry_progress import EntryProgress
from endcap.messages import Message
from endcap.registry import open_registry
from endcap.registry.package import read_recommender
from endcap.store import Store
from endcap.store.base import Hold

Notify = Callable[[Message], None]
_HARMS = ("guardrail-broken", "metric-harmed", "metric-harmed-early")
"""Why a challenger is rejected, so that no pipeline deploys it again."""


def carry_out(entry: AbLogEntry, store: Store, registry_uri: str | None, hold: Hold) -> None:
    """Make the desired state and the registry say what a log's entry says, and note it.

    Parameters
    ----------
    entry
        The last entry of the log.
    store
        Holds the desired state.
    registry_uri
        MLflow's address; None: the store's own.
    hold
        The hold on decisions about the recommender.

    Raises
    ------
    UserError
        The desired state was changed so that the step does not fit any more.
    TransientError
        The registry does not answer.
    """
    hold.check()
    _route(entry, store)
    _decide_in_registry(entry, store, registry_uri, hold)
    EntryProgress(store, entry.after.recommender, AB_FOLDER).note(entry)


def send_message(entry: AbLogEntry, store: Store, notify: Sequence[Notify]) -> None:
    """Send the message of an entry that was carried out, and note that it was sent."""
    if message := describe_ab_entry(entry, store):
        for send in notify:
            send(message)
    EntryProgress(store, entry.after.recommender, AB_FOLDER).note(entry, is_sent=True)


class ServedTest(NamedTuple):
    """What the desired state has of a test: its layout's id, empty without one, and whether popularity answers all."""

    layout: str | None
    popularity_only: bool


def read_served(state: AbState, store: Store) -> ServedTest:
    """Read what the desired state has of a test. The layout is None if nothing is deployed."""
    desired = find_state(state.recommender, store)
    if desired is None:
        return ServedTest(None, False)
    is_own = desired.ab is not None and desired.salt == state.salt
    return ServedTest(desired.ab.layout.layout_id if is_own and desired.ab else "", desired.switch is not None)


def _route(entry: AbLogEntry, store: Store) -> None:
    state = entry.after
    if state.is_over:
        _end(state, store)
        return
    desired = find_state(state.recommender, store)
    if entry.kind == "begin" or (desired is not None and desired.ab is None):
        # Also where the recommender was undeployed meanwhile, and is deployed again.
        targets = [Target(version=each.version, package=each.package) for each in state.challengers]
        begin_ab(state.recommender, targets, state.layout, state.salt, store)
    elif desired is not None:
        change_layout(state.recommender, state.layout, state.salt, store)


def _end(state: AbState, store: Store) -> None:
    desired = find_state(state.recommender, store)
    if desired is None:
        # Nothing is served, so there is nothing to end.
        return
    winner = state.find_challenger(state.winner) if state.winner else None
    if winner is None:
        end_ab(state.recommender, state.salt, store)
        return
    recommender = read_recommender(store.fetch(winner.package))
    end_ab(
        state.recommender,
        state.salt,
        store,
        Target(version=winner.version, package=winner.package),
        make_settings(recommender, winner.package, store),
        make_baseline(recommender, winner.package, store),
    )


def _decide_in_registry(entry: AbLogEntry, store: Store, registry_uri: str | None, hold: Hold) -> None:
    """Have the registry's champion be the winner, and refuse challengers that were shown to do harm."""
    state = entry.after
    before = {each.arm: each.left for each in entry.before.challengers} if entry.before else {}
    harmful = [each for each in state.challengers if each.left in _HARMS and not before.get(each.arm)]
    if not harmful and not state.winner:
        return
    registry = open_registry(registry_uri, store)
    if state.winner:
        champion = registry.find_champion(state.recommender)
        if champion is None or champion.version != state.winner:
            registry.promote(state.recommender, state.winner, held=hold)
    for each in harmful:
        # A version that has vanished from the registry meanwhile needs no refusal.
        with contextlib.suppress(NotFoundError):
            if registry.get_version(state.recommender, each.version).state != "rejected":
                why = entry.decision.sentence if entry.decision else each.left
                registry.reject(state.recommender, each.version, by="ab", why=why, held=hold)
