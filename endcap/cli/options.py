"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from endcap.errors import NotFoundError
from endcap.store import Store, open_store

SPECS = Path("pipelines/specs")
SHIPPED = Path(str(files("endcap_pipelines"))) / "specs"
"""The specs that come with an installed Endcap."""

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
env_option = click.option("--env", help="Overlay of this environment: overlays/<env>.yaml beside the spec.")
set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, such as model.width=64 or shop.window=30d.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a script.")


def spec_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """A recommender's file, or the name of one in pipelines/specs."""
    return click.argument("spec", callback=_find_spec)(command)


def _find_spec(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    for path in (Path(value), SPECS / f"{value}.yaml", SHIPPED / f"{value}.yaml"):
        if path.is_file():
            return path
    there = ", ".join(sorted({file.stem for folder in (SPECS, SHIPPED) for file in folder.glob("*.yaml")}))
    raise NotFoundError(f"no spec {value!r}: give a recommender's YAML file, or a name in {SPECS} (there are: {there})")


def opened(store_url: str) -> Store:
    """The store an option names."""
    return open_store(store_url)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=True, default=str))
