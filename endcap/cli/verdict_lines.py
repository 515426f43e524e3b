"""The lines of a run about its verdict, and the exit code of an undecided one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from endcap.project.metric_tables import build_metric_table
from endcap.store import Store
from endcap.tables import format_text_table

STOPPED = "the gate did not pass"
UNDECIDED = 3
"""The exit code if the run ended well but the evidence was not enough for the gate to decide. If the gate failed, it
has decided, and the exit code is 0."""


def explain_stop(verdict: Mapping[str, Any]) -> str | None:
    """Say why the steps after the gate did not run; None if it passed."""
    from endcap.evaluation.verdict_text import read_decision

    return {"passed": None, "failed": STOPPED, "undecided": "the gate is undecided"}[read_decision(verdict)]


def end_undecided(verdict: Mapping[str, Any] | None) -> None:
    """End the process with the exit code `UNDECIDED` if the gate is undecided."""
    from endcap.evaluation.verdict_text import read_decision

    if verdict is not None and read_decision(verdict) == "undecided":
        sys.exit(UNDECIDED)


def print_report(recommender: str, verdict: str, store: Store) -> None:
    """Print where the report of a verdict is, if there is one."""
    from endcap.report import find_report, locate_report

    if address := find_report(recommender, verdict, store):
        click.echo(f"  {'report':<9} {locate_report(address)}")


def print_comparison(facts: dict[str, Any]) -> None:
    """Print a table with a row for each model: the metrics at the largest cutoff, and the interval of MRR. Then print
    what to know about them."""
    from endcap.evaluation.verdict_text import describe_queries, explain_recipe, list_missing_evidence

    click.echo(f"Judged on {describe_queries(facts)}:")
    for line in format_text_table(*build_metric_table(facts)).splitlines():
        click.echo(f"  {line}")
    if text := explain_recipe(facts):
        click.echo(f"  {text}")
    for missing in list_missing_evidence(facts):
        click.echo(f"  {click.style('?', fg='yellow')} undecided: {missing}")
    for warning in facts["warnings"]:
        click.echo(f"  {click.style('!', fg='yellow')} {warning}")
