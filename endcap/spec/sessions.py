"""How events become sessions, and which sessions, items and customers stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Strict


class SessionsSpec(Strict):
    by: Literal["given", "gap"] = "given"
    """`given`: the session column; `gap`: a customer's events, cut where nothing happened for `gap`, also nothing of a
    type that is not kept."""
    gap: Duration = Field(default="30m", validate_default=True)


class Filters(Strict):
    """Applied again and again until nothing more falls out (to a fixed point)."""

    min_session_events: Annotated[int, Field(ge=1)] = 2
    min_item_events: Annotated[int, Field(ge=1)] = 1
    min_customer_events: Annotated[int, Field(ge=1)] = 1
    """Events without a customer are not judged by this."""
