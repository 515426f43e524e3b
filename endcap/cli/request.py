"""Options of a ranking request: one for each key that a person would type, by the key's own name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click


def _split_ids(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[str] | None:
    """Ids of an option that may be given again; None where it was not given. An empty one is an empty list."""
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
    click.option("--customer", metavar="ID", help="The shopper."),
    click.option("--session", metavar="ID", help="The visit, whose recent events the online store has."),
    click.option("--items", **_IDS, help="The session's items, oldest first; '' for a fresh shopper."),
    click.option("--item", metavar="ID", help="Items related to this one."),
    click.option("--candidates", **_IDS, help="Rank only these."),
    click.option("--category", help="Only items of this category."),
    click.option(
        "--filter",
        multiple=True,
        callback=_parse_filters,
        metavar="NAME=VALUE",
        help="Only items with this value; again: or.",
    ),
    click.option("--exclude", **_IDS, help="Never these."),
    click.option("--surface", help="Where it is shown, such as home: rules may hold there only."),
    click.option("--k", type=int, help="How many items [default: the recommender's serving.k]."),
    click.option("--explain", is_flag=True, default=None, help="Tell what rules took away."),
    click.option("--precomputed", is_flag=True, default=None, help="The customer's list of the last batch will do."),
)


def add_request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each key of a request that a person would type, by the key's own name."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command
