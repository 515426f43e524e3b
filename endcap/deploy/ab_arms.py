"""An A/B test in the desired state: its begin, its layouts, and its end.

As in `endcap.deploy.arms`, each function is one compare-and-swap of the document. A caller that was killed calls again,
and the second call changes nothing. A state with another test is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from endcap.deploy.ab_split import AbSplit
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import Deployment, change_state, not_deployed_error
from endcap.deploy.targets import CanaryTarget, Target
from endcap.errors import UserError
from endcap.experiments.layout import AB_ARMS, Layout
from endcap.experiments.splits import CHALLENGERS
from endcap.store import Store


def begin_ab(recommender: str, challengers: Sequence[Target], layout: Layout, salt: str, store: Store) -> Deployment:
    """Have challengers share the shoppers with the stable version.

    Parameters
    ----------
    recommender
        Its name.
    challengers
        One to seven versions and their packages. The first is `challenger-1`.
    layout
        Who meets which arm.
    salt
        The salt of the test. Every later call must name the same one, or shoppers would be drawn again.
    store
        The store that holds the desired state.

    Returns
    -------
    Deployment
        The new desired state. A previous version has left, and so has a shadow of a challenger.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        Another test runs, or this one with another layout (``deploy.ab-differs``); there is a canary
        (``deploy.canary-serves``); a challenger is the stable version (``deploy.already-stable``); there are too few,
        too many or the same challengers twice, or the layout has an arm without a challenger
        (``deploy.ab-challengers``).
    """
    versions = [target.version for target in challengers]
    _check_challengers(recommender, versions, layout)
    ab = AbSplit(
        challengers=tuple(Target(version=target.version, package=target.package) for target in challengers),
        layout=layout,
    )

    def changed(state: Deployment) -> Deployment:
        if state.ab is not None:
            if (state.ab, state.salt) != (ab, salt):
                raise _make_differs_error(state)
            return state
        if state.canary is not None:
            raise UserError(
                f"version {state.canary.version} of {recommender} is the canary, so no A/B test begins beside it. Take "
                f"it back or promote it first: endcap rollout abort {recommender}, endcap rollout promote "
                f"{recommender}",
                code="deploy.canary-serves",
                recommender=recommender,
                canary=state.canary.version,
            )
        if state.stable.version in versions:
            raise UserError(
                f"version {state.stable.version} of {recommender} serves everyone as the stable version, so it is no "
                "challenger. Leave it out",
                code="deploy.already-stable",
                recommender=recommender,
                version=state.stable.version,
            )
        shadow = None if state.shadow is not None and state.shadow.version in versions else state.shadow
        return Deployment(**{**dict(state), "previous": None, "shadow": shadow, "ab": ab, "salt": salt})

    return _change_ab(recommender, store, changed)


def change_layout(recommender: str, layout: Layout, salt: str, store: Store) -> Deployment:
    """Give the shoppers of a running A/B test another layout.

    Parameters
    ----------
    recommender, salt, store
        As in `begin_ab`.
    layout
        The new layout. An arm that it leaves out has no shoppers, and its predictors end.

    Returns
    -------
    Deployment
        The new desired state.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        No test runs (``deploy.no-ab``), another one runs (``deploy.ab-differs``), or the layout has an arm without a
        challenger (``deploy.ab-challengers``).
    """

    def changed(state: Deployment) -> Deployment:
        ab = _require_ab(state, salt)
        _check_challengers(recommender, [target.version for target in ab.challengers], layout)
        return state.model_copy(update={"ab": AbSplit(challengers=ab.challengers, layout=layout)})

    return _change_ab(recommender, store, changed)


def end_ab(
    recommender: str,
    salt: str,
    store: Store,
    winner: Target | None = None,
    terms: GatewaySettings | None = None,
    baseline: CanaryTarget | None = None,
) -> Deployment:
    """End an A/B test: one version serves everyone.

    Parameters
    ----------
    recommender, salt, store
        As in `begin_ab`.
    winner
        The challenger that becomes the stable version; None: the stable version goes on alone.
    terms
        The gateway's settings for the winner (`make_settings` of its package); None: they and the baseline stay.
    baseline
        With `terms`: the winner's baseline (`make_baseline` of its package); None: there is none.

    Returns
    -------
    Deployment
        The new desired state. If no test runs and the winner serves as the stable version, nothing changed.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        No test runs, and the winner is not the stable version (``deploy.no-ab``); another test runs, or the winner is
        none of its versions (``deploy.ab-differs``).
    """

    def changed(state: Deployment) -> Deployment:
        if state.ab is None and (winner is None or winner.version == state.stable.version):
            return state
        ab = _require_ab(state, salt)
        stable = state.stable
        if winner is not None and winner.version != stable.version:
            chosen = next((target for target in ab.challengers if target.version == winner.version), None)
            if chosen is None:
                raise _make_differs_error(state)
            stable = chosen
        beside = {} if terms is None else {"terms": terms, "baseline": baseline}
        shadow = None if state.shadow is not None and state.shadow.version == stable.version else state.shadow
        return Deployment(**{**dict(state), "stable": stable, "ab": None, "shadow": shadow, **beside})

    return _change_ab(recommender, store, changed)


def _change_ab(recommender: str, store: Store, change: Callable[[Deployment], Deployment]) -> Deployment:
    def changed(before: Deployment | None) -> Deployment:
        if before is None:
            raise not_deployed_error(recommender, store)
        return change(before)

    return change_state(recommender, store, changed, is_of_ab=True)


def _require_ab(state: Deployment, salt: str) -> AbSplit:
    """Return the test. Raises UserError unless it is the one with this salt."""
    if state.ab is None:
        raise UserError(
            f"no A/B test of {state.recommender} runs: version {state.stable.version} is the stable version. Look at "
            "`endcap status`",
            code="deploy.no-ab",
            recommender=state.recommender,
            stable=state.stable.version,
        )
    if state.salt != salt:
        raise _make_differs_error(state)
    return state.ab


def _check_challengers(recommender: str, versions: Sequence[str], layout: Layout) -> None:
    extra = sorted(set(layout.weights) - set(AB_ARMS[: 1 + len(versions)]))
    if 1 <= len(versions) <= len(CHALLENGERS) and len(set(versions)) == len(versions) and not extra:
        return
    named = f"{', '.join(versions) or 'none'}" + (f", and shares of {', '.join(extra)}" if extra else "")
    raise UserError(
        f"A/B test of {recommender}: found the challengers {named}; allowed: one to {len(CHALLENGERS)} versions, each "
        "once, and shares of these and stable alone",
        code="deploy.ab-challengers",
        recommender=recommender,
        challengers=list(versions),
        extra=extra,
    )


def _make_differs_error(state: Deployment) -> UserError:
    """Make the error for another test than the one that runs."""
    versions = [target.version for target in state.ab.challengers] if state.ab else []
    return UserError(
        f"the A/B test of {state.recommender} that runs is another one: of version {state.stable.version} and "
        f"{', '.join(versions)}, by its own salt and layout, so nothing was changed. Look at `endcap status`, then try "
        "again",
        code="deploy.ab-differs",
        recommender=state.recommender,
        stable=state.stable.version,
        challengers=versions,
    )
