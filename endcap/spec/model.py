"""A model's name and parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Strict

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


class PopularitySpec(Strict):
    """Items by how many training events they have."""

    name: Literal["popularity"] = "popularity"


class RecentPopularitySpec(Strict):
    """Popularity of the last `window` before the training data's end."""

    name: Literal["recent-popularity"] = "recent-popularity"
    window: Duration = Field(default="7d", validate_default=True)


class SequentialRulesSpec(Strict):
    """a -> b gains 1/gap for each b at most `steps` after a in a session; the last item's rules rank."""

    name: Literal["sequential-rules"] = "sequential-rules"
    steps: Positive = 10


class VSKNNSpec(Strict):
    """Session neighbours, weighted by recency within the session (Ludewig and Jannach, 2018)."""

    name: Literal["vsknn"] = "vsknn"
    sample: Positive = 1000
    """Most recent sessions looked at, for each distinct item of the session (m)."""
    neighbours: Positive = 100
    """Most similar sessions that vote (k)."""
    last: Positive = 10
    """How many of the session's last items count."""
    idf_weight: Annotated[float, Field(ge=0.0)] = 5.0
    """5 reproduces the published weighting (1 + 5 idf / 12)."""


class GRU4RecSpec(Strict):
    """A GRU over the session, on session-parallel batches with sampled softmax (Hidasi and Karatzoglou, 2018)."""

    name: Literal["gru4rec"] = "gru4rec"
    width: Positive = 100
    """Size of the hidden state and of the item embedding, which input and output share."""
    batch: Positive = 128
    """Sessions trained side by side."""
    negatives: Positive = 512
    """Sampled items that each target competes with, beside the batch's other targets; as many as the catalogue has
    items or more: every item competes."""
    negatives_alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Negatives are drawn by popularity to this power: 0 uniform, 1 by popularity."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.08
    """Of Adagrad."""
    dropout_embedding: Rate = 0.25
    dropout_hidden: Rate = 0.3
    max_epochs: Positive = 20
    patience: Positive = 2
    """Epochs without a better validation MRR@20 before training stops."""
    max_events: Positive = 50
    """Of a longer session the last events count when it is scored."""
    features: list[str] = []
    """Bucketed event-level features of the shop, each added as an embedding to the item's."""


ModelSpec = Annotated[
    PopularitySpec | RecentPopularitySpec | SequentialRulesSpec | VSKNNSpec | GRU4RecSpec,
    Field(discriminator="name"),
]
