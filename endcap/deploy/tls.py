"""Predictors that speak TLS in Standard mode: what their InferenceService has for it.

Behind one Service all pods must speak alike, and a rolling update mixes old and new pods for minutes. So TLS has a port
of its own, and while TLS is switched on or off, pods answer at both ports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.deploy.variants import TLS, TLS_PORT, Mode, uses_tls
from endcap.errors import UserError
from endcap.spec.kubernetes import KubernetesServingSpec, Tls

PORT = 8080
CERTIFICATES = "/var/run/secrets/endcap/tls"
"""Where the Secret is mounted."""
Json = dict[str, Any]


@dataclass(frozen=True)
class PredictorTransport:
    """How predictors answer, and how the gateway connects to them."""

    tls: Tls | None = None
    """What they have besides the plain port."""
    plain: bool = True
    """The plain port answers all; otherwise how the predictor is, and its metrics, for those without a certificate."""

    @property
    def annotations(self) -> dict[str, str]:
        """The annotation of a predictor that tells the gateway."""
        return {TLS: "mtls" if self.tls.clients else "tls"} if self.tls and not self.plain else {}

    def add_to_model(self, model: Json) -> Json:
        """Add arguments, ports and the certificate's mount to the `model` of a predictor."""
        if self.tls is None:
            return model
        args = ["--tls", CERTIFICATES, "--tls-port", str(TLS_PORT), "--plain", "all" if self.plain else "health"]
        if self.tls.clients:
            args += ["--tls-clients", ",".join(self.tls.clients)]
        # KServe makes a port of the Service of each; the first is what it calls the Service's own.
        ports = [("http1", PORT), ("tls", TLS_PORT)]
        return {
            **model,
            # KServe puts them behind the runtime's.
            "args": [*model.get("args", []), *args],
            "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
            "volumeMounts": [{"name": "tls", "mountPath": CERTIFICATES, "readOnly": True}],
        }

    @property
    def pod_fields(self) -> Json:
        """Further fields of the predictor's pods."""
        if self.tls is None:
            return {}
        return {"volumes": [{"name": "tls", "secret": {"secretName": self.tls.secret, "defaultMode": 0o440}}]}


PLAIN = PredictorTransport()


def choose_transport(serving: KubernetesServingSpec, mode: Mode) -> PredictorTransport:
    """Choose the transport that the spec asks for. In Knative mode predictors have no TLS of their own."""
    return PredictorTransport(serving.tls, plain=False) if serving.tls and mode == "Standard" else PLAIN


def choose_interim_transport(serving: KubernetesServingSpec, live: Mapping[str, Any]) -> PredictorTransport | None:
    """Choose the transport on the way from the present predictor to the spec's; None if they agree.

    The gateway connects as before meanwhile: see `copy_tls_annotation`.
    """
    if not live or uses_tls(live) == (serving.tls is not None):
        return None
    return PredictorTransport(serving.tls or _read_tls(live))


def copy_tls_annotation(live: Mapping[str, Any]) -> dict[str, str]:
    """Copy the present predictor's annotation about TLS, which stays until all pods answer both ways."""
    value = (live.get("annotations") or {}).get(TLS)
    return {TLS: value} if value else {}


def check_no_tls(serving: KubernetesServingSpec) -> None:
    """Raise UserError if the spec wants TLS in Knative mode, where a proxy stands before the pods."""
    if serving.tls is not None:
        raise UserError(
            "serving.kubernetes.tls cannot be set in Knative mode, because Knative itself encrypts the connections to "
            "its pods (system-internal-tls). Remove it, or set serving.kubernetes.mode: Standard",
            code="deploy.tls-in-knative",
            setting="serving.kubernetes.tls",
        )


def _read_tls(predictor: Mapping[str, Any]) -> Tls:
    """Read the TLS settings that a predictor of ours was rendered with."""
    volumes = [volume["secret"]["secretName"] for volume in predictor.get("volumes", ()) if volume["name"] == "tls"]
    args = list(predictor["model"].get("args", ()))
    clients = args[args.index("--tls-clients") + 1].split(",") if "--tls-clients" in args else []
    return Tls(secret=volumes[0], clients=clients)
