"""endcap rollout start, finish, pause, resume, approve, promote, abort: what a person decides about a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from endcap.cli.completion import complete_recommender, complete_version
from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.registry import by_option
from endcap.cli.stores import open_controller

if TYPE_CHECKING:
    from endcap.experiments.rollout_state import Action


def _print_entry(entry: Any, as_json: bool) -> None:
    state = entry.after
    if as_json:
        print_json(entry.to_json())
        return
    click.echo(f"{state.recommender} version {state.version}: {state.phase}, {100 * state.share:.4g} % of the shoppers")


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.argument("version", shell_complete=complete_version)
@place_env_option
@store_option
@registry_option
@json_option
def start(recommender: str, version: str, store_url: str, registry: str, as_json: bool) -> None:
    """Start the rollout of an approved VERSION, by the section rollout of its spec. `endcap serve` goes on with it."""
    _print_entry(open_controller(recommender, store_url, registry).start(version), as_json)


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@place_env_option
@store_option
@registry_option
@json_option
def finish(recommender: str, store_url: str, registry: str, as_json: bool) -> None:
    """Do what is missing of a rollout's last step, after its process was killed. `endcap serve` does so by itself."""
    entry = open_controller(recommender, store_url, registry).finish()
    if entry is not None:
        _print_entry(entry, as_json)
    elif as_json:
        print_json(None)
    else:
        click.echo(f"{recommender}: nothing is missing")


def _make_command(action: Action, summary: str) -> click.Command:
    @click.command(action, help=summary)
    @click.argument("recommender", shell_complete=complete_recommender)
    @by_option
    @click.option("--why", default="", help="The reason, which the log keeps.")
    @place_env_option
    @store_option
    @registry_option
    @json_option
    def command(recommender: str, by: str, why: str, store_url: str, registry: str, as_json: bool) -> None:
        from endcap.experiments.rollout_state import RolloutCommand

        controller = open_controller(recommender, store_url, registry)
        _print_entry(controller.command(RolloutCommand(action, by, why)), as_json)

    return command


COMMANDS: tuple[click.Command, ...] = (
    start,
    finish,
    _make_command("pause", "Keep RECOMMENDER's shares as they are until `resume`. Guardrails go on."),
    _make_command("resume", "Go on with a rollout of RECOMMENDER that is paused."),
    _make_command("approve", "Agree to what a rollout of RECOMMENDER waits for: its start, or its promotion."),
    _make_command("promote", "Give everyone RECOMMENDER's new version now, whatever is known of it."),
    _make_command(
        "abort", "Give everyone the version before, at once: RECOMMENDER's kill switch, after a promotion too."
    ),
)
