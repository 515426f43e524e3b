"""How the shoppers of a live shop behave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiveHabits:
    """How the shoppers of a live shop behave. All but `people` are probabilities.

    Attributes
    ----------
    people
        How many different shoppers come. They return, for each visit is a random one's.
    signed_in
        That the shop knows a shopper as a customer.
    interest
        The mean probability that a shopper takes what she wants from a ranking at all. It scales all click rates.
    repeats
        That a ranking helps a shopper to what she has viewed in this visit already. Otherwise she goes back to it by
        herself: she views it again, and clicks no ranking.
    correlation
        How far interest differs by shopper: its variance, divided by interest (1 - interest). 0: not at all.
    patience
        That a shopper who has seen a place of a ranking looks at the next one.
    stays
        That a shopper asks for another ranking after one.
    carts, buys
        That a clicked item goes into the cart, and that an item in the cart is bought.
    """

    people: int = 2_000
    signed_in: float = 0.75
    interest: float = 0.4
    repeats: float = 1.0
    correlation: float = 0.1
    patience: float = 0.85
    stays: float = 0.67
    carts: float = 0.3
    buys: float = 0.4

    def __post_init__(self) -> None:
        """Raise ValueError if a value is not possible."""
        if self.people < 1:
            raise ValueError(f"people is {self.people}; allowed: at least 1")
        for name in ("interest", "patience"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0 and below 1")
        for name in ("signed_in", "repeats", "carts", "buys"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: from 0 to 1")
        for name in ("correlation", "stays"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: from 0 to below 1")
