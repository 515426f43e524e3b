"""endcap run: a pipeline on this machine or on Kubeflow Pipelines."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from endcap.cli.display import Display
from endcap.cli.each import run_for_each
from endcap.cli.options import (
    add_kfp_options,
    add_spec_argument,
    check_online_address,
    date_option,
    env_option,
    json_option,
    make_surplus_error,
    online_option,
    reason_option,
    registry_option,
    set_option,
    store_option,
    verbose_option,
)
from endcap.cli.outcome import Outcome, note_outcome, print_outcome
from endcap.cli.verdict_lines import end_undecided, explain_stop, print_comparison, print_report
from endcap.errors import EndcapError, UserError
from endcap.project.local_run import LocalRun
from endcap.redaction import redact
from endcap.runs.start import COMMAND_LINE
from endcap.spec.base import parse_date
from endcap.spec.load import Loaded, load
from endcap.steps import PIPELINES
from endcap.store import open_store

_Source = click.core.ParameterSource
_UNFINISHED = {
    "train": "training goes on after its last epoch, and a search with its next trial",
    "refit": "training goes on after its last epoch",
    "recommend": "finished parts of the lists are not made again",
}
"""What is kept of a step that is interrupted."""


@click.command()
@add_spec_argument
@env_option
@set_option
@click.option("--pipeline", type=click.Choice(sorted(PIPELINES)), default="training", show_default=True)
@date_option
@store_option
@registry_option
@online_option
@reason_option
@verbose_option
@json_option
@click.option("--on", type=click.Choice(["here", "kfp"]), default="here", show_default=True)
@add_kfp_options
@click.pass_context
@run_for_each
def command(
    context: click.Context,
    /,
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    pipeline: str,
    logical_date: str,
    store_url: str,
    registry: str,
    online: str,
    why: str,
    verbose: bool,
    as_json: bool,
    on: str,
    **kfp: Any,
) -> None:
    """Run a recommender's pipeline: events, features, training, gate, registry, deployment.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. Endcap reuses artifacts that were made
    before from the same inputs, parameters and code, so the same command goes on after a failure. The run publishes the
    dataset's items and customers in the online store. This is a file in the store, if the store is a folder and no
    other online store is named. The exit code is 3 if the evidence was not enough for the gate to decide.
    """
    loaded = load(spec, env=env, sets=sets)
    if logical_date:
        parse_date(logical_date)
    again = redact(f"{shlex.join(['endcap', *sys.argv[1:]])}   (finished steps are not repeated)")
    if on == "kfp":
        if context.get_parameter_source("online") is _Source.COMMANDLINE:
            raise UserError(
                "--online: works only for runs on this machine. On Kubeflow Pipelines a Secret holds the address",
                code="cli.option-not-here",
                options=["--online"],
            )
        from endcap.cli.run_kfp import run_on_kfp

        arguments = {"logical_date": logical_date} if logical_date else {}
        arguments |= {name: value for name, value in (("store", store_url), ("registry", registry)) if value}
        if context.get_parameter_source("registry") is _Source.COMMANDLINE:
            arguments["registry"] = registry  # If it is empty, a Secret gives the address to the steps.
        if context.get_parameter_source("store_url") is _Source.DEFAULT:
            del arguments["store"]
        with print_outcome(as_json, loaded, pipeline, lambda: None) as judged:
            judged += [
                run_on_kfp(loaded, pipeline, arguments, spec=str(spec), again=again, why=why, verbose=verbose, **kfp)
            ]
        end_undecided(judged[0])
        return
    surplus = sorted(name for name in kfp if context.get_parameter_source(name) is _Source.COMMANDLINE)
    if surplus:
        raise make_surplus_error(surplus, "works only with --on kfp")
    with print_outcome(as_json, loaded, pipeline, lambda: open_store(store_url)) as judged:
        judged += [
            run_pipeline(
                loaded,
                pipeline,
                store_url=store_url,
                registry=registry,
                online=online,
                logical_date=logical_date,
                verbose=verbose,
                again=again,
                why=why,
                arguments={"online": online} if pipeline == "recommend" else None,
            )
        ]
    end_undecided(judged[0])


def run_pipeline(
    loaded: Loaded,
    pipeline: str,
    *,
    store_url: str,
    registry: str,
    logical_date: str,
    verbose: bool,
    again: str,
    online: str = "",
    why: str = "",
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Run a pipeline on this machine and print its lines.

    Parameters
    ----------
    loaded
        The recommender and its shop.
    pipeline
        The pipeline's name.
    store_url, registry
        The addresses of the store and the registry.
    logical_date
        Only events before this date count; empty: all.
    verbose
        Whether to print every line of progress.
    again
        The command that goes on after a failure, which errors name.
    online
        The online store's address, or ``none``; empty: the environment's, else the store's default.
    why
        The reason for the run, kept in its record.
    arguments
        More arguments of the pipeline.

    Returns
    -------
    dict or None
        The facts of the verdict; None if no model was judged.

    Raises
    ------
    EndcapError
        A step failed. The error names the cause, the log and the command to go on.
    """
    opened = open_store(store_url)
    if registry:
        from endcap.registry import check_registry

        check_registry(registry, opened)
    online_address = check_online_address(online, opened.root)
    run = LocalRun.of(
        loaded,
        pipeline,
        opened,
        registry=registry,
        online_store=online_address,
        logical_date=logical_date,
        **(arguments or {}),
    )
    name, shop = loaded.recommender.name, loaded.shop.name
    click.echo(f"Run {click.style(run.name, bold=True)}: {pipeline} of {name} (shop {shop})")
    display = Display(
        run=run.name,
        verbose=verbose,
        where=lambda step: f"  log:   {run.folder}/{step or 'kfp'}.log",
        again=again,
        here=True,
    )
    outcome, begun = note_outcome(Outcome(run.name, logs=str(run.folder), done=display.done)), time.monotonic()
    try:
        run.start(display.hear, how=COMMAND_LINE, why=why)
    except KeyboardInterrupt:
        raise display.make_interruption(_UNFINISHED) from None
    except UserError:
        raise
    except EndcapError as error:
        raise display.make_failure(error) from None
    results = display.results
    verdict = opened.manifest(results["evaluate"])["facts"] if "evaluate" in results else None
    stopped = None if verdict is None else explain_stop(verdict)
    outcome.seconds, outcome.state = round(time.monotonic() - begun, 3), "succeeded"
    outcome.not_run = display.end(run.steps, outcome.seconds, stopped=stopped)
    click.echo(f"  logs      {run.folder}")
    if verdict is not None:
        print_report(name, results["evaluate"], opened)
        print_comparison(verdict)
    return verdict
