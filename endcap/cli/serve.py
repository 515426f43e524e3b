"""endcap serve: serve the deployed versions behind a gateway until Ctrl-C."""

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
@click.option("--port", default=8080, show_default=True, help="The gateway's port; 0 for any free one.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 lets in other machines."
)
@click.option(
    "--access",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of the access policy: who may do what, by keys and tokens. A changed file takes effect at once "
    "[default: clients on this machine may do everything, others may only ask for rankings].",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Accept requests of pages from this origin. Repeatable.",
)
@click.option(
    "--host-name", "host_names", multiple=True, metavar="NAME", help="Also answer to this Host header. Repeatable."
)
@click.option(
    "--rate", default="", metavar="N:BURST", help="The limit of each client: N requests per second, and BURST at once."
)
@place_env_option
@click.option(
    "--log-shoppers",
    type=click.Choice(["plain", "pseudonym", "none"]),
    default="plain",
    show_default=True,
    help="How the access log shows ids of shoppers. ENDCAP_LOG_KEY is the key of pseudonyms [default: a random key]. A "
    "version that was trained on pseudonyms is never served with plain ids in the log.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as JSON for a script, one object per line.")
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
    """Serve RECOMMENDER's desired state (see `endcap deploy`): a predictor for each version, behind a gateway.

    Changes of the desired state take effect while the command runs. Ctrl-C ends all processes. The online store is a
    file in the store, if the store is a folder and no other online store is named.
    """
    from endcap.project.local_run import share_online_address

    store = open_existing_store(store_url)
    online_address = check_online_address(online, store.root)
    serve = entry_points(group="endcap.server")["local"].load()

    def show(event: Any) -> None:
        click.echo(json.dumps(event.to_json()) if as_json else str(event))

    with share_online_address(online_address):
        options = {"access": access, "origins": origins, "host_names": host_names, "rate": rate}
        serve(store, recommender, host=host, port=port, listener=show, shoppers=log_shoppers, **options)
    if not as_json:
        click.echo(f"Serving has ended. The desired state stays; `endcap serve {recommender}` serves it again")
