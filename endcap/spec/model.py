"""The models and their parameters."""

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
    """Ranks items by the number of their training events."""

    name: Literal["popularity"] = "popularity"
    """The model's name."""

    space: ClassVar[Space] = {}
    starts: ClassVar[list[dict[str, Any]]] = []


class RecentPopularitySpec(Strict):
    """Ranks items by the number of their events in the last `window` of the training data."""

    name: Literal["recent-popularity"] = "recent-popularity"
    """The model's name."""
    window: Duration = Field(default="7d", validate_default=True)
    """How far back events count."""

    space: ClassVar[Space] = {"window": choice("1d", "3d", "7d", "14d", "28d")}
    starts: ClassVar[list[dict[str, Any]]] = []


class SequentialRulesSpec(Strict):
    """Ranks items by which items followed the session's last ones in training.

    In training, a rule a -> b gains 1/gap each time that b follows a within `steps` events of a session. The score of
    an item is the sum of the rules from the session's last items to it. With `last_events: 1` and `norm: none` the
    rules are the published ones (Ludewig and Jannach, 2018).
    """

    name: Literal["sequential-rules"] = "sequential-rules"
    """The model's name."""
    steps: Positive = 10
    """How many events after an item another item makes a rule."""
    last_events: Positive = 5
    """How many of the session's last events count. A repeated item counts once."""
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6
    """The weight of an event's rules relative to the next event's. With 0.6 the last event weighs 1, the one before it
    0.6, then 0.36."""
    norm: Literal["none", "sqrt"] = "sqrt"
    """`sqrt` divides each rule by the square root of the number of training events of both items. `none` does not."""

    space: ClassVar[Space] = {
        "steps": choice(2, 5, 10, 20),
        "last_events": choice(1, 2, 3, 5, 10),
        "decay": between(0.3, 1.0),
        "norm": choice("none", "sqrt"),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class VSKNNSpec(Strict):
    """Ranks the items of the most similar training sessions. Recent items of the session weigh more (Ludewig and
    Jannach, 2018)."""

    name: Literal["vsknn"] = "vsknn"
    """The model's name."""
    sample: Positive = 1000
    """How many of the most recent sessions with an item are compared, for each item of the session (the paper's m)."""
    neighbours: Positive = 100
    """How many of the most similar sessions count (the paper's k)."""
    last_events: Positive = 10
    """How many of the session's last items count."""
    idf_weight: Annotated[float, Field(ge=0.0)] = 5.0
    """How much rare items weigh: the weight is 1 + `idf_weight` * idf / 12. The paper has 5."""

    space: ClassVar[Space] = {
        "sample": between(100, 5000, log=True, integer=True),
        "neighbours": between(50, 1500, log=True, integer=True),
        "last_events": choice(2, 4, 6, 10, 20),
        "idf_weight": choice(0.0, 1.0, 2.0, 5.0, 10.0),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class EASESpec(Strict):
    """A linear model of items by items, solved in closed form (Steck, 2019)."""

    name: Literal["ease"] = "ease"
    """The model's name."""
    regularisation: Annotated[float, Field(gt=0.0)] = 200.0
    """The strength of the ridge penalty (the paper's lambda)."""
    history: History = "session"
    """What a row of the training matrix holds: the items of a `session`, or all items of a `customer`."""

    space: ClassVar[Space] = {"regularisation": between(10.0, 3000.0, log=True)}
    starts: ClassVar[list[dict[str, Any]]] = [{"regularisation": 100.0}, {"regularisation": 500.0}]


class ItemKNNSpec(Strict):
    """Ranks items by their cosine similarity to the items of the session or the customer (Sarwar et al., 2001)."""

    name: Literal["item-knn"] = "item-knn"
    """The model's name."""
    neighbours: Positive = 100
    """How many of the most similar items count for an item's score."""
    shrink: Annotated[float, Field(ge=0.0)] = 10.0
    """Added to the cosine's denominator. With a larger value, pairs of items with few common sessions count less."""
    history: History = "session"
    """Which items belong together: those of a `session`, or those of a `customer`."""

    space: ClassVar[Space] = {
        "neighbours": between(10, 500, log=True, integer=True),
        "shrink": between(0.1, 500.0, log=True),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


class CustomSpec(Strict):
    """Your own model. The recommender's list `classes` must name its class."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["custom"] = "custom"
    """The model's name."""
    path: ClassPath = Field(alias="class")
    """The import path of the class, such as acme.markov:Markov."""
    parameters: dict[str, Any] = {}
    """The parameters of the class."""

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
MemberSpec = Annotated[_Single, Field(discriminator="name")]
"""A model that a blend can combine."""


class BlendSpec(Strict):
    """Combines several models. The validation part decides their weights."""

    name: Literal["blend"] = "blend"
    """The model's name."""
    members: dict[Name, MemberSpec] = Field(
        default={"gru4rec": {"name": "gru4rec"}, "vsknn": {"name": "vsknn"}}, validate_default=True
    )
    """The models to combine, by labels that you choose."""

    space: ClassVar[Space] = {}
    starts: ClassVar[list[dict[str, Any]]] = []

    @check
    def _has_two_members(self) -> Iterator[Mistake]:
        if len(self.members) < 2:
            yield Mistake(("members",), f"{len(self.members)} members", "at least two models", code="not-allowed")


class ScoreRecipe(Strict):
    """The recipe of a version: what its model is fitted by."""

    package: str
    """The package of the version, without the store's address."""
    model: Annotated[_Single | BlendSpec, Field(discriminator="name")]
    """The model, as a search left it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """The seed of its fit."""
    settings: dict[str, Any]
    """What its fit chose on the validation part, such as the number of epochs."""


class ScoreSource(Strict):
    """A recommender of the same shop whose scores are features."""

    recommender: Name
    """The name of the recommender."""
    version: Literal["champion"] | Positive = "champion"
    """Its version, by number. `champion` is the one that is the champion when training begins."""
    recipe: ScoreRecipe | None = None
    """The recipe of that version. Leave it out: training finds it in the registry and notes it here."""


class StackedSpec(Strict):
    """Takes scores of other recommenders as features, and learns how much each counts
    ([guide](scores-as-features.md))."""

    name: Literal["stacked"] = "stacked"
    """The model's name."""
    scores: dict[Name, ScoreSource] = Field(min_length=1)
    """The recommenders whose scores are features, by labels that you choose."""
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """The share of the training sessions, the latest ones, on which the weights are learnt. The recommenders' scores of
    them come from models that are fitted on what lies before."""
    regularisation: Annotated[float, Field(gt=0.0)] = 20.0
    """How many predictions it takes to outweigh the assumption that all recommenders count the same."""

    space: ClassVar[Space] = {
        "held_out": between(0.1, 0.5),
        "regularisation": between(1.0, 1000.0, log=True),
    }
    starts: ClassVar[list[dict[str, Any]]] = []


SingleSpec = Annotated[_Single | StackedSpec, Field(discriminator="name")]
"""A model that is not a blend."""
ModelSpec = Annotated[_Single | BlendSpec | StackedSpec, Field(discriminator="name")]
