"""Old names of fields that own models use go on to work, with a warning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Validation

QUERIES, TARGETS = Sessions.of([[0], [1, 2]]), np.array([1, 0], dtype=np.int32)


@pytest.mark.parametrize("kind", [Fitting, FitReport])
def test_found_stands_for_settings(kind: type) -> None:
    with pytest.warns(DeprecationWarning, match=f"{kind.__name__}.found is called settings"):
        value = kind(found={"epochs": 2})
    assert value == kind(settings={"epochs": 2})
    with pytest.warns(DeprecationWarning, match="the old name goes with the next release"):
        assert value.found == {"epochs": 2}
    with pytest.warns(DeprecationWarning, match="is called settings"):
        assert dataclasses.replace(value, found={"epochs": 3}).settings == {"epochs": 3}


def test_asked_and_wanted_stand_for_queries_and_targets() -> None:
    with pytest.warns(DeprecationWarning, match="Validation.asked is called queries"):
        validation = Validation(asked=QUERIES, wanted=TARGETS)
    with pytest.warns(DeprecationWarning, match="Validation.wanted is called targets"):
        assert validation.wanted is validation.targets is TARGETS
    with pytest.warns(DeprecationWarning, match="Validation.asked is called queries"):
        assert validation.asked is QUERIES
