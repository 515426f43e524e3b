"""The section `ab:` of a recommender: its defaults, and what its keys have to do with each other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from endcap.spec.ab import AbSpec
from endcap.spec.recommender import Recommender

REFERENCE = Path(__file__).parents[2] / "docs" / "ab-reference.md"
RECOMMENDER = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "home", "shop": "toys"}


def test_a_recommender_without_the_section_has_a_whole_policy() -> None:
    policy = Recommender.model_validate({**RECOMMENDER, "model": {"name": "popularity"}}).ab
    assert policy == AbSpec.model_validate({})
    assert (policy.epoch, policy.longest) == (timedelta(days=1), timedelta(days=14))
    assert [policy.find_floor(arms) for arms in (2, 3, 8)] == [0.1, 0.1, 1 / 24]


@pytest.mark.parametrize(("floor", "most"), [(0.5, 2), (0.3, 3), (1 / 3, 3), (0.125, 8), (0.1, 10)])
def test_the_floor_says_how_many_arms_there_can_be(floor: float, most: int) -> None:
    assert AbSpec.model_validate({"floor": floor}).most_arms == most


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"floor": 0.6}, "floor"),
        ({"floor": 0.0}, "floor"),
        ({"epoch": "0s", "look_every": "0s"}, "above 0"),
        ({"look_every": "2d"}, "at most ab.epoch"),
        ({"epoch": "15d"}, "at most ab.longest"),
        ({"min_epochs": 15}, "14 epochs of 1d"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AbSpec.model_validate(section)
    assert words in str(caught.value)


def test_a_test_lasts_until_its_metric_settles() -> None:
    section = {"ab": {"longest": "1d", "min_epochs": 1}, "rollout": {"metrics": [{"kind": "revenue"}]}}
    with pytest.raises(ValidationError) as caught:
        Recommender.model_validate({**RECOMMENDER, "model": {"name": "popularity"}, **section})
    assert "revenue settles after" in str(caught.value)


def test_the_reference_lists_every_key() -> None:
    reference = REFERENCE.read_text(encoding="utf-8")
    assert {key for key in AbSpec.model_fields if f"| `{key}` |" not in reference} == set()
