"""Pins: what is served stays as it is, whatever a rollout, a pipeline or a person wants, until it is unpinned.

The desired state holds the pin. So each change of what is served meets it within the same compare-and-swap
(`endcap.deploy.state.change_state`), and none can come in between.
"""

from __future__ import annotations

from datetime import UTC, datetime

from endcap.deploy.state import Deployment, Pin, change_state, find_state, make_pinned_error, not_deployed_error
from endcap.experiments.exclusion import refuse_unfinished_step
from endcap.registry.decision_hold import hold_name
from endcap.store import Store


def pin_state(recommender: str, store: Store, *, by: str, why: str = "") -> Deployment:
    """Keep what is served as it is.

    Parameters
    ----------
    recommender
        Its name.
    store
        The store that holds the desired state.
    by, why
        Who wants it, and the reason. They are kept in the state. The first pin stays.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        A step of a rollout is half done (``rollout.step-unfinished``).
    """

    def changed(state: Deployment | None) -> Deployment:
        if state is None:
            raise not_deployed_error(recommender, store)
        return state if state.pin else state.model_copy(update={"pin": Pin(by=by, why=why, since=datetime.now(UTC))})

    with store.hold(hold_name(recommender)):
        refuse_unfinished_step(recommender, store, "endcap deploy --pin")
        return change_state(recommender, store, changed, is_pinning=True)


def unpin_state(recommender: str, store: Store) -> Deployment:
    """Let what is served change again. Raises NotFoundError if nothing is deployed."""

    def changed(state: Deployment | None) -> Deployment:
        if state is None:
            raise not_deployed_error(recommender, store)
        return state.model_copy(update={"pin": None})

    return change_state(recommender, store, changed, is_pinning=True)


def read_pin(recommender: str, store: Store) -> str:
    """Return who pinned what is served, and why, in words; empty if nobody did."""
    state = find_state(recommender, store)
    return "" if state is None or state.pin is None else str(state.pin)


def refuse_pinned(recommender: str, store: Store) -> None:
    """Raise UserError (``deploy.pinned``) if what is served is pinned."""
    state = find_state(recommender, store)
    if state is not None and state.pin is not None:
        raise make_pinned_error(state)
