"""What must be the same for all models of a comparison: the queries, and the data that they learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from endcap.errors import UserError
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop

COMMON = ("name", "shop", "seed", "split", "exclude", "baselines", "evaluation")
"""Keys of the recommender that must be equal. The shop must be equal as a whole."""
_ABSENT = object()


def refuse_unequal(label: str, recommender: Recommender, shop: Shop, first: Recommender, first_shop: Shop) -> None:
    """Refuse a model that would be asked other queries, or trained on other data, than the comparison's spec says.

    Raises
    ------
    UserError
        `evaluation.not-comparable`, with the keys that differ.
    """
    expected, actual = first.model_dump(mode="json"), recommender.model_dump(mode="json")
    keys = [key for name in COMMON for key in _find_differences(expected[name], actual[name], name)]
    keys += _find_differences(first_shop.model_dump(mode="json"), shop.model_dump(mode="json"), "shop")
    if keys:
        raise UserError(
            f"{label}: {', '.join(keys)} differ from the spec's, so its figures would not compare; allowed: other "
            "`model`, `search`, `preprocessing`, `refit` and `training`. What is to hold for all, give by --set",
            code="evaluation.not-comparable",
            label=label,
            keys=keys,
            allowed=["model", "search", "preprocessing", "refit", "training", "classes"],
        )


def _find_differences(expected: Any, actual: Any, path: str) -> Iterator[str]:
    """Yield the paths of values that differ."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for name in sorted({*expected, *actual}):
            yield from _find_differences(expected.get(name, _ABSENT), actual.get(name, _ABSENT), f"{path}.{name}")
    elif expected != actual:
        yield path
