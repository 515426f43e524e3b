"""endcap demo-month: a month in the life of a simulated shop, whose runs start by themselves."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.demo import empty_folder, print_heading, print_place
from endcap.cli.month_story import DAYS
from endcap.store import open_store
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.cli.month_life import DayOutcome

FACTS = "month.json"
"""The file that holds what came of each day."""


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".endcap/demo-month"),
    show_default=True,
    help="The folder to write.",
)
@click.option(
    "--days",
    type=click.IntRange(1, DAYS),
    default=DAYS,
    show_default=True,
    help="How many days of the month are shown.",
)
@click.option("--seed", default=42, show_default=True, help="The seed of the log and of the shoppers.")
def command(folder: Path, days: int, seed: int) -> None:
    """Show a month of a simulated shop: each day a file arrives, or does not, and runs start by themselves.

    Scheduler, runs, gates, servers and shoppers' requests are real, and the clock jumps from look to look. The demo
    empties its folder first. When it returns, all processes that it started have ended.
    """
    from endcap.cli.month_life import MonthLife

    begun = time.monotonic()
    folder = folder.resolve()
    print_heading("A month of a simulated shop", f"its log and everything made of it lie in {folder}")
    empty_folder(folder)
    os.environ["ENDCAP_MONTH"] = str(folder)
    store = open_store(str(folder / "store"))
    month = MonthLife(folder, store, seed, days)
    lived: list[DayOutcome] = []
    for number in range(1, days + 1):
        lived.append(month.live(number))
        (folder / FACTS).write_text(json.dumps([facts.to_json() for facts in lived], indent=1) + "\n")
    rows = _summarise(lived, month.count_steps(), month.measure_store())
    click.echo("\n" + format_text_table(("the month", ""), rows))
    click.echo(f"\nThe month took {time.monotonic() - begun:.0f} s; its processes have ended. Try next:")
    print_place()
    place = f"--store {shlex.quote(str(folder / 'store'))}"
    for line, why in (
        (f"endcap schedule status demo-month {place}", "show the ledger with its last decisions"),
        (f"endcap runs list {place}", "list the runs, what started them, and what they cost"),
        (f"endcap lineage demo-month {place}", "show what the version that serves was made of"),
        ("docs/month.md", "read what happens on which day"),
    ):
        click.echo(f"  {line}\n      {why}")


def _summarise(lived: Sequence[DayOutcome], steps: Mapping[str, int], stored: int) -> list[tuple[str, str]]:
    runs = [run for facts in lived for run in facts.runs]
    ends = {end: sum(run["step"] == end for run in runs) for end in ("succeeded", "failed", "canceled")}
    skips = {name.partition(":")[2]: count for name, count in steps.items() if name.startswith("skipped:")}
    rollouts = [facts.rollout for facts in lived if facts.rollout]
    replays = [facts.replayed for facts in lived if facts.replayed]
    removals = [facts.removed for facts in lived if facts.removed]
    return [
        ("runs", ", ".join(f"{count} {end}" for end, count in ends.items() if count)),
        ("begun again", str(sum(facts.again for facts in lived))),
        ("skipped", ", ".join(f"{reason} {count}" for reason, count in sorted(skips.items())) or "-"),
        ("versions", str(sum("version" in run for run in runs))),
        ("refused by the gate", str(sum(run.get("gate") == "failed" for run in runs))),
        ("rollouts", ", ".join(f"version {end['version']} {end['phase']}" for end in rollouts) or "-"),
        (
            "answers computed again",
            f"{sum(end['answers'] for end in replays):,}, {sum(end['unexplained'] for end in replays)} unexplained",
        ),
        ("longest without a success", f"{max(facts.hours_since_success for facts in lived):.0f} h"),
        ("removed", f"{sum(end['bytes_before'] - end['bytes_after'] for end in removals) / 1e6:.1f} MB"),
        ("stays", f"{stored / 1e6:.1f} MB"),
    ]
