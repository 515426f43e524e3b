"""endcap run: a pipeline on this machine or on Kubeflow Pipelines, a line a step."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from endcap.cli.display import Display
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
_LEFT = {
    "train": "training goes on from its last epoch, a search with its next trial",
    "refit": "training goes on from its last epoch",
    "recommend": "whole parts of the lists are not made again",
}
"""What of a step's work is kept where it is interrupted."""


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

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. What was made before from the same
    inputs, parameters and code is found and not made again; the same command goes on after a failure. The dataset's
    items and customers are published in the online store, a file in the store where that is a folder and no other is
    named. Exit code 3: the evidence was not enough for the gate to pass or to fail.
    """
    loaded = load(spec, env=env, sets=sets)
    if logical_date:
        parse_date(logical_date)
    again = redact(f"{shlex.join(['endcap', *sys.argv[1:]])}   (finished steps are not repeated)")
    if on == "kfp":
        if context.get_parameter_source("online") is _Source.COMMANDLINE:
            raise UserError(
                "--online: only here; on Kubeflow Pipelines a Secret names it to the steps that need it",
                code="cli.option-not-here",
                options=["--online"],
            )
        from endcap.cli.run_kfp import run_on_kfp

        arguments = {"logical_date": logical_date} if logical_date else {}
        arguments |= {name: value for name, value in (("store", store_url), ("registry", registry)) if value}
        if context.get_parameter_source("registry") is _Source.COMMANDLINE:
            arguments["registry"] = registry  # empty: the one that a Secret names to the steps
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
        raise make_surplus_error(surplus, "only with --on kfp")
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
    """Run a pipeline locally and print its lines; returns the facts of the verdict, where a model was judged.

    online: the online store's address, or `none`; empty: as the environment says, else the store's default. asked:
    further arguments of the pipeline. why: the reason, for the run's record. Raises EndcapError naming cause, log and
    `again`, how to go on."""
    opened = open_store(store_url)
    if registry:
        from endcap.registry import check_registry

        check_registry(registry, opened)
    meant = check_online_address(online, opened.root)
    run = LocalRun.of(
        loaded,
        pipeline,
        opened,
        registry=registry,
        online_store=meant,
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
        raise display.interrupted(_LEFT) from None
    except UserError:
        raise
    except EndcapError as error:
        raise display.failure(error) from None
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
