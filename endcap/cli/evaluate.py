"""endcap evaluate: the verdict on a spec's model, or on a registered version, without consequences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.completion import complete_spec
from endcap.cli.options import (
    date_option,
    env_option,
    json_option,
    print_json,
    registry_option,
    set_option,
    store_option,
    verbose_option,
)
from endcap.cli.project_steps import ProjectSteps
from endcap.cli.stores import open_existing_store
from endcap.cli.verdict_lines import print_comparison
from endcap.errors import NotFoundError, UserError
from endcap.online import NONE
from endcap.spec.base import parse_date
from endcap.spec.load import load
from endcap.spec.spec_files import find_spec

if TYPE_CHECKING:
    from endcap.project import Project


@click.command()
@click.argument("spec", metavar="SPEC|VERSION", shell_complete=complete_spec)
@click.option("--spec", "shop_of", metavar="SPEC", help="Of a VERSION: the spec whose shop counts.")
@env_option
@set_option
@date_option
@store_option
@registry_option
@verbose_option
@json_option
def command(
    spec: str,
    shop_of: str | None,
    env: str | None,
    sets: tuple[str, ...],
    logical_date: str,
    store_url: str,
    registry: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Judge a model on this machine; nothing is registered or deployed.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs: its model is trained and judged, as endcap
    run does. What was made before is found, and a later run finds what is made here. Steps of your own do not run.

    VERSION is a registered one, such as shoes/3 or shoes@champion: by the spec of its package, on its shop's data as
    they are now. Where the package has seen the test, its recipe is fitted on the training part and judged.
    """
    if logical_date:
        parse_date(logical_date)
    steps = ProjectSteps(verbose=verbose, quiet=as_json)
    # What is only judged serves nobody: its dataset's rows are not published.
    places: dict[str, Any] = {"store": store_url, "registry": registry, "online": NONE, "progress": steps.progress}
    project, version = _open_project(spec, shop_of, env, sets, places)
    steps.run("ingest", project.ingest)
    steps.run("features", partial(project.features, until=logical_date or None))
    if not version:
        steps.run("train", project.train)
    verdict = steps.run("evaluate", partial(project.evaluate, version=version))
    if as_json:
        print_json({**verdict.facts, "address": verdict.address, "report": str(verdict.report)})
        return
    click.echo(f"  {'verdict':<9} {verdict.address}")
    click.echo(f"  {'report':<9} {verdict.report}")
    print_comparison(dict(verdict.facts))
    if not version:
        click.echo("Nothing is registered: that does endcap run.")


def _open_project(
    spec: str, shop_of: str | None, env: str | None, sets: tuple[str, ...], places: dict[str, Any]
) -> tuple[Project, str]:
    """The project, and the number of the version where one is named."""
    from endcap.project import open_project
    from endcap.project.versions import NamedVersion, open_version

    try:
        file = find_spec(spec)
    except NotFoundError:
        named = NamedVersion.parse(spec)
        if named is None:
            raise
    else:
        if shop_of is not None:
            raise UserError(
                f"--spec: only of a VERSION, and {spec} is a spec", code="cli.option-not-here", options=["--spec"]
            )
        return open_project(load(file, env=env, sets=sets), **places), ""
    if sets:
        raise UserError(
            f"--set: only of a spec; {spec} is judged by the spec of its package",
            code="cli.option-not-here",
            options=["--set"],
        )
    open_existing_store(places["store"])
    project, version = open_version(named, spec=None if shop_of is None else find_spec(shop_of), **places)
    return project, version.version
