"""Choose the version to rank by, if the user names none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from endcap.errors import NotFoundError, UserError
from endcap.spec.base import suggest
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.deploy import Deployment


@dataclass(frozen=True)
class VersionChoice:
    """A version to rank by.

    Attributes
    ----------
    version, package
        The version, and the address of its package.
    variant
        ``stable``, ``canary``, ``previous`` or ``shadow``; None if it does not serve.
    says
        The same in words.
    notes
        More lines for people.
    """

    version: str
    package: str
    variant: str | None
    says: str
    notes: Sequence[str] = ()


def choose_version(recommender: str, version: str | None, store: Store, registry: str) -> VersionChoice:
    """Choose a version: the given one, else the deployed one with most shoppers, else the champion.

    Raises
    ------
    NotFoundError
        Nothing of the recommender is deployed or registered, or no version is its champion.
    """
    from endcap.deploy import find_state, list_deployed

    state = find_state(recommender, store)
    served = {} if state is None else _find_served(state)
    if state is not None and version in (None, *served):
        return served[version or state.stable.version]
    # MLflow's import takes seconds, and a deployed version does not need it.
    from endcap.registry import find_registry

    known = find_registry(registry, store)
    versions = [] if known is None else known.list_versions(recommender)
    if known is None or not versions:
        raise _make_unknown_error(
            recommender, store.root, [*list_deployed(store), *([] if known is None else known.list_names())]
        )
    if version is not None:
        registered = known.get_version(recommender, version)
        return VersionChoice(registered.version, registered.package, None, f"{registered.state}, not deployed")
    for registered in versions:
        if "champion" in registered.aliases:
            return VersionChoice(
                registered.version,
                registered.package,
                None,
                "the champion",
                ["nothing is deployed: the champion ranks"],
            )
    waiting = ", ".join(f"{registered.version} ({registered.state})" for registered in versions)
    raise NotFoundError(
        f"nothing of {recommender} is deployed, and no version is its champion; there are: {waiting}. Name one by "
        f"--version, or approve one: endcap registry approve {recommender} VERSION",
        code="cli.nothing-to-rank-by",
        recommender=recommender,
        versions=[registered.version for registered in versions],
    )


def _find_served(state: Deployment) -> dict[str, VersionChoice]:
    stable, shadow = state.stable, state.shadow
    shares = [f"version {arm.version} serves {arm.share:.4g} of the shoppers" for arm in state.arms.values()]
    says = "; ".join(["deployed", *shares])
    served = {stable.version: VersionChoice(stable.version, stable.package, "stable", says)}
    for variant, arm in state.arms.items():
        says = f"deployed for {arm.share:.4g} of the shoppers"
        served[arm.version] = VersionChoice(arm.version, arm.package, variant, says)
    if shadow is not None:
        served.setdefault(shadow.version, VersionChoice(shadow.version, shadow.package, "shadow", "a shadow"))
    return served


def _make_unknown_error(recommender: str, store: str, known: Iterable[str]) -> UserError:
    allowed = sorted(set(known))
    hints = [suggest(recommender, allowed), f"There are: {', '.join(allowed)}." if allowed else "There is none."]
    return NotFoundError(
        f"no recommender {recommender!r} is deployed or registered in {store}. {' '.join(filter(None, hints))} "
        "`endcap run SPEC` makes one; --store names another store",
        code="cli.recommender-not-found",
        found=recommender,
        allowed=allowed,
        store=store,
    )
