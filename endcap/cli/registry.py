"""endcap registry: list versions with their origin, and decide on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender, complete_version
from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.status import format_pin
from endcap.cli.stores import open_controller, open_existing_registry, open_existing_store
from endcap.cli.version_figures import VersionHistory, explain_tries, list_recommenders, read_version_history
from endcap.runs.start import get_user
from endcap.spec.base import suggest

if TYPE_CHECKING:
    from endcap.registry import Registry, Version
    from endcap.store import Store


by_option = click.option("--by", default=get_user, show_default="you", help="The name of who decides.")
_LINEAGE = ("dataset", "dataset_content", "snapshot", "run", "commit", "image", "train_image", "refit_image")
"""Tags that say what a version was made of."""
why_option = click.option("--why", required=True, help="The reason for the decision, kept with the version.")


@click.group()
def command() -> None:
    """List, approve, reject and promote versions of recommenders."""


@command.command(name="list")
@click.argument("recommender", required=False, shell_complete=complete_recommender)
@place_env_option
@store_option
@registry_option
@json_option
def list_versions(recommender: str | None, store_url: str, registry: str, as_json: bool) -> None:
    """List the versions of RECOMMENDER, oldest first: model, metrics, state, and data. Then list the models that the
    gate refused or did not decide on. Without RECOMMENDER, list those of all recommenders.
    """
    from endcap.registry import find_registry

    store = open_existing_store(store_url)
    known = open_existing_registry(registry, store) if registry else find_registry(None, store)
    shown = [
        read_version_history(name, known, store)
        for name in ([recommender] if recommender else list_recommenders(known, store))
    ]
    if as_json:
        documents = [judgement.to_json() for judgement in shown]
        print_json(documents[0] if recommender else documents)
        return
    click.echo(f"{store.root}{'' if known else ' (no registry)'}", err=True)
    of_each = [judgement for judgement in shown if judgement.versions or judgement.tries]
    if not of_each:
        subject = recommender or "no recommender"
        has = "has no versions yet" if recommender else "has versions yet"
        near = suggest(recommender, list_recommenders(known, store))
        click.echo(f"{subject} {has}; `endcap run SPEC` registers the first that passes its gate. {near}".rstrip(" ."))
    for judgement in of_each:
        if not recommender:
            click.echo(click.style(judgement.recommender, bold=True))
        if judgement.pin is not None:
            click.echo(format_pin(judgement.recommender, judgement.pin))
        click.echo(str(judgement))
        if recommender:
            _describe(judgement, store)


def _describe(judgement: VersionHistory, store: Store) -> None:
    """Print each version's lineage, and why each other model was not registered."""
    for version, _ in judgement.versions:
        click.echo(f"\n{_format_line(version)}")
        click.echo(f"    {version.why}")
        for tag in _LINEAGE:
            if version.tags.get(tag):
                click.echo(f"    {tag:<15} {version.tags[tag]}")
        click.echo(f"    {'package':<15} {version.package}")
        if report := _find_report(version, store):
            click.echo(f"    {'report':<15} {report}")
    if judgement.tries:
        click.echo("\nNot registered:")
        click.echo("\n".join(explain_tries(judgement.tries)))


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("first", shell_complete=complete_version)
@click.argument("second", shell_complete=complete_version)
@place_env_option
@store_option
@registry_option
@json_option
def diff(recommender: str, first: str, second: str, store_url: str, registry: str, as_json: bool) -> None:
    """Show what differs between the versions FIRST and SECOND: data, code, settings and metrics."""
    from endcap.lineage import compare_versions, trace_version

    store = open_existing_store(store_url)
    known = open_existing_registry(registry, store)
    differences = compare_versions(
        *(trace_version(known.get_version(recommender, version), store) for version in (first, second))
    )
    if as_json:
        print_json([asdict(difference) for difference in differences])
        return
    for each in differences:
        click.echo(f"{each.subject:<9} {each.name}: {_format_side(each.first)} → {_format_side(each.second)}")
    if not differences:
        click.echo("nothing differs: data, code, settings and metrics are equal")


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@by_option
@why_option
@place_env_option
@store_option
@registry_option
@json_option
def approve(recommender: str, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """Approve VERSION. It becomes the challenger, or the champion if there is none."""
    decided = _open_registry(store_url, registry).approve(recommender, version, by=by, why=why)
    _print_decision(decided, as_json, f"next: endcap deploy {recommender} --version {version}")


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@by_option
@why_option
@place_env_option
@store_option
@registry_option
@json_option
def reject(recommender: str, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """Reject VERSION. It is no longer the challenger, is no longer served, and cannot be deployed again."""
    from endcap.deploy import describe, withdraw
    from endcap.experiments.exclusion import refuse_during_rollout

    known, store = _open_registry(store_url, registry), open_existing_store(store_url)
    with known.hold_decisions(recommender) as hold:
        if _is_rolled_out(recommender, version, store):
            refuse_during_rollout(recommender, store, "endcap registry reject")
        decided = known.reject(recommender, version, by=by, why=why, held=hold)
        state = withdraw(recommender, version, store)
    changed = (
        []
        if state is None
        else [
            f"the canary is removed: {describe(state)}",
            f"a cluster goes on until this command: endcap deploy {recommender} --namespace …",
        ]
    )
    _print_decision(decided, as_json, *changed)


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@place_env_option
@store_option
@registry_option
@json_option
def promote(recommender: str, version: str, store_url: str, registry: str, as_json: bool) -> None:
    """Make an approved VERSION the champion."""
    from endcap.experiments.exclusion import refuse_during_rollout

    known = _open_registry(store_url, registry)
    with known.hold_decisions(recommender) as hold:
        refuse_during_rollout(recommender, open_existing_store(store_url), "endcap registry promote")
        decided = known.promote(recommender, version, held=hold)
    _print_decision(decided, as_json, f"next: endcap deploy {recommender} --version {version}")


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", required=False, default="", shell_complete=complete_version)
@by_option
@why_option
@place_env_option
@store_option
@registry_option
@json_option
def rollback(recommender: str, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """Give everyone the champion before, or VERSION, and make it the champion again. The present one is rejected.

    If the command is interrupted, call it again: it goes on. While a rollout runs, use `endcap rollout abort`.
    """
    entry = open_controller(recommender, store_url, registry).roll_back(version, by, why)
    state = entry.after
    if as_json:
        print_json(entry.to_json())
        return
    click.echo(f"{recommender}: version {state.previous_version} is the champion again and serves everyone")
    click.echo(f"version {state.version} is rejected; a cluster follows by: endcap deploy {recommender} --namespace …")


def _format_side(value: object) -> str:
    """Format a version's side of a difference; a hyphen where it has none."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None else str(value)


def _is_rolled_out(recommender: str, version: str, store: Store) -> bool:
    """Tell whether the last rollout was of a version, or an A/B test of it runs."""
    from endcap.experiments.ab_log import AbLog
    from endcap.experiments.decision_log import DecisionLog

    last, test = DecisionLog(store, recommender).find_last(), AbLog(store, recommender).find_running()
    is_tested = test is not None and version in [challenger.version for challenger in test.after.taking_part]
    return is_tested or (last is not None and last.after.version == version)


def _print_decision(version: Version, as_json: bool, *lines: str) -> None:
    """Print a version after a decision. lines: the consequences."""
    if as_json:
        print_json(asdict(version))
        return
    click.echo("\n".join([_format_line(version), *lines]))


def _open_registry(store_url: str, registry: str) -> Registry:
    return open_existing_registry(registry, open_existing_store(store_url))


def _find_report(version: Version, store: Store) -> str | None:
    """Find the report of a version's verdict; None if this store does not have it."""
    from endcap.report import find_report, locate_report

    verdict = version.tags.get("verdict")
    address = find_report(version.name, verdict, store) if verdict else None
    return locate_report(address) if address else None


def _format_line(version: Version) -> str:
    aliases = f" [{', '.join(version.aliases)}]" if version.aliases else ""
    decided = f" by {version.by}, {version.when}" if version.state != "pending" else ""
    return f"{version.name} version {version.version}{aliases}: {version.state}{decided}"
