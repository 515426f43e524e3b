"""Published layouts that are read as they are."""

from __future__ import annotations

from dataclasses import dataclass

from endcap.spec.shop import EventSource, Layout


@dataclass(frozen=True)
class Published:
    """Column names of a published log, and what its events are.

    header: names for files without a header line. Time is ISO text in `time`, or the day in `day` (ISO) plus `offset`
    milliseconds. unknown: the customer id that means none.
    """

    item: str
    session: str
    type: str
    delimiter: str
    header: list[str] | None = None
    customer: str | None = None
    unknown: str = ""
    time: str | None = None
    day: str = ""
    offset: str = ""


def _diginetica(event_type: str) -> Published:
    # Headers differ between its files (itemId, item_id): names are compared without case and underscores.
    return Published("itemId", "sessionId", event_type, ";", None, "userId", "NA", None, "eventdate", "timeframe")


PUBLISHED: dict[Layout, Published] = {
    "yoochoose-clicks": Published(
        "item", "session", "click", ",", ["session", "time", "item", "category"], time="time"
    ),
    "yoochoose-buys": Published(
        "item", "session", "buy", ",", ["session", "time", "item", "price", "quantity"], time="time"
    ),
    "diginetica-views": _diginetica("view"),
    "diginetica-purchases": _diginetica("purchase"),
}


def completed(source: EventSource) -> EventSource:
    """The source with what its layout knows filled in where the source leaves it out."""
    published = PUBLISHED.get(source.layout)
    if published is None:
        return source
    return source.model_copy(
        update={
            "format": source.format or "csv",
            "delimiter": source.delimiter or published.delimiter,
            "header": source.header or published.header,
        }
    )
