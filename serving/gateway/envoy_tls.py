"""TLS as Envoy speaks it: sockets of its listeners and clusters, whose certificates are renewed without a restart.

Certificates lie in folders. Each folder is a mounted Secret of the type kubernetes.io/tls: it holds `tls.crt` and
`tls.key`, and `ca.crt` of the authority to trust. Envoy reads such files again only if a secret of its discovery (SDS)
names them. So `write_secrets` writes small SDS files that name them, and Envoy watches the Secret's folder: a kubelet
exchanges all of a Secret's files at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from endcap.errors import UserError
from endcap_serving.names import AUTHORITY, CERTIFICATE, PRIVATE_KEY, TYPE

Json = dict[str, Any]

SDS_FOLDER = Path("/tmp/endcap-tls")  # noqa: S108 (the pod's own)
"""Where the files of SDS lie, in Envoy's container."""
Side = Literal["server", "client"]
"""Of a certificate: Envoy shows it to its clients, or to those whom it asks."""
_SOCKETS = f"{TYPE}.extensions.transport_sockets.tls.v3"
_SESSIONS = 8
"""Kept for each cluster, so that a new connection to a predictor is a resumed one."""


def write_secrets(folder: Path, side: Side, place: Path = SDS_FOLDER, *, authority: Path | None = None) -> None:
    """Write the files of SDS for the certificates in `folder`. authority: another folder with the `ca.crt` of whom to
    trust. Raises UserError where a file is not there."""
    place.mkdir(parents=True, exist_ok=True)
    trusted = authority or folder
    certificate = {
        "certificate_chain": _read(folder, CERTIFICATE),
        "private_key": _read(folder, PRIVATE_KEY),
        "watched_directory": {"path": str(folder)},
    }
    _write(place, f"{side}-certificate", {"tls_certificate": certificate})
    if side == "server" and authority is None:
        return
    validation = {"trusted_ca": _read(trusted, AUTHORITY), "watched_directory": {"path": str(trusted)}}
    _write(place, f"{side}-authority", {"validation_context": validation})


def build_server_socket(place: Path = SDS_FOLDER, *, clients: bool) -> Json:
    """Of a filter chain. clients: who has no certificate of the authority is not let in."""
    context: Json = {
        "tls_certificate_sds_secret_configs": [_secret(place, "server-certificate")],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    if clients:
        context["validation_context_sds_secret_config"] = _secret(place, "server-authority")
    config = {
        "@type": f"{_SOCKETS}.DownstreamTlsContext",
        "common_tls_context": context,
        "require_client_certificate": clients,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def build_client_socket(host: str, place: Path = SDS_FOLDER) -> Json:
    """Of a cluster: its server must have a certificate of the authority for `host`, and is shown the client's own."""
    named = {"san_type": "DNS", "matcher": {"exact": host}}
    validation = {
        "default_validation_context": {"match_typed_subject_alt_names": [named]},
        "validation_context_sds_secret_config": _secret(place, "client-authority"),
    }
    context = {
        "tls_certificate_sds_secret_configs": [_secret(place, "client-certificate")],
        "combined_validation_context": validation,
    }
    config = {
        "@type": f"{_SOCKETS}.UpstreamTlsContext",
        "common_tls_context": context,
        "sni": host,
        "max_session_keys": _SESSIONS,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _secret(place: Path, name: str) -> Json:
    source = {"path_config_source": {"path": str(place / f"{name}.json")}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _read(folder: Path, name: str) -> Json:
    file = folder / name
    if not file.is_file():
        raise UserError(
            f"{file} is not there; the Secret that is mounted at {folder} needs the keys {CERTIFICATE}, {PRIVATE_KEY} "
            f"and {AUTHORITY}",
            code="gateway.certificate-missing",
            file=str(file),
            keys=[CERTIFICATE, PRIVATE_KEY, AUTHORITY],
        )
    return {"filename": str(file)}


def _write(place: Path, name: str, secret: Json) -> None:
    kind = f"{_SOCKETS}.Secret"
    document = {"resources": [{"@type": kind, "name": name, **secret}]}
    (place / f"{name}.json").write_text(json.dumps(document, indent=1))
