"""Checks that need both the recommender and its shop."""

from __future__ import annotations

from collections.abc import Iterator

from endcap.spec.base import UNKNOWN, Mistake, UnknownError, collect_mistakes, suggest
from endcap.spec.event_features import EventFeature
from endcap.spec.event_log import EventSource
from endcap.spec.layouts import WITHOUT
from endcap.spec.problems import Finding, convert_mistake
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop
from endcap.spec.side_features import list_feature_names
from endcap.spec.split import GivenSplit
from endcap.spec.sql_inputs import check_sql_inputs
from endcap.spec.yaml_tree import Key, YamlNode, join_words


def check_agreement(recommender: Recommender, shop: Shop, document: YamlNode) -> list[Finding]:
    """Find the mistakes between a recommender and its shop.

    Parameters
    ----------
    recommender, shop
        The specs, in which wrong values are UNKNOWN.
    document
        The recommender's document, for the places of mistakes.
    """
    checks = (_check_split, _check_customers, _check_event_features, _check_item_features, check_sql_inputs)
    parts = (check(recommender, shop) for check in checks)
    return [convert_mistake(mistake, document) for mistake in collect_mistakes(parts)]


def _describe_shop(shop: Shop) -> str:
    return "the shop" if shop.name is UNKNOWN else f"the shop {shop.name}"


def _check_split(recommender: Recommender, shop: Shop) -> Iterator[Mistake]:
    if isinstance(recommender.split, GivenSplit) and all(source.part == "train" for source in shop.events.sources):
        allowed = f"time; or a source with `part: test` in {_describe_shop(shop)}"
        yield Mistake(("split", "by"), "'given', and no source of test sessions", allowed, code="conflict")


def _check_customers(recommender: Recommender, shop: Shop) -> Iterator[Mistake]:
    """Yield a mistake if next baskets are predicted without customers, whose earlier events they need."""
    if recommender.basket == "next" and not any(_has_customers(source, shop) for source in shop.events.sources):
        actual = f"'next', and {_describe_shop(shop)} has no events.columns.customer"
        yield Mistake(
            ("evaluation", "basket"), actual, "'complete', or 'next' if the shop has customers", code="conflict"
        )


def _has_customers(source: EventSource, shop: Shop) -> bool:
    if source.simulated is not None:
        return True
    return (
        shop.events.columns.customer is not None
        if source.layout == "columns"
        else source.layout not in WITHOUT["customer"]
    )


def _check_event_features(recommender: Recommender, shop: Shop) -> Iterator[Mistake]:
    what = f"features of {_describe_shop(shop)} that have buckets or a limited number of values"
    names = [feature.name for feature in shop.features.events if _is_maybe_limited(feature)]
    for key, name in list_feature_names(recommender.models, "features").items():
        if name not in names:
            yield _make_unknown_name(key, name, what, names)


def _is_maybe_limited(feature: EventFeature) -> bool:
    try:
        return feature.values is not None
    except UnknownError:
        return True


def _check_item_features(recommender: Recommender, shop: Shop) -> Iterator[Mistake]:
    what = f"attributes of the items of {_describe_shop(shop)}"
    names = [] if shop.items is None else shop.items.attributes
    for key, name in list_feature_names(recommender.models, "item_features").items():
        if name not in names:
            yield _make_unknown_name(key, name, what, names)


def _make_unknown_name(key: Key, name: str, what: str, names: list[str]) -> Mistake:
    return Mistake(key, repr(name), f"{what}: {join_words(names) or 'none'}", suggest(name, names), code="unknown-name")
