"""The laptop cluster of docs/cluster.md, against what the chart makes by default."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import yaml

from tests.chart.conftest import ROOT, Objects

GUIDE = (ROOT / "docs" / "cluster.md").read_text()


def find_in_guide(pattern: str) -> tuple[str, ...]:
    """The groups of a pattern that stands in the guide."""
    match = re.search(pattern, GUIDE, re.DOTALL)
    assert match, pattern
    return match.groups()


def test_its_names_are_the_charts(render: Callable[..., Objects]) -> None:
    objects = render()
    (name, port) = find_in_guide(r"kubectl -n endcap port-forward svc/(\S+) 8080:(\d+)")
    service = objects.one("Service", name)
    assert (service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]) == ("endcap", int(port))
    secret = yaml.safe_load((ROOT / "charts/endcap/values.yaml").read_text())["store"]["secretName"]
    (kfp, serving, created_secret) = find_in_guide(
        r"for namespace in (\S+) (\S+); do\s+kubectl -n \$namespace create secret generic (\S+)"
    )
    assert objects.one("Namespace", serving)
    assert objects.one("RoleBinding", "endcap-deployer")["subjects"][0]["namespace"] == kfp
    assert created_secret == secret


def test_what_it_asks_is_what_it_trains_and_the_gateway_has_its_path() -> None:
    from endcap_serving.gateway.routes import Split, Upstream, build_routes

    (package,) = find_in_guide(r"run create -e trial -f (\S+)")
    parameters = next(yaml.safe_load_all((ROOT / package).read_text()))["root"]["inputDefinitions"]["parameters"]
    name = parameters["recommender"]["defaultValue"]["name"]
    (path,) = find_in_guide(r"curl -s localhost:8080(\S+)")
    # Beside another recommender, where the paths without a name are nobody's.
    splits = {one: Split(Upstream(one, 80)) for one in (name, "other")}
    routes = [
        route["name"]
        for route in build_routes(splits)[0]["virtual_hosts"][0]["routes"]
        if "safe_regex" in route["match"] and re.fullmatch(route["match"]["safe_regex"]["regex"], path)
    ]
    assert routes == [name]


def test_its_store_lets_in_all_who_use_it(render: Callable[..., Objects]) -> None:
    policy = yaml.safe_load((ROOT / "manifests" / "laptop" / "store-policy.yaml").read_text())["spec"]["ingress"][0]
    objects = render(
        {
            "intake": {"enabled": True, "out": "s3://mlpipeline/intake"},
            "rollouts": {"enabled": True, "store": "s3://mlpipeline/endcap"},
            "schedules": {"enabled": True, "store": "s3://mlpipeline/endcap", "mode": "none"},
        }
    )
    admitted = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in policy["from"]}
    for name in ("endcap-predictors", "endcap-intake", "endcap-rollouts", "endcap-schedules"):
        user = objects.one("NetworkPolicy", name)
        assert user["metadata"]["namespace"] in admitted
        ports = {port["port"] for rule in user["spec"]["egress"] for port in rule.get("ports", [])}
        assert policy["ports"][0]["port"] in ports


def test_it_switches_on_what_knative_may_refuse() -> None:
    from endcap.deploy.readiness import _FLAGS

    (patch,) = find_in_guide(r"patch configmap config-features --type=merge -p '(.*?)'")
    features = json.loads(patch)["data"]
    assert set(_FLAGS.values()) <= set(features)
    assert set(features.values()) == {"enabled"}
