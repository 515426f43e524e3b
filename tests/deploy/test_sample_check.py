"""A spec that asks for request samples, in a cluster that cannot keep any."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from endcap.cluster import Cluster, ForbiddenError
from endcap.deploy.runtime_manifests import render_serving_runtime
from endcap.deploy.sample_check import explain_missing_samples
from endcap.spec import Recommender
from tests.deploy.fake_kserve import NAMESPACE, recommender

SAMPLING = Recommender.model_validate(
    recommender().model_dump(mode="json", exclude={"serving"}) | {"serving": {"samples": {"share": 0.1}}}
)


@pytest.mark.parametrize(
    ("runtime", "is_missing"),
    [
        (render_serving_runtime(NAMESPACE), True),
        (render_serving_runtime(NAMESPACE, samples="samples"), False),
        (None, False),
    ],
    ids=["no Secret", "a Secret", "no runtime"],
)
def test_a_runtime_without_a_place_is_noted(runtime: dict[str, object] | None, is_missing: bool) -> None:
    cluster = Mock(spec=Cluster, find=Mock(return_value=runtime))
    assert (explain_missing_samples(SAMPLING, cluster, NAMESPACE) is not None) == is_missing


def test_an_account_that_may_not_look_and_a_spec_without_samples_get_no_note() -> None:
    cluster = Mock(spec=Cluster, find=Mock(side_effect=ForbiddenError("no", code="cluster.forbidden")))
    assert explain_missing_samples(SAMPLING, cluster, NAMESPACE) is None
    assert cluster.find.call_count == 1
    assert explain_missing_samples(recommender(), cluster, NAMESPACE) is None
    assert cluster.find.call_count == 1
