"""endcap events: convert, simulate, describe and query event logs, and forget customers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from endcap.cli.croissant import command as croissant
from endcap.cli.describe import command as describe
from endcap.cli.forget import command as forget
from endcap.cli.pseudonyms import command as pseudonyms
from endcap.cli.query import command as query
from endcap.spec.base import parse_date
from endcap.spec.layouts import Layout

LAYOUTS = [layout for layout in get_args(Layout) if layout != "columns"]


@click.group()
def command() -> None:
    """Convert, simulate, describe and query event logs, and forget customers."""


command.add_command(croissant, "croissant")
command.add_command(describe, "describe")
command.add_command(forget, "forget")
command.add_command(pseudonyms, "pseudonyms")
command.add_command(query, "query")


@command.command()
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="The layout of SOURCE.")
def convert(source: str, target: Path, layout: Layout) -> None:
    """Convert SOURCE (a file, folder, glob or s3://…) to Endcap's column names, and write TARGET (.csv or .parquet)."""
    from endcap.events import convert as convert_layout

    counts = convert_layout(source, layout, target)
    click.echo(f"✓ {target}: " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items()))


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--events",
    type=click.IntRange(min=1),
    default=300_000,
    show_default=True,
    help="About how many events the log has.",
)
@click.option("--items", type=click.IntRange(min=10), default=5_000, show_default=True, help="Number of items.")
@click.option("--customers", type=click.IntRange(min=1), default=20_000, show_default=True, help="Number of customers.")
@click.option("--days", type=click.IntRange(min=1), default=28, show_default=True, help="Number of days.")
@click.option("--start", default="2026-03-02", show_default=True, help="The first day (UTC).")
@click.option("--seed", default=42, show_default=True, help="The seed of the random numbers.")
def simulate(folder: Path, events: int, items: int, customers: int, days: int, start: str, seed: int) -> None:
    """Simulate a shop, and write its log to FOLDER: a file of events for each day, and an item table."""
    from endcap.simulation.simulate import simulate as simulate_shop
    from endcap.simulation.simulate import write_log

    begun = datetime.now(UTC)
    log = simulate_shop(seed=seed, days=days, events=events, items=items, customers=customers, start=parse_date(start))
    write_log(log, folder)
    seconds = (datetime.now(UTC) - begun).total_seconds()
    click.echo(f"✓ {folder}: {log.events.num_rows:,} events, {log.items.num_rows:,} items in {seconds:.1f} s")
