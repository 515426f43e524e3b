"""Specs to packages, and packages as KFP's API server would read them: strictly, against its protobufs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2

from endcap.spec.load import load
from endcap_pipelines.package import package

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
SPEC = """
apiVersion: endcap/v2
kind: Recommender
name: toys
shop: toys
model: {name: vsknn}
pipeline:
"""
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: toys
events:
  sources: [{simulated: {events: 2000, days: 4, items: 100, customers: 200}}]
  columns: {session: session, item: item, customer: customer}
items:
  sources: [{simulated: {events: 2000, days: 4, items: 100, customers: 200}}]
  columns: {price: price}
"""


def spec_file(folder: Path, settings: str) -> Path:
    """A recommender's file whose `pipeline` has these lines (indented by two)."""
    (folder / "shops").mkdir(exist_ok=True)
    (folder / "shops" / "toys.yaml").write_text(SHOP)
    (folder / "toys.yaml").write_text(SPEC + settings)
    return folder / "toys.yaml"


def compile_spec(folder: Path, settings: str, pipeline: str = "training", **options: bool) -> Json:
    """The checked package of a spec with these pipeline settings."""
    return check_package(package(pipeline, load(spec_file(folder, settings)), **options))


def check_package(text: str) -> Json:
    """The pipeline's document, with `platform` (the Kubernetes settings of each task) and `pipelineConfig` beside."""
    pipeline, platform = [*yaml.load_all(text, Loader=yaml.CSafeLoader), {}][:2]
    json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=False)
    spec = json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec(), ignore_unknown_fields=False)
    kubernetes = json_format.MessageToDict(spec.platforms["kubernetes"])
    executors = kubernetes.get("deploymentSpec", {}).get("executors", {})
    for executor in executors.values():
        json_format.ParseDict(executor, KubernetesExecutorConfig(), ignore_unknown_fields=False)
    return {
        **pipeline,
        "platform": {name.removeprefix("exec-"): one for name, one in executors.items()},
        "pipelineConfig": kubernetes.get("pipelineConfig", {}),
    }


def tasks(package: Json) -> Json:
    """Every task by name, those inside conditions and exit handlers too."""
    entries = dict(package["root"]["dag"]["tasks"])
    for component in package["components"].values():
        entries |= component.get("dag", {}).get("tasks", {})
    return entries


def steps(package: Json) -> Json:
    """The tasks that are pods."""
    return {name: task for name, task in tasks(package).items() if not name.startswith(("condition", "exit-handler"))}


def container(package: Json, step: str) -> Json:
    entry: Json = package["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
    return entry
