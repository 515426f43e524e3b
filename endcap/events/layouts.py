"""Published layouts that are read as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from endcap.spec.shop import EventSource, ItemLayout, ItemSource, Layout
from endcap.spec.source import Source

_Source = TypeVar("_Source", EventSource, ItemSource)


@dataclass(frozen=True)
class Text:
    """How a layout's files are written.

    delimiter: of any length. header: names for files without a header line. encoding: None for UTF-8, or by a file's
    mark. quoted: whether values may stand in double quotes; None where each file tells.
    """

    delimiter: str = ","
    header: list[str] | None = None
    encoding: str | None = None
    quoted: bool | None = None


@dataclass(frozen=True)
class Published:
    """Column names of a published log, and what its events are.

    Time is in `time` by its `unit`, or the day in `day` (ISO) plus `offset` milliseconds. type: that of all events, or
    `type_column` holds it. unknown: the customer id that means none.
    """

    text: Text
    item: str
    session: str | None = None
    customer: str | None = None
    type: str = ""
    type_column: str | None = None
    time: str | None = None
    unit: Literal["s", "ms", "iso"] = "iso"
    day: str = ""
    offset: str = ""
    unknown: str = ""


@dataclass(frozen=True)
class PublishedItems:
    """Column names of a published item table.

    category: of these columns the first that has a value counts. flags: columns of 0 and 1 whose names make the
    category, with `|` between. aliases: other names that a column may have. time: a row says how its item was then (by
    `unit`), and the last row counts that is not later than the log's last event. only: a column and the value that a
    row must have there to be of the table at all.
    """

    text: Text
    item: str
    title: str | None = None
    category: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    price: str | None = None
    time: str | None = None
    unit: Literal["s", "ms", "iso"] = "iso"
    only: tuple[str, str] | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _yoochoose(event_type: str, *more: str) -> Published:
    return Published(Text(",", ["session", "time", "item", *more]), "item", "session", type=event_type, time="time")


def _diginetica(event_type: str) -> Published:
    # Headers differ between its files (itemId, item_id): names are compared without case and underscores.
    return Published(
        Text(";"),
        "itemId",
        "sessionId",
        "userId",
        type=event_type,
        day="eventdate",
        offset="timeframe",
        unknown="NA",
    )


def _movielens(text: Text, user: str, item: str, time: str) -> Published:
    """Ratings, whatever their value, as implicit events; all that a user rated is one session."""
    return Published(text, item, user, user, type="rating", time=time, unit="s")


RATINGS = ["user", "item", "rating", "timestamp"]
MOVIES = ["item", "title", "genres"]
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
)
GENRES = _GENRES.split()

PUBLISHED: dict[Layout, Published] = {
    "yoochoose-clicks": _yoochoose("click", "category"),
    "yoochoose-buys": _yoochoose("buy", "price", "quantity"),
    "diginetica-views": _diginetica("view"),
    "diginetica-purchases": _diginetica("purchase"),
    "rees46": Published(Text(), "product_id", "user_session", "user_id", type_column="event_type", time="event_time"),
    "retailrocket": Published(Text(), "itemid", customer="visitorid", type_column="event", time="timestamp", unit="ms"),
    "movielens-recbole": _movielens(Text("\t", quoted=False), "user_id:token", "item_id:token", "timestamp:float"),
    "movielens-100k": _movielens(Text("\t", RATINGS, quoted=False), "user", "item", "timestamp"),
    "movielens-1m": _movielens(Text("::", RATINGS, quoted=False), "user", "item", "timestamp"),
    "movielens-20m": _movielens(Text(), "userId", "movieId", "timestamp"),
}
PUBLISHED_ITEMS: dict[ItemLayout, PublishedItems] = {
    # Its events carry their item's attributes: the log is the item table too.
    "rees46": PublishedItems(
        Text(), "product_id", category=("category_code", "category_id"), price="price", time="event_time"
    ),
    # Its other properties are hashed.
    "retailrocket": PublishedItems(
        Text(), "itemid", category=("value",), time="timestamp", unit="ms", only=("property", "categoryid")
    ),
    "movielens-recbole": PublishedItems(
        Text("\t", quoted=False),
        "item_id:token",
        "movie_title:token_seq",
        ("genre:token_seq",),
        aliases={"genre:token_seq": ("class:token_seq",)},
    ),
    "movielens-100k": PublishedItems(
        Text("|", ["item", "title", "released", "video", "url", *GENRES], "latin-1", quoted=False),
        "item",
        "title",
        flags=tuple(GENRES),
    ),
    "movielens-1m": PublishedItems(Text("::", MOVIES, "latin-1", quoted=False), "item", "title", ("genres",)),
    "movielens-20m": PublishedItems(Text(), "movieId", "title", ("genres",)),
}


def text_of(source: Source) -> Text | None:
    """How the files of a source of a published layout are written; None for any other source."""
    published: Published | PublishedItems | None = None
    if isinstance(source, EventSource):
        published = PUBLISHED.get(source.layout)
    elif isinstance(source, ItemSource):
        published = PUBLISHED_ITEMS.get(source.layout)
    return None if published is None else published.text


def completed(source: _Source) -> _Source:
    """The source with what its layout knows filled in where the source leaves it out."""
    text = text_of(source)
    if text is None:
        return source
    return source.model_copy(
        update={
            "format": source.format or "csv",
            "delimiter": source.delimiter or text.delimiter,
            "header": source.header or text.header,
        }
    )
