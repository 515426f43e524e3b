"""A registered version as a project: the spec of its package, on its shop's data as they are today."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import NotFoundError
from endcap.project.progress_bar import Progress
from endcap.project.project import Project
from endcap.spec.environments import resolve
from endcap.spec.load import load
from endcap.spec.shop import Shop
from endcap.spec.spec_files import find_spec
from endcap.store import Store, open_store

if TYPE_CHECKING:
    from endcap.registry import Version

_NAMED = re.compile(r"([a-z0-9][-a-z0-9]*)(?:/([0-9]+)|@(champion|challenger))")


@dataclass(frozen=True)
class NamedVersion:
    """`name/3`, or `name@champion`. which: a number, `champion` or `challenger`."""

    recommender: str
    which: str

    @classmethod
    def of(cls, text: str) -> NamedVersion | None:
        """None where the text is none."""
        match = _NAMED.fullmatch(text)
        return None if match is None else cls(match[1], match[2] or match[3])


def open_version(
    named: NamedVersion,
    *,
    store: str | None = None,
    registry: str | None = None,
    online: str | None = None,
    spec: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Project, Version]:
    """A project with the recommender of a version's package, and the version.

    spec: the recommender's file, whose shop counts. None: the shop of the run that registered the version, or where
    that is not recorded that of the spec of the recommender's name. Raises NotFoundError where there is no such
    version, or nothing tells its shop; IntegrityError for a package that is damaged.
    """
    from endcap.registry.package import read_recommender

    places = resolve(None, None, {"store": store, "registry": registry, "online": online})
    opened = open_store(places.store, create=False)
    version = _find_version(named, opened, places.registry)
    recommender = read_recommender(opened.fetch(version.package, verify=True))
    shop = _find_shop(version, opened, spec)
    project = Project(
        opened,
        recommender=recommender,
        shop=shop,
        registry=places.registry,
        online=places.online,
        progress=progress,
    )
    return project, version


def _find_version(named: NamedVersion, store: Store, registry_uri: str) -> Version:
    from endcap.registry import open_registry

    registry = open_registry(registry_uri or None, store)
    if named.which.isdecimal():
        return registry.version(named.recommender, named.which)
    find = registry.champion if named.which == "champion" else registry.challenger
    version = find(named.recommender)
    if version is None:
        known = [known_version.version for known_version in registry.versions(named.recommender)]
        raise NotFoundError(
            f"{named.recommender} has no {named.which}; its versions: {', '.join(known) or 'none'}",
            code="project.no-such-alias",
            recommender=named.recommender,
            alias=named.which,
            known=known,
        )
    return version


def _find_shop(version: Version, store: Store, spec: Path | None) -> Shop:
    from endcap.runs import find_run, read_specs

    if spec is not None:
        return load(spec).shop
    run = find_run(store, version.tags["run"]) if version.tags.get("run") else None
    documents: dict[str, Any] | None = None if run is None else read_specs(store, run)
    if documents is not None:
        return Shop.model_validate(documents["shop"])
    try:
        return load(find_spec(version.name)).shop
    except NotFoundError as error:
        raise NotFoundError(
            f"{version.name} version {version.version} was registered by no run that is recorded here, so nothing "
            "tells where its shop's data are; name its spec by --spec",
            code="project.shop-not-recorded",
            recommender=version.name,
            version=version.version,
        ) from error
