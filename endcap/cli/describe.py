"""endcap events describe: describe a shop's data."""

from __future__ import annotations

import click

from endcap.cli.completion import complete_spec
from endcap.cli.options import env_option, json_option, print_json, set_option, store_option
from endcap.cli.stores import open_existing_store
from endcap.errors import NotFoundError
from endcap.spec.spec_files import find_spec


@click.command()
@click.argument("spec", metavar="SPEC_OR_SHOP", shell_complete=complete_spec)
@env_option
@set_option
@store_option
@click.option("--snapshot", help="The address of an older snapshot to describe.")
@click.option("--dataset", help="The address of an older dataset to describe.")
@json_option
def command(
    spec: str,
    env: str | None,
    sets: tuple[str, ...],
    store_url: str,
    snapshot: str | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Describe a shop's data: time span, rows, sessions, ids without a match, and what to look at.

    SPEC_OR_SHOP is a recommender's YAML file, or the name of one in pipelines/specs. Then Endcap reads the shop's files
    as a run does, and a later run reuses the result. Or it is the name of a shop. Then Endcap describes its newest
    snapshot and dataset in the store.
    """
    from endcap.project import open_project
    from endcap.project.results import Description

    try:
        file = find_spec(spec)
    except NotFoundError:
        from endcap.description import describe
        from endcap.events.query import find_addresses

        store = open_existing_store(store_url)
        log, dataset_address = find_addresses(store, shop=spec, snapshot=snapshot, dataset=dataset)
        description = Description(describe(log, dataset_address, store))
    else:
        project = open_project(file, env=env, sets=sets, store=store_url)
        description = project.describe(snapshot=snapshot, dataset=dataset)
    if as_json:
        print_json(description.facts)
    else:
        click.echo(str(description))
