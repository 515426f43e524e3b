"""endcap events describe: what a shop's data say."""

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
@click.option("--snapshot", help="Address of an older snapshot, which is described as it is.")
@click.option("--dataset", help="Address of an older dataset, which is described as it is.")
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
    """Tell what a shop's data say: span, rows, sessions, what matches nothing, and what to look at.

    SPEC_OR_SHOP is a recommender's YAML file or the name of one in pipelines/specs: its shop's files are read as a run
    reads them, and what is made lies in the store, where a run finds it. Or it is the name of a shop: its newest
    snapshot and dataset in the store are described.
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
