"""Reports of impressions, events and orders, as tables like the intake's, for tests of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from endcap.experiments.exposures import ExposureReader
from endcap.experiments.metric_state import MetricState
from endcap.experiments.outcomes import read_outcomes
from endcap.experiments.ranking_token import Answerer, TokenArm, TokenSigner
from endcap.experiments.splits import TrafficSplit, hash_salt
from endcap.spec.rollout import RolloutSpec

START = 1_790_000_000_000
"""The rollout's first moment, in milliseconds since 1970."""
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SALT = "5a17"
SPLIT = TrafficSplit(hash_salt(SALT), canary=300_000)
SIGNER = TokenSigner("home", [b"k" * 16])
READER = ExposureReader(SIGNER, "canary", SALT)
_TEXT, _TIME = pa.string(), pa.timestamp("ms", "UTC")
_IMPRESSIONS = {
    "ranking_id": _TEXT, "item": _TEXT, "position": pa.int32(), "received": _TIME, "shopper": _TEXT,
    "customer": _TEXT, "surface": _TEXT,
}  # fmt: skip
_EVENTS = {
    "id": _TEXT, "type": _TEXT, "item": _TEXT, "time": _TIME, "received": _TIME, "ranking_id": _TEXT,
    "shopper": _TEXT, "order": _TEXT,
}  # fmt: skip
_ORDERS = {
    "id": _TEXT, "line": pa.int32(), "item": _TEXT, "quantity": pa.int64(), "price": pa.float64(), "time": _TIME,
    "received": _TIME, "shopper": _TEXT,
}  # fmt: skip
Row = Mapping[str, Any]


def at(milliseconds: int) -> datetime:
    """A moment, so long after the rollout's start."""
    return datetime.fromtimestamp((START + milliseconds) / 1000, UTC)


def make_ranking(
    shopper: str,
    moment: int,
    *,
    split: TrafficSplit | None = SPLIT,
    arm: TokenArm | None = None,
    answerer: Answerer = "model",
    signer: TokenSigner = SIGNER,
) -> str:
    """A ranking id of a shopper at a moment after the start, of the arm that the hash gives where none is named."""
    chosen = arm or (split or SPLIT).choose(shopper, SALT)
    token = signer.write("7", chosen, answerer, split=split, shopper=shopper, time=START + moment, request="r")
    return f"{token}.0"


def see(ranking: str, moment: int, item: str = "p1", position: int = 0, **more: Any) -> Row:
    """The report of an item that was seen, received at a moment after the start."""
    return {"ranking_id": ranking, "item": item, "position": position, "received": at(moment), **more}


def act(
    event: str, moment: int, item: str = "p1", kind: str = "click", received: int | None = None, **more: Any
) -> Row:
    """An event."""
    arrived = at(moment if received is None else received)
    return {"id": event, "type": kind, "item": item, "time": at(moment), "received": arrived, **more}


def buy(order: str, moment: int, price: float, quantity: int = 1, received: int | None = None, **more: Any) -> Row:
    """An order of one line."""
    arrived = at(moment if received is None else received)
    line = {"id": order, "line": 0, "item": "p1", "quantity": quantity, "price": price}
    return {**line, "time": at(moment), "received": arrived, **more}


def take(
    state: MetricState,
    impressions: Iterable[Row] = (),
    events: Iterable[Row] = (),
    orders: Iterable[Row] = (),
    reader: ExposureReader = READER,
) -> None:
    """Hand reports to a state."""
    exposures, refusals, _ = reader.read(_make_table(impressions, _IMPRESSIONS))
    state.refusals.update(refusals)
    state.take(exposures, read_outcomes(reader, _make_table(events, _EVENTS), _make_table(orders, _ORDERS)))


def make_policy(**more: Any) -> RolloutSpec:
    """A policy with all kinds of metrics."""
    metrics = [
        {"kind": "ctr", "types": ["click"]},
        {"kind": "add_to_cart"},
        {"kind": "conversion"},
        {"kind": "revenue"},
    ]
    return RolloutSpec.model_validate({"metrics": metrics, **more})


def count(state: MetricState) -> dict[str, tuple[Mapping[str, float], Mapping[str, float]]]:
    """Exposures and outcomes by arm, of each metric."""
    return {effect.metric: (effect.exposures, effect.outcomes) for effect in state.judge()}


def make_impressions(rows: Iterable[Row]) -> pa.Table:
    """The intake's table of impressions."""
    return _make_table(rows, _IMPRESSIONS)


def make_events(rows: Iterable[Row]) -> pa.Table:
    """The intake's table of events."""
    return _make_table(rows, _EVENTS)


def _make_table(rows: Iterable[Row], columns: Mapping[str, pa.DataType]) -> pa.Table:
    schema = pa.schema(list(columns.items()))
    return pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows], schema=schema)
