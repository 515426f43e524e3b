"""endcap rank: show the items that a shopper would get now."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from endcap.cli.completion import complete_recommender, complete_version
from endcap.cli.options import (
    json_option,
    make_surplus_error,
    online_option,
    place_env_option,
    print_json,
    registry_option,
    store_option,
)
from endcap.cli.products import WIDTH, Products
from endcap.cli.request import add_request_options
from endcap.cli.stores import open_existing_store
from endcap.cli.version_choice import choose_version
from endcap.errors import EndcapError
from endcap.fallback_reasons import REASONS
from endcap.secrets import read_variable
from endcap.store import Store

PATIENCE = 10.0
"""The seconds that a gateway may take."""
SHOWN = 3
"""How many items of the session, and how many unknown ones, are printed."""


@dataclass(frozen=True)
class _RankedLine:
    """An answer in the service's form. source: who ranked. session: the session's items, oldest first. notes: more
    lines to print."""

    answer: Mapping[str, Any]
    source: str
    products: Products
    session: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)


@click.command()
@click.argument("recommender", metavar="NAME", shell_complete=complete_recommender)
@add_request_options
@click.option(
    "--version",
    shell_complete=complete_version,
    help="Rank by this registered version [default: the deployed one with most shoppers].",
)
@click.option(
    "--url",
    metavar="URL",
    help="Ask this gateway, such as http://localhost:8080, in place of ranking here. ENDCAP_KEY may hold a key.",
)
@place_env_option
@store_option
@registry_option
@online_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    /,
    recommender: str,
    version: str | None,
    url: str | None,
    store_url: str,
    registry: str,
    online: str,
    as_json: bool,
    **request: Any,
) -> None:
    """Show the items that a shopper of NAME would get now, with titles, such as `endcap rank demo --customer c032804`.

    The options are the keys of a request (docs/serving.md). This process loads the deployed version's package and ranks
    as a predictor does, with the shop's published rules and the events in the online store. No service needs to run.
    Without a customer, a session and items, the ranking is for a new shopper.
    """
    instance = {key: value for key, value in request.items() if value is not None}
    notes = []
    if not {"customer", "session", "items", "item"} & instance.keys():
        instance["items"] = []
        notes.append("without --customer, --session and --items, this is the ranking for a new shopper")
    if url is not None:
        allowed_options = {"version", "registry", "online"}
        commanded = click.core.ParameterSource.COMMANDLINE
        if surplus := sorted(name for name in allowed_options if context.get_parameter_source(name) is commanded):
            raise make_surplus_error(surplus, "does not go with --url, because the gateway has its own")
        shown = _rank_by_gateway(url, recommender, instance, store_url)
    else:
        shown = _rank_by_package(recommender, instance, version, open_existing_store(store_url), registry, online)
    if as_json:
        items = [_add_titles(item, shown.products) for item in shown.answer["items"]]
        print_json({**shown.answer, "recommender": recommender, "items": items})
        return
    _print(recommender, instance, shown, notes)


def _rank_by_gateway(url: str, recommender: str, instance: Mapping[str, Any], store_url: str) -> _RankedLine:
    from endcap.client import Client

    with Client(url, recommender, timeout=PATIENCE, key=read_variable("ENDCAP_KEY")) as client:
        ranking = client.rank(shopper=instance.get("customer"), **instance)
    source = f"version {ranking.model_version}, {ranking.variant} of {url}"
    away = [f"ranked without {', '.join(ranking.degraded)}"] if ranking.degraded else []
    return _RankedLine(ranking.raw, source, _read_titles(recommender, store_url), instance.get("items", ()), away)


def _read_titles(recommender: str, store_url: str) -> Products:
    """Read the titles in the deployed package of a store on this machine; no titles if there is none."""
    import pyarrow.parquet as pq

    from endcap.deploy import find_state
    from endcap.registry.package import ITEMS

    try:
        store = open_existing_store(store_url)
        state = find_state(recommender, store)
        return Products() if state is None else Products(pq.read_table(store.fetch(state.stable.package) / ITEMS))
    except (EndcapError, OSError):
        return Products()


def _rank_by_package(
    recommender: str, instance: dict[str, Any], version: str | None, store: Store, registry: str, online: str
) -> _RankedLine:
    from endcap.online import resolve_online_url
    from endcap.registry.direct_answers import answer_directly
    from endcap.registry.package import load_package

    chosen = choose_version(recommender, version, store, registry)
    package = load_package(store.fetch(chosen.package, verify=True))
    answered = answer_directly(package, instance, online=resolve_online_url(online, store.root), version=chosen.version)
    brings = {"items", "item"} & instance.keys()
    session = instance.get("items", []) if brings else [event.item for event in answered.known.events]
    answer = {**answered.answer.to_json(), "model_version": chosen.version, "variant": chosen.variant}
    notes = list(chosen.notes)
    if answered.away:
        answer["degraded"] = ["online-store"]
        why = (
            "there is no online store"
            if answered.away == "none"
            else f"the online store did not answer ({answered.away})"
        )
        notes.append(f"{why}: what it knows of the shopper does not count")
    named = [*session, *instance.get("candidates", ()), *filter(None, [instance.get("item")])]
    unknown = list(dict.fromkeys(item for item in named if package.vocabulary.index(item) < 0))
    if unknown:
        more = f" and {len(unknown) - SHOWN:,} more" if len(unknown) > SHOWN else ""
        notes.append(f"the model does not know {len(unknown):,} of the items: {', '.join(unknown[:SHOWN])}{more}")
        answer["unknown_items"] = unknown
    products = Products(package.items, answered.ranker.rulebook.catalogue.items)
    return _RankedLine(answer, f"version {chosen.version}, {chosen.says}", products, session, notes)


def _add_titles(item: Mapping[str, Any], products: Products) -> dict[str, Any]:
    title = products.get_title(item["item"])
    return {**item, "title": title} if title else dict(item)


def _print(recommender: str, instance: Mapping[str, Any], shown: _RankedLine, notes: Sequence[str]) -> None:
    answer = shown.answer
    by = [f"{key} {instance[key]}" for key in ("customer", "session") if key in instance]
    click.echo(f"{click.style(recommender, bold=True)}{' for ' if by else ''}{', '.join(by)}")
    click.echo(f"by {shown.source}")
    if shown.session:
        more = f" {len(shown.session):,} items; the last are" if len(shown.session) > SHOWN else ""
        click.echo(f"looked at{more}")
        for item in shown.session[-SHOWN:]:
            click.echo(f"  {shown.products.format_line(item)}")
    if "item" in instance:
        click.echo(f"related to\n  {shown.products.format_line(instance['item'])}")
    items, fallback = answer["items"], answer.get("fallback", {})
    if items:
        ids, scores = [item["item"] for item in items], [item["score"] for item in items]
        click.echo(shown.products.format_ranking(ids, scores, fallback.get("reason", "")))
    else:
        click.echo("nothing may be listed: --explain tells which rules took it away")
    if fallback:
        reason = fallback["reason"]
        notes = [f"{fallback['items']:,} of {len(items):,} are fallbacks: {REASONS.get(reason, reason)}", *notes]
    for removed in answer.get("removed") or []:
        what = removed.get("item") or f"{removed['items']:,} items"
        notes = [*notes, f"{removed['rule']} took away {what}"]
    for note in [*notes, *shown.notes]:
        mark = click.style("!", fg="yellow")
        click.echo(f"{mark} {textwrap.fill(note, WIDTH - 2, subsequent_indent='  ')}")
