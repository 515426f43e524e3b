"""What each generated file of the repository should hold, and which files differ from that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from endcap.deploy.overlays import make_placeholder, render_overlays
from endcap.spec.load import load
from endcap.spec.schema import build_schemas
from endcap.spec.spec_files import find_spec
from endcap.steps import PIPELINES
from endcap_pipelines.package import package
from endcap_serving.openapi import build_document
from tests.generate.chart_values import guide
from tests.generate.dashboards import dashboards
from tests.serving import golden_files

ROOT = Path(__file__).parents[2]
COMMAND = "make compile"
DEFAULT = "trial"
"""The spec whose documents are the defaults of the compiled packages: it needs no files."""
DEMO = "demo"
"""The spec that the manifests are rendered from."""


def generate() -> dict[Path, str]:
    """The text of each generated file, by its path from the repository's root, which is the current folder."""
    texts = {Path("pipelines/specs/schemas") / name: text for name, text in build_schemas().items()}
    texts |= _compile_packages() | _render_manifests() | guide() | dashboards()
    texts[Path("docs/openapi.json")] = json.dumps(build_document(), indent=1) + "\n"
    golden = golden_files.GOLDEN.relative_to(ROOT)
    return texts | {
        golden / f"{name}.json": golden_files.format_configuration(file)
        for name, file in golden_files.build_configurations().items()
    }


def find_stale(texts: dict[Path, str]) -> list[Path]:
    """The files that are missing or say something else."""
    return [
        file
        for file, text in texts.items()
        if not file.is_file() or _parse(file, file.read_text()) != _parse(file, text)
    ]


def write(texts: dict[Path, str], files: list[Path]) -> None:
    """Write these files."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(texts[file])


def _compile_packages() -> dict[Path, str]:
    folder, trial = Path("pipelines/compiled"), load(find_spec(DEFAULT))
    packages = {folder / f"{pipeline}.yaml": package(pipeline, trial) for pipeline in sorted(PIPELINES)}
    return packages | {folder / "training-gpu.yaml": package("training", load(find_spec(DEFAULT), env="gpu"))}


def _render_manifests() -> dict[Path, str]:
    recommender = load(find_spec(DEMO)).recommender
    files = render_overlays(recommender, make_placeholder(recommender.name), COMMAND)
    return {Path("manifests") / name: text for name, text in files.items()}


def _parse(file: Path, text: str) -> Any:
    """What a file says, without the SDK version that KFP stamps in."""
    if file.suffix != ".yaml":
        return text
    documents = list(yaml.safe_load_all(text))
    for yaml_document in documents:
        yaml_document.pop("sdkVersion", None)
    return documents
