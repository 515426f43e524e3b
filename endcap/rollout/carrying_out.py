"""A rollout's state carried out: traffic first, then the registry's champion, then the message.

Each part can be repeated without harm, and the number of the entry that was carried out is written last. So after a
kill the next look does what is missing, and a share that a person changed meanwhile is not taken for a missing step.
Lists that were made ahead of time belong to their version, so they come and go with the traffic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from endcap.deploy.arms import give_share, promote_arm, take_back
from endcap.deploy.gateway_settings import make_settings
from endcap.deploy.popularity import make_baseline
from endcap.deploy.state import Target, find_state, make_salt
from endcap.deploy.state_changes import set_shadow
from endcap.errors import NotFoundError
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.registry import open_registry
from endcap.registry.package import read_recommender
from endcap.rollout.messages import Notify, describe_entry
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from endcap.store.base import Hold


def find_salt(state: RolloutState) -> str:
    """Return the salt of a rollout. A version that took another one's place keeps its shoppers."""
    return make_salt(state.recommender, state.refreshed[0] if state.refreshed else state.version)


def carry_out(
    entry: RolloutLogEntry,
    policy: RolloutSpec,
    store: Store,
    registry_uri: str | None,
    hold: Hold,
    follow: Callable[[], None] = lambda: None,
) -> None:
    """Make the desired state and the registry say what a log's entry says, and note it.

    Parameters
    ----------
    entry
        The last entry of the log.
    policy
        The rollout's policy.
    store
        Holds the desired state.
    registry_uri
        MLflow's address; None: the store's own.
    hold
        The hold on decisions about the recommender. It keeps others from a change between traffic and champion.
    follow
        Called as soon as the desired state says it. A registry may take its time, and shoppers do not wait for it.

    Raises
    ------
    UserError
        The desired state or the registry was changed so that the step does not fit any more.
    TransientError
        The registry does not answer.
    """
    hold.check()
    _route(entry, policy, store)
    follow()
    _set_alias(entry, store, registry_uri, hold)
    EntryProgress(store, entry.after.recommender).note(entry)


def send_message(entry: RolloutLogEntry, store: Store, notify: Sequence[Notify]) -> None:
    """Send the message of an entry that was carried out, and note that it was sent."""
    if message := describe_entry(entry):
        for send in notify:
            send(message)
    EntryProgress(store, entry.after.recommender).note(entry, is_sent=True)


class ServedShare(NamedTuple):
    """What the desired state has of a version: its share, 0 to 1, since when, and whether popularity answers everyone.

    Share and time are None if nothing is deployed.
    """

    share: float | None
    since: datetime | None
    popularity_only: bool


def read_share(state: RolloutState, store: Store) -> ServedShare:
    """Read what the desired state has of a rollout's version."""
    desired = find_state(state.recommender, store)
    if desired is None:
        return ServedShare(None, None, False)
    popularity_only = desired.switch is not None
    if desired.stable.version == state.version:
        return ServedShare(1.0, desired.changed, popularity_only)
    is_canary = desired.canary is not None and desired.canary.version == state.version
    share = desired.canary.share if is_canary and desired.canary else 0.0
    return ServedShare(share, desired.changed, popularity_only)


def _route(entry: RolloutLogEntry, policy: RolloutSpec, store: Store) -> None:
    state = entry.after
    target = Target(version=state.version, package=state.package)
    if state.is_over:
        return_traffic(state, store, is_chosen=entry.kind == "rollback")
    elif state.phase in GUARDED:
        recommender = read_recommender(store.fetch(state.package))
        share = policy.guard.previous_share if state.phase == "guarding" else 0.0
        terms = make_settings(recommender, state.package, store)
        baseline = make_baseline(recommender, state.package, store)
        promote_arm(state.recommender, state.version, share, terms, store, baseline=baseline)
    elif state.phase == "shadow":
        set_shadow(state.recommender, target, None, store)
    elif state.started is not None:
        before = state.refreshed[-1] if state.refreshed else ""
        give_share(state.recommender, target, state.share, find_salt(state), store, replaces=before)


def return_traffic(state: RolloutState, store: Store, *, is_chosen: bool = False) -> None:
    """Have no shopper meet a rollout's version any more.

    Parameters
    ----------
    state
        The rollout.
    store
        Holds the desired state, and the package of the version that comes back.
    is_chosen
        Whether a person chose the version that comes back (`take_back`).

    Raises
    ------
    UserError
        What is served is pinned, or another version than expected is served (see `endcap.deploy.arms`).
    NotFoundError, IntegrityError
        The package of the version that comes back cannot be read.
    """
    desired = find_state(state.recommender, store)
    if desired is None:
        # Nothing is served, so there is nothing to take back.
        return
    if desired.stable.version != state.version:
        take_back(state.recommender, state.version, store)
        return
    # The version before comes back with its own list for when no predictor answers, and its own baseline.
    previous = Target(version=state.previous_version, package=state.previous_package)
    recommender = read_recommender(store.fetch(previous.package))
    terms = make_settings(recommender, previous.package, store)
    baseline = make_baseline(recommender, previous.package, store)
    take_back(
        state.recommender,
        state.version,
        store,
        previous=previous,
        terms=terms,
        baseline=baseline,
        is_chosen=is_chosen,
    )


def _set_alias(entry: RolloutLogEntry, store: Store, registry_uri: str | None, hold: Hold) -> None:
    """Have the registry's champion be the version that serves everyone, and refuse one that was taken back."""
    state = entry.after
    if not state.is_over and state.phase not in GUARDED:
        return
    registry = open_registry(registry_uri, store)
    champion = registry.find_champion(state.recommender)
    if state.phase in GUARDED and (champion is None or champion.version != state.version):
        registry.promote(state.recommender, state.version, held=hold)
    if not state.is_over:
        return
    if champion is not None and champion.version == state.version:
        registry.promote(state.recommender, state.previous_version, returns=True, held=hold)
    if state.phase != "rolled-back":
        return
    # A version that has vanished from the registry meanwhile needs no refusal.
    with contextlib.suppress(NotFoundError):
        if registry.get_version(state.recommender, state.version).state != "rejected":
            command = entry.command or RolloutCommand("rollback", "rollout")
            why = entry.decision.sentence if entry.decision else command.why or state.reason
            registry.reject(state.recommender, state.version, by=command.by, why=why, held=hold)
