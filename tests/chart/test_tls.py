"""TLS by the chart's values: certificates are for the names that are asked for, programs are given what is mounted."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from endcap.deploy.manifests import render_inference_service
from endcap.deploy.predictor_manifests import render_predictor
from endcap.deploy.variants import read_variants
from tests.chart.conftest import Json, Objects, Refused
from tests.deploy.fake_kserve import recommender, target

Render = Callable[..., Objects]
EVERYWHERE: Json = {
    "tls": {
        "gateway": "mtls",
        "predictors": "mtls",
        "intake": "mtls",
        "mlflow": "tls",
        "source": "certManager",
        "certManager": {"issuer": {"name": "internal"}, "gatewayNames": ["ranking.example.com"]},
    },
    "intake": {"enabled": True, "shop": "shop", "out": "s3://endcap/intake"},
    "gateway": {"intake": {"enabled": True}},
    "online": {"secretName": "online", "certificatesSecretName": "online-certificates"},
    "mlflow": {"login": {"secretName": "mlflow-users"}},
}


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(EVERYWHERE)


def certified(objects: Objects, host: str, namespace: str) -> bool:
    """Whether a certificate of the namespace is for this name; a star stands for one label."""
    names = [
        name
        for one in objects.of("Certificate")
        if one["metadata"]["namespace"] == namespace
        for name in one["spec"]["dnsNames"]
    ]
    return any(fnmatchcase(host, name) and host.count(".") == name.count(".") for name in names)


def container(objects: Objects, kind: str, name: str, number: int = 0) -> tuple[Json, Json]:
    pod = objects.one(kind, name)["spec"]["template"]["spec"]
    return pod, pod["containers"][number]


def mounted_secret(pod: Json, one: Json, path: Any) -> str:
    """The Secret whose files lie at a path."""
    (mount,) = [mount for mount in one["volumeMounts"] if mount["mountPath"] == str(path)]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    return str(volume["secret"]["secretName"])


def probed_ports(one: Json) -> set[str]:
    probes = [one[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    return {probe["httpGet"]["port"] for probe in probes}


def test_the_gateway_is_given_what_it_shows_and_whom_it_trusts(objects: Objects) -> None:
    from endcap_serving.gateway import envoy, xds

    pod, gateway = container(objects, "Deployment", "endcap-gateway")
    options = envoy.parse_arguments(gateway["args"])
    assert {mounted_secret(pod, gateway, path) for path in (options.tls, options.client_ca, options.upstream_tls)} == {
        "endcap-gateway-tls"
    }
    assert probed_ports(gateway) == {"metrics"}
    intake = xds.parse_intake(options.intake)
    assert options.intake_tls
    assert certified(objects, intake.host, "endcap")
    assert intake.port in [port["port"] for port in objects.one("Service", "endcap-intake-pods")["spec"]["ports"]]
    assert certified(objects, "ranking.example.com", "endcap")


def test_the_intake_lets_in_the_gateway_and_whom_values_name(objects: Objects, render: Render) -> None:
    from endcap_serving.intake.__main__ import parse_arguments

    pod, intake = container(objects, "StatefulSet", "endcap-intake")
    options = parse_arguments(intake["args"])
    assert mounted_secret(pod, intake, options.tls) == "endcap-intake-tls"
    (gateway,) = options.tls_clients
    assert certified(objects, gateway, "endcap")
    ports = {port["name"]: port["containerPort"] for port in intake["ports"]}
    assert (probed_ports(intake), options.plain) == ({"http"}, "health")
    assert ports == {"http": options.port, "tls": options.tls_port, "metrics": options.metrics_port}
    assert objects.one("Service", "endcap-intake")["spec"]["ports"][0]["targetPort"] == "tls"
    variables = {one["name"]: one.get("value") for one in intake["env"]}
    assert mounted_secret(pod, intake, variables["ENDCAP_ONLINE_SECRET"]) == "online-certificates"
    more = {**EVERYWHERE, "tls": {**EVERYWHERE["tls"], "intakeClients": ["tills.example.com"]}}
    _, intake = container(render(more), "StatefulSet", "endcap-intake")
    assert parse_arguments(intake["args"]).tls_clients == (gateway, "tills.example.com")


def test_mlflow_is_reached_by_its_front_alone(objects: Objects) -> None:
    from mlflow.cli import server as mlflow

    from endcap_serving.gateway import login_proxy

    pod, server = container(objects, "Deployment", "endcap-mlflow")
    options = mlflow.make_context("server", list(server["args"])).params
    before = pod["containers"][1]
    proxy = login_proxy.parse_arguments(before["args"])
    assert (options["host"], options["port"]) == ("127.0.0.1", proxy.to)
    assert [port["containerPort"] for port in before["ports"]] == [proxy.port]
    assert "ports" not in server
    assert (mounted_secret(pod, before, proxy.tls), mounted_secret(pod, before, proxy.users)) == (
        "endcap-mlflow-tls",
        "mlflow-users",
    )
    assert proxy.open == ["/health"]
    assert before["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_every_address_that_is_named_has_a_certificate(objects: Objects, notes: Callable[..., str]) -> None:
    text = notes(EVERYWHERE)
    probes = [word for name, _, pod in objects.pods() if "-test-" in name for word in pod["containers"][0]["args"][1:]]
    addresses = re.findall(r"https://\S+", text)
    for address in [*probes, *(word for word in addresses if "localhost" in word or ".endcap" in word)]:
        assert urlsplit(address).scheme in ("https", "tls"), address
        assert certified(objects, urlsplit(address.rstrip(".")).hostname or "", "endcap"), address


def test_the_notes_name_what_a_spec_has_to_say(objects: Objects, notes: Callable[..., str]) -> None:
    spec = yaml.safe_load(notes(EVERYWHERE).partition("when its spec says\n")[2].partition("\n")[0])
    tls = spec["serving"]["kubernetes"].pop("tls")
    (secret,) = [one for one in objects.of("Certificate") if one["metadata"]["namespace"] == "endcap-serving"]
    assert tls["secret"] == secret["spec"]["secretName"]
    assert certified(objects, tls["clients"][0], "endcap")
    predictor = render_predictor(recommender(tls=tls), "Standard", target("1"))
    service = render_inference_service(
        recommender(), "endcap-serving", "Standard", predictor, {"endcap.dev/stable-version": "1"}
    )
    variants = read_variants(service)
    assert variants is not None
    assert variants.stable is not None
    assert variants.stable.address.tls
    assert certified(objects, variants.stable.address.host, "endcap-serving")


def test_given_secrets_need_no_cert_manager(render: Render) -> None:
    secrets = {"gateway": "own", "clients": "partners"}
    objects = render({"tls": {"gateway": "mtls", "secrets": secrets}})
    assert not objects.of("Certificate")
    pod, gateway = container(objects, "Deployment", "endcap-gateway")
    client_ca = "/var/run/secrets/endcap/clients"
    assert f"--client-ca={client_ca}" in gateway["args"]
    assert mounted_secret(pod, gateway, client_ca) == "partners"


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        ({"source": "certManager"}, "tls.certManager.issuer.name: found nothing"),
        ({"secrets": {"clients": "partners"}}, "tls.secrets.clients: found partners"),
    ],
)
def test_what_does_not_go_together_is_refused_in_words(render: Render, tls: Json, says: str) -> None:
    with pytest.raises(Refused, match=re.escape(says)):
        render({"tls": tls})
