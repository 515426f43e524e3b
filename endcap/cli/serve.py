"""endcap serve: the deployed versions behind a gateway, until it is ended."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import check_online_address, online_option, place_env_option, store_option
from endcap.cli.stores import open_existing_store


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.option("--port", default=8080, show_default=True, help="Port of the gateway on loopback; 0: any free one.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0: for other machines."
)
@click.option(
    "--access",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The access policy: who may do what, by keys and tokens; read again when it changes. Left out: who asks on "
    "this machine may do everything, others get rankings and nothing else.",
)
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Take requests of this origin's pages."
)
@click.option("--host-name", "host_names", multiple=True, metavar="NAME", help="Answer to this Host header too.")
@click.option("--rate", default="", metavar="N:BURST", help="Requests a second of each client, and how many at once.")
@place_env_option
@click.option(
    "--log-shoppers",
    type=click.Choice(["plain", "pseudonym", "none"]),
    default="plain",
    show_default=True,
    help="What the access log says of who is asked for. The key of pseudonyms is $ENDCAP_LOG_KEY, or one of this run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as JSON, one object a line, for a script.")
@store_option
@online_option
def command(
    recommender: str,
    port: int,
    host: str,
    access: Path | None,
    origins: tuple[str, ...],
    host_names: tuple[str, ...],
    rate: str,
    log_shoppers: str,
    as_json: bool,
    store_url: str,
    online: str,
) -> None:
    """Serve RECOMMENDER's desired state (see `endcap deploy`): a predictor a version, and the gateway in front.

    A change of the desired state is followed while it runs. Ctrl-C ends every process. The online store is a file in
    the store, where that is a folder and no other is named.
    """
    from endcap.project.local_run import share_online_address

    store = open_existing_store(store_url)
    meant = check_online_address(online, store.root)
    serve = entry_points(group="endcap.server")["local"].load()

    def show(event: Any) -> None:
        click.echo(json.dumps(event.to_json()) if as_json else str(event))

    with share_online_address(meant):
        options = {"access": access, "origins": origins, "host_names": host_names, "rate": rate}
        serve(store, recommender, host=host, port=port, listener=show, shoppers=log_shoppers, **options)
    if not as_json:
        click.echo(f"Serving has ended. What is deployed stays: `endcap serve {recommender}` serves it again")
