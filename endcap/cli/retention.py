"""endcap retention: show or remove what of a store nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.options import json_option, place_env_option, print_json, registry_option, store_option
from endcap.cli.stores import open_existing_store
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.retention import RetentionPlan, RetentionPolicy, StoredArtifact


@click.group()
def command() -> None:
    """Show or remove what of a store nobody needs any more.

    What serves, what may come back, the newest versions, lists and data, what these were made of, and what was used
    lately stays.
    """


def _policy_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        json_option,
        registry_option,
        store_option,
        place_env_option,
        click.option(
            "--unused-days", type=int, default=7, show_default=True, help="What was used in the last days stays."
        ),
        click.option(
            "--versions", type=int, default=3, show_default=True, help="How many newest versions of each stay."
        ),
    ):
        function = option(function)
    return function


@command.command()
@click.option("--explain", is_flag=True, help="List each artifact, and why it stays.")
@_policy_options
def plan(explain: bool, versions: int, unused_days: int, store_url: str, registry: str, as_json: bool) -> None:
    """Show what `apply` would remove. Nothing is changed."""
    from endcap.retention import plan_retention

    planned = plan_retention(open_existing_store(store_url), registry, _make_policy(versions, unused_days))
    if as_json:
        print_json(planned.to_json())
    else:
        click.echo("\n".join([*_describe_plan(planned), *(_explain(planned) if explain else ())]))


@command.command()
@_policy_options
def apply(versions: int, unused_days: int, store_url: str, registry: str, as_json: bool) -> None:
    """Remove what nobody needs any more. Runs and servers may go on meanwhile."""
    from endcap.retention import apply_retention

    policy = _make_policy(versions, unused_days)
    removal = apply_retention(open_existing_store(store_url), registry, policy)
    if as_json:
        document = {"removed": removal.removed, "spared": removal.spared}
        print_json({name: [artifact.address for artifact in listed] for name, listed in document.items()})
        return
    click.echo(f"removed {_count(removal.removed)}")
    if removal.spared:
        click.echo(f"{_count(removal.spared)} were used or needed meanwhile, and stay")


def _make_policy(versions: int, unused_days: int) -> RetentionPolicy:
    from endcap.retention import RetentionPolicy

    return RetentionPolicy(versions, timedelta(days=unused_days))


def _describe_plan(planned: RetentionPlan) -> list[str]:
    from endcap.retention import KINDS

    kept, removed = [artifact for artifact, _ in planned.kept.values()], planned.removed
    rows = [
        (kind, *(_count([artifact for artifact in listed if artifact.kind == kind]) for listed in (kept, removed)))
        for kind in KINDS
        if any(artifact.kind == kind for artifact in (*kept, *removed))
    ]
    lines = [
        format_text_table(("kind", "stay", "go"), [*rows, ("all", _count(kept), _count(removed))]),
        f"what was used since {planned.limits.used_since:%Y-%m-%d %H:%M} stays",
    ]
    lines += [f"run {run} goes on" for run in planned.limits.running]
    lines += [f"run {run} has no end, and began too long ago to go on" for run in planned.limits.lost]
    lines += [f"{address} is missing: {need.code}, {need.by}" for address, need in planned.missing.items()]
    return lines


def _explain(planned: RetentionPlan) -> list[str]:
    stay = [(artifact.name, f"stays: {need.code}, {need.by}") for artifact, need in planned.kept.values()]
    go = [(artifact.name, "goes") for artifact in planned.removed]
    return [f"{name}  {says}" for name, says in sorted([*stay, *go])]


def _count(artifacts: Iterable[StoredArtifact]) -> str:
    sizes: list[Any] = [artifact.bytes for artifact in artifacts]
    return f"{len(sizes):,} ({sum(sizes) / 1e6:,.1f} MB)" if sizes else "0"
