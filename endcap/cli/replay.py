"""endcap replay: compute sampled answers again, and say why any differs."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import (
    json_option,
    place_env_option,
    print_json,
    registry_option,
    store_option,
    verbose_option,
)
from endcap.cli.stores import open_existing_registry, open_existing_store
from endcap.errors import UserError
from endcap.store import Store
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.replay import ReplayReport

DELAY = timedelta(minutes=10)
"""How long ago the last answers are by default: predictors and intakes write their files after some minutes."""
DIFFERENT = 4
"""The exit code if more answers than allowed differ, and nothing explains it."""


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.option(
    "--samples",
    metavar="ADDRESS",
    envvar="ENDCAP_SAMPLES",
    default="",
    help="Where the samples are: a folder or s3://bucket/prefix (ENDCAP_SAMPLES) [default: `samples` in the store].",
)
@click.option(
    "--log",
    metavar="ADDRESS",
    default="",
    help="The intake's files: a folder, s3://bucket/prefix, or none [default: `intake` in the store].",
)
@click.option("--since", metavar="TIME", default="", help="Answers from this time on (ISO, UTC) [default: a day back].")
@click.option("--until", metavar="TIME", default="", help="Answers before this time [default: 10 minutes ago].")
@click.option(
    "--allow",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of answers that may differ without a reason.",
)
@click.option(
    "--log-days", type=click.IntRange(1), default=30, show_default=True, help="Read so many days before the samples."
)
@click.option(
    "--keep-events-days",
    type=click.IntRange(1),
    default=7,
    show_default=True,
    help="How long the intake's online store keeps events (its --keep-events).",
)
@click.option(
    "--keep-owned-days", type=click.IntRange(1), help="How long it keeps what customers own [default: for good]."
)
@click.option(
    "--owned-types", default="", help="Event types after which a customer owns the item, as the intake has them."
)
@place_env_option
@store_option
@registry_option
@verbose_option
@json_option
def command(
    recommender: str,
    samples: str,
    log: str,
    since: str,
    until: str,
    allow: float,
    log_days: int,
    keep_events_days: int,
    keep_owned_days: int | None,
    owned_types: str,
    store_url: str,
    registry: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Compute sampled answers of RECOMMENDER again, and say why any differs.

    Each answer is computed with the model and the rules of then, and compared bit for bit. What the predictor knew of
    the shopper is compared with the event log as of that moment. The exit code is 0 if each difference has a reason,
    and 4 if more than the allowed share has none.
    """
    from endcap.online import NONE
    from endcap.online.record_updates import Retention
    from endcap.project.progress_bar import show_progress
    from endcap.replay import LogSource, replay
    from endcap.replay.metrics import keep_report
    from endcap.samples.key_file import open_pseudonymiser

    begin, end = _read_times(since, until)
    store = open_existing_store(store_url)
    known = open_existing_registry(registry, store)
    owned = None if keep_owned_days is None else timedelta(days=keep_owned_days)
    types = frozenset(filter(None, owned_types.split(",")))
    retention = Retention(timedelta(days=keep_events_days), owned, types)
    source = LogSource(log or _name_beside(store, "intake"), retention, timedelta(days=log_days))
    with show_progress("replay") as bar:
        report = replay(
            recommender,
            store,
            known,
            samples or _name_beside(store, "samples"),
            begin,
            end,
            log=None if log == NONE else source,
            pseudonymiser=open_pseudonymiser(store),
            progress=(lambda line: click.echo(line, err=True)) if verbose else bar,
        )
    keep_report(store, report, allow)
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(_describe(report))
    if report.unexplained_share > allow:
        sys.exit(DIFFERENT)


def _name_beside(store: Store, name: str) -> str:
    """Return the address of what `endcap serve` writes into the store's folder."""
    return f"{store.root.removeprefix('file://')}/{name}"


def _read_times(since: str, until: str) -> tuple[datetime, datetime]:
    from endcap.spec.base import parse_date

    end = parse_date(until) if until else datetime.now(UTC) - DELAY
    begin = parse_date(since) if since else end - timedelta(days=1)
    if begin >= end:
        raise UserError(
            f"--since: found {begin.isoformat()}; allowed: a time before --until, {end.isoformat()}",
            code="cli.times-turned",
            since=begin.isoformat(),
            until=end.isoformat(),
        )
    return begin, end


def _describe(report: ReplayReport) -> str:
    from endcap.replay.reasons import DESCRIPTIONS

    rate = report.answers / max(report.seconds, 1e-3)
    versions = ", ".join(f"{version}: {count:,}" for version, count in sorted(report.versions.items()))
    lines = [
        (
            f"{report.recommender}  {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M}  "
            f"{report.answers:,} answers of versions {versions}  in {report.seconds:.1f} s, {rate:,.0f} a second"
        )
    ]
    rows = [
        [name, outcome, f"{count:,}", f"{check.changed[outcome]:,}", DESCRIPTIONS[outcome]]
        for name, check in report.checks.items()
        for outcome, count in check.answers.most_common()
    ]
    lines.append(format_text_table(["check", "outcome", "answers", "changed", "means"], rows))
    for name, check in report.checks.items():
        for outcome, examples in sorted(check.examples.items()):
            lines.append(f"{name}, {outcome}, for example:")
            lines += [f"  {example.ranking_id}  version {example.version}  {example.detail}" for example in examples]
    return "\n".join(lines)
