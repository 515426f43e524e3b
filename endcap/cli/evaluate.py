"""endcap evaluate: the verdict on a spec's model, or on a registered version, without consequences."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from endcap.cli.here import Steps
from endcap.cli.options import env_option, json_option, print_json, registry_option, set_option, store_option
from endcap.cli.run import print_comparison
from endcap.spec.base import parse_date
from endcap.spec.find import find_spec
from endcap.spec.load import load


@click.command()
@click.argument("spec", metavar="SPEC")
@env_option
@set_option
@click.option("--logical-date", default="", help="Only events before this date count (ISO, UTC) [default: all].")
@store_option
@registry_option
@click.option("-v", "--verbose", is_flag=True, help="Show what each step says, as it says it.")
@json_option
def command(
    spec: str,
    env: str | None,
    sets: tuple[str, ...],
    logical_date: str,
    store_url: str,
    registry: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Train and judge the model of SPEC on this machine; nothing is registered or deployed.

    What was made before is found and not made again, and a later `endcap run` finds what is made here. Steps of your
    own do not run.
    """
    from endcap.project import open_project

    if logical_date:
        parse_date(logical_date)
    steps = Steps(verbose=verbose, quiet=as_json)
    places: dict[str, Any] = {"store": store_url, "registry": registry, "progress": steps.progress}
    project = open_project(load(find_spec(spec), env=env, sets=sets), **places)
    steps.run("ingest", project.ingest)
    steps.run("features", partial(project.features, until=logical_date or None))
    steps.run("train", project.train)
    verdict = steps.run("evaluate", project.evaluate)
    if as_json:
        print_json({**verdict.facts, "address": verdict.address, "report": str(verdict.report)})
        return
    click.echo(f"  {'verdict':<9} {verdict.address}")
    click.echo(f"  {'report':<9} {verdict.report}")
    print_comparison(dict(verdict.facts))
    click.echo("Nothing is registered: that does endcap run.")
