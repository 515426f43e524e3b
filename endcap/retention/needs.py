"""What is needed for its own sake, and why: what serves, what may come back, and what a run works with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from endcap.deploy.state import find_state, list_deployed
from endcap.errors import UserError
from endcap.experiments.ab_log import AbLog
from endcap.experiments.decision_log import DecisionLog
from endcap.registry import Registry, find_registry
from endcap.retention.inventory import StoredArtifact
from endcap.runs import list_runs
from endcap.runs.record import RUNNING
from endcap.store import Store
from endcap.store.uses import LEAST_UNUSED, NOTED_EVERY

Json = dict[str, Any]
NeedCode = Literal[
    "champion",
    "challenger",
    "champion-before",
    "newest-version",
    "deployed",
    "rollout",
    "ab-test",
    "newest-list",
    "newest-data",
    "recently-used",
    "referred-to",
    "describes",
]
LONGEST_RUN = timedelta(days=14)
"""A run that began earlier and has not ended was killed where nobody saw it."""


@dataclass(frozen=True)
class Need:
    """Why an artifact stays: a code, and who needs it."""

    code: NeedCode
    by: str

    def to_json(self) -> Json:
        """Return the need as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class RetentionPolicy:
    """What stays.

    Attributes
    ----------
    versions
        How many of the newest versions of each recommender can be reproduced and deployed; at least 1.
    unused
        What was used later than this ago stays; at least `endcap.store.uses.LEAST_UNUSED`.

    Raises
    ------
    UserError
        If a value is too small (``retention.too-little-kept``).
    """

    versions: int = 3
    unused: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        if self.versions < 1 or self.unused < LEAST_UNUSED:
            raise UserError(
                f"retention: found {self.versions} versions and {self.unused.total_seconds() / 86_400:g} days; "
                f"allowed: at least 1 version and {LEAST_UNUSED.days} days, because runs may use what is younger",
                code="retention.too-little-kept",
                versions=self.versions,
                days=self.unused.total_seconds() / 86_400,
            )


@dataclass(frozen=True)
class RunLimits:
    """What runs that go on need.

    Attributes
    ----------
    used_since
        Artifacts that were used since then stay (UTC).
    running
        The runs that go on.
    lost
        Runs without an end that count as killed, because they began longer than `LONGEST_RUN` ago.
    """

    used_since: datetime
    running: tuple[str, ...]
    lost: tuple[str, ...]


def limit_by_runs(store: Store, policy: RetentionPolicy, now: datetime) -> RunLimits:
    """Tell since when what was used must stay: by the policy, and for the sake of the oldest run that goes on."""
    begun = {
        run.name: run.started
        for run in list_runs(store, limit=2**31)
        if run.state == RUNNING and run.started is not None
    }
    running = {name: at for name, at in begun.items() if now - at <= LONGEST_RUN}
    # A run may use what was noted as used a while before.
    since = min([now - policy.unused, *(at - NOTED_EVERY for at in running.values())])
    return RunLimits(since, tuple(sorted(running)), tuple(sorted(begun.keys() - running.keys())))


def require_registry(uri: str, store: Store, artifacts: Iterable[StoredArtifact]) -> Registry:
    """Open the registry, and check that it is the one of the store's versions.

    Raises
    ------
    UserError
        If there is no registry (``retention.no-registry``), or another one (``retention.other-registry``).
    """
    registry = find_registry(uri, store)
    if registry is None:
        raise UserError(
            f"{store.root}: no registry was found, so nobody can say which versions are needed, and nothing is "
            "removed. Name it by --registry or ENDCAP_REGISTRY",
            code="retention.no-registry",
            store=store.root,
        )
    packages = {artifact.address for artifact in artifacts if artifact.kind == "packages"}
    known = {version.package for name in registry.list_names() for version in registry.list_versions(name)}
    deployed = {state.stable.package for name in list_deployed(store) if (state := find_state(name, store)) is not None}
    unknown = sorted(deployed - known) or ([] if known & packages else sorted(packages))
    if unknown:
        raise UserError(
            f"{registry.uri}: the registry does not know {unknown[0]}, so it is not the one of {store.root}, and "
            "nothing is removed. Name the registry of its versions by --registry or ENDCAP_REGISTRY",
            code="retention.other-registry",
            registry=registry.uri,
            store=store.root,
            package=unknown[0],
        )
    return registry


def find_recommender_needs(
    recommender: str, store: Store, registry: Registry, policy: RetentionPolicy
) -> dict[str, Need]:
    """Find the packages of a recommender that are needed: the address of each, and the first reason."""
    needs: dict[str, Need] = {}

    def need(package: str, code: NeedCode, by: str) -> None:
        needs.setdefault(store.translate(package), Need(code, by))

    versions = sorted(registry.list_versions(recommender), key=lambda version: int(version.version))
    before = registry.find_champion_before(recommender)
    for version in versions:
        for alias in version.aliases:
            need(
                version.package, "champion" if alias == "champion" else "challenger", f"{recommender} {version.version}"
            )
    if (state := find_state(recommender, store)) is not None:
        for package in _list_packages(state.model_dump()):
            need(package, "deployed", recommender)
    rollout = DecisionLog(store, recommender).find_last()
    if rollout is not None and not rollout.after.is_over:
        for package in (rollout.after.package, rollout.after.previous_package):
            need(package, "rollout", f"{recommender} {rollout.after.version}")
    if (test := AbLog(store, recommender).find_running()) is not None:
        for package in (test.after.stable_package, *(challenger.package for challenger in test.after.challengers)):
            need(package, "ab-test", recommender)
    if before is not None:
        need(before.package, "champion-before", f"{recommender} {before.version}")
    for version in versions[-policy.versions :]:
        need(version.package, "newest-version", f"{recommender} {version.version}")
    needs.pop("", None)
    return needs


def find_needs(
    artifacts: Collection[StoredArtifact], store: Store, registry: Registry, policy: RetentionPolicy
) -> dict[str, Need]:
    """Find all that is needed for its own sake: packages, each recommender's newest lists, each shop's newest data."""
    owners = {artifact.owner for artifact in artifacts if artifact.kind == "packages"}
    needs: dict[str, Need] = {}
    for recommender in sorted(owners | set(registry.list_names()) | set(list_deployed(store))):
        needs = find_recommender_needs(recommender, store, registry, policy) | needs
    newest: dict[str, StoredArtifact] = {}
    for artifact in artifacts:
        group, contents = artifact.name.rpartition("/")[0], artifact.contents
        if contents and (group not in newest or contents.created > _get_created(newest[group])):
            newest[group] = artifact
    for artifact in newest.values():
        if artifact.kind in ("snapshots", "datasets"):
            needs.setdefault(artifact.address, Need("newest-data", artifact.owner))
        elif artifact.kind == "recommendations":
            needs.setdefault(artifact.address, Need("newest-list", artifact.owner))
    return needs


def _get_created(artifact: StoredArtifact) -> str:
    return "" if artifact.contents is None else artifact.contents.created


def _list_packages(value: Any) -> Iterator[str]:
    """List the packages that a document names, in whatever part of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "package" and isinstance(inner, str):
                yield inner
            else:
                yield from _list_packages(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _list_packages(inner)
