"""endcap deploy: which versions serve, and their shares."""

from __future__ import annotations

import click

from endcap.cli.options import json_option, opened, print_json, registry_option, store_option
from endcap.deploy import deploy, describe, read_state, set_share
from endcap.errors import UserError
from endcap.store import Store


@click.command()
@click.argument("recommender")
@click.option("--version", help="Serve this registered version: the champion to everyone, another as the canary.")
@click.option("--share", type=click.FloatRange(0.0, 1.0), help="Give the canary this share of the shoppers, 0 to 1.")
@store_option
@registry_option
@json_option
def command(
    recommender: str, version: str | None, share: float | None, store_url: str, registry: str, as_json: bool
) -> None:
    """Show RECOMMENDER's desired state, or change it; a running `endcap serve` follows.

    Without --version and --share it only shows.
    """
    store = opened(store_url)
    if version is not None:
        _deploy_version(recommender, version, store, registry)
    state = read_state(recommender, store) if share is None else set_share(recommender, share, store)
    if as_json:
        print_json(state.model_dump(mode="json"))
    else:
        click.echo(describe(state))


def _deploy_version(recommender: str, version: str, store: Store, registry: str) -> None:
    """Deploy with the spec that the version was made by: it lies in its package."""
    from endcap.registry import open_registry
    from endcap.registry.package import SPEC
    from endcap.spec import Recommender

    registered = open_registry(registry, store).version(recommender, version)
    if registered.state == "pending":
        raise UserError(
            f"version {version} waits for a person: endcap registry approve {recommender} {version} --why …"
        )
    spec = Recommender.model_validate_json((store.fetch(registered.package) / SPEC).read_bytes())
    deploy(spec, version, store, registry, end_canary=True)
