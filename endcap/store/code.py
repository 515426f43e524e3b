"""What a key counts of code: all that a step's entry reaches, and the libraries that this uses."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from endcap.errors import EndcapError
from endcap.store import syntax
from endcap.store.cache import find_cache_folder
from endcap.store.code_closure import CodeClosure, ModuleSource, find_closure
from endcap.store.fingerprint import fingerprint
from endcap.store.syntax import ParsedModule, parse_module

EXCLUDED_CODE = {
    "endcap.cluster": "asks a cluster for pods",
    "endcap.cpus": "says how much may run at once",
    "endcap.deploy": "says which versions serve; the address of each one's package is in the key",
    "endcap.devices": "says which GPUs are there",
    "endcap.errors": "an error ends a step, which has no output then",
    "endcap.simulation.simulated_sources": "writes files, whose content is in the key",
    "endcap.events.spark_ingest": "has executors call the code that reads on this machine too",
    "endcap.machine": "describes the machine, for the record",
    "endcap.models.file_checks": "refuses a model's files that are damaged",
    "endcap.processes": "says whether a process lives",
    "endcap.progress": "words for people",
    "endcap.safe_reading": "gives the bytes of a file as they are",
    "endcap.registry.background_writer": "writes into MLflow, while others work",
    "endcap.registry.verdict_log": "writes into MLflow",
    "endcap.registry.training_log": "writes into MLflow",
    "endcap.registry.register": "writes into MLflow",
    "endcap.registry.training_runs": "names what MLflow is told",
    "endcap.registry.experiments": "writes into MLflow",
    "endcap.registry.factory": "says where the registry is",
    "endcap.registry.version_records": "says which package a version has; its address is in the key",
    "endcap.registry.versions": "says which version is the champion; its package's address is in the key",
    "endcap.rules.read": "reads rule files, whose content is in the key",
    "endcap.sources.pandas_import": "says when pandas is imported",
    "endcap.spec.kubernetes": "says how predictors are deployed",
    "endcap.spec.pipeline": "says how steps run in a cluster",
    "endcap.spec.pod": "says what pods get",
    "endcap.spec.recommender:Recommender": "steps get settings of it; their values are in the key",
    "endcap.spec.shop:Shop": "as with a recommender",
    "endcap.spec.spark": "says where Spark runs",
    "endcap.spark": "starts Spark, and says why it failed",
    "endcap.steps": "says what the steps are called",
    "endcap.store": "keeps bytes as they are given",
    "endcap.ray_driver.gpus": "says which GPUs Ray's workers see",
    "endcap.training.score_sources": "says which recipes scores come from; the recipes are in the key",
    "endcap.ray_driver.kuberay": "makes the pods of a Ray cluster",
    "endcap.training.search.mlflow_runs": "writes what trials gave into MLflow",
    "endcap.ray_driver.cluster": "says where Ray is",
    "endcap.ray_driver.local_ray": "starts Ray on this machine, and tries again",
}
"""Rooms, modules and definitions whose code changes no output, and why. The closure ends at them."""
LIBRARIES = {
    "duckdb": "duckdb",
    "ibis": "ibis-framework",
    "numpy": "numpy",
    "optuna": "optuna",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
"""Libraries that results depend on, by the name that is imported: major.minor counts where code uses them."""


@functools.cache
def fingerprint_code(*entries: str) -> str:
    """Fingerprint the code that entries reach, and the versions of the libraries that this code uses.

    Parameters
    ----------
    entries
        Modules, or definitions in modules such as ``endcap.training.train:train``.

    Returns
    -------
    str
        The fingerprint. `EXCLUDED_CODE` does not count.

    Raises
    ------
    ModuleNotFoundError
        An entry has no source on this machine.
    """
    closure = find_closure(entries, read_installed_source, EXCLUDED_CODE)
    return fingerprint(closure.digest(), _list_library_versions(closure))


def read_installed_source(name: str) -> ModuleSource | None:
    """Read the source of an installed module, without running any of it; None if there is no source."""
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # such as `__main__`
        return None
    if spec is None:
        return None
    if not below and spec.submodule_search_locations is None:
        return _read_source_file(Path(spec.origin or ""), package=False)
    for location in spec.submodule_search_locations or ():
        place = Path(location, *below)
        source = _read_source_file(place / "__init__.py", package=True)
        if source is None and below:
            source = _read_source_file(place.with_suffix(".py"), package=False)
        if source is not None:
            return source
    return None


def _read_source_file(file: Path, *, package: bool) -> ModuleSource | None:
    if file.suffix != ".py" or not file.is_file():
        return None
    library = any(file.is_relative_to(place) for place in _list_library_folders())
    return ModuleSource(file.read_bytes(), package, library, _parse_cached)


@functools.cache
def _list_library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _list_library_versions(closure: CodeClosure) -> list[tuple[str, str]]:
    """List major and minor version of each installed library that counts."""
    versions = []
    for name in sorted(closure.libraries & set(LIBRARIES) | closure.foreign):
        with contextlib.suppress(PackageNotFoundError):
            versions.append((name, ".".join(version(LIBRARIES.get(name, name)).split(".")[:2])))
    return versions


@functools.lru_cache(maxsize=4096)
def _parse_cached(text: bytes) -> ParsedModule:
    """Parse a module, or take its parts from this machine's cache. Parsing what a step needs takes half a second."""
    cached_file = _find_cached_parts(hashlib.sha256(_fingerprint_parser() + text).hexdigest())
    if cached_file is not None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return ParsedModule.from_json(json.loads(cached_file.read_bytes()))
    module = parse_module(text)
    if cached_file is not None:
        with contextlib.suppress(OSError):
            cached_file.parent.mkdir(exist_ok=True)
            draft = cached_file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(module.to_json()))
            draft.replace(cached_file)
    return module


def _find_cached_parts(digest: str) -> Path | None:
    """Return where this machine keeps the parts of a text; None if there is no cache folder."""
    try:
        return find_cache_folder() / "code" / f"{digest}.json"
    except EndcapError:
        return None


@functools.cache
def _fingerprint_parser() -> bytes:
    """Fingerprint the parser, because parts that another parser made may differ."""
    python = ".".join(map(str, sys.version_info[:2]))
    return hashlib.sha256(python.encode() + Path(syntax.__file__).read_bytes()).digest()
