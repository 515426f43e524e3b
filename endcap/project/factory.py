"""`endcap.open`: from a spec's name, file or documents to a project."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from endcap.errors import Problem, SpecError
from endcap.project.frames import use_frames
from endcap.project.progress_bar import Progress
from endcap.project.project import Project
from endcap.spec.environments import resolve
from endcap.spec.load import Loaded, load, load_documents
from endcap.spec.spec_files import find_spec
from endcap.spec_renames import API_VERSION
from endcap.store import open_store


def open_project(
    spec: str | Path | Mapping[str, Mapping[str, Any]] | Loaded,
    *,
    env: str | None = None,
    sets: Sequence[str] = (),
    store: str | Path | None = None,
    registry: str | None = None,
    online: str | None = None,
    events: Any = None,
    items: Any = None,
    customers: Any = None,
    progress: Progress | None = None,
) -> Project:
    """Open a recommender with its shop, a store and a registry.

    Parameters
    ----------
    spec
        A recommender's YAML file, the name of one in `pipelines/specs`, or both documents as a mapping
        ``{"recommender": {...}, "shop": {...}}``; `apiVersion` and `kind` may be left out there, the names too.
    env
        The environment: its overlays of the specs, and its places in `environments.yaml`.
    sets
        Keys to override, such as ``"model.width=64"``.
    store
        Where artifacts lie: a folder, or ``s3://bucket/prefix``. None: as ENDCAP_STORE or the environment says, else
        ``.endcap/store``.
    registry
        MLflow's address. None: as ENDCAP_REGISTRY or the environment says, else a data base in the store.
    online
        The online store's address, ``none`` for none. None: as ENDCAP_ONLINE or the environment says, else a file in
        the store.
    events, items, customers
        Frames in place of the shop's files: pandas, Polars, Arrow, or a stream of Arrow batches, with the columns that
        the shop's spec names.
    progress
        Called with each step's lines. None: a bar, on a terminal or in a notebook.

    Returns
    -------
    Project
        The project.

    Raises
    ------
    SpecError
        The specs have mistakes; the error lists all of them.
    NotFoundError
        No spec has this name.

    Examples
    --------
    >>> project = endcap.open("trial", store=folder)
    >>> project.recommender.model.name
    'vsknn'
    """
    file = find_spec(str(spec)) if isinstance(spec, str | Path) else None
    places_given = {"store": None if store is None else str(store), "registry": registry, "online": online}
    frames = {
        name: frame
        for name, frame in (("events", events), ("items", items), ("customers", customers))
        if frame is not None
    }
    problems: list[Problem] = []
    with _collect_problems(problems):
        if isinstance(spec, Loaded):
            loaded = spec
        elif isinstance(spec, Mapping):
            loaded = _load_documents(spec, frames)
        else:
            loaded = load(find_spec(str(spec)), env=env, sets=sets)
    with _collect_problems(problems):
        places = resolve(file, env, places_given)
    if problems:
        raise SpecError(list(dict.fromkeys(problems)))
    opened = open_store(places.store)
    return Project(
        opened,
        recommender=loaded.recommender,
        shop=use_frames(loaded.shop, frames, opened),
        registry=places.registry,
        online=places.online,
        progress=progress,
        files=loaded.files,
    )


@contextlib.contextmanager
def _collect_problems(problems: list[Problem]) -> Iterator[None]:
    """What is wrong with one file is no reason not to look at the next."""
    try:
        yield
    except SpecError as error:
        problems += error.problems


def _load_documents(spec: Mapping[str, Mapping[str, Any]], frames: Mapping[str, Any]) -> Loaded:
    """Both specs out of documents, in which frames stand for sources and what can only be one thing is filled in."""
    shop = {"apiVersion": API_VERSION, "kind": "Shop", "name": "shop", **spec.get("shop", {})}
    for table in frames:
        # Checked with the rest; the frames themselves take its place.
        shop[table] = {"sources": [{"path": "frame.parquet"}], **(shop.get(table) or {})}
    about = {"apiVersion": API_VERSION, "kind": "Recommender", "name": shop["name"], "shop": shop["name"]}
    return load_documents({**about, **spec.get("recommender", {})}, shop)
