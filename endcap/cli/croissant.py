"""endcap events croissant: a dataset as Croissant describes it."""

from __future__ import annotations

import click

from endcap.cli.options import place_env_option, print_json, store_option
from endcap.cli.stores import open_existing_store
from endcap.errors import NotFoundError


@click.command()
@click.argument("shop")
@place_env_option
@store_option
@click.option("--dataset", help="The address of an older dataset to describe.")
@click.option("--license", "license_", help="The license for others, such as https://spdx.org/licenses/CC-BY-4.0.html.")
def command(shop: str, store_url: str, dataset: str | None, license_: str | None) -> None:
    """Print the newest dataset of SHOP as Croissant's JSON-LD: its files, tables and columns.

    Tools for machine learning read the dataset by it.
    """
    from endcap.description.croissant import OWN_DATA, make_croissant
    from endcap.events.query import find_addresses

    store = open_existing_store(store_url)
    _, address = find_addresses(store, shop=shop, dataset=dataset)
    if address is None:
        raise NotFoundError(
            f"the shop {shop} has no dataset in {store.root}; make one: endcap run SPEC --pipeline features",
            code="query.no-data",
            shop=shop,
            store=store.root,
        )
    print_json(make_croissant(address, store, license_=license_ or OWN_DATA))
