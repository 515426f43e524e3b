"""Published layouts of logs and item tables, which can be read without conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from endcap.spec.event_log import EventSource
from endcap.spec.layouts import ItemLayout, Layout
from endcap.spec.side_tables import ItemSource
from endcap.spec.source import SourceSpec

_Source = TypeVar("_Source", EventSource, ItemSource)


@dataclass(frozen=True)
class TextFormat:
    """How a layout's files are written.

    delimiter: of any length. header: names for files without a header line. encoding: None for UTF-8, or by a file's
    mark. quoted: whether values may stand in double quotes; None where each file tells.
    """

    delimiter: str = ","
    header: list[str] | None = None
    encoding: str | None = None
    quoted: bool | None = None


@dataclass(frozen=True)
class LogLayout:
    """Column names of a published log, and what its events are. A name may be a path into nested values.

    text: None for JSON and Parquet; `format` is then that of files whose suffix tells none. Time is in `time` by its
    `unit`, or the day in `day` (ISO) plus `offset` milliseconds. type: that of all events, or `type_column` holds it.
    unknown, no_item: the customer id and the item id that mean none. itemless: rows without an item are of the log too.
    """

    text: TextFormat | None
    item: str
    session: str | None = None
    customer: str | None = None
    type: str = ""
    type_column: str | None = None
    time: str | None = None
    unit: Literal["s", "ms", "us", "iso"] = "iso"
    day: str = ""
    offset: str = ""
    unknown: str = ""
    no_item: str = ""
    itemless: bool = False
    format: Literal["jsonl"] | None = None


@dataclass(frozen=True)
class ItemTableLayout:
    """Column names of a published item table.

    category: of these columns the first that has a value counts. flags: columns of 0 and 1 whose names make the
    category, with `|` between. aliases: other names that a column may have. time: a row says how its item was then (by
    `unit`), and the last row counts that is not later than the log's last event. only: a column and the value that a
    row must have there to be of the table at all. text, no_item, format: as of `Published`.
    """

    text: TextFormat | None
    item: str
    title: str | None = None
    category: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    price: str | None = None
    time: str | None = None
    unit: Literal["s", "ms", "us", "iso"] = "iso"
    only: tuple[str, str] | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    no_item: str = ""
    format: Literal["jsonl"] | None = None


def _yoochoose(event_type: str, *columns: str) -> LogLayout:
    return LogLayout(
        TextFormat(",", ["session", "time", "item", *columns]), "item", "session", type=event_type, time="time"
    )


def _diginetica(event_type: str) -> LogLayout:
    # Headers differ between its files (itemId, item_id): names are compared without case and underscores.
    return LogLayout(
        TextFormat(";"),
        "itemId",
        "sessionId",
        "userId",
        type=event_type,
        day="eventdate",
        offset="timeframe",
        unknown="NA",
    )


def _movielens(text: TextFormat, user: str, item: str, time: str) -> LogLayout:
    """Ratings of any value as implicit events. All ratings of a user are one session."""
    return LogLayout(text, item, user, user, type="rating", time=time, unit="s")


def _join_alternatives(*names: str) -> str:
    """Return a name that stands for the first of these paths that has a value."""
    return " | ".join(names)


def _snowplow(entity: str, path: str) -> str:
    """Return a path into an entity or event of Snowplow's e-commerce. Some loaders name columns by the full version."""
    versions = ("1", "1_0_0") if entity.startswith("contexts") else ("1", "1_0_0", "1_0_1", "1_0_2")
    return _join_alternatives(*(f"{entity}_{version}{path}" for version in versions))


_PRODUCT = "contexts_com_snowplowanalytics_snowplow_ecommerce_product"
_ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action"
_SEGMENT_TIME = _join_alternatives("timestamp", "originalTimestamp")
_SNOWPLOW_TIME = _join_alternatives("derived_tstamp", "collector_tstamp")


def _segment(property_: str) -> str:
    """Return the path to a property of each product of a list, or else of the event's only product."""
    return _join_alternatives(f"properties.products[].{property_}", f"properties.{property_}")


RATINGS = ["user", "item", "rating", "timestamp"]
MOVIES = ["item", "title", "genres"]
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
)
GENRES = _GENRES.split()

LOG_LAYOUTS: dict[Layout, LogLayout] = {
    "yoochoose-clicks": _yoochoose("click", "category"),
    "yoochoose-buys": _yoochoose("buy", "price", "quantity"),
    "diginetica-views": _diginetica("view"),
    "diginetica-purchases": _diginetica("purchase"),
    "rees46": LogLayout(
        TextFormat(), "product_id", "user_session", "user_id", type_column="event_type", time="event_time"
    ),
    "retailrocket": LogLayout(
        TextFormat(), "itemid", customer="visitorid", type_column="event", time="timestamp", unit="ms"
    ),
    "movielens-recbole": _movielens(
        TextFormat("\t", quoted=False), "user_id:token", "item_id:token", "timestamp:float"
    ),
    "movielens-100k": _movielens(TextFormat("\t", RATINGS, quoted=False), "user", "item", "timestamp"),
    "movielens-1m": _movielens(TextFormat("::", RATINGS, quoted=False), "user", "item", "timestamp"),
    "movielens-20m": _movielens(TextFormat(), "userId", "movieId", "timestamp"),
    "otto": LogLayout(None, "events[].aid", "session", type_column="events[].type", time="events[].ts", unit="ms"),
    "ga4": LogLayout(
        None,
        "items[].item_id",
        "event_params[key=ga_session_id].value.int_value",
        "user_pseudo_id",
        type_column="event_name",
        time="event_timestamp",
        unit="us",
        no_item="(not set)",
        itemless=True,
    ),
    # Its archives in a bucket are named by a time and a hash, with no suffix but .gz.
    "segment": LogLayout(
        None,
        _segment("product_id"),
        customer=_join_alternatives("anonymousId", "userId"),
        type_column=_join_alternatives("event", "type"),
        time=_SEGMENT_TIME,
        itemless=True,
        format="jsonl",
    ),
    "snowplow": LogLayout(
        None,
        _snowplow(_PRODUCT, "[].id"),
        "domain_sessionid",
        "domain_userid",
        type_column=_join_alternatives(_snowplow(_ACTION, ".type"), "se_action", "event_name"),
        time=_SNOWPLOW_TIME,
        itemless=True,
    ),
}
NESTED_LAYOUTS = frozenset(layout for layout, published in LOG_LAYOUTS.items() if published.text is None)
"""Layouts in JSON or Parquet, whose columns are named exactly."""
ITEM_LAYOUTS: dict[ItemLayout, ItemTableLayout] = {
    # Its events carry their item's attributes: the log is the item table too.
    "rees46": ItemTableLayout(
        TextFormat(), "product_id", category=("category_code", "category_id"), price="price", time="event_time"
    ),
    # Its other properties are hashed.
    "retailrocket": ItemTableLayout(
        TextFormat(), "itemid", category=("value",), time="timestamp", unit="ms", only=("property", "categoryid")
    ),
    "movielens-recbole": ItemTableLayout(
        TextFormat("\t", quoted=False),
        "item_id:token",
        "movie_title:token_seq",
        ("genre:token_seq",),
        aliases={"genre:token_seq": ("class:token_seq",)},
    ),
    "movielens-100k": ItemTableLayout(
        TextFormat("|", ["item", "title", "released", "video", "url", *GENRES], "latin-1", quoted=False),
        "item",
        "title",
        flags=tuple(GENRES),
    ),
    "movielens-1m": ItemTableLayout(TextFormat("::", MOVIES, "latin-1", quoted=False), "item", "title", ("genres",)),
    "movielens-20m": ItemTableLayout(TextFormat(), "movieId", "title", ("genres",)),
    # As with REES46, these logs are item tables too.
    "ga4": ItemTableLayout(
        None,
        "items[].item_id",
        "items[].item_name",
        ("items[].item_category",),
        price="items[].price",
        time="event_timestamp",
        unit="us",
        no_item="(not set)",
    ),
    "segment": ItemTableLayout(
        None,
        _segment("product_id"),
        _segment("name"),
        (_segment("category"),),
        price=_segment("price"),
        time=_SEGMENT_TIME,
        format="jsonl",
    ),
    "snowplow": ItemTableLayout(
        None,
        _snowplow(_PRODUCT, "[].id"),
        _snowplow(_PRODUCT, "[].name"),
        (_snowplow(_PRODUCT, "[].category"),),
        price=_snowplow(_PRODUCT, "[].price"),
        time=_SNOWPLOW_TIME,
    ),
}


def get_text_format(source: SourceSpec) -> TextFormat | None:
    """Return the text format of a source with a published layout. None: another source, or no text."""
    published = _get_layout(source)
    return None if published is None else published.text


def complete_source(source: _Source) -> _Source:
    """Return the source with the settings of its layout for those that the source omits."""
    published = _get_layout(source)
    if published is None:
        return source
    if published.text is None:
        return source.model_copy(update={"format": source.format or published.format})
    return source.model_copy(
        update={
            "format": source.format or "csv",
            "delimiter": source.delimiter or published.text.delimiter,
            "header": source.header or published.text.header,
        }
    )


def _get_layout(source: SourceSpec) -> LogLayout | ItemTableLayout | None:
    if isinstance(source, EventSource):
        return LOG_LAYOUTS.get(source.layout)
    return ITEM_LAYOUTS.get(source.layout) if isinstance(source, ItemSource) else None
