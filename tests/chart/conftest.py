"""The chart as Helm renders it. `make parts` builds Helm; where there is none, these tests are skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "endcap"
BUILT = ROOT / "build" / "cluster" / "bin" / "helm" / "helm"

Json = dict[str, Any]


class Refused(Exception):
    """Helm's own words."""


class Objects(list[Json]):
    """What the chart makes, in the order of its making."""

    def of(self, kind: str) -> list[Json]:
        return [one for one in self if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Json:
        matches = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        assert len(matches) == 1, f"{len(matches)} of {kind}/{name}"
        return matches[0]

    def pods(self) -> Iterator[tuple[str, Json, Json]]:
        """Name, labels and spec of every pod that is made, by a Deployment, a StatefulSet, a CronJob or by itself."""
        for one in self:
            template = one["spec"]["template"] if one["kind"] in ("Deployment", "StatefulSet") else one
            if one["kind"] == "CronJob":
                template = one["spec"]["jobTemplate"]["spec"]["template"]
            if template is not one or one["kind"] == "Pod":
                yield one["metadata"]["name"], template["metadata"].get("labels", {}), template["spec"]


@pytest.fixture(scope="session")
def helm() -> Callable[..., str]:
    """Run Helm; its output. Raises Refused."""
    program = str(BUILT) if BUILT.is_file() else shutil.which("helm")
    if program is None:
        pytest.skip(f"no helm: neither {BUILT.relative_to(ROOT)}, which `make parts` builds, nor on the path")

    def run(*words: str, values: Json | None = None) -> str:
        options = ["--values", "-"] if values is not None else []
        done = subprocess.run(
            [program, *words, *options], input=json.dumps(values), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., str]) -> Callable[..., Objects]:
    """The chart's objects for values; `apis`: what the cluster has besides Kubernetes' own kinds."""

    def rendered(values: Json | None = None, apis: tuple[str, ...] = ()) -> Objects:
        words = [word for api in apis for word in ("--api-versions", api)]
        text = helm("template", "endcap", str(CHART), "--namespace", "endcap", *words, values=values or {})
        return Objects(one for one in yaml.safe_load_all(text) if one)

    return rendered


@pytest.fixture(scope="session")
def notes(helm: Callable[..., str]) -> Callable[..., str]:
    def render_notes(values: Json | None = None) -> str:
        words = ("install", "endcap", str(CHART), "--namespace", "endcap", "--dry-run=client")
        return helm(*words, values=values or {}).partition("NOTES:")[2]

    return render_notes
