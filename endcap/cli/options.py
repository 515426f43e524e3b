"""Options that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import click

from endcap.online import ONLINE, online_url, open_online
from endcap.spec.find import find_spec
from endcap.store import Store, open_store

store_option = click.option(
    "--store",
    "store_url",
    envvar="ENDCAP_STORE",
    default=".endcap/store",
    show_default=True,
    help="Where artifacts lie: a folder, or s3://bucket/prefix.",
)
registry_option = click.option(
    "--registry",
    envvar="ENDCAP_REGISTRY",
    default="",
    help="MLflow's address [default: a data base in the store, where that is a folder].",
)
online_option = click.option(
    "--online",
    envvar=ONLINE,
    default="",
    help="Online store: redis://HOST:PORT, rediss://… or sqlite:///PATH; none: without.",
)
env_option = click.option("--env", help="Overlay of this environment: overlays/<env>.yaml beside the spec.")
set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, such as model.width=64 or shop.window=30d.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a script.")

_KFP = (
    click.option(
        "--kfp-host", envvar=["KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT"], help="KFP's API [default: kubeconfig]."
    ),
    click.option("--kfp-namespace", envvar="KFP_NAMESPACE", help="Of KFP, or yours where KFP serves several users."),
    click.option("--kfp-token", envvar="KFP_EXISTING_TOKEN", help="Bearer token for KFP's API."),
    click.option("--kfp-context", envvar="KFP_CONTEXT", help="kubeconfig's context [default: the current one]."),
    click.option(
        "--kfp-ca", envvar="KFP_CA", type=click.Path(exists=True), help="Certificates that KFP's is signed by."
    ),
    click.option("--serving-namespace", help="Where the model is served; '' for nowhere [default: the spec's]."),
    click.option("--wait/--no-wait", default=True, help="Follow the run on KFP to its end.", show_default=True),
    click.option("--follow", metavar="RUN", help="Follow this run of KFP instead of starting one."),
    click.option("--end", metavar="RUN", help="End this run of KFP instead of starting one."),
)


def kfp_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How KFP is reached (as kfp's own client is told), and what is done there."""
    for option in reversed(_KFP):
        command = option(command)
    return command


def spec_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """A recommender's file, or the name of one in pipelines/specs."""
    return click.argument("spec", callback=lambda context, parameter, value: find_spec(value))(command)


def opened(store_url: str) -> Store:
    """The store an option names."""
    return open_store(store_url)


def tell_online(given: str, store_root: str = "") -> None:
    """Let the processes that this one starts know which online store is meant (see `online_url`).

    Raises UserError where that is no address.
    """
    address = online_url(given, store_root)
    if address is None:
        os.environ.pop(ONLINE, None)
    else:
        open_online(address, shop="any").close()
        os.environ[ONLINE] = address


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True, default=str))
