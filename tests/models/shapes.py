"""Data whose answers are known, and small versions of every model."""

from __future__ import annotations

from datetime import timedelta

from endcap.spec.model import (
    BlendSpec,
    EASESpec,
    GRU4RecSpec,
    ItemKNNSpec,
    ModelSpec,
    NeuMFSpec,
    PopularitySpec,
    RecentPopularitySpec,
    SASRecSpec,
    ScoreRecipe,
    ScoreSource,
    SequentialRulesSpec,
    StackedSpec,
    VSKNNSpec,
)
from endcap.testing import N_ITEMS, checkerboard, fitted

__all__ = ["N_ITEMS", "SMALL_GRU", "SMALL_NEUMF", "SMALL_SASREC", "SPECS", "checkerboard", "fitted"]

SMALL_GRU = GRU4RecSpec(width=16, batch_size=16, negatives=8, max_epochs=6, dropout_embedding=0.1, dropout_hidden=0.1)
SMALL_SASREC = SASRecSpec(width=16, blocks=1, batch_size=16, negatives=8, max_epochs=6, dropout=0.1, learning_rate=0.01)
SMALL_NEUMF = NeuMFSpec(width=8, layers=[16, 8], batch_size=256, max_epochs=12, learning_rate=0.02)


def make_source(name: str, model: ModelSpec) -> ScoreSource:
    """The source of a recommender's scores, as the train step notes it."""
    recipe = ScoreRecipe(package=f"packages/{name}/1", model=model, seed=1, settings={})
    return ScoreSource(recommender=name, version=1, recipe=recipe)


SPECS: list[ModelSpec] = [
    PopularitySpec(),
    RecentPopularitySpec(window=timedelta(days=1)),
    SequentialRulesSpec(steps=3),
    VSKNNSpec(sample=50, neighbours=20, last_events=5),
    EASESpec(regularisation=10.0),
    ItemKNNSpec(shrink=1.0),
    SMALL_NEUMF,
    SMALL_GRU,
    SMALL_SASREC,
    BlendSpec(
        members={
            "rules": SequentialRulesSpec(steps=3),
            "neighbours": VSKNNSpec(sample=50, neighbours=20, last_events=5),
        }
    ),
    StackedSpec(
        scores={
            "rules": make_source("rules", SequentialRulesSpec(steps=3)),
            "neighbours": make_source("similar", VSKNNSpec(sample=50, neighbours=20, last_events=5)),
        }
    ),
]
