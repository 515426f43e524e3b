"""Predictors that speak TLS, in Standard mode: what their InferenceService says of it.

Behind one Service all pods must speak alike, and a rolling update mixes them for minutes. So TLS has a port of its own,
and on the way from one to the other pods answer at both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.deploy.variants import TLS, TLS_PORT, Mode, uses_tls
from endcap.errors import UserError
from endcap.spec.kubernetes import Serving, Tls

PORT = 8080
CERTIFICATES = "/var/run/secrets/endcap/tls"
"""Where the Secret is mounted."""
Json = dict[str, Any]


@dataclass(frozen=True)
class PredictorTransport:
    """How predictors speak, and how the gateway is to speak with them."""

    tls: Tls | None = None
    """What they have besides the plain port."""
    plain: bool = True
    """The plain port answers all; otherwise how the predictor is, and its metrics, for those without a certificate."""

    @property
    def annotations(self) -> dict[str, str]:
        """The annotation of a predictor by which the gateway knows."""
        return {TLS: "mtls" if self.tls.clients else "tls"} if self.tls and not self.plain else {}

    def add_to_model(self, model: Json) -> Json:
        """The `model` of a predictor that speaks so."""
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
        """What the predictor's pods have besides."""
        if self.tls is None:
            return {}
        return {"volumes": [{"name": "tls", "secret": {"secretName": self.tls.secret, "defaultMode": 0o440}}]}


PLAIN = PredictorTransport()


def choose_transport(serving: Serving, mode: Mode) -> PredictorTransport:
    """What a spec says; in Knative mode predictors speak no TLS of their own."""
    return PredictorTransport(serving.tls, plain=False) if serving.tls and mode == "Standard" else PLAIN


def choose_interim_transport(serving: Serving, live: Mapping[str, Any]) -> PredictorTransport | None:
    """What predictors speak on the way from the one that is there to what is wanted; None where it needs none.

    The gateway goes on as before meanwhile, as the one that is there says: see `said_between`.
    """
    if not live or uses_tls(live) == (serving.tls is not None):
        return None
    return PredictorTransport(serving.tls or _read_tls(live))


def copy_tls_annotation(live: Mapping[str, Any]) -> dict[str, str]:
    """The annotation that stays on the way."""
    value = (live.get("annotations") or {}).get(TLS)
    return {TLS: value} if value else {}


def check_no_tls(serving: Serving) -> None:
    """Raise UserError where predictors of Knative mode are to speak TLS, whose pods have a proxy in front."""
    if serving.tls is not None:
        raise UserError(
            "serving.kubernetes.tls: found in Knative mode; allowed: nothing there, since Knative encrypts the ways of "
            "its pods itself (system-internal-tls), or serving.kubernetes.mode: Standard",
            code="deploy.tls-in-knative",
            setting="serving.kubernetes.tls",
        )


def _read_tls(predictor: Mapping[str, Any]) -> Tls:
    """What a predictor of ours that speaks TLS was rendered with."""
    volumes = [volume["secret"]["secretName"] for volume in predictor.get("volumes", ()) if volume["name"] == "tls"]
    args = list(predictor["model"].get("args", ()))
    clients = args[args.index("--tls-clients") + 1].split(",") if "--tls-clients" in args else []
    return Tls(secret=volumes[0], clients=clients)
