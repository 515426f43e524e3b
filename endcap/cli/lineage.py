"""endcap lineage: from a version to the files that its model learnt from, and from a file to what was made of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.stores import open_existing_registry, open_existing_store
from endcap.cli.version_choice import choose_version
from endcap.errors import UserError
from endcap.store import Store, get_content_key

if TYPE_CHECKING:
    from endcap.lineage import FileUse, TracedArtifact, UsedFile, VersionLineage
    from endcap.runs import Run

_SHOWN = 20
"""Files of a list that people read. `--json` has all of them."""


@click.command()
@click.argument("recommender", required=False, shell_complete=complete_recommender)
@click.option("--version", help="The version [default: the one with most shoppers, else the champion].")
@click.option("--ranking", metavar="ID", help="The version that made the ranking with this id.")
@click.option("--file", metavar="NAME", help="What was made of a file: its path, the end of it, or its SHA-256.")
@place_env_option
@store_option
@registry_option
@json_option
def command(
    recommender: str | None,
    version: str | None,
    ranking: str | None,
    file: str | None,
    store_url: str,
    registry: str,
    as_json: bool,
) -> None:
    """Show where a version of RECOMMENDER comes from: its run, code, data, and the files of the log.

    With --file, show all that was made of a file.
    """
    if (recommender is None) == (file is None) or (version and ranking) or (file and (version or ranking)):
        raise UserError(
            "endcap lineage: name a RECOMMENDER, with --version or --ranking if you like; or name a file with --file",
            code="cli.lineage-of-what",
        )
    store = open_existing_store(store_url)
    if file is not None:
        from endcap.lineage import trace_file

        use = trace_file(file, store, registry)
        if as_json:
            print_json(use.to_json())
        else:
            click.echo(_describe_use(use))
        return
    assert recommender is not None
    from endcap.lineage import read_version, trace_version

    if ranking is not None:
        version = read_version(recommender, ranking)
    chosen = choose_version(recommender, version, store, registry).version
    lineage = trace_version(open_existing_registry(registry, store).get_version(recommender, chosen), store)
    if as_json:
        print_json(lineage.to_json())
    else:
        click.echo(_describe_version(lineage, store))


def _describe_version(lineage: VersionLineage, store: Store) -> str:
    version, run = lineage.version, lineage.run
    code = {name: text for name, text in lineage.describe_code().items() if text}
    days, files = list(lineage.list_days()), lineage.list_files()
    commit, rest = code.pop("commit", ""), ", ".join(f"{name} {text}" for name, text in code.items())
    lines = [
        ("version", f"{version.name} {version.version}", f"{version.state}: {version.why}"),
        ("run", version.tags.get("run", "") or "unknown", _describe_run(run) if run else "there is no record of it"),
        ("code", commit or "no commit known", rest),
        *((artifact.kind, get_content_key(artifact.address), _describe(artifact)) for artifact in lineage.artifacts),
        *([("days", f"{len(days):,}", f"{days[0]} to {days[-1]}")] if days else []),
        ("files", f"{len(files):,}", ""),
    ]
    return "\n".join([store.root, *map(_align, lines), *_list_files(files)])


def _align(line: tuple[str, str, str]) -> str:
    """Write a line whose names can be copied whole."""
    subject, name, says = line
    return f"{subject:<15} {name}  {says}".rstrip()


def _describe_run(run: Run) -> str:
    started = "" if run.started is None else f"{run.started:%Y-%m-%d %H:%M}"
    return ", ".join(filter(None, (started, run.by, run.how, run.why)))


def _describe(artifact: TracedArtifact) -> str:
    if artifact.tombstone is not None:
        return f"removed {artifact.tombstone.removed[:10]}: a customer is forgotten ({artifact.tombstone.request})"
    if artifact.is_gone:
        return "the store does not have it any more"
    sizes = [
        f"{artifact.facts[name]:,} {name}"
        for name in ("events", "sessions")
        if isinstance(artifact.facts.get(name), int)
    ]
    return ", ".join([artifact.created[:16].replace("T", " "), *sizes])


def _describe_use(use: FileUse) -> str:
    artifacts = [(artifact.kind, get_content_key(artifact.address), _describe(artifact)) for artifact in use.artifacts]
    versions = [("version", f"{name} {version}", "") for name, version in use.versions or ()]
    if use.versions is None:
        versions = [("version", "unknown", "no registry was named: give --registry")]
    return "\n".join([*_list_files(use.files), *map(_align, [*artifacts, *versions])])


def _list_files(files: Iterable[UsedFile]) -> list[str]:
    listed = list(files)
    lines = [f"  {file.path}  {file.sha256[:12]}  {_describe_days(file)}".rstrip() for file in listed[:_SHOWN]]
    rest = len(listed) - _SHOWN
    return [*lines, f"  and {rest:,} more; --json lists them"] if rest > 0 else lines


def _describe_days(file: UsedFile) -> str:
    if not file.days:
        return file.table
    return file.days[0] if len(file.days) == 1 else f"{len(file.days):,} days, {file.days[0]} to {file.days[-1]}"
