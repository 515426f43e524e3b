"""endcap serve: the deployed versions behind a gateway, until it is ended."""

from __future__ import annotations

from importlib.metadata import entry_points

import click

from endcap.cli.options import online_option, opened, place_env_option, store_option, tell_online


@click.command()
@click.argument("recommender")
@click.option("--port", default=8080, show_default=True, help="Port of the gateway on loopback; 0: any free one.")
@place_env_option
@store_option
@online_option
def command(recommender: str, port: int, store_url: str, online: str) -> None:
    """Serve RECOMMENDER's desired state (see `endcap deploy`): a predictor a version, and the gateway in front.

    A change of the desired state is followed while it runs. Ctrl-C ends every process. The online store is a file in
    the store, where that is a folder and no other is named.
    """
    store = opened(store_url)
    tell_online(online, store.root)
    serve = entry_points(group="endcap.server")["local"].load()
    serve(store, recommender, port=port, progress=click.echo)
