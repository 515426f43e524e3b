"""Free GPUs are counted for all the pods that are to start, each with its GPUs on one node."""

from __future__ import annotations

from typing import Any, cast

import pytest

from endcap.cluster import Cluster
from endcap.cluster.kinds import NODE, Kind
from endcap.deploy.capacity import find_capacity, second_predictor
from tests.deploy.given import recommender, state

Json = dict[str, Any]


class Nodes:
    """A cluster of nodes with so many GPUs each, of which one is in use on the last."""

    def __init__(self, *gpus: int) -> None:
        self._gpus = gpus

    def every(self, kind: Kind) -> list[Json]:
        if kind is NODE:
            return [
                {"metadata": {"name": f"gpu-{number}"}, "status": {"allocatable": {"nvidia.com/gpu": str(count)}}}
                for number, count in enumerate(self._gpus)
            ]
        asks = {"resources": {"requests": {"nvidia.com/gpu": "1"}}}
        return [{"spec": {"nodeName": f"gpu-{len(self._gpus) - 1}", "containers": [asks]}}]


@pytest.mark.parametrize(
    ("mode", "canary", "share", "pods"),
    [("Standard", "2", 0.1, 1), ("Standard", "2", 0.5, 2), ("Standard", None, 0, 4), ("Knative", "2", 0.1, 4)],
)
def test_a_second_predictor_is_as_many_pods_as_it_will_have(
    mode: Any, canary: str | None, share: float, pods: int
) -> None:
    serving = recommender(gpu={"count": 1}, replicas={"min": 4, "max": 8}).serving.kubernetes
    assert second_predictor(serving, mode, state("1", canary, share).canary)[1] == pods


@pytest.mark.parametrize(
    ("gpus", "each", "pods", "enough"),
    [((1, 3), 1, 3, True), ((1, 3), 1, 4, False), ((1, 3), 2, 1, True), ((1, 3), 2, 2, False), ((3, 1), 2, 2, False)],
)
def test_room_for_one_pod_is_not_room_for_several(gpus: tuple[int, ...], each: int, pods: int, enough: bool) -> None:
    pod = recommender(gpu={"count": each}).serving.kubernetes
    found = find_capacity(cast(Cluster, Nodes(*gpus)), pod, pods)
    assert found.enough == enough
    assert (f"{pods} pods need, each, {each} nvidia.com/gpu" in found.words) == (not enough and pods > 1)
