"""endcap spec: check and show the two files a user writes."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from endcap.cli.options import env_option, json_option, print_json, set_option, spec_argument, store_option
from endcap.spec.environments import resolve
from endcap.spec.load import load, resolved
from endcap.spec.yaml_tree import shown


@click.group()
def command() -> None:
    """Check a spec and show it with everything filled in."""


@command.command()
@spec_argument
@env_option
@set_option
@click.option("--data", is_flag=True, help="Read the shop's data as well, and tell what they say.")
@store_option
@json_option
def check(spec: Path, env: str | None, sets: tuple[str, ...], data: bool, store_url: str, as_json: bool) -> None:
    """Check a recommender and its shop; every mistake is named at once.

    With --data the shop's files are read too, as a run reads them: what is made lies in the store, where a run finds
    it.
    """
    loaded = load(spec, env=env, sets=sets)
    description = None
    if data:
        from endcap.project import open_project

        description = open_project(spec, env=env, sets=sets, store=store_url).describe()
    names = {"recommender": loaded.recommender.name, "shop": loaded.shop.name}
    if as_json:
        lists = {"files": list(map(str, loaded.files)), "absent": list(loaded.absent)}
        print_json({**names, **lists, "data": description and description.facts})
        return
    click.echo(f"✓ {loaded.recommender.name} and its shop {loaded.shop.name}: {', '.join(map(str, loaded.files))}")
    if loaded.absent:
        click.echo(f"  not installed here, so their parameters were not checked: {', '.join(loaded.absent)}")
    if description is not None:
        click.echo(f"\n{description}")


@command.command()
@spec_argument
@env_option
@set_option
@json_option
def show(spec: Path, env: str | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print both files as they stand after extends, overlays, --set and defaults; and where things are."""
    documents = resolved(load(spec, env=env, sets=sets))
    places = resolve(spec, env)
    if as_json:
        named = {name: {"value": value, "from": origin} for name, (value, origin) in places.named().items()}
        print_json({**documents, "places": named})
        return
    click.echo(yaml.safe_dump_all([documents["shop"], documents["recommender"]], sort_keys=False).rstrip())
    where = f" (environment {places.env} of {shown(places.file)})" if places.env and places.file else ""
    click.echo(f"\n# Places{where}:")
    for name, (value, origin) in places.named().items():
        click.echo(f"#   {name:<18} {value}  ({origin})")
