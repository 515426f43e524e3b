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
    """A version as a person names it: ``name/3`` or ``name@champion``.

    Attributes
    ----------
    recommender
        The recommender's name.
    which
        The version's number, ``champion`` or ``challenger``.
    """

    recommender: str
    which: str

    @classmethod
    def parse(cls, text: str) -> NamedVersion | None:
        """Parse such a name; None if the text has another form."""
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
    """Open a project with the recommender's spec from a version's package.

    Parameters
    ----------
    named
        The version.
    store, registry, online
        The addresses. None: as the environment variables say, or the defaults.
    spec
        The recommender's spec file, whose shop the project gets. None: the shop of the run that registered the version.
        If no such run is recorded, the shop of the spec with the recommender's name.
    progress
        Called with each line of progress. None: a bar.

    Returns
    -------
    tuple of Project and Version
        The project and the version.

    Raises
    ------
    NotFoundError
        There is no such version, or nothing says which shop it belongs to.
    IntegrityError
        The package is damaged.
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
        return registry.get_version(named.recommender, named.which)
    find = registry.find_champion if named.which == "champion" else registry.find_challenger
    version = find(named.recommender)
    if version is None:
        numbers = [listed.version for listed in registry.list_versions(named.recommender)]
        raise NotFoundError(
            f"{named.recommender} has no {named.which}; its versions: {', '.join(numbers) or 'none'}",
            code="project.no-such-alias",
            recommender=named.recommender,
            alias=named.which,
            known=numbers,
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
            f"{version.name} version {version.version}: this store has no record of the run that registered it, so it "
            "is not known where the shop's data are; name the recommender's spec by --spec",
            code="project.shop-not-recorded",
            recommender=version.name,
            version=version.version,
        ) from error
