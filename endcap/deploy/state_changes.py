"""Changes of the desired state that a user asks for. Each starts from the state as it is then, or is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from endcap.deploy.state import (
    CanaryTarget,
    Deployment,
    ShadowTarget,
    Target,
    change_state,
    make_pinned_error,
    name_document,
    not_deployed_error,
    refuse_during_ab,
)
from endcap.errors import IntegrityError, UserError
from endcap.store import Store

USUAL_SHADOW = 0.1
"""Of the requests that a shadow gets where nobody says how many."""
Json = dict[str, Any]


def forget_state(recommender: str, store: Store) -> None:
    """Stop serving a recommender.

    Raises
    ------
    NotFoundError
        It was not deployed.
    UserError
        What is served is pinned (``deploy.pinned``), an A/B test runs (``deploy.ab-runs``), or a newer release wrote
        the state.
    """

    def forgotten(document: Json | None) -> Json:
        if not document:
            raise not_deployed_error(recommender, store)
        with contextlib.suppress(ValueError):
            # What cannot be read is forgotten as well.
            state = Deployment.model_validate(document)
            if state.pin is not None:
                raise make_pinned_error(state)
            refuse_during_ab(state)
        return {}

    try:
        store.update_document(name_document(recommender), forgotten)
    except IntegrityError:
        store.update_document(name_document(recommender), lambda document: {}, repair=True)


def set_share(recommender: str, share: float, store: Store, *, version: str = "") -> Deployment:
    """Give the canary another share of the shoppers.

    Parameters
    ----------
    recommender
        Its name.
    share
        0 to 1.
    store
        The store that holds the desired state.
    version
        The canary that is meant; empty: whichever there is.

    Returns
    -------
    Deployment
        The new desired state.

    Raises
    ------
    UserError
        There is no canary, another version is the canary by now, the share is not free, or an A/B test runs.
    """

    def changed(state: Deployment) -> Deployment:
        refuse_during_ab(state)
        canary = state.canary
        if canary is None:
            raise UserError(
                f"{recommender} has no canary: version {state.stable.version} serves everyone. Deploy a "
                "challenger first",
                code="deploy.no-canary",
                recommender=recommender,
                stable=state.stable.version,
            )
        if version and canary.version != version:
            raise UserError(
                f"the canary of {recommender} is now version {canary.version}, not {version}, so its share was not "
                "changed. Look at `endcap status`, then try again",
                code="deploy.canary-differs",
                recommender=recommender,
                version=version,
                canary=canary.version,
            )
        check_share(share, "canary", state.previous)
        return state.model_copy(update={"canary": canary.model_copy(update={"share": share})})

    check_share(share, "canary")
    return change_deployed(recommender, store, changed)


def set_shadow(recommender: str, shadow: Target | None, share: float | None, store: Store) -> Deployment:
    """Copy a share of the requests to a version beside those that answer.

    Parameters
    ----------
    recommender
        Its name.
    shadow
        The version; None: no shadow.
    share
        0 to 1. None: the present share of a version that is the shadow already, else `USUAL_SHADOW`.
    store
        The store that holds the desired state.

    Returns
    -------
    Deployment
        The new desired state.

    Raises
    ------
    UserError
        The version answers shoppers already.
    """

    def changed(state: Deployment) -> Deployment:
        if shadow is None:
            return state.model_copy(update={"shadow": None})
        if shadow.version in [target.version for target in state.answering]:
            raise UserError(
                f"version {shadow.version} of {recommender} already answers shoppers. Choose another version "
                "for the shadow",
                code="deploy.shadow-answers",
                recommender=recommender,
                version=shadow.version,
            )
        previous_share = state.shadow.share if state.shadow and state.shadow.version == shadow.version else USUAL_SHADOW
        target = ShadowTarget(
            version=shadow.version, package=shadow.package, share=previous_share if share is None else share
        )
        return state.model_copy(update={"shadow": target})

    if shadow is not None and share is not None:
        _check_shadow_share(share)
    return change_deployed(recommender, store, changed)


def set_shadow_share(recommender: str, share: float, store: Store) -> Deployment:
    """Copy another share of the requests, above 0 to 1, to the shadow. Raises UserError if there is no shadow."""

    def changed(state: Deployment) -> Deployment:
        if state.shadow is None:
            raise UserError(
                f"{recommender} has no shadow, so there is no share to change. Name the version: --shadow VERSION",
                code="deploy.no-shadow",
                recommender=recommender,
            )
        return state.model_copy(update={"shadow": state.shadow.model_copy(update={"share": share})})

    _check_shadow_share(share)
    return change_deployed(recommender, store, changed)


def withdraw(recommender: str, version: str, store: Store) -> Deployment | None:
    """Stop serving a canary: everyone gets the stable version.

    Parameters
    ----------
    recommender, version
        The canary.
    store
        The store that holds the desired state.

    Returns
    -------
    Deployment or None
        The new state; None if the version is no canary.

    Raises
    ------
    IntegrityError
        The state cannot be read.
    """

    def changed(state: Deployment | None) -> Deployment:
        if state is None or state.canary is None or state.canary.version != version:
            raise _NoCanary
        return state.model_copy(update={"canary": None})

    try:
        return change_state(recommender, store, changed)
    except _NoCanary:
        return None


class _NoCanary(Exception):  # noqa: N818 (no error: there is nothing to do)
    """The version is no canary."""


def change_deployed(recommender: str, store: Store, change: Callable[[Deployment], Deployment]) -> Deployment:
    """`change_state` of a state that there is. Raises NotFoundError where nothing is deployed."""

    def changed(before: Deployment | None) -> Deployment:
        if before is None:
            raise not_deployed_error(recommender, store)
        return change(before)

    return change_state(recommender, store, changed)


def check_share(share: float, of: str, beside: CanaryTarget | None = None) -> None:
    """Check a share of the shoppers: 0 to 1, or to what the arm `beside` leaves.

    Parameters
    ----------
    share
        The share.
    of
        Whose share it is, for the error: canary or previous.
    beside
        Another arm, which keeps its share.

    Raises
    ------
    UserError
        The share is not allowed.
    """
    if not 0 <= share <= 1 or (beside is not None and share + beside.share > 1):
        most = 1.0 if beside is None else 1 - beside.share
        why = f", since version {beside.version} keeps {beside.share:.4g}" if beside else ""
        raise UserError(
            f"share of the {of}: found {share}; allowed: 0 to {most:.4g}{why}, such as 0.1 for a tenth of the shoppers",
            code="deploy.share-out-of-range",
            of=of,
            found=str(share),
        )


def _check_shadow_share(share: float) -> None:
    if not 0 < share <= 1:
        raise UserError(
            f"shadow share: found {share}; allowed: above 0 to 1, such as 0.1 for a tenth of the requests",
            code="deploy.share-out-of-range",
            of="shadow",
            found=str(share),
        )
