"""endcap spec: check, show and migrate spec files."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from endcap.cli.each import run_for_each
from endcap.cli.options import add_spec_argument, env_option, json_option, print_json, set_option, store_option
from endcap.spec.environments import resolve
from endcap.spec.load import dump_specs, load
from endcap.spec.migration import migrate_files
from endcap.spec.yaml_tree import format_path


@click.group()
def command() -> None:
    """Check a spec, show it with all defaults, or rewrite files of an earlier release."""


@command.command()
@add_spec_argument
@env_option
@set_option
@click.option("--data", is_flag=True, help="Also read the shop's data, and describe them.")
@store_option
@json_option
@run_for_each
def check(spec: Path, env: str | None, sets: tuple[str, ...], data: bool, store_url: str, as_json: bool) -> None:
    """Check a recommender and its shop, and report all mistakes.

    With --data, also read the shop's files as a run does. A later run reuses the result from the store.
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
@add_spec_argument
@env_option
@set_option
@json_option
@run_for_each
def show(spec: Path, env: str | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Print the shop and the recommender after extends, overlays, --set and defaults. Then print the places: where the
    store, the registry and the other services are."""
    documents = dump_specs(load(spec, env=env, sets=sets))
    places = resolve(spec, env)
    if as_json:
        values = {name: {"value": value, "from": origin} for name, (value, origin) in places.list_values().items()}
        print_json({**documents, "places": values})
        return
    click.echo(yaml.safe_dump_all([documents["shop"], documents["recommender"]], sort_keys=False).rstrip())
    where = f" (environment {places.env} of {format_path(places.file)})" if places.env and places.file else ""
    click.echo(f"\n# Places{where}:")
    for name, (value, origin) in places.list_values().items():
        click.echo(f"#   {name:<18} {value}  ({origin})")


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Write nothing, and exit with 1 if a file would change.")
@click.option("--stdout", is_flag=True, help="Write nothing, and print the new files.")
@json_option
def migrate(files: tuple[Path, ...], only_check: bool, stdout: bool, as_json: bool) -> None:
    """Rename the keys of spec files to the names of this release.

    FILES are recommenders, shops, overlays and files of environments. The command rewrites each file and reports every
    change. Only names change: comments, order, quotes and layout stay. If one of the files is wrong, the command writes
    none.
    """
    if only_check and stdout:
        raise click.UsageError("give either --check or --stdout")
    migrations = migrate_files(files)
    changed = [migration for migration in migrations if migration.changes]
    if not (only_check or stdout):
        for migration in changed:
            migration.write()
    if as_json:
        print_json({"files": [migration.to_json() for migration in migrations]})
    elif stdout:
        click.echo("".join(migration.text for migration in migrations), nl=False)
    else:
        for migration in migrations:
            click.echo("\n".join(migration.format_lines()) or f"{format_path(migration.file)}: nothing to change")
    if only_check and changed:
        raise SystemExit(1)
