"""The versions that shoppers meet, for which lists are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.deploy.state import Target, find_state
from endcap.errors import NotFoundError
from endcap.registry import open_registry
from endcap.spec.settings import ListSettings
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender


def find_served_versions(
    settings: Recommender | ListSettings, store: Store, registry_uri: str | None, version: str | None
) -> list[Target]:
    """Find the versions that shoppers meet, or the one that is named.

    The registry's champion comes first, then what else the desired state serves: the challenger during a rollout, and
    the previous version after one. Raises NotFoundError if there is none.
    """
    name = settings.name
    registry = open_registry(registry_uri, store)
    if version is not None:
        registered = registry.get_version(name, version)
        return [Target(version=registered.version, package=registered.package)]
    champion = registry.find_champion(name)
    if champion is None:
        raise NotFoundError(
            f"{name} has no champion in {registry.uri}: `endcap run` of its spec trains the first one; or name a "
            "registered one by --version",
            code="batch.no-champion",
            recommender=name,
            registry=registry.uri,
        )
    state = find_state(name, store)
    targets = [] if state is None else state.answering
    versions = {champion.version: Target(version=champion.version, package=champion.package)}
    for target in targets:
        versions.setdefault(target.version, Target(version=target.version, package=target.package))
    return list(versions.values())
