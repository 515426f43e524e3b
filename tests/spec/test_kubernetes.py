"""What a spec says of a cluster: quantities, own steps and their place, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.errors import SpecError
from endcap.spec import Recommender
from endcap.spec.load import load
from endcap.spec.settings import TrainSettings
from tests.refusals import misspelt

ROOT = Path(__file__).parents[2]


def loaded(tmp_path: Path, **over: Any) -> Recommender:
    file = tmp_path / "home.yaml"
    file.write_text(yaml.safe_dump({"extends": str(ROOT / "pipelines" / "specs" / "trial.yaml"), **over}))
    return load(file).recommender


def test_quantities_are_numbers_or_texts_and_spot_bears_the_clouds_taints(tmp_path: Path) -> None:
    step = {"cpu": 2, "memory": "16Gi", "spot": True, "tolerations": [{"key": "mine", "operator": "Exists"}]}
    train = loaded(tmp_path, pipeline={"steps": {"train": step}}).pipeline.steps["train"]
    assert (train.cpu, train.memory) == ("2", "16Gi")
    borne = [one.key for one in train.borne()]
    assert borne[0] == "mine"
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} < set(borne)


OWN = {"function": "shop.checks:prices"}


@pytest.mark.parametrize(
    ("steps", "key", "code"),
    [
        ({"train": {"memory": "16 gigabytes"}}, "train.memory", "not-allowed"),
        ({"train": {"nodeSelector": {"gpu": 1}}}, "train.nodeSelector.gpu", "wrong-type"),
        ({"train": {"nodeSelector": "gpu"}}, "train.nodeSelector", "wrong-type"),
        ({"train": {"gpus": 1}}, "train.gpus", "unknown-key"),
        ({"No Name": {**OWN, "after": "train"}}, "No Name", "not-allowed"),
        ({"train": {"after": "ingest"}}, "train.after", "not-allowed"),
        ({"evaluate": {"enabled": False}}, "evaluate.enabled", "not-allowed"),
        ({"register": {"enabled": False}}, "register.enabled", "conflict"),
        ({"train": {"gpu": {"fallback": "gpu"}}}, "train.gpu.fallback", "not-allowed"),
        ({"train": {"runtimeClassName": "nvidia"}}, "train.runtimeClassName", "not-allowed"),
        ({"audit": OWN}, "audit.after", "missing"),
        ({"audit": {**OWN, "after": "evalute"}}, "audit.after", "unknown-name"),
        ({"one": {**OWN, "after": "two"}, "two": {**OWN, "after": "one"}}, "one.after", "circle"),
        ({"audit": {"after": "train"}}, "audit", "missing"),
    ],
)
def test_steps_that_cannot_be_are_told_with_their_key(
    tmp_path: Path, steps: dict[str, Any], key: str, code: str
) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, pipeline={"steps": steps})
    assert (f"pipeline.steps.{key}", code) in {(one.key, one.code) for one in caught.value.problems}


def test_a_canarys_nodes_are_told_by_all_keys_of_the_stables(tmp_path: Path) -> None:
    kubernetes = {"nodeSelector": {"gpu": "a100"}, "canary": {"memory": "1Gi"}}
    with misspelt(("serving.kubernetes.canary.nodeSelector", "missing")):
        loaded(tmp_path, serving={"kubernetes": kubernetes})
    kubernetes["canary"] = {"nodeSelector": {"gpu": "none"}}
    canary = loaded(tmp_path, serving={"kubernetes": kubernetes}).serving.kubernetes.canary
    assert canary is not None
    assert canary.nodeSelector == {"gpu": "none"}


def test_a_canary_says_its_runtime_class_where_the_stable_has_one(tmp_path: Path) -> None:
    kubernetes: dict[str, Any] = {"runtimeClassName": "nvidia", "canary": {"memory": "1Gi"}}
    with misspelt(("serving.kubernetes.canary.runtimeClassName", "missing")):
        loaded(tmp_path, serving={"kubernetes": kubernetes})


def test_how_pods_come_by_a_gpu_is_in_no_key(tmp_path: Path) -> None:
    def key(worker: dict[str, Any]) -> dict[str, Any]:
        search = {"gpu": 1, "cluster": {"image": "endcap:1", "worker": worker}}
        return TrainSettings.of(loaded(tmp_path, search=search)).key()

    usual = key({"gpu": {"count": 1}})
    assert key({"gpu": {"count": 1, "fallback": "cpu"}, "runtimeClassName": "nvidia"}) == usual
    assert usual["search"]["gpu"] == 1
    assert set(usual["search"]["cluster"]["worker"]["gpu"]) == {"count", "resource"}
