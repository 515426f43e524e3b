"""endcap registry: versions, where they come from, and who decided on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from endcap.cli.options import json_option, opened, place_env_option, print_json, registry_option, store_option
from endcap.runs.start import user

if TYPE_CHECKING:
    from endcap.registry import Registry, Version
    from endcap.store import Store


by_option = click.option("--by", default=user, show_default="you", help="Who decides.")
why_option = click.option("--why", required=True, help="The reason, kept with the version.")


@click.group()
def command() -> None:
    """Versions of recommenders: list, approve, reject, promote."""


@command.command(name="list")
@click.argument("recommender", required=False)
@place_env_option
@store_option
@registry_option
@json_option
def list_versions(recommender: str | None, store_url: str, registry: str, as_json: bool) -> None:
    """Versions of RECOMMENDER, oldest first, with the data that made them; without it those of all, a line each."""
    known = _registry(store_url, registry)
    if recommender is None:
        _list_all(known, as_json)
        return
    versions = known.versions(recommender)
    if as_json:
        print_json([asdict(version) for version in versions])
    elif not versions:
        click.echo(f"{recommender} has no versions yet; `endcap run` registers the first that passes its gate")
    for version in [] if as_json else versions:
        click.echo(_line(version))
        click.echo(f"    {version.why}")
        for tag in ("dataset", "snapshot", "run", "commit", "image", "train_image", "refit_image"):
            if version.tags.get(tag):
                click.echo(f"    {tag:<11} {version.tags[tag]}")
        click.echo(f"    {'package':<11} {version.package}")
        if found := _report(version, opened(store_url)):
            click.echo(f"    {'report':<11} {found}")


def _list_all(registry: Registry, as_json: bool) -> None:
    of_each = {name: registry.versions(name) for name in registry.names()}
    if as_json:
        print_json({name: [asdict(version) for version in versions] for name, versions in of_each.items()})
        return
    if not of_each:
        click.echo("no recommender has versions yet; `endcap run SPEC` registers the first that passes its gate")
    for versions in of_each.values():
        for version in versions:
            click.echo(_line(version))


@command.command()
@click.argument("recommender")
@click.argument("version")
@by_option
@why_option
@place_env_option
@store_option
@registry_option
def approve(recommender: str, version: str, by: str, why: str, store_url: str, registry: str) -> None:
    """Let VERSION go on: it becomes the challenger, or the champion where there is none."""
    click.echo(_line(_registry(store_url, registry).approve(recommender, version, by=by, why=why)))
    click.echo(f"next: endcap deploy {recommender} --version {version}")


@command.command()
@click.argument("recommender")
@click.argument("version")
@by_option
@why_option
@place_env_option
@store_option
@registry_option
def reject(recommender: str, version: str, by: str, why: str, store_url: str, registry: str) -> None:
    """Refuse VERSION: it loses the alias challenger, is served no more and is not deployed again."""
    from endcap.deploy import describe, withdraw

    click.echo(_line(_registry(store_url, registry).reject(recommender, version, by=by, why=why)))
    state = withdraw(recommender, version, opened(store_url))
    if state is not None:
        click.echo(f"the canary is taken away: {describe(state)}")
        click.echo(f"a cluster goes on until it is told: endcap deploy {recommender} --namespace …")


@command.command()
@click.argument("recommender")
@click.argument("version")
@place_env_option
@store_option
@registry_option
def promote(recommender: str, version: str, store_url: str, registry: str) -> None:
    """Make an approved VERSION the champion."""
    click.echo(_line(_registry(store_url, registry).promote(recommender, version)))
    click.echo(f"next: endcap deploy {recommender} --version {version}")


def _registry(store_url: str, registry: str) -> Registry:
    from endcap.registry import open_registry

    return open_registry(registry, opened(store_url))


def _report(version: Version, store: Store) -> str | None:
    """Where the report of the verdict that made a version is, if this store has it."""
    from endcap.report import find_report, report_file

    verdict = version.tags.get("verdict")
    address = find_report(version.name, verdict, store) if verdict else None
    return report_file(address) if address else None


def _line(version: Version) -> str:
    aliases = f" [{', '.join(version.aliases)}]" if version.aliases else ""
    decided = f" by {version.by}, {version.when}" if version.state != "pending" else ""
    return f"{version.name} version {version.version}{aliases}: {version.state}{decided}"
