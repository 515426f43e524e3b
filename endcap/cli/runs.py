"""endcap runs: list runs, show what each did, and print logs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender, complete_run, complete_step
from endcap.cli.options import (
    json_option,
    online_option,
    place_env_option,
    print_json,
    reason_option,
    registry_option,
    store_option,
    verbose_option,
)
from endcap.cli.outcome import print_outcome
from endcap.cli.run import run_pipeline
from endcap.cli.stores import open_existing_store
from endcap.cli.verdict_lines import end_undecided
from endcap.errors import NotFoundError
from endcap.project.local_run import restore_specs
from endcap.runs import find_run, list_runs, read_run, read_specs
from endcap.runs.ending import interrupt_run
from endcap.runs.logs import list_log_files
from endcap.runs.logs import tail_logs as follow_logs
from endcap.runs.record import RUNNING
from endcap.runs.run import format_runs

if TYPE_CHECKING:
    from endcap.runs import Run
    from endcap.store import Store


class _Runs(click.Group):
    """Lists runs if no command is given. A first word that is no command is a recommender."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        verb = next((word for word in args if not word.startswith("-")), None)
        if context.resilient_parsing and not args:  # a shell completes the commands
            return super().parse_args(context, args)
        several = len([word for word in args if not word.startswith("-")]) > 1  # `list` takes at most one word
        misspelt = several and verb is not None and bool(get_close_matches(verb, self.commands))
        if verb not in self.commands and not misspelt and not {"-h", "--help"} & set(args):
            args = ["list", *args]
        return super().parse_args(context, args)


@click.group(cls=_Runs, subcommand_metavar="[RECOMMENDER] | show|retry|end RUN | logs RUN [STEP]")
def command() -> None:
    """List runs, show how each ended, print logs, end a run, and run it again.

    Without a command, list the latest runs of RECOMMENDER, or of all recommenders; see `endcap runs list --help`.
    """


@command.command(name="list")
@click.argument("recommender", required=False, shell_complete=complete_recommender)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The most runs to list.")
@place_env_option
@store_option
@json_option
def list_command(recommender: str | None, limit: int, store_url: str, as_json: bool) -> None:
    """List the latest runs of RECOMMENDER, or of all recommenders, newest first."""
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
    """Show who started RUN, when and why; its data; the result of each step; and how it ended."""
    store = open_existing_store(store_url)
    shown = read_run(store, run)
    if as_json:
        print_json({**shown.to_json(), "specs": read_specs(store, shown)})
    else:
        click.echo(shown)


@command.command()
@click.argument("run", shell_complete=complete_run)
@click.argument("step", default="", shell_complete=complete_step)
@click.option("--follow", is_flag=True, help="Print new lines until the run has ended.")
@place_env_option
@store_option
def logs(run: str, step: str, follow: bool, store_url: str) -> None:
    """Print the logs of RUN, or only of its STEP. For a run on KFP, print where its logs are."""
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


@command.command()
@click.argument("run", shell_complete=complete_run)
@place_env_option
@store_option
@json_option
def end(run: str, store_url: str, as_json: bool) -> None:
    """End RUN, which goes on on this machine. The steps that have ended are kept, and `endcap runs retry` goes on.

    A run on KFP is ended by `endcap run SPEC --on kfp --end RUN`.
    """
    store = open_existing_store(store_url)
    ended = interrupt_run(store, read_run(store, run))
    if as_json:
        print_json(ended.to_json())
    else:
        click.echo(f"{ended.name}: {ended.state}")


@command.command()
@click.argument("run", shell_complete=complete_run)
@place_env_option
@store_option
@registry_option
@online_option
@reason_option
@verbose_option
@json_option
def retry(run: str, store_url: str, registry: str, online: str, why: str, verbose: bool, as_json: bool) -> None:
    """Run the pipeline of RUN again on this machine: the same specs and logical date, whatever the files say now.

    Steps whose inputs and code are the same are not repeated.
    """
    store = open_existing_store(store_url)
    before = read_run(store, run)
    loaded = restore_specs(store, before)
    with print_outcome(as_json, loaded, before.pipeline, lambda: store) as judged:
        judged += [
            run_pipeline(
                loaded,
                before.pipeline,
                store_url=store_url,
                registry=registry,
                online=online,
                logical_date=before.logical_date,
                verbose=verbose,
                again=f"endcap runs retry {run}",
                why=why or f"retry of {run}",
                arguments={"online": online} if before.pipeline == "recommend" else None,
            )
        ]
    end_undecided(judged[0])


def _print_logs(store: Store, run: str, files: Callable[[], list[Path]]) -> None:
    def list_files() -> list[Path]:
        with contextlib.suppress(NotFoundError):  # the step may begin later
            return files()
        return []

    def has_ended() -> bool:
        record = find_run(store, run)
        return record is None or record.state != RUNNING

    for file, line in follow_logs(list_files, has_ended):
        click.echo(f"{file.stem}: {line}")


def _find_elsewhere(run: Run, step: str) -> str:
    """Say where the logs of a run in a cluster are; empty if nothing tells."""
    lines = [f"page: {run.page}"] if run.page else []
    for step_run in run.steps:
        if step_run.pod and step in ("", step_run.name):
            pod, namespace = step_run.pod
            of = f" --namespace {namespace}" if namespace else ""
            lines.append(f"{step_run.name}: kubectl logs {pod}{of} --container main")
    return "\n".join(lines)
