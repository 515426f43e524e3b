"""endcap spec: check and show the two files a user writes."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from endcap.cli.options import env_option, json_option, print_json, set_option, spec_argument
from endcap.spec.load import load, resolved


@click.group()
def command() -> None:
    """Check a spec and show it with everything filled in."""


@command.command()
@spec_argument
@env_option
@set_option
def check(spec: Path, env: str | None, sets: tuple[str, ...]) -> None:
    """Check a recommender and its shop; every mistake is named at once."""
    loaded = load(spec, env=env, sets=sets)
    click.echo(f"✓ {loaded.recommender.name} and its shop {loaded.shop.name}: {', '.join(map(str, loaded.files))}")
    if loaded.absent:
        click.echo(f"  not installed here, so their parameters were not checked: {', '.join(loaded.absent)}")


@command.command()
@spec_argument
@env_option
@set_option
@json_option
def show(spec: Path, env: str | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print both files as they stand after extends, overlays, --set and defaults."""
    documents = resolved(load(spec, env=env, sets=sets))
    if as_json:
        print_json(documents)
    else:
        click.echo(yaml.safe_dump_all([documents["shop"], documents["recommender"]], sort_keys=False).rstrip())
