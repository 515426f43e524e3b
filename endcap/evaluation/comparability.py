"""What must be the same for all models of a comparison: what they are asked, and the data that they learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from endcap.errors import UserError
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop

COMMON = ("name", "shop", "seed", "split", "exclude", "baselines", "evaluation")
"""Keys of the recommender. Its shop is the same whole."""
_ABSENT = object()


def refuse_unequal(label: str, recommender: Recommender, shop: Shop, first: Recommender, its: Shop) -> None:
    """Raise UserError where a model would be asked otherwise than the comparison's spec says, with the keys."""
    wanted, given = first.model_dump(mode="json"), recommender.model_dump(mode="json")
    keys = [key for name in COMMON for key in _differing(wanted[name], given[name], name)]
    keys += _differing(its.model_dump(mode="json"), shop.model_dump(mode="json"), "shop")
    if keys:
        raise UserError(
            f"{label}: {', '.join(keys)} differ from the spec's, so its figures would not compare; allowed: other "
            "`model`, `search`, `preprocessing`, `refit` and `training`. What is to hold for all, give by --set",
            code="evaluation.not-comparable",
            label=label,
            keys=keys,
            allowed=["model", "search", "preprocessing", "refit", "training", "classes"],
        )


def _differing(one: Any, other: Any, path: str) -> Iterator[str]:
    """Paths of the values that differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted({*one, *other}):
            yield from _differing(one.get(name, _ABSENT), other.get(name, _ABSENT), f"{path}.{name}")
    elif one != other:
        yield path
