"""endcap events query: SQL over a shop's snapshot and dataset."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.completion import complete_spec
from endcap.cli.options import env_option, json_option, print_json, store_option
from endcap.cli.stores import open_existing_store
from endcap.errors import NotFoundError, UserError
from endcap.spec.spec_files import find_spec
from endcap.tables import align_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from endcap.events.query import QueryTable

WIDEST = 40
"""The most characters of a value in a table. --json and --csv have the whole value."""


@click.command()
@click.argument("spec", metavar="SPEC_OR_SHOP", shell_complete=complete_spec)
@click.argument("sql", required=False)
@env_option
@store_option
@click.option("--snapshot", help="The address of a snapshot [default: the shop's newest].")
@click.option("--dataset", help="The address of a dataset [default: the shop's newest].")
@click.option("--tables", "list_tables", is_flag=True, help="List the tables with their columns.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The most rows to print.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def command(
    spec: str,
    sql: str | None,
    env: str | None,
    store_url: str,
    snapshot: str | None,
    dataset: str | None,
    list_tables: bool,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Run a SELECT on a shop's snapshot and dataset.

    SPEC_OR_SHOP is a recommender's YAML file, the name of one in pipelines/specs, or the name of a shop. SQL is
    in DuckDB's dialect, such as "select type, count(*) from events group by type". `--tables` lists the tables.
    """
    from endcap.events.query import query, tables

    if list_tables == (sql is not None):
        raise UserError("give either a SELECT or --tables", code="query.invalid")
    if as_csv and as_json:
        raise UserError("give either --csv or --json", code="query.invalid")
    which: dict[str, Any] = {"shop": _find_shop(spec, env), "snapshot": snapshot, "dataset": dataset}
    store = open_existing_store(store_url)
    if sql is None:
        _print_tables(tables(store, **which), as_json)
        return
    # One row more than the limit tells whether there are more.
    rows = query(sql, store, **which, limit=limit + 1)
    _print_rows(rows.slice(0, limit), as_json=as_json, as_csv=as_csv)
    if rows.num_rows > limit:
        click.echo(f"only the first {limit:,} rows are shown; --limit shows more", err=True)


def _find_shop(name: str, env: str | None) -> str:
    try:
        spec = find_spec(name)
    except NotFoundError:
        return name
    from endcap.spec.load import load

    return load(spec, env=env).shop.name


def _print_tables(tables: list[QueryTable], as_json: bool) -> None:
    if as_json:
        print_json([vars(table) for table in tables])
        return
    for artifact in dict.fromkeys(table.artifact for table in tables):
        click.echo(artifact)
        for table in (table for table in tables if table.artifact == artifact):
            click.echo(f"  {click.style(table.name, bold=True):<20} {table.rows:>12,} rows  {table.about}")
            click.echo(f"    {', '.join(f'{name} {kind}' for name, kind in table.columns.items())}")


def _print_rows(rows: pa.Table, *, as_json: bool, as_csv: bool) -> None:
    if as_csv:
        import pyarrow.csv as csv

        csv.write_csv(rows, sys.stdout.buffer)
        sys.stdout.flush()
    elif as_json:
        print_json(rows.to_pylist())
    else:
        import pyarrow as pa

        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
        right = [any(is_kind(column.type) for is_kind in kinds) for column in rows.columns]
        values = [[_format_cell(value) for value in column.to_pylist()] for column in rows.columns]
        click.echo(align_columns([rows.column_names, *map(list, zip(*values, strict=True))], right))


def _format_cell(value: Any) -> str:
    shown = "" if value is None else f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return shown if len(shown) <= WIDEST else f"{shown[: WIDEST - 1]}…"
