"""endcap runs: which runs there are, what each gave, and their logs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender, complete_run, complete_step
from endcap.cli.options import json_option, place_env_option, print_json, store_option
from endcap.cli.stores import open_existing_store
from endcap.errors import NotFoundError
from endcap.runs import find_run, list_runs, read_run, read_specs
from endcap.runs.logs import list_log_files
from endcap.runs.logs import tail_logs as follow_logs
from endcap.runs.record import RUNNING
from endcap.runs.run import format_runs

if TYPE_CHECKING:
    from endcap.runs import Run
    from endcap.store import Store


class _Runs(click.Group):
    """Its bare call lists; the first word is a recommender where it is no verb."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        verb = next((word for word in args if not word.startswith("-")), None)
        if context.resilient_parsing and not args:  # a shell asks for the verbs
            return super().parse_args(context, args)
        several = len([word for word in args if not word.startswith("-")]) > 1  # a list takes one at most
        misspelt = several and verb is not None and bool(get_close_matches(verb, self.commands))
        if verb not in self.commands and not misspelt and not {"-h", "--help"} & set(args):
            args = ["list", *args]
        return super().parse_args(context, args)


@click.group(cls=_Runs, subcommand_metavar="[RECOMMENDER] | show RUN | logs RUN [STEP]")
def command() -> None:
    """Runs: which there are, what each gave and how it ended, their logs.

    Without a verb the latest runs are listed, of RECOMMENDER or of all: see `endcap runs list --help`.
    """


@command.command(name="list")
@click.argument("recommender", required=False, shell_complete=complete_recommender)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many.")
@place_env_option
@store_option
@json_option
def list_command(recommender: str | None, limit: int, store_url: str, as_json: bool) -> None:
    """The latest runs, of RECOMMENDER or of all, newest first."""
    runs = list_runs(open_existing_store(store_url), recommender, limit=limit)
    if as_json:
        print_json([run.to_json() for run in runs])
    elif runs:
        click.echo(format_runs(runs))
    else:
        click.echo(f"no runs{f' of {recommender}' if recommender else ''} in {store_url}; `endcap run SPEC` makes one")


@command.command()
@click.argument("run", shell_complete=complete_run)
@place_env_option
@store_option
@json_option
def show(run: str, store_url: str, as_json: bool) -> None:
    """Who started RUN, when and why, of what; what each step gave; how it ended."""
    store = open_existing_store(store_url)
    shown = read_run(store, run)
    if as_json:
        print_json({**shown.to_json(), "specs": read_specs(store, shown)})
    else:
        click.echo(shown)


@command.command()
@click.argument("run", shell_complete=complete_run)
@click.argument("step", default="", shell_complete=complete_step)
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@place_env_option
@store_option
def logs(run: str, step: str, follow: bool, store_url: str) -> None:
    """Print the logs of RUN, or of its STEP alone. For a run on KFP: where its logs are."""
    store = open_existing_store(store_url)
    shown = read_run(store, run)
    if "process" not in shown.document and (place := _find_elsewhere(shown, step)):
        click.echo(place)
        return

    def files() -> list[Path]:
        return list_log_files(store, run, step)

    if follow:
        _print_logs(store, run, files)
        return
    for file in files():
        if not step:
            click.echo(click.style(f"== {file.stem}", bold=True))
        click.echo(file.read_text(errors="replace"), nl=False)


def _print_logs(store: Store, run: str, files: Callable[[], list[Path]]) -> None:
    def list_files() -> list[Path]:
        with contextlib.suppress(NotFoundError):  # the step may still begin
            return files()
        return []

    def ended() -> bool:
        known = find_run(store, run)
        return known is None or known.state != RUNNING

    for file, line in follow_logs(list_files, ended):
        click.echo(f"{file.stem}: {line}")


def _find_elsewhere(run: Run, step: str) -> str:
    """Where the logs of a run in a cluster are; empty where nothing tells."""
    lines = [f"page: {run.page}"] if run.page else []
    for step_run in run.steps:
        if step_run.pod and step in ("", step_run.name):
            pod, namespace = step_run.pod
            of = f" --namespace {namespace}" if namespace else ""
            lines.append(f"{step_run.name}: kubectl logs {pod}{of} --container main")
    return "\n".join(lines)
