"""Every model of Endcap's own keeps the contract; the suite is in `endcap.testing`, for models outside it too."""

from __future__ import annotations

from typing import get_args

import pytest

from endcap.features.sessions import Sessions
from endcap.spec.model import ModelSpec
from endcap.testing import ModelContract
from tests.models.shapes import SPECS, fitted

NAMES = [spec.name for spec in SPECS]
ALIKE = ("popularity", "recent-popularity")
"""Models that rank alike for everyone."""


def test_every_model_of_the_spec_is_tested() -> None:
    union, *_ = get_args(ModelSpec)
    named = {one.model_fields["name"].default for one in get_args(union)}
    assert named - {"custom"} == set(NAMES)  # a custom model is in test_custom.py


class TestSessionModels(ModelContract):
    @pytest.fixture(scope="class", params=[spec for spec in SPECS if spec.name not in ALIKE], ids=lambda one: one.name)
    def spec(self, request: pytest.FixtureRequest) -> ModelSpec:
        return request.param


class TestModelsThatRankAlikeForEveryone(ModelContract):
    session_model = False

    @pytest.fixture(scope="class", params=[spec for spec in SPECS if spec.name in ALIKE], ids=lambda one: one.name)
    def spec(self, request: pytest.FixtureRequest) -> ModelSpec:
        return request.param


def test_items_never_seen_apart_are_ties() -> None:
    # Items 1, 2, 3 are alike in everything: each once, after item 0, in sessions of the same time.
    train = Sessions.of([[0, 3], [0, 1], [0, 2]], [[0, 1000]] * 3)
    for spec in SPECS[:4]:
        assert fitted(spec, train, 4).recommend(Sessions.of([[0]]), 3, exclude="last").items.tolist() == [[1, 2, 3]]
