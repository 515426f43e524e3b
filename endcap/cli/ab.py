"""endcap ab: A/B tests of several versions, whose shares move to what works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender, complete_version
from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.registry import by_option
from endcap.cli.stores import open_ab_controller, open_existing_store
from endcap.errors import UserError

if TYPE_CHECKING:
    from endcap.experiments.ab_log import AbLogEntry
    from endcap.experiments.ab_state import AbAction

_why_option = click.option("--why", default="", help="The reason, which the log keeps.")

_out_option = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write [default: ab-NAME.html]."
)


@click.group()
def command() -> None:
    """A/B tests: several versions share the shoppers, and shares move to what works."""


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("versions", nargs=-1, required=True, shell_complete=complete_version)
@by_option
@_why_option
@place_env_option
@store_option
@registry_option
@json_option
def start(
    recommender: str, versions: tuple[str, ...], by: str, why: str, store_url: str, registry: str, as_json: bool
) -> None:
    """Have approved VERSIONS share RECOMMENDER's shoppers with the champion, equally at first.

    The section ab of the newest version's spec says how long, and how shares move. `endcap serve` goes on with it.
    """
    from endcap.deploy.state import find_state

    controller = open_ab_controller(recommender, store_url, registry)
    desired = find_state(recommender, controller.store)
    entry = controller.start(versions, by, why)
    if not as_json and desired is not None and desired.previous is not None:
        click.echo(f"version {desired.previous.version}, which the champion was compared with, has left")
    _print_entry(entry, as_json)


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@place_env_option
@store_option
@json_option
def status(recommender: str, store_url: str, as_json: bool) -> None:
    """Show where the latest A/B test of RECOMMENDER stands: shares, effects, and how probable each version is best."""
    from endcap.ab.history import read_history
    from endcap.ab.messages import list_shares
    from endcap.ab.screen import describe_wait, format_screen
    from endcap.experiments.ab_log import AbLog

    history = read_history(AbLog(open_existing_store(store_url), recommender))
    if not as_json:
        click.echo(format_screen(history))
        return
    evidence, decision = history.evidence, history.last.decision
    print_json(
        {
            "recommender": recommender,
            "time": history.last.time.isoformat(),
            "state": history.state.to_json(),
            "shares": list_shares(history.state),
            "best": dict(history.best),
            "evidence": None if evidence is None else evidence.to_json(),
            "decision": None if decision is None else decision.to_json(),
            "waits_for": describe_wait(history),
        }
    )


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@by_option
@_why_option
@place_env_option
@store_option
@registry_option
@json_option
def drop(recommender: str, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """Take VERSION out of RECOMMENDER's A/B test. Its shoppers go to the other versions; nobody else moves."""
    _command(recommender, "drop", version, by, why, store_url, registry, as_json)


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@by_option
@_why_option
@place_env_option
@store_option
@registry_option
@json_option
def stop(recommender: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """End RECOMMENDER's A/B test at once. The champion serves everyone."""
    _command(recommender, "stop", "", by, why, store_url, registry, as_json)


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@by_option
@_why_option
@place_env_option
@store_option
@registry_option
@json_option
def promote(recommender: str, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
    """End RECOMMENDER's A/B test at once. VERSION serves everyone, and is the champion."""
    _command(recommender, "promote", version, by, why, store_url, registry, as_json)


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@place_env_option
@store_option
@registry_option
@json_option
def finish(recommender: str, store_url: str, registry: str, as_json: bool) -> None:
    """Do what is missing of a test's last step, after its process was killed. `endcap serve` does so by itself."""
    entry = open_ab_controller(recommender, store_url, registry).finish()
    if entry is not None:
        _print_entry(entry, as_json)
    elif as_json:
        print_json(None)
    else:
        click.echo(f"{recommender}: nothing is missing")


@command.command("history")
@click.argument("recommender", shell_complete=complete_recommender)
@click.option("--all", "every_test", is_flag=True, help="All tests of the recommender, not only the latest.")
@click.option("--looks", "every_look", is_flag=True, help="A line for each look, also where nothing changed.")
@place_env_option
@store_option
@json_option
def list_steps(recommender: str, every_test: bool, every_look: bool, store_url: str, as_json: bool) -> None:
    """List the decisions and commands of RECOMMENDER's latest A/B test, a line each, oldest first."""
    from endcap.ab.history import merge_steps
    from endcap.ab.screen import format_step
    from endcap.experiments.ab_log import AbLog

    log = AbLog(open_existing_store(store_url), recommender)
    latest = log.read_test()
    steps = merge_steps(list(log.read_entries()) if every_test else latest, merge=not every_look)
    if as_json:
        print_json([step.to_json() for step in steps])
        return
    for step in steps:
        click.echo(format_step(step))


@command.command()
@click.argument("recommender", shell_complete=complete_recommender)
@_out_option
@place_env_option
@store_option
def report(recommender: str, out: Path | None, store_url: str) -> None:
    """Write RECOMMENDER's latest A/B test as one HTML file: shares, moves, lift by epoch, and clicks won."""
    from endcap.ab.history import read_history
    from endcap.ab.report import render_test
    from endcap.experiments.ab_log import AbLog

    history = read_history(AbLog(open_existing_store(store_url), recommender))
    file = out or Path(f"ab-{recommender}.html")
    try:
        file.write_text(render_test(history), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror or error}. Name another file by --out",
            code="cli.cannot-write",
            file=str(file),
        ) from None
    click.echo(file)


def _command(
    recommender: str, action: AbAction, version: str, by: str, why: str, store_url: str, registry: str, as_json: bool
) -> None:
    from endcap.experiments.ab_state import AbCommand

    controller = open_ab_controller(recommender, store_url, registry)
    _print_entry(controller.command(AbCommand(action, by, why, version)), as_json)


def _print_entry(entry: AbLogEntry, as_json: bool) -> None:
    from endcap.ab.messages import describe_shares

    if as_json:
        print_json(entry.to_json())
        return
    click.echo(f"{entry.after.recommender}: the A/B test is {entry.after.phase}. {describe_shares(entry.after)}")
