"""Popularity in the desired state: the baseline beside the versions, and the switch by which it answers everyone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from endcap.deploy.gateway_settings import GatewaySettings, make_settings
from endcap.deploy.state import POPULARITY, CanaryTarget, Deployment, PopularitySwitch, read_state
from endcap.deploy.state_changes import change_deployed
from endcap.errors import EndcapError, UserError
from endcap.registry.package import read_recommender
from endcap.registry.popularity_package import pack_popularity
from endcap.spec import Recommender
from endcap.store import Store


@dataclass(frozen=True)
class SwitchOutcome:
    """What a throw of the switch led to.

    Attributes
    ----------
    state
        The new desired state.
    shortfall
        Why no predictor of popularity answers, and the gateway's list alone does; None: one does.
    """

    state: Deployment
    shortfall: EndcapError | None = None


def make_baseline(recommender: Recommender, package: str, store: Store) -> CanaryTarget | None:
    """Make the baseline that a spec asks for beside a champion.

    Parameters
    ----------
    recommender
        The spec, which names the share.
    package
        The champion's package. The baseline has its items and rules.
    store
        Where packages lie.

    Returns
    -------
    CanaryTarget or None
        None if the share is 0. Nothing is read then.

    Raises
    ------
    NotFoundError, IntegrityError, UserError
        As `pack_popularity` raises them.
    """
    share = recommender.serving.baseline.share
    if share <= 0:
        return None
    return CanaryTarget(version=POPULARITY, package=pack_popularity(package, store), share=share)


def switch_to_popularity(recommender: str, store: Store, *, by: str, why: str = "") -> SwitchOutcome:
    """Have popularity answer everyone at once, whatever runs. Neither registry nor model is needed.

    Parameters
    ----------
    recommender
        Its name.
    store
        The store that holds the desired state.
    by, why
        Who wants it, and the reason. They are kept in the state.

    Returns
    -------
    SwitchOutcome
        The new state. If the switch was thrown before, its time and its reason stay.

    Raises
    ------
    NotFoundError
        Nothing is deployed.
    UserError
        The state has no list, and neither a list nor a package can be made (``deploy.no-popularity``).
    IntegrityError
        The state cannot be read.

    Notes
    -----
    The gateway's list of the last deployment is there at once. Then the package of popularity is made, which also
    answers requests for a category or with a filter.
    """
    state = read_state(recommender, store)
    if state.terms.offers_list:
        state = _throw(recommender, store, PopularitySwitch(by=by, why=why, since=datetime.now(UTC)))
    if state.popularity is not None:
        return SwitchOutcome(_throw(recommender, store, PopularitySwitch(by=by, why=why, since=datetime.now(UTC))))
    package, shortfall = None, None
    try:
        package = pack_popularity(state.stable.package, store)
    except (EndcapError, OSError) as error:
        shortfall = error if isinstance(error, EndcapError) else EndcapError(str(error), code="deploy.no-popularity")
    terms = None if state.terms.offers_list else _make_terms(state, store)
    if package is None and terms is None and not state.terms.offers_list:
        raise UserError(
            f"popularity cannot answer for {recommender}: its last deployment made no list, and the package of version "
            f"{state.stable.version} gives none ({shortfall}). Give everyone another version: endcap rollout abort "
            f"{recommender}, or endcap deploy {recommender} --version",
            code="deploy.no-popularity",
            recommender=recommender,
            version=state.stable.version,
        )
    switch = PopularitySwitch(package=package, terms=terms, by=by, why=why, since=datetime.now(UTC))
    return SwitchOutcome(_throw(recommender, store, switch), shortfall)


def switch_back(recommender: str, store: Store) -> Deployment:
    """Have the versions answer again, with the shares that they have by now. Raises NotFoundError, IntegrityError."""
    return change_deployed(recommender, store, lambda state: state.model_copy(update={"switch": None}))


def _throw(recommender: str, store: Store, switch: PopularitySwitch) -> Deployment:
    """Throw the switch. If it is thrown already, only a package or a list that it lacks is added."""

    def changed(state: Deployment) -> Deployment:
        before = state.switch
        if before is None:
            return state.model_copy(update={"switch": switch})
        added = {"package": before.package or switch.package, "terms": before.terms or switch.terms}
        return state.model_copy(update={"switch": before.model_copy(update=added)})

    return change_deployed(recommender, store, changed)


def _make_terms(state: Deployment, store: Store) -> GatewaySettings | None:
    """Make the gateway's settings with a list, although the spec wants none; None if the package gives none."""
    try:
        recommender = read_recommender(store.fetch(state.stable.package))
        serving = recommender.serving.model_copy(update={"fallback": "popular"})
        terms = make_settings(recommender.model_copy(update={"serving": serving}), state.stable.package, store)
    except (EndcapError, OSError, ValueError):
        return None
    return terms if terms.offers_list else None
