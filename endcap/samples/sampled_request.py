"""A request as a predictor saw it, with its context and answer, and its columns in Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import orjson
import pyarrow as pa

from endcap.online.base import RecentEvent
from endcap.online.shopper_reader import StoredSource
from endcap.ranking.request import RankRequest
from endcap.ranking.session import PrecomputedList, ShopperContext

EventSource = Literal["request", "session", "customer", "history", "none"]
"""Where the events that a ranking used came from: the request (its items, events or item), the online store's events of
the session, those of the customer's last visit, the customer's history in the training data, or nowhere."""
_TEXT = pa.string()
_EVENT = pa.struct([("item", _TEXT), ("time", pa.int64()), ("type", _TEXT)])
_SHOPPER = ("customer", "session")
SCHEMA = pa.schema(
    [
        ("ranking_id", _TEXT),
        ("number", pa.int32()),
        ("recommender", _TEXT),
        ("version", _TEXT),
        ("variant", _TEXT),
        ("time", pa.int64()),
        ("customer", _TEXT),
        ("session", _TEXT),
        ("request", _TEXT),
        ("events", pa.list_(_EVENT)),
        ("events_source", _TEXT),
        ("owned", pa.list_(_TEXT)),
        ("list_items", pa.list_(_TEXT)),
        ("list_scores", pa.list_(pa.float64())),
        ("is_known", pa.bool_()),
        ("store_unavailable", pa.bool_()),
        ("catalogue", _TEXT),
        ("pseudonym_key", _TEXT),
        ("items", pa.list_(_TEXT)),
        ("scores", pa.list_(pa.float32())),
        ("unknown", pa.int32()),
        ("fallback", _TEXT),
        ("degraded", pa.bool_()),
        ("precomputed", pa.bool_()),
        ("together", pa.int32()),
    ]
)
"""The columns of a file of samples: a row for each ranking."""


@dataclass(frozen=True, slots=True)
class SampledRequest:
    """One ranking: what was asked, all that the answer depended on, and the answer.

    The ranker computes the same answer from `parse_request`, `make_context` and `time`, with the package of `version`
    and the catalogue of `catalogue`.

    Attributes
    ----------
    ranking_id
        The id that the answer had.
    number
        The place of the request in its call, from 0.
    recommender, version, variant
        What answered.
    time
        The moment that the ranking took for now, in epoch milliseconds. Events without a time count as of then.
    customer, session
        Pseudonyms of the shopper and the visit; None if the request names none.
    request
        The checked request as JSON, without `customer` and `session`.
    events
        The events that the online store gave and the ranking read, oldest first. Empty if the request brings its own.
    events_source
        Where the events came from.
    owned
        Items that the customer owned, in ascending order; empty if no rule needs them.
    stored_list
        The customer's list of the last batch, made by `version`, if the request accepts one and the store had it.
    is_known, store_unavailable
        As in `ShopperContext`.
    catalogue
        The version of the catalogue whose rules held; empty: the package's own rules.
    pseudonym_key
        The id of the key that the pseudonyms were made with.
    items
        The answer's items, best first.
    scores
        Their scores; None for a fallback.
    unknown
        How many session items and candidates the model did not know.
    fallback
        Why some items are fallbacks; None if no item is one.
    degraded
        Whether the online store did not give what the request needed.
    precomputed
        Whether the answer is the customer's list.
    together
        How many sessions the model scored in one call, this one among them; 0: it scored none.
    """

    ranking_id: str
    number: int
    recommender: str
    version: str
    variant: str
    time: int
    customer: str | None
    session: str | None
    request: str
    events: Sequence[RecentEvent]
    events_source: EventSource
    owned: Sequence[str]
    stored_list: PrecomputedList | None
    is_known: bool
    store_unavailable: bool
    catalogue: str
    pseudonym_key: str
    items: Sequence[str]
    scores: Sequence[float | None]
    unknown: int
    fallback: str | None
    degraded: bool
    precomputed: bool
    together: int

    def parse_request(self) -> RankRequest:
        """Return the request as the ranker got it, with the pseudonyms in the place of ids."""
        values = orjson.loads(self.request)
        values |= {name: value for name in _SHOPPER if (value := getattr(self, name)) is not None}
        return RankRequest.model_validate(values)

    def make_context(self) -> ShopperContext:
        """Return what the online store had said of the shopper."""
        source: StoredSource = "none" if self.events_source == "request" else self.events_source
        return ShopperContext(self.events, self.owned, self.stored_list, self.is_known, self.store_unavailable, source)


def write_request(request: RankRequest) -> str:
    """Return a request as `SampledRequest.request` has it: JSON of the keys that were set, without ids of shoppers."""
    return orjson.dumps(request.model_dump(exclude_unset=True, exclude={"customer", "session"})).decode()


def build_table(samples: Sequence[SampledRequest]) -> pa.Table:
    """Return the rows of a file: a table with the columns of `SCHEMA`."""
    plain = [field.name for field in fields(SampledRequest) if field.name not in ("events", "stored_list")]
    columns: dict[str, list[Any]] = {name: [getattr(sample, name) for sample in samples] for name in plain}
    columns["events"] = [[event._asdict() for event in sample.events] for sample in samples]
    lists = [sample.stored_list for sample in samples]
    columns["list_items"] = [None if stored is None else stored.items for stored in lists]
    columns["list_scores"] = [None if stored is None else stored.scores for stored in lists]
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def iterate_rows(table: pa.Table) -> Iterator[SampledRequest]:
    """Yield the samples of a file's table, in their order. Raises KeyError if a column is missing."""
    for batch in table.select(SCHEMA.names).to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            yield _read_row(row)


def _read_row(row: Mapping[str, Any]) -> SampledRequest:
    values = dict(row)
    items, scores = values.pop("list_items"), values.pop("list_scores")
    values["stored_list"] = None if items is None else PrecomputedList(items, scores)
    values["events"] = [RecentEvent(**event) for event in values["events"]]
    return SampledRequest(**values)
