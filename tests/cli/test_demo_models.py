"""The faulty models of `endcap demo-rollout`: offline they rank as their parent does, and what is wrong shows live."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from endcap.cli.demo_models import RevisitNeighbours, SlowNeighbours
from endcap.features.sessions import Sessions
from endcap.models import Fitting, make
from endcap.models.vsknn import VSKNN
from endcap.spec.custom import get_class_path
from endcap.spec.model import CustomSpec, VSKNNSpec

TRAIN = Sessions.of([[0, 1, 2], [0, 1], [2, 0, 3], [1, 3]])
RETURNED = Sessions.of([[0, 1, 0], [1, 2]])


def fit(kind: type[VSKNN], **parameters: Any) -> VSKNN:
    spec = CustomSpec.model_validate({"class": get_class_path(kind), "parameters": parameters})
    model = make(spec)
    model.fit(TRAIN, 4, Fitting())
    assert isinstance(model, kind)
    return model


@pytest.fixture(scope="module")
def usual() -> VSKNN:
    model = VSKNN(VSKNNSpec())
    model.fit(TRAIN, 4, Fitting())
    return model


def test_the_slow_one_waits_at_each_call(usual: VSKNN) -> None:
    model, begun = fit(SlowNeighbours, wait=0.05), time.monotonic()
    np.testing.assert_array_equal(model.score(RETURNED), usual.score(RETURNED))
    assert time.monotonic() - begun >= 0.05


def test_the_failing_one_needs_the_times_that_requests_lack(usual: VSKNN) -> None:
    model = fit(RevisitNeighbours)
    timed = replace(RETURNED, times=np.array([0, 5_000, 9_000, 0, 5_000]))
    np.testing.assert_array_equal(np.argsort(-model.score(timed), axis=1), np.argsort(-usual.score(timed), axis=1))
    np.testing.assert_array_equal(model.score(Sessions.of([[1, 2]])), usual.score(Sessions.of([[1, 2]])))
    with pytest.raises(ZeroDivisionError):
        model.score(replace(RETURNED, times=np.zeros(5, dtype=np.int64)))
