"""How events become sessions, and which sessions, items and customers stay."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Strict


class SessionsSpec(Strict):
    """How events become sessions."""

    by: Literal["given", "gap"] = "given"
    """`given`: the session column says which events belong together. `gap`: a customer's events form a session until
    the customer does nothing for as long as `gap`. Events of types that are not kept count as doing something."""
    gap: Duration = Field(default="30m", validate_default=True)
    """The pause that ends a session, if `by` is `gap`."""


class Filters(Strict):
    """The smallest sessions, items and customers to keep. Endcap repeats the filters until nothing more is removed."""

    min_session_events: Annotated[int, Field(ge=1)] = 2
    """The fewest events of a session."""
    min_item_events: Annotated[int, Field(ge=1)] = 1
    """The fewest events of an item."""
    min_customer_events: Annotated[int, Field(ge=1)] = 1
    """The fewest events of a customer. Events without a customer stay."""
