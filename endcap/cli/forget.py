"""endcap events forget: forget customers of a shop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_spec
from endcap.cli.options import (
    env_option,
    json_option,
    online_option,
    print_json,
    registry_option,
    set_option,
    store_option,
)
from endcap.cli.stores import open_existing_store
from endcap.errors import NotFoundError
from endcap.spec.serving import SAMPLES
from endcap.spec.spec_files import find_spec
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.forgetting import Forgetting
    from endcap.store import Store

LEFT = 4
"""The exit code if something is left to do."""


@click.command()
@click.argument("spec", metavar="SPEC_OR_SHOP", shell_complete=complete_spec)
@click.argument("customers", metavar="[CUSTOMER]...", nargs=-1)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with a customer's id in each line.",
)
@click.option("--dry-run", is_flag=True, help="Show what holds the customers. Nothing is changed.")
@click.option("--why", default="", help="The reason, kept with the request. Do not name the customer in it.")
@env_option
@set_option
@store_option
@registry_option
@online_option
@click.option(
    "--intake",
    "intake",
    multiple=True,
    metavar="ADDRESS",
    help="Where the intake seals its files: a folder, or s3://bucket/prefix [default: that of `endcap serve`].",
)
@click.option(
    "--samples",
    "samples",
    multiple=True,
    metavar="ADDRESS",
    envvar=SAMPLES,
    help=f"Where request samples lie ({SAMPLES}) [default: that of `endcap serve`].",
)
@json_option
def command(
    spec: str,
    customers: tuple[str, ...],
    file: Path | None,
    dry_run: bool,
    why: str,
    env: str | None,
    sets: tuple[str, ...],
    store_url: str,
    registry: str,
    online: str,
    intake: tuple[str, ...],
    samples: tuple[str, ...],
    as_json: bool,
) -> None:
    """Forget customers: remove all that holds them, and leave their rows out from now on.

    SPEC_OR_SHOP is a recommender's YAML file, or the name of one in pipelines/specs. Then a snapshot and a dataset
    without the customers are made first. Or it is the name of a shop. Then its next run makes them. CUSTOMER is an id
    as the log has it. The exit code is 4 if something is left to do, such as a version that serves.
    """
    from endcap.forgetting import Services, forget_customers, plan_forgetting
    from endcap.project import open_project
    from endcap.pseudonyms import read_pseudonymiser

    listed = [*customers, *(file.read_text(encoding="utf-8").split("\n") if file else ())]
    ids = {name for line in listed if (name := line.strip())}
    if pseudonymiser := read_pseudonymiser():
        ids |= {pseudonymiser.pseudonymise(name) for name in ids}
    remake: Callable[[], tuple[str, str]] | None = None
    try:
        path = find_spec(spec)
    except NotFoundError:
        store, shop = open_existing_store(store_url), spec
    else:
        project = open_project(path, env=env, sets=sets, store=store_url, registry=registry, online=online)
        store, shop = project.store, project.shop.name

        def remake() -> tuple[str, str]:
            return project.ingest().address, project.features().address

    services = Services(online, intake, samples)
    _require_key(store, shop)
    if dry_run:
        outcome = plan_forgetting(store, shop, ids, registry, services)
    else:
        outcome = forget_customers(
            store,
            shop,
            ids,
            registry,
            services,
            why=why,
            remake=remake,
            progress=lambda line: None if as_json else click.echo(line, err=True),
        )
    if as_json:
        print_json(outcome.to_json())
    else:
        click.echo(_describe(outcome, dry_run))
    if not dry_run and not outcome.is_done:
        sys.exit(LEFT)


def _describe(outcome: Forgetting, dry_run: bool) -> str:
    counts = Counter(artifact.kind for artifact in outcome.removed)
    counts.update({"records of runs": len(outcome.records), "unfinished work": len(outcome.unfinished)})
    counts.update({"reports in MLflow": len(outcome.reports), "online store": outcome.online, **outcome.files})
    rows = [(name, f"{count:,}") for name, count in counts.items() if count]
    lines = [format_text_table(("place", "would go" if dry_run else "removed"), rows)] if rows else []
    if not rows and not outcome.kept:
        lines.append(f"nothing of {outcome.shop} holds them")
    lines += [f"{kept.artifact.name} holds them and stays for now: {kept.needed_by}" for kept in outcome.kept]
    lines += [f"{name} {version} learnt from them" for name, version in outcome.versions]
    if outcome.versions:
        lines.append("a model's numbers name nobody: versions stay. endcap run trains one without them")
    lines += [f"{file} holds them, and is not sealed yet: call again in some minutes" for file in outcome.open_segments]
    lines += [f"run {run} began before and goes on" for run in outcome.waiting_for]
    if outcome.waiting_for:
        lines.append("no artifact was removed; call again when it has ended")
    elif outcome.kept:
        lines.append("train and deploy a new version, then call again")
    lines.append("your own log may have their rows still: ingest leaves them out")
    return "\n".join(lines)


def _require_key(store: Store, shop: str) -> None:
    """Raise UserError if the shop has pseudonyms and their key is not here: then nothing of the customer is met."""
    from endcap.pseudonyms import require_pseudonymiser
    from endcap.steps import STEPS

    snapshots = store.list(STEPS["ingest"].folder(shop))
    if snapshots and (key_id := store.manifest(snapshots[-1])["facts"].get("pseudonyms")):
        require_pseudonymiser(f"the snapshots of {shop} have pseudonyms", key_id)
