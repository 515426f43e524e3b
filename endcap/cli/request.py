"""The options of a ranking request. They have the names of the request's keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click


def _split_ids(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[str] | None:
    """Split the ids of a repeatable option. Returns None if it was not given; an empty list if it was given empty."""
    return [part.strip() for text in values for part in text.split(",") if part.strip()] if values else None


def _parse_filters(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, list[str]] | None:
    values: dict[str, list[str]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.BadParameter(f"found {text!r}; allowed: ATTRIBUTE=VALUE, such as brand=Fennick")
        values.setdefault(name.strip(), []).append(value.strip())
    return values or None


_IDS: dict[str, Any] = {"multiple": True, "callback": _split_ids, "metavar": "ID,ID"}
_REQUEST = (
    click.option("--customer", metavar="ID", help="The customer's id."),
    click.option("--session", metavar="ID", help="The session's id; the online store has its recent events."),
    click.option("--items", **_IDS, help="The session's items, oldest first; '' for a new shopper."),
    click.option("--item", metavar="ID", help="Rank items related to this one."),
    click.option("--candidates", **_IDS, help="Rank only these items."),
    click.option("--category", help="Rank only items of this category."),
    click.option(
        "--filter",
        multiple=True,
        callback=_parse_filters,
        metavar="NAME=VALUE",
        help="Rank only items with this value. Given again with the same NAME: with any of the values.",
    ),
    click.option("--exclude", **_IDS, help="Never list these items."),
    click.option("--surface", help="Where the ranking is shown, such as home; some rules apply only there."),
    click.option("--k", type=int, help="The number of items [default: the recommender's serving.k]."),
    click.option("--explain", is_flag=True, default=None, help="List the items that rules removed."),
    click.option(
        "--precomputed", is_flag=True, default=None, help="Allow the customer's list that was made ahead of time."
    ),
)


def add_request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each key of a request that a person would type."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command
