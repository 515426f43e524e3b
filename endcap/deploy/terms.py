"""What the gateway goes by whichever version answers: how long, and what there is where none does."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from endcap.spec import Recommender
from endcap.store import Store

POPULAR = 100
"""Items of the list for when no variant answers."""
LONGEST = 30.0
"""Seconds: a gateway keeps what a request may still be under way to for twice as long, and no longer."""


@dataclass(frozen=True)
class Terms:
    """Plain values, kept in documents as they are."""

    timeout: float = 2.0
    """Seconds that a request may take, at most `LONGEST`."""
    k: int = 20
    """Items in an answer when the request does not say."""
    popular: tuple[str, ...] = ()
    """Item ids, the most popular first, for when no variant answers; empty: such a request is refused."""


USUAL = Terms()


def spec_terms(recommender: Recommender) -> Terms:
    """What the spec alone says: there is no list."""
    serving = recommender.serving
    return Terms(min(serving.timeout.total_seconds(), LONGEST), serving.k)


def terms_of(recommender: Recommender, package: str, store: Store) -> Terms:
    """What the spec says, with the most popular items of a package where it wants them."""
    terms = spec_terms(recommender)
    return terms if recommender.serving.fallback == "refuse" else replace(terms, popular=_popular(store.fetch(package)))


def _popular(package: Path) -> tuple[str, ...]:
    """The most popular items that may be shown on every surface, by the rules that the package was judged by."""
    import pyarrow.parquet as pq

    from endcap.features.vocabulary import Vocabulary
    from endcap.registry.package import ITEMS, RULES, VOCABULARY
    from endcap.rules import Catalogue, Rulebook

    # A vocabulary has the most popular items first.
    vocabulary = Vocabulary.load(package / VOCABULARY)
    if not (package / RULES).exists():
        return tuple(vocabulary.ids[:POPULAR])
    told = Catalogue.from_json(json.loads((package / RULES).read_text(encoding="utf-8")))
    book = Rulebook(vocabulary, pq.read_table(package / ITEMS), told)
    surfaces = {None, *(surface for rule in told.rules.attributes for surface in rule.surfaces or ())}
    allowed = np.logical_and.reduce([book.allowed(surface) for surface in surfaces])
    return tuple(vocabulary.ids[item] for item in np.flatnonzero(allowed)[:POPULAR])
