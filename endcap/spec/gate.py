"""The gate: how much evidence it needs, and its conditions."""

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
"""How much worse than the champion a challenger may be by default, as a share of the champion's value."""


class Condition(Strict):
    """A condition of the gate: a metric, or its comparison with another model's, is at least `min` or at most `max`."""

    metric: Metric
    """The metric and its cutoff, such as mrr@20; or p90_ms, the 90th percentile of a ranking's time in milliseconds."""
    against: str | None = None
    """The other model: `champion`, `best-baseline`, or the name of a baseline. Left out: the condition is on the metric
    alone."""
    compare: Literal["difference", "ratio", "relative"] = "difference"
    """How the metric is compared with the other model's value: by the `difference` from it, by the `ratio` to it, or by
    the difference as a share of it (`relative`)."""
    bound: Literal["estimate", "lower"] = "estimate"
    """What must keep to the limit. `estimate`: the value itself. `lower`: the lower end of its interval if `min` is
    given, the upper end if `max` is given."""
    min: float | None = None
    """The lowest value that passes. Give either `min` or `max`."""
    max: float | None = None
    """The highest value that passes."""

    @check
    def _has_one_limit(self) -> Iterator[Mistake]:
        if (self.min is None) == (self.max is None):
            actual = "neither min nor max" if self.min is None else "both min and max"
            code: ProblemCode = "missing" if self.min is None else "conflict"
            yield Mistake((), actual, "exactly one of min and max", code=code)


class Evidence(Strict):
    """The least evidence that the gate needs. With less, it is undecided, and nothing is registered."""

    min_sessions: Annotated[int, Field(ge=1)] = 100
    """The fewest test sessions."""
    max_half_width: Annotated[float, Field(gt=0.0)] = 0.1
    """The largest half-width of a condition's interval, as a share of the other model's value, or of the metric's own
    value if there is no other model. If the whole interval lies on one side of the limit, its width does not matter."""


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
    """The least evidence that the gate needs."""
    conditions: list[Condition] = Field(
        default=[
            Condition(metric="mrr@20", against="best-baseline", min=0.0),
            Condition(metric="mrr@20", against="champion", compare="relative", bound="lower", min=-MARGIN),
        ],
        validate_default=True,
    )
    """The conditions, which must all hold. With an empty list every model passes, on any evidence. Left out: mrr@20 is
    at least the best baseline's, and at most a twentieth of the champion's value below the champion's."""


def _write_out(value: Any) -> Any:
    """A list stands for `conditions`."""
    return {"conditions": value} if isinstance(value, list) else value


GateOrList = Annotated[
    Gate,
    BeforeValidator(_write_out),
    _ListFormAllowed,
    Allowed("a map with evidence and conditions, or a list of conditions"),
]
