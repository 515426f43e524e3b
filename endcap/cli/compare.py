"""endcap compare: several models on one dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.models import ENVIRONMENT, FORMS, ModelChoice
from endcap.cli.options import (
    add_spec_argument,
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
from endcap.errors import UserError
from endcap.online import NONE
from endcap.project.contestants import SPEC_MODEL, make_contestants
from endcap.spec.base import parse_date
from endcap.spec.load import load
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.project import Project


@click.command()
@add_spec_argument
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[LABEL=]MODEL",
    help="A model to compare, in one of the forms above. Repeatable.",
)
@env_option
@set_option
@date_option
@store_option
@registry_option
@verbose_option
@json_option
def command(
    spec: Path,
    models: tuple[str, ...],
    env: str | None,
    sets: tuple[str, ...],
    logical_date: str,
    store_url: str,
    registry: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Train several models on one dataset, and show a table and a report of them. Nothing is registered.

    SPEC's split, protocol and rules apply to all models. The first model is compared with each of the others. Endcap
    reuses what it made before.

    \b
    --model gru4rec                  a model with its defaults
    --model big=gru4rec,width=200    a label and parameters
    --model 'big={name: gru4rec, width: 200}'
    --model spec                     SPEC's model, with its search
    --model wide=spec,width=200      SPEC's model, other parameters
    --model wide=wide.yaml           SPEC with an overlay of its
                                     model, search or preprocessing
    --model nightly=env:nightly      SPEC with an environment's overlay

    A single model is compared with SPEC's own. Models that are written here are trained without a search.
    """
    from endcap.project import open_project

    if logical_date:
        parse_date(logical_date)
    steps = ProjectSteps(verbose=verbose, quiet=as_json)
    # Nobody is served from this dataset, so its rows are not published.
    places: dict[str, Any] = {"store": store_url, "registry": registry, "online": NONE, "progress": steps.progress}
    project = open_project(load(spec, env=env, sets=sets), **places)

    def open_with_overlay(overlay: str) -> Project:
        if overlay.startswith(ENVIRONMENT):
            return open_project(load(spec, env=overlay.removeprefix(ENVIRONMENT), sets=sets), **places)
        return open_project(load(spec, env=env, sets=sets, overlays=[overlay]), **places)

    compared = make_contestants(
        project, [choice.build_model(project, open_with_overlay) for choice in _parse_choices(models)]
    )
    steps.run("ingest", partial(project.ingest, until=logical_date or None))
    dataset = steps.run("features", partial(project.features, until=logical_date or None))
    for label, contestant in compared.items():
        steps.run(f"train {label}", partial(contestant.train, dataset))
    comparison = steps.run("compare", partial(project.compare, compared, dataset=dataset))
    if as_json:
        print_json({**comparison.facts, "address": comparison.address, "report": str(comparison.report)})
        return
    click.echo(f"  {'report':<9} {comparison.report}")
    click.echo(f"{comparison.summary}; * is the best of those compared:")
    for line in format_text_table(*comparison.table()).splitlines():
        click.echo(f"  {line}")
    for warning in comparison.warnings:
        click.echo(f"  {click.style('!', fg='yellow')} {warning}")


def _parse_choices(models: tuple[str, ...]) -> list[ModelChoice]:
    choices = [ModelChoice.of(text) for text in models]
    if not choices:
        raise UserError(
            f"there is no model to compare. Give --model for each model; allowed: [LABEL=] and {FORMS}",
            code="cli.option-missing",
            options=["--model"],
        )
    return choices if len(choices) > 1 or choices[0].source == SPEC_MODEL else [ModelChoice.of(SPEC_MODEL), *choices]
