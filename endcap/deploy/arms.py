"""The arms of a rollout in the desired state: a canary's share, its promotion, and the way back.

Each function is one compare-and-swap of the document. It starts from the state as it is then, and says what shall be so
afterwards. So a caller that was killed calls again, and the second call changes nothing. A state in which another
version has the place is refused.
"""

from __future__ import annotations

from typing import Any

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import CanaryTarget, Deployment, Target, refuse_during_ab
from endcap.deploy.state_changes import change_deployed, check_share
from endcap.errors import UserError
from endcap.store import Store


def give_share(
    recommender: str, target: Target, share: float, salt: str, store: Store, *, replaces: str = ""
) -> Deployment:
    """Give a version a share of the shoppers beside the stable one: start a canary, or change its share.

    Parameters
    ----------
    recommender
        Its name.
    target
        The version and its package.
    share
        0 to 1. What the previous version has is not free.
    salt
        The salt of the rollout. The first share brings it in. Every later call must name the same one, or shoppers
        would be drawn again.
    store
        The store that holds the desired state.
    replaces
        A canary of the same rollout whose place the version may take, such as the same recipe on older data. Its
        shoppers then meet the new version, and no others do.

    Returns
    -------
    Deployment
        The new desired state. A shadow, or a previous version, of this version has ended.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        The share is not free (``deploy.share-out-of-range``), the version serves as the stable one
        (``deploy.already-stable``), another version is the canary (``deploy.canary-differs``), the canary was drawn
        by another salt (``deploy.salt-differs``), or an A/B test runs (``deploy.ab-runs``).

    Notes
    -----
    A new rollout has a new salt. If there is a previous version then, its share goes to other shoppers too.
    """

    def changed(state: Deployment) -> Deployment:
        refuse_during_ab(state)
        if state.stable.version == target.version:
            raise UserError(
                f"version {target.version} of {recommender} serves everyone as the stable version, so it gets no share "
                "beside it. Look at `endcap status`",
                code="deploy.already-stable",
                recommender=recommender,
                version=target.version,
            )
        if state.canary is not None:
            if state.canary.version not in (target.version, replaces):
                raise _make_canary_error(state, target.version)
            if state.salt != salt:
                raise UserError(
                    f"the canary of {recommender}, version {state.canary.version}, was given its shoppers by another "
                    f"salt. Another share would draw them again. Take it back first, then start version "
                    f"{target.version}",
                    code="deploy.salt-differs",
                    recommender=recommender,
                    version=target.version,
                    canary=state.canary.version,
                )
        state = _drop_beside(state, target.version)
        check_share(share, "canary", state.previous)
        canary = CanaryTarget(version=target.version, package=target.package, share=share)
        return _replace(state, canary=canary, salt=salt)

    check_share(share, "canary")
    return change_deployed(recommender, store, changed)


def promote_arm(
    recommender: str,
    version: str,
    previous_share: float,
    terms: GatewaySettings,
    store: Store,
    *,
    baseline: CanaryTarget | None = None,
) -> Deployment:
    """Make the canary the stable version. The stable version before keeps a share, as the previous one, or leaves.

    Parameters
    ----------
    recommender
        Its name.
    version
        The canary; or the stable version, if it was promoted already.
    previous_share
        The share that the version before keeps, 0 to 1. 0: it leaves. If the version was promoted already, the
        previous version gets this share, or leaves. One that has left does not come back.
    terms
        The gateway's settings for the version (`make_settings` of its package).
    store
        The store that holds the desired state.
    baseline
        The baseline of the version (`make_baseline` of its package); None: there is none.

    Returns
    -------
    Deployment
        The new desired state.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        The share is not allowed or not free (``deploy.share-out-of-range``), there is no canary
        (``deploy.no-canary``), another version is the canary (``deploy.canary-differs``), or an A/B test runs
        (``deploy.ab-runs``).

    Notes
    -----
    The salt stays, so no shopper is drawn again: the canary's shoppers keep its version, the previous version's
    shoppers keep theirs, and all others meet the new version. A shopper goes from the new version to the one before
    only if the canary had more than the previous version's share leaves.
    """

    def changed(state: Deployment) -> Deployment:
        if state.stable.version == version:
            check_share(previous_share, "previous", state.canary)
            return _replace(state, previous=_give_previous(state.previous, previous_share))
        refuse_during_ab(state)
        canary = _require_canary(state, version)
        return _replace(
            _drop_beside(state, version, state.stable.version),
            stable=Target(version=canary.version, package=canary.package),
            canary=None,
            previous=_give_previous(state.stable, previous_share),
            baseline=baseline,
            terms=terms,
        )

    check_share(previous_share, "previous")
    return change_deployed(recommender, store, changed)


def take_back(
    recommender: str,
    version: str,
    store: Store,
    *,
    previous: Target | None = None,
    terms: GatewaySettings | None = None,
    baseline: CanaryTarget | None = None,
    is_chosen: bool = False,
) -> Deployment:
    """Take a version from all shoppers: as a canary, or as the stable version that it was promoted to.

    Parameters
    ----------
    recommender
        Its name.
    version
        The version. If it serves nobody, nothing changes.
    store
        The store that holds the desired state.
    previous
        The version that comes back if the version is the stable one; None: the previous version of the state. It must
        be named if that has left.
    terms
        The gateway's settings for the version that comes back; None: they and the baseline stay as they are.
    baseline
        With `terms`: the baseline of the version that comes back; None: there is none.
    is_chosen
        Whether a person chose `previous`. It comes back then, whichever previous version the state keeps.

    Returns
    -------
    Deployment
        The new desired state. A canary's shoppers meet the stable version. In place of a stable version the one before
        serves everyone but the canary of another rollout. A shadow of the version ends too.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        No version is known that can come back (``deploy.no-previous``), or the state keeps another previous version
        than the one that is named (``deploy.previous-differs``), or an A/B test runs (``deploy.ab-runs``).
    """

    def changed(state: Deployment) -> Deployment:
        if state.canary is not None and state.canary.version == version:
            state = _replace(state, canary=None)
        state = _drop_beside(state, version)
        if state.stable.version != version:
            return state
        refuse_during_ab(state)
        target = previous if is_chosen and previous is not None else _find_previous(state, previous)
        kept = _replace(state, previous=None) if is_chosen else state
        return _replace(
            _drop_beside(kept, target.version),
            stable=Target(version=target.version, package=target.package),
            canary=None if state.canary is not None and state.canary.version == target.version else state.canary,
            baseline=state.baseline if terms is None else baseline,
            terms=terms or state.terms,
            withdrawn=version,
        )

    return change_deployed(recommender, store, changed)


def _require_canary(state: Deployment, version: str) -> CanaryTarget:
    """Return the canary. Raises UserError unless it is this version."""
    if state.canary is None:
        raise UserError(
            f"version {version} of {state.recommender} cannot be promoted: there is no canary, and version "
            f"{state.stable.version} serves everyone. Look at `endcap status`",
            code="deploy.no-canary",
            recommender=state.recommender,
            stable=state.stable.version,
        )
    if state.canary.version != version:
        raise _make_canary_error(state, version)
    return state.canary


def _make_canary_error(state: Deployment, version: str) -> UserError:
    """Make the error for a canary that is another version."""
    canary = state.canary.version if state.canary else ""
    return UserError(
        f"the canary of {state.recommender} is version {canary}, not {version}, so nothing was changed. Look at "
        "`endcap status`, then try again",
        code="deploy.canary-differs",
        recommender=state.recommender,
        version=version,
        canary=canary,
    )


def _find_previous(state: Deployment, previous: Target | None) -> Target:
    """Return the version that comes back in place of the stable one. Raises UserError if it is not known."""
    kept = state.previous
    if kept is not None and previous is not None and kept.version != previous.version:
        raise UserError(
            f"the previous version of {state.recommender} is {kept.version}, not {previous.version}, so nothing was "
            "changed. Look at `endcap status`, then try again",
            code="deploy.previous-differs",
            recommender=state.recommender,
            version=previous.version,
            previous=kept.version,
        )
    target = kept or previous
    if target is None or target.version == state.stable.version:
        raise UserError(
            f"version {state.stable.version} of {state.recommender} cannot be taken back: the state keeps no version "
            "before it. Name the version that shall serve",
            code="deploy.no-previous",
            recommender=state.recommender,
            version=state.stable.version,
        )
    return target


def _give_previous(target: Target | None, share: float) -> CanaryTarget | None:
    """Return the previous version with its share; None for no share."""
    if target is None or share <= 0:
        return None
    return CanaryTarget(version=target.version, package=target.package, share=share)


def _drop_beside(state: Deployment, *versions: str) -> Deployment:
    """Return the state without a previous version or a shadow of these versions, which have another place now."""
    kept = {
        role: target if target is None or target.version not in versions else None
        for role, target in (("previous", state.previous), ("shadow", state.shadow))
    }
    return _replace(state, **kept)


def _replace(state: Deployment, **changes: Any) -> Deployment:
    """Return a copy with other fields, checked as a whole."""
    return Deployment(**{**dict(state), **changes})
