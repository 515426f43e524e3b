"""endcap evaluate: judge a spec's model or a registered version, without registering anything."""

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
@click.option(
    "--spec",
    "shop_of",
    metavar="SPEC",
    help="With VERSION: the spec whose shop's data to use [default: the package's].",
)
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
    """Judge a model on this machine. Nothing is registered or deployed.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. Endcap trains and judges its model as
    `endcap run` does. It reuses what it made before, and a later run reuses what is made here. Your own steps do not
    run.

    VERSION is a registered version, such as shoes/3 or shoes@champion. Endcap judges it by the spec in its package, on
    the shop's present data. If the package was trained on test events, Endcap fits its recipe on the training part and
    judges that.
    """
    if logical_date:
        parse_date(logical_date)
    steps = ProjectSteps(verbose=verbose, quiet=as_json)
    # Nobody is served from this dataset, so its rows are not published.
    places: dict[str, Any] = {"store": store_url, "registry": registry, "online": NONE, "progress": steps.progress}
    project, version = _open_project(spec, shop_of, env, sets, places)
    steps.run("ingest", partial(project.ingest, until=logical_date or None))
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
        click.echo("Nothing is registered. `endcap run` registers a model that passes.")


def _open_project(
    spec: str, shop_of: str | None, env: str | None, sets: tuple[str, ...], places: dict[str, Any]
) -> tuple[Project, str]:
    """Open the project. Returns it with the version's number; empty if a spec is named."""
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
                f"--spec: works only with a VERSION, but {spec} is a spec",
                code="cli.option-not-here",
                options=["--spec"],
            )
        return open_project(load(file, env=env, sets=sets), **places), ""
    if sets:
        raise UserError(
            f"--set: works only with a spec. {spec} is judged by the spec in its package",
            code="cli.option-not-here",
            options=["--set"],
        )
    open_existing_store(places["store"])
    project, version = open_version(named, spec=None if shop_of is None else find_spec(shop_of), **places)
    return project, version.version
