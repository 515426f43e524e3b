"""From a registered version to the desired state."""

from __future__ import annotations

from datetime import UTC, datetime

from endcap.deploy.state import CanaryTarget, Deployment, Target, previous_state, salt_of, write_state
from endcap.errors import UserError
from endcap.registry import Registry, Version, default_uri
from endcap.spec import Recommender
from endcap.store import Store


def deploy(recommender: Recommender, version: str, store: Store, registry_uri: str | None = None) -> Deployment | None:
    """Have a version served: the champion to everyone, another to the canary's share beside the champion.

    The same again changes nothing: a canary that is under way keeps its present share. A version that waits for a
    person's approval changes nothing either. Returns the desired state, None where there is none yet. Raises
    NotFoundError for an unknown version, UserError for a rejected one.
    """
    registry = Registry(registry_uri or default_uri(store))
    one = registry.version(recommender.name, version)
    before = previous_state(recommender.name, store)
    if one.state == "pending":
        return before
    if one.state == "rejected":
        raise UserError(
            f"{one.name} version {one.version} was rejected by {one.by} ({one.why}); "
            f"`endcap registry approve {one.name} {one.version}` takes that back"
        )
    champion = registry.champion(recommender.name)
    if champion is None:
        raise UserError(f"{one.name} has no champion; `endcap registry promote {one.name} {one.version}` makes it one")
    return write_state(_desired(recommender, one, champion, before), store)


def _desired(recommender: Recommender, one: Version, champion: Version, before: Deployment | None) -> Deployment:
    canary = None
    if one.version != champion.version:
        under_way = before.canary if before else None
        same = under_way is not None and (under_way.version, under_way.package) == (one.version, one.package)
        share = under_way.share if same and under_way else recommender.serving.canary.share
        canary = CanaryTarget(version=one.version, package=one.package, share=share)
    return Deployment(
        recommender=recommender.name,
        stable=Target(version=champion.version, package=champion.package),
        canary=canary,
        salt=salt_of(recommender.name, one.version),
        changed=datetime.now(UTC),
    )
