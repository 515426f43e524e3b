"""What the gateway does whichever version answers: how long it waits, and what it answers if no version does."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from endcap.deploy.bloom_filter import BloomFilter
from endcap.rules import Catalogue, Rulebook
from endcap.spec import Recommender
from endcap.store import Store

POPULAR = 100
"""Items of the list for when no variant answers."""
LONGEST = 30.0
"""Seconds: a gateway keeps what a request may still be under way to for twice as long, and no longer."""
LIST_BYTES, FILTER_BYTES, SURFACES = 8 << 10, 48 << 10, 8
"""Of a list, of all filters, and surfaces with lists of their own: all of it is an annotation, and those of an object
may have 256 KiB together."""
ANYWHERE = ""
"""In the place of a surface: where a request names none, or one that no rule names."""
_NOBODYS = "\0"
"""No item has this id."""


@dataclass(frozen=True)
class GatewaySettings:
    """Plain values, which documents hold under the key `terms`. `ANYWHERE` stands for surfaces that no rule names."""

    timeout: float = 2.0
    """Seconds that a request may take, at most `LONGEST`."""
    k: int = 20
    """Items in an answer when the request does not say."""
    popular: tuple[str, ...] = ()
    """Item ids that may be shown on every surface, the most popular first, for when no variant answers; empty: such a
    request is refused."""
    listed: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The list of each surface that has one of its own."""
    closed: tuple[str, ...] = ()
    """Surfaces where nothing may be shown but what is listed: a rule `only` says which items may be, of which the
    gateway knows these."""
    never: tuple[tuple[str, BloomFilter], ...] = ()
    """Of each surface what must not be shown, for the candidates of a request."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GatewaySettings:
        """Read what `to_json` gave, also in earlier releases. Raises ValueError, TypeError, AttributeError."""
        return cls(
            **{
                **document,
                "popular": tuple(map(str, document.get("popular", ()))),
                "listed": tuple(
                    (str(surface), tuple(map(str, items))) for surface, items in document.get("listed", ())
                ),
                "closed": tuple(map(str, document.get("closed", ()))),
                "never": tuple((str(surface), BloomFilter.read(**bits)) for surface, bits in document.get("never", ())),
            }
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def offers_list(self) -> bool:
        """Whether there is a list on any surface."""
        return bool(self.popular or self.listed)

    def on(self, surface: str | None) -> tuple[str, ...]:
        """The list of a surface."""
        lists = dict(self.listed)
        return lists.get(self._rule(surface), self.popular)

    def admits(self, surface: str | None, candidates: Iterable[str]) -> list[str]:
        """The candidates that a surface may show, as far as the gateway knows."""
        place = self._rule(surface)
        if place in self.closed:
            listed = set(self.on(surface))
            return [item for item in candidates if item in listed]
        never = dict(self.never).get(place)
        return [item for item in candidates if never is None or not never.holds(item)]

    def _rule(self, surface: str | None) -> str:
        """The surface itself where rules name it, else `ANYWHERE`."""
        named = {*(place for place, _ in self.listed), *self.closed, *(place for place, _ in self.never)}
        return surface if surface in named and surface is not None else ANYWHERE


DEFAULT_SETTINGS = GatewaySettings()


def read_spec_settings(recommender: Recommender) -> GatewaySettings:
    """Make the settings that the spec alone gives: there is no list."""
    serving = recommender.serving
    return GatewaySettings(min(serving.timeout.total_seconds(), LONGEST), serving.k)


def make_settings(recommender: Recommender, package: str, store: Store) -> GatewaySettings:
    """Make the settings from the spec and, if the spec wants a fallback list, from a package's popular items."""
    settings = read_spec_settings(recommender)
    return settings if recommender.serving.fallback == "refuse" else _add_lists(settings, store.fetch(package))


def _add_lists(settings: GatewaySettings, package: Path) -> GatewaySettings:
    """Add the items that the package's rules allow."""
    import pyarrow.parquet as pq

    from endcap.features.vocabulary import Vocabulary
    from endcap.registry.package import ITEMS, RULES, VOCABULARY

    # A vocabulary has the most popular items first.
    vocabulary = Vocabulary.load(package / VOCABULARY)
    if not (package / RULES).exists():
        return replace(settings, popular=_take_first(vocabulary.ids))
    catalogue = Catalogue.from_json(json.loads((package / RULES).read_text(encoding="utf-8")))
    return apply_rules(settings, vocabulary.ids, Rulebook(vocabulary, pq.read_table(package / ITEMS), catalogue))


def apply_rules(settings: GatewaySettings, ids: Collection[str], book: Rulebook) -> GatewaySettings:
    """Add what rules allow of these items (the vocabulary's ids), and what they forbid of others."""
    ids = list(ids)
    named = book.surfaces
    masks = {surface: book.allowed_mask(surface) for surface in (None, *named)}
    everywhere = _take_first(ids[item] for item in np.flatnonzero(np.logical_and.reduce(list(masks.values()))))
    vocabulary = set(ids)
    unknown_items = sorted({*book.catalogue.items["item"].to_pylist(), *book.catalogue.blacklist} - vocabulary)
    listed: list[tuple[str, tuple[str, ...]]] = []
    closed: list[str] = []
    forbidden: dict[str, list[str]] = {}
    for surface, mask in masks.items():
        place = ANYWHERE if surface is None else surface
        surface_list = _take_first(ids[item] for item in np.flatnonzero(mask)) if len(listed) < SURFACES else everywhere
        if surface_list != everywhere:
            listed.append((place, surface_list))
        if book.find_rule(_NOBODYS, surface) is not None or (
            len(masks) > SURFACES and surface in named[SURFACES - 1 :]
        ):
            closed.append(place)
            continue
        forbidden[place] = [
            *(ids[item] for item in np.flatnonzero(~mask)),
            *(item for item in unknown_items if book.find_rule(item, surface) is not None),
        ]
    total = sum(map(len, forbidden.values()))
    never = [
        (place, BloomFilter.of(items, FILTER_BYTES * len(items) // max(total, 1))) for place, items in forbidden.items()
    ]
    return replace(settings, popular=everywhere, listed=tuple(listed), closed=tuple(closed), never=tuple(never))


def _take_first(ids: Iterable[str]) -> tuple[str, ...]:
    """Take the first items, as many as there is room for."""
    first: list[str] = []
    room = LIST_BYTES
    for item in ids:
        room -= len(json.dumps(item, ensure_ascii=False).encode()) + 1
        if room < 0 or len(first) == POPULAR:
            break
        first.append(item)
    return tuple(first)
