"""The desired state of serving: one document for each recommender. `deploy` writes it, and servers follow it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from endcap.deploy.ab_split import AbSplit
from endcap.deploy.gateway_settings import DEFAULT_SETTINGS, GatewaySettings
from endcap.deploy.targets import CanaryTarget, ShadowTarget, StateModel, Target
from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.experiments.splits import Arm
from endcap.spec.base import Name, suggest
from endcap.store import Store, fingerprint

__all__ = [
    "POPULARITY",
    "AbSplit",
    "CanaryTarget",
    "Deployment",
    "Pin",
    "PopularitySwitch",
    "ShadowTarget",
    "Target",
    "change_state",
    "describe",
    "find_state",
    "list_deployed",
    "make_ab_error",
    "make_pinned_error",
    "make_salt",
    "name_document",
    "not_deployed_error",
    "previous_state",
    "read_state",
    "refuse_during_ab",
    "write_state",
]

Json = dict[str, Any]
POPULARITY = "popularity"
"""What a ranking has in the place of its version if popularity made it."""


class PopularitySwitch(StateModel):
    """Why everyone gets the most popular items in place of what the versions answer."""

    package: str | None = None
    """The package of popularity; None: the gateway's list answers alone."""
    terms: GatewaySettings | None = None
    """The gateway's settings meanwhile, with a list; None: those of the state, which have one."""
    by: str
    why: str = ""
    since: datetime
    """UTC."""


class Pin(StateModel):
    """Why what is served stays as it is."""

    by: str
    why: str = ""
    since: datetime
    """UTC."""

    def __str__(self) -> str:
        return f"{self.by}: {self.why}" if self.why else self.by


class Deployment(StateModel):
    """The versions to serve: a stable version for everyone whom no other arm has.

    Shares of the canary and the previous version are of the shoppers whom the baseline does not have.
    """

    recommender: Name
    stable: Target
    canary: CanaryTarget | None = None
    previous: CanaryTarget | None = None
    """The version before the stable one. It keeps a small share of the shoppers after a promotion, to compare with."""
    ab: AbSplit | None = None
    """An A/B test of several versions. Meanwhile there is neither canary nor previous version."""
    baseline: CanaryTarget | None = None
    """Popularity by the stable version's data and rules, for a share of all shoppers, for good."""
    switch: PopularitySwitch | None = None
    """If it is set, popularity answers everyone. All else stays, for when it is taken back."""
    pin: Pin | None = None
    """If it is set, stable, canary, previous version and challengers keep their places and shares until it is taken
    away."""
    shadow: ShadowTarget | None = None
    withdrawn: str | None = None
    """The stable version that was taken back last. Wherever it still runs, it answers nobody whom another one can."""
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
    """Goes into the hash of the shopper's id. It stays the same during a rollout and differs in the next."""
    terms: GatewaySettings = DEFAULT_SETTINGS
    changed: datetime
    """UTC."""
    since: dict[str, datetime] = Field(default_factory=dict)
    """When each version was first served, UTC. A version that an earlier release deployed has no entry."""

    @property
    def targets(self) -> list[Target]:
        """The versions that shoppers meet, and the shadow, as far as there are any."""
        return [*self.answering, *([self.shadow] if self.shadow else [])]

    @property
    def answering(self) -> list[Target]:
        """The versions that shoppers meet: stable, canary, previous and challengers, as far as there are any."""
        return [self.stable, *self.arms.values()]

    @property
    def arms(self) -> dict[Arm, CanaryTarget]:
        """The versions beside the stable one that shoppers meet, with their shares, by their arms."""
        beside: dict[Arm, CanaryTarget | None] = {"canary": self.canary, "previous": self.previous}
        beside |= self.ab.arms if self.ab else {}
        return {arm: target for arm, target in beside.items() if target is not None}

    @property
    def popularity(self) -> Target | None:
        """What serves popularity: the baseline, or what the switch brings; None: no predictor does."""
        if self.baseline is None and self.switch is not None and self.switch.package is not None:
            return Target(version=POPULARITY, package=self.switch.package)
        return self.baseline

    @property
    def gateway_terms(self) -> GatewaySettings:
        """The gateway's settings at this moment."""
        return self.terms if self.switch is None or self.switch.terms is None else self.switch.terms

    @property
    def stable_share(self) -> float:
        """The share who meet the stable version, of the shoppers whom the baseline does not have: 0 to 1."""
        if self.ab is not None:  # exact
            return self.ab.share("stable")
        return 1 - sum(target.share for target in self.arms.values())

    def is_settled_on(self, version: str) -> bool:
        """Tell whether a version is the stable one, and no A/B test runs: only then a promoted version is guarded."""
        return self.ab is None and self.stable.version == version

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.stable_share < 0:
            raise ValueError("canary and previous have more than all shoppers together")
        if self.ab is not None and (self.canary or self.previous):
            raise ValueError("an A/B test runs beside a canary or a previous version")
        if self.ab is not None and self.stable.version in [target.version for target in self.ab.challengers]:
            raise ValueError("the stable version is a challenger of the A/B test")
        return self


def name_document(recommender: str) -> str:
    return f"deployments/{recommender}"


def list_deployed(store: Store) -> list[str]:
    """List the recommenders that have a desired state, even an empty one."""
    return sorted(name.removeprefix("deployments/") for name in store.list_documents("deployments"))


def make_salt(recommender: str, version: str) -> str:
    """Make the salt of a version's rollout, so that each canary meets other shoppers."""
    return fingerprint("rollout", recommender, version)


def find_state(recommender: str, store: Store) -> Deployment | None:
    """Read the desired state.

    Parameters
    ----------
    recommender
        Its name.
    store
        The store that holds the desired state.

    Returns
    -------
    Deployment or None
        None if nothing was ever deployed.

    Raises
    ------
    IntegrityError
        The document is damaged.
    UserError
        A newer release wrote the document. It is not replaced then.
    """
    try:
        return _state_of(store.read_document(name_document(recommender)))
    except (ValueError, IntegrityError) as error:
        raise _damaged(recommender, store, error) from None


def read_state(recommender: str, store: Store) -> Deployment:
    """Read the desired state of a recommender that is deployed.

    Parameters
    ----------
    recommender
        Its name.
    store
        The store that holds the desired state.

    Returns
    -------
    Deployment
        The desired state.

    Raises
    ------
    NotFoundError
        Nothing is deployed. The error names similar recommenders.
    IntegrityError, UserError
        As `find_state` raises them.
    """
    state = find_state(recommender, store)
    if state is None:
        raise not_deployed_error(recommender, store)
    return state


def not_deployed_error(recommender: str, store: Store) -> NotFoundError:
    """Make the error of a recommender that is not deployed."""
    known = list_deployed(store)
    near = suggest(recommender, known)
    return NotFoundError(
        f"nothing is deployed for {recommender!r} in {store.root}. `endcap run` with its spec trains and deploys it"
        f"{f'. {near}' if near else ''}",
        code="deploy.not-deployed",
        recommender=recommender,
        store=store.root,
        known=known,
    )


def previous_state(recommender: str, store: Store) -> Deployment | None:
    """Read the state that a new one replaces; None for a damaged one too."""
    try:
        return find_state(recommender, store)
    except IntegrityError:
        return None


def change_state(
    recommender: str,
    store: Store,
    change: Callable[[Deployment | None], Deployment],
    *,
    repair: bool = False,
    is_pinning: bool = False,
    is_of_ab: bool = False,
) -> Deployment:
    """Replace the desired state by what `change` makes of it, even if others change it at the same time.

    Parameters
    ----------
    recommender
        Its name.
    store
        The store that holds the desired state.
    change
        Takes the present state, or None, and returns the new one. It may be called again with a newer state, so it must
        do nothing else. If it raises, nothing is written.
    repair
        Replace a damaged state too; `change` then gets None.
    is_pinning
        Whether the change is of the pin. Every other change keeps it.
    is_of_ab
        Whether the change is of the A/B test. Every other change is refused that is of what a test shares out.

    Returns
    -------
    Deployment
        The new state, with its time. A state that says the same is left as it was.

    Raises
    ------
    IntegrityError
        The state is damaged, without `repair`.
    UserError
        A newer release wrote the state, what is served is pinned (``deploy.pinned``), or an A/B test shares it out
        (``deploy.ab-runs``).

    Notes
    -----
    It also raises what `Store.update_document` raises.
    """

    def changed(document: Json | None) -> Json:
        try:
            before = _state_of(document)
        except ValueError as error:
            if not repair:
                raise _damaged(recommender, store, error) from None
            before = None
        after = _forget_withdrawn(change(before))
        if before is not None and before.pin is not None and not is_pinning:
            if _list_answering(after) != _list_answering(before):
                raise make_pinned_error(before)
            after = after.model_copy(update={"pin": before.pin})
        if before is not None and before.ab is not None and not is_of_ab:
            if _list_answering(after) != _list_answering(before):
                raise make_ab_error(before)
            after = after.model_copy(update={"salt": before.salt})
        after = _timed(after, before)
        return document if document is not None and after is before else after.model_dump(mode="json")

    try:
        document = store.update_document(name_document(recommender), changed, repair=repair)
        return Deployment.model_validate(document)
    except IntegrityError as error:
        if not error.code.startswith("store."):
            raise
        raise _damaged(recommender, store, error) from None


def _forget_withdrawn(state: Deployment) -> Deployment:
    """Forget that a version was taken back, once it is to answer again."""
    answers = state.withdrawn in [target.version for target in state.answering]
    return state.model_copy(update={"withdrawn": None}) if answers else state


def _list_answering(state: Deployment) -> tuple[Target | AbSplit | None, ...]:
    """List what a pin and an A/B test keep as it is."""
    return state.stable, state.canary, state.previous, state.ab


def make_pinned_error(state: Deployment) -> UserError:
    """Make the error for a change of what is pinned."""
    return UserError(
        f"what is served of {state.recommender} is pinned by {state.pin}, so nothing was changed. To let it change: "
        f"endcap deploy {state.recommender} --unpin",
        code="deploy.pinned",
        recommender=state.recommender,
        by=state.pin.by if state.pin else "",
        why=state.pin.why if state.pin else "",
    )


def refuse_during_ab(state: Deployment) -> None:
    """Raise UserError (``deploy.ab-runs``) if an A/B test shares out who meets which version."""
    if state.ab is not None:
        raise make_ab_error(state)


def make_ab_error(state: Deployment) -> UserError:
    """Make the error for a change of what an A/B test shares out."""
    return UserError(
        f"an A/B test of {state.recommender} runs and decides which version meets whom, so nothing was changed. To end "
        f"it: endcap ab stop {state.recommender}, or endcap ab promote {state.recommender}",
        code="deploy.ab-runs",
        recommender=state.recommender,
        challengers=[target.version for target in state.ab.challengers] if state.ab else [],
    )


def write_state(state: Deployment, store: Store) -> Deployment:
    """Replace the desired state, whatever it was. The new state gets the present time, unless nothing changes."""
    return change_state(state.recommender, store, lambda before: state, repair=True)


def describe(state: Deployment | None, version: str | None = None) -> str:
    """Describe a state in one line: which version serves which share.

    Parameters
    ----------
    state
        The state that `deploy` returned.
    version
        The version that was to be deployed. If the state lacks it, the line says that it waits for approval.

    Returns
    -------
    str
        One line without a line break.
    """
    if state is None:
        served, versions = "nothing is deployed", []
    else:
        served, versions = _describe_shares(state), [target.version for target in state.targets]
    if state is not None and state.baseline is not None:
        served += f"; popularity serves {state.baseline.share:.4g} of all shoppers"
    if state is not None and state.switch is not None:
        served = f"popularity serves everyone. When it is taken back: {served}"
    if state is not None and state.pin is not None:
        served += f"; pinned by {state.pin}"
    if state is not None and state.shadow is not None:
        served += f"; {state.shadow.share:.4g} of the requests are copied to version {state.shadow.version}"
    waits = version is not None and version not in versions
    return f"{served}; version {version} waits for a person's approval" if waits else served


def _describe_shares(state: Deployment) -> str:
    """Describe which version serves which share of the shoppers."""
    if not state.arms and state.ab is None:
        return f"version {state.stable.version} serves everyone"
    shares = [f"version {state.stable.version} serves {state.stable_share:.4g} of the shoppers"]
    shares += [
        f"{'the previous version ' if arm == 'previous' else ''}{target.version} {target.share:.4g}"
        for arm, target in state.arms.items()
    ]
    return f"{'' if state.ab is None else 'an A/B test runs: '}{', '.join(shares)}"


def _state_of(document: Json | None) -> Deployment | None:
    """Parse a document. An empty one means that nothing is to be served. Raises ValueError."""
    return Deployment.model_validate(document) if document else None


def _timed(state: Deployment, before: Deployment | None) -> Deployment:
    """Set the times of a state. Returns the state before if nothing else differs."""
    now = datetime.now(UTC)
    if before is not None:
        # A new state is always later than the one before, even if the writers' clocks differ.
        now = max(now, before.changed + timedelta(microseconds=1))
    state = state.model_copy(update={"since": _since(state, before, now)})
    if before is not None and before.model_copy(update={"changed": state.changed}) == state:
        return before
    return state.model_copy(update={"changed": now})


def _since(state: Deployment, before: Deployment | None, now: datetime) -> dict[str, datetime]:
    """Find since when each version is served. A version that was served before keeps its time."""
    known = before.since if before else {}
    served = _list_served(before) if before else []
    new = {version: now for version in _list_served(state) if version not in served}
    return {version: known[version] for version in _list_served(state) if version in known} | new


def _list_served(state: Deployment) -> list[str]:
    """List the versions that are served, popularity among them if there is a baseline."""
    return [target.version for target in (*state.targets, *([state.baseline] if state.baseline else []))]


def _damaged(recommender: str, store: Store, error: Exception) -> IntegrityError:
    cause = str(error)
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        cause = f"{'.'.join(map(str, first['loc'])) or 'the document'}: {first['msg']}"
    name = name_document(recommender)
    return IntegrityError(
        f"{name} in {store.root} cannot be read ({cause}). Deploy again to replace it",
        code="deploy.state-damaged",
        document=name,
        store=store.root,
        reason=cause,
    )
