"""endcap recommend: make and publish a list for every customer, or publish the lists before again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.each import run_for_each
from endcap.cli.options import (
    add_kfp_options,
    add_spec_argument,
    date_option,
    env_option,
    json_option,
    make_surplus_error,
    online_option,
    print_json,
    reason_option,
    registry_option,
    set_option,
    store_option,
    verbose_option,
)
from endcap.cli.outcome import print_outcome
from endcap.cli.stores import open_existing_store
from endcap.errors import UserError
from endcap.redaction import redact
from endcap.spec.base import parse_date
from endcap.spec.load import Loaded, load

if TYPE_CHECKING:
    from endcap.project.results import Lists
    from endcap.store import Store

_Source = click.core.ParameterSource


@click.command()
@add_spec_argument
@env_option
@set_option
@click.option(
    "--version",
    default="",
    help="Use only this registered version [default: the champion and the versions that serve].",
)
@click.option(
    "--customers",
    default="",
    help="A file with a column `customer` [default: all customers, or those of batch.active_within].",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="The number of processes that share the work [default: batch.workers].",
)
@click.option("--dataset", default="", help="Use this dataset, or `newest`, and take in no new events.")
@date_option
@click.option("--roll-back", is_flag=True, help="Make no lists, and publish the ones before again.")
@store_option
@registry_option
@online_option
@reason_option
@verbose_option
@json_option
@click.option("--on", type=click.Choice(["here", "kfp"]), default="here", show_default=True)
@add_kfp_options
@click.pass_context
@run_for_each
def command(
    context: click.Context,
    /,
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    version: str,
    customers: str,
    workers: int | None,
    online: str,
    dataset: str,
    logical_date: str,
    roll_back: bool,
    store_url: str,
    registry: str,
    why: str,
    verbose: bool,
    as_json: bool,
    on: str,
    **kfp: Any,
) -> None:
    """Make a list for every customer by the versions that serve, and publish all lists at once.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. The command first takes in new events, as
    `endcap run SPEC --pipeline features` does. The online store is a file in the store, if the store is a folder and no
    other online store is named. After a failure, the same command goes on with the first unfinished part.
    """
    loaded = load(spec, env=env, sets=sets if workers is None else (*sets, f"batch.workers={workers}"))
    if logical_date:
        parse_date(logical_date)
    options = {name for name in context.params if context.get_parameter_source(name) is _Source.COMMANDLINE}
    _refuse_surplus(options, on, roll_back, dataset, set(kfp))
    if roll_back:
        lines = _roll_back(loaded, open_existing_store(store_url), registry, online, version)
        if as_json:
            print_json({"recommender": loaded.recommender.name, "rolled_back": lines})
        for line in [] if as_json else lines:
            click.echo(f"✓ {line}")
    elif on == "kfp":
        from endcap.cli.run_kfp import run_on_kfp

        # A cluster may not reach the place that this machine's environment names.
        named = online if "online" in options else ""
        candidates = {"online": named, "version": version, "customers": customers, "logical_date": logical_date}
        candidates |= {"registry": registry}
        arguments = {name: value for name, value in candidates.items() if value}
        if "registry" in options:
            arguments["registry"] = registry  # If it is empty, a Secret gives the address to the steps.
        if context.get_parameter_source("store_url") is not _Source.DEFAULT:
            arguments["store"] = store_url
        with print_outcome(as_json, loaded, "recommend", lambda: None):
            run_on_kfp(
                loaded, "recommend", arguments, spec=str(spec), again=_format_command(), why=why, verbose=verbose, **kfp
            )
    elif dataset:
        lists = _make_lists(
            loaded,
            open_existing_store(store_url),
            registry,
            online,
            version,
            customers,
            "" if dataset == "newest" else dataset,
        )
        if as_json:
            rows = [
                {"version": version.version, "address": version.address, **version.facts} for version in lists.versions
            ]
            print_json({"recommender": loaded.recommender.name, "published": lists.published, "versions": rows})
            return
        for version_made in lists.versions:
            click.echo(f"version {version_made.version}  {version_made.address}")
        click.echo(f"✓ {lists.summary}")
    else:
        from endcap.cli.run import run_pipeline

        with print_outcome(as_json, loaded, "recommend", lambda: open_existing_store(store_url)):
            run_pipeline(
                loaded,
                "recommend",
                store_url=store_url,
                registry=registry,
                online=online,
                logical_date=logical_date,
                verbose=verbose,
                again=_format_command(),
                why=why,
                arguments={"online": online, "version": version, "customers": _make_absolute(customers)},
            )


def _format_command() -> str:
    return redact(f"{shlex.join(['endcap', *sys.argv[1:]])}   (finished parts and steps are not repeated)")


def _refuse_surplus(options: set[str], on: str, roll_back: bool, dataset: str, kfp: set[str]) -> None:
    """Raise UserError for options that would have no effect."""
    rules = [
        (kfp, on == "kfp", "works only with --on kfp"),
        ({"dataset"}, on == "here", "does not go with --on kfp, because the run makes a dataset"),
        ({"logical_date"}, not dataset, "does not go with --dataset, because the dataset already has its events"),
        ({"why"}, not dataset and not roll_back, "works only if a pipeline runs, which keeps a record"),
        (
            {"dataset", "customers", "workers", "logical_date"},
            not roll_back,
            "does not go with --roll-back, which makes no lists",
        ),
        ({"on"}, not roll_back, "does not go with --roll-back, which publishes from this machine"),
    ]
    for names, allowed, why in rules:
        if not allowed and (surplus := sorted(names & options)):
            raise make_surplus_error(surplus, why)


def _make_lists(
    loaded: Loaded, store: Store, registry: str, online: str, version: str, customers: str, dataset: str
) -> Lists:
    """Make and publish the lists in this process, from an existing dataset."""
    from endcap.batch import newest_dataset
    from endcap.project import Project

    def show(line: str) -> None:
        click.echo(f"  … {line}", err=True)

    project = Project(
        store, recommender=loaded.recommender, shop=loaded.shop, registry=registry, online=online, progress=show
    )
    return project.recommend(
        dataset or newest_dataset(loaded.shop.name, store), version=version, customers=_make_absolute(customers)
    )


def _roll_back(loaded: Loaded, store: Store, registry: str, online: str, version: str) -> list[str]:
    """Publish the lists before again. Returns a line for each version."""
    from endcap.batch import PATIENCE, find_served_versions, roll_back
    from endcap.online import open_online, resolve_online_url

    address = resolve_online_url(online, store.root)
    if address is None:
        raise UserError(
            "there is no online store in which to roll back lists. Name one by --online or ENDCAP_ONLINE",
            code="cli.no-online-store",
        )
    targets = find_served_versions(loaded.recommender, store, registry or None, version or None)
    with open_online(address, shop=loaded.shop.name, timeout=PATIENCE) as published:
        return list(roll_back(loaded.recommender, targets, published))


def _make_absolute(customers: str) -> str:
    """Make the path of a file absolute, because the step runs in another folder."""
    return customers if not customers or "://" in customers else str(Path(customers).expanduser().resolve())
