"""A rollout's state carried out: traffic first, then the registry's alias, then the message.

Each part can be repeated without harm, and the number of the entry that was carried out is written last. So after a
kill the next look does what is missing, and a share that a person changed meanwhile is not taken for a missing step.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from endcap.deploy.arms import give_share, promote_arm, take_back
from endcap.deploy.gateway_settings import make_settings
from endcap.deploy.popularity import make_baseline
from endcap.deploy.state import Target, find_state, make_salt
from endcap.deploy.state_changes import set_shadow
from endcap.experiments.decision_log import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.registry import open_registry
from endcap.registry.package import read_recommender
from endcap.rollout.messages import Notify, describe_entry
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store


def find_salt(state: RolloutState) -> str:
    """Return the salt of a rollout. A version that took another one's place keeps its shoppers."""
    return make_salt(state.recommender, state.refreshed[0] if state.refreshed else state.version)


def is_carried_out(entry: RolloutLogEntry, store: Store) -> bool:
    """Tell whether an entry of the log was carried out."""
    document = store.read_document(_name_document(entry.after.recommender))
    return document is not None and int(document.get("number", -1)) >= entry.number


def carry_out(
    entry: RolloutLogEntry, policy: RolloutSpec, store: Store, registry_uri: str | None, notify: Sequence[Notify]
) -> None:
    """Make the desired state and the registry say what a log's entry says.

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
    notify
        Who gets the message, at last.

    Raises
    ------
    UserError
        The desired state or the registry was changed so that the step does not fit any more.
    TransientError
        The registry does not answer.
    """
    state = entry.after
    _route(state, policy, store)
    _set_alias(entry, store, registry_uri)
    if message := describe_entry(entry):
        for send in notify:
            send(message)
    _note(entry, store)


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


def _route(state: RolloutState, policy: RolloutSpec, store: Store) -> None:
    target = Target(version=state.version, package=state.package)
    if state.is_over:
        _take_back(state, store)
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


def _take_back(state: RolloutState, store: Store) -> None:
    desired = find_state(state.recommender, store)
    if desired is None or desired.stable.version != state.version:
        take_back(state.recommender, state.version, store)
        return
    # The version before comes back with its own list for when no predictor answers, and its own baseline.
    previous = Target(version=state.previous_version, package=state.previous_package)
    recommender = read_recommender(store.fetch(previous.package))
    terms = make_settings(recommender, previous.package, store)
    baseline = make_baseline(recommender, previous.package, store)
    take_back(state.recommender, state.version, store, previous=previous, terms=terms, baseline=baseline)


def _set_alias(entry: RolloutLogEntry, store: Store, registry_uri: str | None) -> None:
    """Have the registry's champion be the version that serves everyone, and refuse one that was taken back."""
    state = entry.after
    if not state.is_over and state.phase not in GUARDED:
        return
    registry = open_registry(registry_uri, store)
    champion = registry.find_champion(state.recommender)
    if state.phase in GUARDED and (champion is None or champion.version != state.version):
        registry.promote(state.recommender, state.version)
    if not state.is_over:
        return
    if champion is not None and champion.version == state.version:
        registry.promote(state.recommender, state.previous_version)
    if state.phase == "rolled-back" and registry.get_version(state.recommender, state.version).state != "rejected":
        why = entry.decision.sentence if entry.decision else state.reason
        registry.reject(state.recommender, state.version, by="rollout", why=why)


def _note(entry: RolloutLogEntry, store: Store) -> None:
    def changed(document: dict[str, Any] | None) -> dict[str, Any]:
        if document is not None and int(document.get("number", -1)) >= entry.number:
            return document
        return {"number": entry.number}

    store.update_document(_name_document(entry.after.recommender), changed)


def _name_document(recommender: str) -> str:
    return f"rollouts/{recommender}/carried-out"
