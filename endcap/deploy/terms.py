"""What the gateway goes by whichever version answers: how long, and what there is where none does."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    from endcap.features.vocabulary import Vocabulary
    from endcap.registry.package import VOCABULARY

    terms = spec_terms(recommender)
    if recommender.serving.fallback == "refuse":
        return terms
    # A vocabulary has the most popular items first.
    ids = Vocabulary.load(store.fetch(package) / VOCABULARY).ids
    return replace(terms, popular=tuple(ids[:POPULAR]))
