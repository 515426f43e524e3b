"""endcap reproduce: rebuild a version in a clean store, and say whether it is the same bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import (
    json_option,
    place_env_option,
    print_json,
    registry_option,
    store_option,
    verbose_option,
)
from endcap.cli.stores import open_existing_registry, open_existing_store
from endcap.cli.version_choice import choose_version

if TYPE_CHECKING:
    from endcap.reproduction import Reproduction

DIFFERENT = 4
"""The exit code if the rebuilt version is another one."""
_MARKS = {True: ("✓", "green"), False: ("⨯", "red"), None: ("-", "yellow")}


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.option("--version", help="The version [default: the one with most shoppers, else the champion].")
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what is rebuilt in this new or empty folder, as a store [default: it is removed].",
)
@place_env_option
@store_option
@registry_option
@verbose_option
@json_option
def command(
    recommender: str,
    version: str | None,
    keep: Path | None,
    store_url: str,
    registry: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Rebuild a version of RECOMMENDER from its snapshot, and compare it bit for bit.

    Endcap makes the dataset, the judged model and the package's model anew in an empty store, by the settings and the
    number of epochs that were found. Nothing is searched, registered or deployed. The exit code is 0 if all is equal,
    and 4 if something differs.
    """
    from endcap.project.progress_bar import show_progress
    from endcap.reproduction import reproduce

    store = open_existing_store(store_url)
    chosen = choose_version(recommender, version, store, registry).version
    registered = open_existing_registry(registry, store).get_version(recommender, chosen)
    if verbose:
        result = reproduce(registered, store, keep=keep, progress=lambda line: click.echo(line, err=True))
    else:
        with show_progress("reproduce") as progress:
            result = reproduce(registered, store, keep=keep, progress=progress)
    if as_json:
        print_json(result.to_json())
    else:
        click.echo(_describe(result))
    if not result.equal:
        sys.exit(DIFFERENT)


def _describe(result: Reproduction) -> str:
    lines = [f"{result.recommender} {result.version}  {result.package}  rebuilt in {result.seconds:.1f} s"]
    for part in result.compared:
        mark, colour = _MARKS[part.equal]
        state = {True: "equal", False: "differs", None: "not compared"}[part.equal]
        text = ": ".join(filter(None, (state, part.text)))
        lines.append(f"  {click.style(mark, fg=colour)} {part.subject:<13} {text}")
    if result.circumstances:
        why = "all the same equal, though these differ" if result.equal else "what may be why"
        lines.append(f"{why}, as recorded → here:")
        lines += [
            f"  {circumstance.name}  {_format(circumstance.original)} → {_format(circumstance.here)}"
            for circumstance in result.circumstances
        ]
    elif not result.equal:
        lines.append("nothing that is recorded of machine, packages and code differs")
    lines += result.notes
    if result.kept:
        lines.append(f"kept in {result.kept}")
    return "\n".join(lines)


def _format(value: Any) -> str:
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) or "-"
