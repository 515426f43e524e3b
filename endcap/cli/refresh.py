"""endcap refresh: publish a shop's rules and item table to running predictors, without a restart or a training."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from endcap.cli.options import (
    add_spec_argument,
    env_option,
    json_option,
    online_option,
    print_json,
    set_option,
    store_option,
)
from endcap.errors import EndcapError, IntegrityError, UserError
from endcap.spec.load import load
from endcap.store import open_store

if TYPE_CHECKING:
    from endcap.online import OnlineStore
    from endcap.rules import Catalogue
    from endcap.spec import Shop
    from endcap.store import Store

TIMEOUT = 30.0
"""The seconds that the online store may take. Nobody waits for a ranking here."""


@click.command()
@add_spec_argument
@env_option
@set_option
@store_option
@online_option
@click.option(
    "--watch",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    help="Publish again each time after so many seconds, until Ctrl-C.",
)
@json_option
def command(
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    store_url: str,
    online: str,
    watch: float | None,
    as_json: bool,
) -> None:
    """Publish the shop's present blacklist, item table and rules. The predictors of all its recommenders follow.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. If the spec or the shop's files have a
    mistake, nothing is published, and predictors go on with what was published before. The online store is a file in
    the store, if the store is a folder and no other online store is named.
    """
    shop = _load_shop(spec, env, sets)
    with _open_online_store(store_url, online, shop) as published:
        if watch is None:
            _print_summary(_refresh_catalogue(published, shop, open_store(store_url)), as_json)
            return
        while True:
            begun = time.monotonic()
            try:
                outcome = _refresh_catalogue(
                    published, _check_same_shop(_load_shop(spec, env, sets), shop), open_store(store_url)
                )
                if outcome["changed"]:
                    _print_summary(outcome, as_json, on_a_line=True)
            except EndcapError as error:
                click.echo(f"{click.style('!', fg='yellow')} {datetime.now(UTC):%H:%M:%S} {error}", err=True)
            time.sleep(max(0.0, watch - (time.monotonic() - begun)))


def _load_shop(spec: Path, env: str | None, sets: tuple[str, ...]) -> Shop:
    try:
        return load(spec, env=env, sets=sets).shop
    except UserError as error:
        raise UserError(
            f"{error}\nNothing was published. Predictors go on with what was published before",
            code=error.code,
            **error.fields,
        ) from error


def _open_online_store(store_url: str, address: str, shop: Shop) -> OnlineStore:
    from endcap.online import open_online, resolve_online_url

    url = resolve_online_url(address, open_store(store_url).root)
    if url is None or url == "none":
        raise UserError(
            "there is no online store to publish in. Give --online redis://HOST:PORT, or a --store that is a folder",
            code="cli.no-online-store",
        )
    return open_online(url, shop=shop.name, timeout=TIMEOUT)


def _check_same_shop(now: Shop, first: Shop) -> Shop:
    if now.name != first.name:
        raise UserError(
            f"the shop's name is now {now.name!r}; it was {first.name!r}. Start again to publish the new shop",
            code="cli.shop-renamed",
            before=first.name,
            now=now.name,
        )
    return now


def _refresh_catalogue(online: OnlineStore, shop: Shop, store: Store) -> dict[str, Any]:
    """Read the shop's files and publish them.

    Returns what is published now, what changed, and which rules match no item of the shop's log. If it raises
    EndcapError, nothing was published.
    """
    from endcap.description import read_newest_items
    from endcap.rules import publish_catalogue
    from endcap.rules.changes import CatalogueChanges
    from endcap.rules.read import read_catalogue
    from endcap.rules.unmatched import count_unmatched_rules, find_rule_warnings

    before = _fetch_published(online)
    try:
        catalogue = read_catalogue(shop, lambda line: click.echo(f"  {line}", err=True))
    except UserError as error:
        state = "Nothing was published before either"
        if before is not None:
            state = f"Predictors go on with what was read at {_format_moment(before.read_time)}"
        raise UserError(f"{error}\nNothing was published. {state}", code=error.code, **error.fields) from error
    changed = publish_catalogue(online, catalogue)
    about = {"shop": shop.name, "version": catalogue.version, "made": catalogue.read_time, "changed": changed}
    # Rankings have the ids of the log. If no log was described, the ids of the item table count.
    unmatched = count_unmatched_rules(catalogue, read_newest_items(shop.name, store))
    about |= {"unmatched": unmatched, "warnings": find_rule_warnings(unmatched)}
    return {**about, **CatalogueChanges.between(before, catalogue).to_json()}


def _fetch_published(online: OnlineStore) -> Catalogue | None:
    from endcap.rules import fetch_catalogue

    try:
        return fetch_catalogue(online)
    except IntegrityError as error:
        click.echo(f"{click.style('!', fg='yellow')} {error}", err=True)
        return None


def _print_summary(outcome: dict[str, Any], as_json: bool, *, on_a_line: bool = False) -> None:
    if as_json:
        click.echo(json.dumps(outcome, sort_keys=True)) if on_a_line else print_json(outcome)
        return
    change = "published" if outcome["changed"] else "unchanged"
    click.echo(
        f"{click.style('✓', fg='green')} shop {outcome['shop']}, read at {_format_moment(outcome['made'])}: {change}"
    )
    changed_values = f", {outcome['other_values']:,} with other values" if outcome["other_values"] else ""
    for name, more in (("items", changed_values), ("blacklisted", ""), ("out_of_stock", "")):
        counts = outcome[name]
        text = f"{counts['came']:,} new, {counts['went']:,} gone{more}"
        click.echo(f"  {name.replace('_', ' '):<13}{counts['now']:>9,}   {text}")
    if outcome["rules"]:
        click.echo("  the rules have changed")
    for warning in outcome["warnings"]:
        click.echo(f"  {click.style('!', fg='yellow')} {warning['text']}")


def _format_moment(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
