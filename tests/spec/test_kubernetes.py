"""What a spec says of a cluster: quantities, own steps and their place, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.errors import SpecError
from endcap.spec import Recommender
from endcap.spec.load import load

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
    ("steps", "key", "found"),
    [
        ({"train": {"memory": "16 gigabytes"}}, "train.memory", "'16 gigabytes'"),
        ({"train": {"nodeSelector": {"gpu": 1}}}, "train.nodeSelector.gpu", "1"),
        ({"train": {"nodeSelector": "gpu"}}, "train.nodeSelector", "'gpu'"),
        ({"train": {"gpus": 1}}, "train.gpus", "an unknown key"),
        ({"No Name": {**OWN, "after": "train"}}, "No Name", "'No Name'"),
        ({"train": {"after": "ingest"}}, "train.after", "a value"),
        ({"evaluate": {"enabled": False}}, "evaluate.enabled", "false"),
        ({"register": {"enabled": False}}, "register.enabled", "false"),
        ({"audit": OWN}, "audit.after", "nothing"),
        ({"audit": {**OWN, "after": "evalute"}}, "audit.after", "'evalute'"),
        ({"one": {**OWN, "after": "two"}, "two": {**OWN, "after": "one"}}, "one.after", "'two', a circle"),
        ({"audit": {"after": "train"}}, "audit", "neither image nor function"),
    ],
)
def test_steps_that_cannot_be_are_told_with_their_key(
    tmp_path: Path, steps: dict[str, Any], key: str, found: str
) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, pipeline={"steps": steps})
    assert (f"pipeline.steps.{key}", found) in {(one.key, one.found) for one in caught.value.problems}


def test_a_canarys_nodes_are_told_by_all_keys_of_the_stables(tmp_path: Path) -> None:
    kubernetes = {"nodeSelector": {"gpu": "a100"}, "canary": {"memory": "1Gi"}}
    with pytest.raises(SpecError, match=r"serving\.kubernetes\.canary\.nodeSelector: found no gpu"):
        loaded(tmp_path, serving={"kubernetes": kubernetes})
    kubernetes["canary"] = {"nodeSelector": {"gpu": "none"}}
    canary = loaded(tmp_path, serving={"kubernetes": kubernetes}).serving.kubernetes.canary
    assert canary is not None
    assert canary.nodeSelector == {"gpu": "none"}
