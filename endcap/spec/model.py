"""A model's name and parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from endcap.spec.base import Allowed, Duration, Mistake, Name, Strict, check
from endcap.spec.neural import GRU4RecSpec, NeuMFSpec, Positive, SASRecSpec
from endcap.spec.space import Space, between, choice

History = Literal["session", "customer"]
ClassPath = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"),
    Allowed("a class by its import path, such as acme.markov:Markov"),
]


class PopularitySpec(Strict):
    """Items by how many training events they have."""

    name: Literal["popularity"] = "popularity"

    space: ClassVar[Space] = {}
    starts: ClassVar[list[dict[str, Any]]] = []


class RecentPopularitySpec(Strict):
    """Popularity of the last `window` before the training data's end."""

    name: Literal["recent-popularity"] = "recent-popularity"
    window: Duration = Field(default="7d", validate_default=True)

    space: ClassVar[Space] = {"window": choice("1d", "3d", "7d", "14d", "28d")}
    starts: ClassVar[list[dict[str, Any]]] = []


class SequentialRulesSpec(Strict):
    """a -> b gains 1/gap for each b at most `steps` after a in a session; the rules of the session's last items rank.

    `last_events: 1, norm: none` are the published rules (Ludewig and Jannach, 2018).
    """

    name: Literal["sequential-rules"] = "sequential-rules"
    steps: Positive = 10
    last_events: Positive = 5
    """Of how many of the session's last events the rules are added up; an item that is repeated counts once."""
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    """What the rules of each event weigh by those of the next one: the last event's 1, those before it 0.6, 0.36, …"""
    norm: Literal["none", "sqrt"] = "sqrt"
    """sqrt: a -> b is divided by the square root of how many training events a and b have together."""

    space: ClassVar[Space] = {
        "steps": choice(2, 5, 10, 20),
        "last_events": choice(1, 2, 3, 5, 10),
        "decay": between(0.3, 1.0),
        "norm": choice("none", "sqrt"),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class VSKNNSpec(Strict):
    """Session neighbours, weighted by recency within the session (Ludewig and Jannach, 2018)."""

    name: Literal["vsknn"] = "vsknn"
    sample: Positive = 1000
    """Most recent sessions looked at, for each distinct item of the session (m)."""
    neighbours: Positive = 100
    """Most similar sessions that vote (k)."""
    last_events: Positive = 10
    """How many of the session's last items count."""
    idf_weight: Annotated[float, Field(ge=0.0)] = 5.0
    """5 reproduces the published weighting (1 + 5 idf / 12)."""

    space: ClassVar[Space] = {
        "sample": between(100, 5000, log=True, integer=True),
        "neighbours": between(50, 1500, log=True, integer=True),
        "last_events": choice(2, 4, 6, 10, 20),
        "idf_weight": choice(0.0, 1.0, 2.0, 5.0, 10.0),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class EASESpec(Strict):
    """Linear item-to-item weights in closed form (Steck, 2019)."""

    name: Literal["ease"] = "ease"
    regularisation: Annotated[float, Field(gt=0.0)] = 200.0
    """Lambda, the ridge on the item-to-item weights."""
    history: History = "session"
    """A row of the matrix: a session, or all that a customer had."""

    space: ClassVar[Space] = {"regularisation": between(10.0, 3000.0, log=True)}
    starts: ClassVar[list[dict[str, Any]]] = [{"regularisation": 100.0}, {"regularisation": 500.0}]


class ItemKNNSpec(Strict):
    """Items that go together with those of the session or the customer, by cosine (Sarwar et al., 2001)."""

    name: Literal["item-knn"] = "item-knn"
    neighbours: Positive = 100
    """Most similar items that an item is scored by."""
    shrink: Annotated[float, Field(ge=0.0)] = 10.0
    """Added to the denominator of the cosine: pairs that were seen together seldom count less."""
    history: History = "session"

    space: ClassVar[Space] = {
        "neighbours": between(10, 500, log=True, integer=True),
        "shrink": between(0.1, 500.0, log=True),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class CustomSpec(Strict):
    """A class of your own, by its import path; it must be on the recommender's list `classes`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["custom"] = "custom"
    path: ClassPath = Field(alias="class")
    parameters: dict[str, Any] = {}

    space: ClassVar[Space] = {}
    starts: ClassVar[list[dict[str, Any]]] = []


_Single = (
    PopularitySpec
    | RecentPopularitySpec
    | SequentialRulesSpec
    | VSKNNSpec
    | EASESpec
    | ItemKNNSpec
    | GRU4RecSpec
    | SASRecSpec
    | NeuMFSpec
    | CustomSpec
)
SingleSpec = Annotated[_Single, Field(discriminator="name")]
"""A model that is not made of others."""


class BlendSpec(Strict):
    """Several models as one: their opinions weighed by what the validation part shows them to be worth."""

    name: Literal["blend"] = "blend"
    members: dict[Name, SingleSpec] = Field(
        default={"gru4rec": {"name": "gru4rec"}, "vsknn": {"name": "vsknn"}}, validate_default=True
    )
    """Models by a label each."""

    space: ClassVar[Space] = {}
    starts: ClassVar[list[dict[str, Any]]] = []

    @check
    def _two_at_least(self) -> Iterator[Mistake]:
        if len(self.members) < 2:
            yield Mistake(("members",), f"{len(self.members)} members", "two models or more", code="not-allowed")


ModelSpec = Annotated[_Single | BlendSpec, Field(discriminator="name")]
