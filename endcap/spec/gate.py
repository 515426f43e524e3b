"""The gate: what a verdict needs at least to decide anything, and the conditions that it decides by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from endcap.errors import ProblemCode
from endcap.spec.base import Allowed, Mistake, Strict, check

METRICS = ("hr", "recall", "precision", "mrr", "next_ndcg", "ndcg", "coverage", "popularity_bias")
P90_MS = "p90_ms"
Metric = Annotated[
    str,
    Field(pattern=rf"^(({'|'.join(METRICS)})@[1-9][0-9]*|{P90_MS})$"),
    Allowed(f"a metric and its cutoff, such as mrr@20 (metrics: {', '.join(METRICS)}), or {P90_MS}"),
]
MARGIN = 0.05
"""What a challenger may be worse than the champion by default, as a share of the champion's value."""


class Condition(Strict):
    """A line of the gate: a metric, or how it compares with another model's, is at least `min` or at most `max`."""

    metric: Metric
    against: str | None = None
    """`champion`, `best-baseline`, or the name of a baseline; left out: the metric itself."""
    compare: Literal["difference", "ratio", "relative"] = "difference"
    """By the difference from the other's value, by the ratio to it, or by the difference as a share of it."""
    bound: Literal["estimate", "lower"] = "estimate"
    """What is held against `min`: the estimate, or the lower end of its interval (with `max`: the upper end)."""
    min: float | None = None
    max: float | None = None

    @check
    def _has_one_limit(self) -> Iterator[Mistake]:
        if (self.min is None) == (self.max is None):
            actual = "neither min nor max" if self.min is None else "both min and max"
            code: ProblemCode = "missing" if self.min is None else "conflict"
            yield Mistake((), actual, "exactly one of min and max", code=code)


class Evidence(Strict):
    """What a verdict needs at least; with less the gate is undecided, and nothing is registered."""

    min_sessions: Annotated[int, Field(ge=1)] = 100
    """Test sessions."""
    max_half_width: Annotated[float, Field(gt=0.0)] = 0.1
    """Half the width of the interval that decides a condition, as a share of the other model's value (of the metric's
    own where there is no other). An interval that lies on one side of the limit decides at any width."""


class _ListFormAllowed:
    """Annotation: a JSON schema allows a list of conditions too."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole = handler(core)
        conditions = handler.resolve_ref_schema(whole)["properties"]["conditions"]
        return {"anyOf": [{"type": "array", "items": conditions["items"]}, whole]}


class Gate(Strict):
    """What decides whether a model is registered."""

    evidence: Evidence = Evidence()
    conditions: list[Condition] = Field(
        default=[
            Condition(metric="mrr@20", against="best-baseline", min=0.0),
            Condition(metric="mrr@20", against="champion", compare="relative", bound="lower", min=-MARGIN),
        ],
        validate_default=True,
    )
    """All must hold; an empty list lets every model pass, on any evidence. Left out: no worse than the best baseline,
    and not worse than the champion by more than a twentieth of its value."""


def _write_out(value: Any) -> Any:
    """A list stands for `conditions`."""
    return {"conditions": value} if isinstance(value, list) else value


GateOrList = Annotated[
    Gate,
    BeforeValidator(_write_out),
    _ListFormAllowed,
    Allowed("a map with evidence and conditions, or a list of conditions"),
]
