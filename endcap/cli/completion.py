"""Complete words in a shell: specs, environments, recommenders, versions, runs and steps.

A shell waits for the answer at each press of the key. So the functions are quick, and offer nothing if they cannot read
something. Names of recommenders, versions and runs come from a store in a folder; buckets and servers are not asked.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from endcap.spec.environments import find_file, list_environments, resolve
from endcap.spec.layers import list_overlay_names
from endcap.spec.spec_files import find_spec, list_spec_names

NEWEST = 50
"""The most runs to offer."""
Items = list[CompletionItem]


def complete_spec(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer names of specs. If none fits, the shell completes names of files."""
    names = _match_prefix(list_spec_names(), begun)
    return names if names else [CompletionItem(begun, type="file")]


def complete_env(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer the environments of the file of environments, and the overlays of the command's spec."""
    spec = context.params.get("spec") or next(iter(context.args), None)
    names: set[str] = set()
    with contextlib.suppress(Exception):
        file = find_spec(str(spec)) if spec else None
        names |= set(list_environments(find_file(file)))
        names |= set(list_overlay_names([file])) if file else set()
    return _match_prefix(names, begun)


def complete_recommender(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer the recommenders that have a package, a deployment or a verdict."""
    store = _find_store(context)
    if store is None:
        return []
    names = {path.name for path in (store / "packages").glob("*")}
    names |= {path.stem for path in (store / "deployments").glob("*.json")}
    names |= {path.name for path in (store / "verdicts").glob("*")}
    return _match_prefix(names, begun)


def complete_version(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer the versions of the command's recommender in the store's own registry."""
    # After an option without its value, click has not assigned the words before it yet.
    store, name = _find_store(context), context.params.get("recommender") or next(iter(context.args), None)
    if store is None or not (store / "mlflow.db").is_file():
        return []
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{(store / 'mlflow.db').resolve().as_uri()}?mode=ro", uri=True)) as base,
    ):
        rows = base.execute("SELECT version FROM model_versions WHERE name = ? ORDER BY version DESC", (name,))
        return _match_prefix([str(version) for (version,) in rows], begun, in_order=True)
    return []


def complete_run(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer the newest runs."""
    store = _find_store(context)
    if store is None:
        return []
    files = sorted((store / "runs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    return _match_prefix([file.stem for file in files[:NEWEST]], begun, in_order=True)


def complete_step(context: click.Context, parameter: click.Parameter, begun: str) -> Items:
    """Offer the steps of the command's run that have a log."""
    store, run = _find_store(context), context.params.get("run")
    return (
        []
        if store is None or not run
        else _match_prefix([log.stem for log in (store / "runs" / run).glob("*.log")], begun)
    )


def _find_store(context: click.Context) -> Path | None:
    """Find the folder of the command's store; None if the store is no folder."""
    with contextlib.suppress(Exception):
        address = context.params.get("store_url")
        source = context.get_parameter_source("store_url")
        named = address if source is click.core.ParameterSource.COMMANDLINE else resolve(None).store
        folder = Path(str(named).removeprefix("file://")).expanduser()
        return folder if folder.is_dir() else None
    return None


def _match_prefix(names: Iterable[str], begun: str, *, in_order: bool = False) -> Items:
    """Return the names that begin with the word."""
    return [CompletionItem(name) for name in (names if in_order else sorted(names)) if name.startswith(begun)]
