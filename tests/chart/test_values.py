"""values.yaml, its schema and its reference say the same; no Helm is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import endcap
from tests.generate import chart_values

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "endcap"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())

# A value, where it is refused, and a piece of what is said.
BAD = [
    ({"mlfow": {}}, "", "'mlfow' was unexpected"),
    ({"mlflow": {"replica": 1}}, "mlflow", "'replica' was unexpected"),
    ({"mlflow": {"replicas": "2"}}, "mlflow/replicas", "not of type 'integer'"),
    ({"mlflow": {"workers": 0}}, "mlflow/workers", "less than the minimum of 1"),
    ({"mlflow": {"backend": {"type": "mysql"}}}, "mlflow/backend/type", "not one of ['sqlite', 'postgresql']"),
    ({"mlflow": {"artifacts": {"destination": "gs://b"}}}, "mlflow/artifacts/destination", "does not match"),
    ({"mlflow": {"persistence": {"size": "ten"}}}, "mlflow/persistence/size", "does not match"),
    ({"mlflow": {"persistence": {"accessMode": "ReadWriteMany"}}}, "mlflow/persistence/accessMode", "not one of"),
    ({"mlflow": {"allowedHosts": ["http://a"]}}, "mlflow/allowedHosts/0", "does not match"),
    ({"mlflow": {"resources": {"limits": {"memory": "2 GB"}}}}, "mlflow/resources/limits/memory", "not valid"),
    ({"mlflow": {"extraEnv": [{"value": "x"}]}}, "mlflow/extraEnv/0", "'name' is a required property"),
    ({"image": {"digest": "sha256:abc"}}, "image/digest", "does not match"),
    ({"image": {"repository": "Endcap:1"}}, "image/repository", "does not match"),
    ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy", "not one of"),
    ({"gateway": {"service": {"port": 70000}}}, "gateway/service/port", "greater than the maximum of 65535"),
    ({"gateway": {"podDisruptionBudget": {"maxUnavailable": "many"}}}, "gateway/podDisruptionBudget", "not valid"),
    ({"gateway": {"tolerations": [{"effect": "Never"}]}}, "gateway/tolerations/0/effect", "not one of"),
    ({"gateway": {"httpRoute": {"parentRefs": [{}]}}}, "gateway/httpRoute/parentRefs/0", "'name' is a required"),
    ({"intake": {"out": "/data"}}, "intake/out", "does not match"),
    ({"intake": {"segmentAge": "300"}}, "intake/segmentAge", "does not match"),
    ({"intake": {"keepOwned": "for ever"}}, "intake/keepOwned", "not valid"),
    ({"intake": {"ownedTypes": ["a,b"]}}, "intake/ownedTypes/0", "does not match"),
    ({"rollouts": {"store": "/data"}}, "rollouts/store", "does not match"),
    ({"schedules": {"store": "/data"}}, "schedules/store", "does not match"),
    ({"schedules": {"mode": "daemon"}}, "schedules/mode", "not one of"),
    ({"schedules": {"specs": {"home.yaml": ""}}}, "schedules/specs", "does not match"),
    ({"schedules": {"every": "5m"}}, "schedules/every", "does not match"),
    ({"schedules": {"jobs": [{"name": "a", "cron": "0 4 * * 0"}]}}, "schedules/jobs/0", "'command' is a required"),
    ({"schedules": {"jobs": [{"name": "a", "cron": "0 4 * * 0", "command": "endcap"}]}}, "schedules/jobs/0", "'array'"),
    ({"online": {"url": "redis://r:6379"}}, "online", "'url' was unexpected"),
    ({"serving": {"namespace": "Endcap Serving"}}, "serving/namespace", "does not match"),
    ({"kfp": {"serviceAccount": "pipeline-runner"}}, "kfp/serviceAccount", "not of type 'object'"),
    ({"deployer": {"readNodes": "yes"}}, "deployer/readNodes", "not of type 'boolean'"),
    ({"networkPolicy": {"egress": {"s3": {"ports": []}}}}, "networkPolicy/egress/s3/ports", "non-empty"),
    ({"networkPolicy": {"gatewayFrom": [{"ipBlock": {}}]}}, "networkPolicy/gatewayFrom/0/ipBlock", "'cidr' is a req"),
    ({"monitoring": {"serviceMonitor": {"interval": "30"}}}, "monitoring/serviceMonitor/interval", "does not match"),
    ({"monitoring": {"rules": {"runbookUrl": "wiki/on-call"}}}, "monitoring/rules/runbookUrl", "does not match"),
    ({"store": {"endpoint": "s3.example.com"}}, "store/endpoint", "does not match"),
    ({"tls": {"gateway": False}}, "tls/gateway", "not one of ['plain', 'tls', 'mtls']"),
    ({"tls": {"mlflow": "mtls"}}, "tls/mlflow", "not one of ['plain', 'tls']"),
    ({"tls": {"certManager": {"duration": "90 days"}}}, "tls/certManager/duration", "does not match"),
    ({"mlflow": None}, "mlflow", "not of type 'object'"),
]

GOOD = [
    {},
    {"image": {"repository": "registry.example.com:5000/team/endcap", "digest": f"sha256:{'0a' * 32}"}},
    {"gateway": {"podDisruptionBudget": {"maxUnavailable": "25%"}, "tolerations": [{"operator": "Exists"}]}},
    {"mlflow": {"extraEnv": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}},
    {"networkPolicy": {"gatewayFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}},
    {"global": {"anything": 1}},
]


def keys(values: Any, schema: dict[str, Any], path: str = "") -> set[str]:
    """Paths of a map of values, as deep as the schema names keys."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(values, dict) or "properties" not in schema:
        return set()
    inner = {key: keys(value, schema["properties"].get(key, {}), f"{path}{key}.") for key, value in values.items()}
    return {f"{path}{key}" for key in values}.union(*inner.values())


def documented_keys(schema: dict[str, Any], values: Any, path: str = "") -> set[str]:
    """Paths that the schema names inside the maps that values.yaml fills."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(values, dict) or not values:
        return set()
    keys_found = set()
    for key, inner in schema.get("properties", {}).items():
        keys_found |= {f"{path}{key}"} | documented_keys(inner, values.get(key), f"{path}{key}.")
    return keys_found


def test_the_chart_is_of_endcaps_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["apiVersion"] == "v2"
    assert about["version"] == about["appVersion"] == endcap.__version__


def test_the_schema_knows_exactly_the_keys_of_the_values() -> None:
    # `global` is Helm's own, for charts inside charts.
    assert keys(VALUES, SCHEMA) == documented_keys(SCHEMA, VALUES) - {"global"}


def test_no_map_of_the_schema_takes_unknown_keys() -> None:
    def maps(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        here = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return here + [one for key, inner in node.items() for one in maps(inner, f"{path}/{key}")]

    assert maps(SCHEMA, "") == []
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_values_that_are_right_are_taken(values: dict[str, Any]) -> None:
    Draft202012Validator(SCHEMA).validate(values)
    Draft202012Validator(SCHEMA).validate(VALUES)


@pytest.mark.parametrize(("values", "path", "says"), BAD, ids=[path or "unknown" for _, path, _ in BAD])
def test_values_that_are_wrong_are_refused_where_they_stand(values: dict[str, Any], path: str, says: str) -> None:
    errors = list(Draft202012Validator(SCHEMA).iter_errors(values))
    assert len(errors) == 1
    assert "/".join(map(str, errors[0].absolute_path)).startswith(path)
    assert says in errors[0].message


def test_the_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for file, text in chart_values.guide().items():
        assert file.read_text() == text, "run `make compile`"
    assert '| `mlflow.backend.type` | `"sqlite"` |' in text


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"b\.d has no comment"):
        list(chart_values.read("# A.\na: 1\n# B.\nb:\n  # C.\n  c: 2\n  d: 3\n"))


def test_a_map_whose_keys_have_no_comments_is_one_value() -> None:
    values = list(chart_values.read("# Resources.\nresources:\n  requests: {cpu: 1}\n"))
    assert [(value.path, value.default, value.leaf) for value in values] == [
        (("resources",), {"requests": {"cpu": 1}}, True)
    ]
