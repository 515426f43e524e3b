"""TLS of Envoy's listeners and clusters, whose certificates are renewed without a restart.

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
"""The folder of the SDS files in Envoy's container."""
Side = Literal["server", "client"]
"""Where Envoy shows a certificate: to its clients ("server"), or to the services that it asks ("client")."""
_SOCKETS = f"{TYPE}.extensions.transport_sockets.tls.v3"
_TLS_SESSIONS = 8
"""TLS sessions that Envoy keeps for each cluster, so that it can resume one for a new connection to a predictor."""


def write_secrets(folder: Path, side: Side, sds_folder: Path = SDS_FOLDER, *, authority: Path | None = None) -> None:
    """Write the SDS files for mounted certificates.

    Parameters
    ----------
    folder
        The mounted Secret, with `tls.crt` and `tls.key`, and with `ca.crt` unless `authority` is set.
    side
        Where Envoy shows the certificate. A server without `authority` checks no clients.
    sds_folder
        The folder to write to.
    authority
        Another mounted folder, with the `ca.crt` to trust.

    Raises
    ------
    UserError
        If one of these files is missing.
    """
    sds_folder.mkdir(parents=True, exist_ok=True)
    authority_folder = authority or folder
    certificate = {
        "certificate_chain": _name_file(folder, CERTIFICATE),
        "private_key": _name_file(folder, PRIVATE_KEY),
        "watched_directory": {"path": str(folder)},
    }
    _write_secret(sds_folder, f"{side}-certificate", {"tls_certificate": certificate})
    if side == "server" and authority is None:
        return
    validation = {
        "trusted_ca": _name_file(authority_folder, AUTHORITY),
        "watched_directory": {"path": str(authority_folder)},
    }
    _write_secret(sds_folder, f"{side}-authority", {"validation_context": validation})


def build_server_socket(sds_folder: Path = SDS_FOLDER, *, clients: bool) -> Json:
    """Build the TLS socket of a listener.

    Parameters
    ----------
    sds_folder
        The folder of the SDS files.
    clients
        Whether clients must show a certificate of the authority.

    Returns
    -------
    dict
        The ``TransportSocket`` of a filter chain. It takes HTTP/2 and HTTP/1.1.
    """
    context: Json = {
        "tls_certificate_sds_secret_configs": [_name_secret(sds_folder, "server-certificate")],
        "alpn_protocols": ["h2", "http/1.1"],
    }
    if clients:
        context["validation_context_sds_secret_config"] = _name_secret(sds_folder, "server-authority")
    config = {
        "@type": f"{_SOCKETS}.DownstreamTlsContext",
        "common_tls_context": context,
        "require_client_certificate": clients,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def build_client_socket(host: str, sds_folder: Path = SDS_FOLDER) -> Json:
    """Build the TLS socket of a cluster.

    Parameters
    ----------
    host
        The name that the server's certificate must have. The authority must have signed it.
    sds_folder
        The folder of the SDS files. Envoy shows the client's certificate there.

    Returns
    -------
    dict
        The ``TransportSocket`` of a cluster.
    """
    subject = {"san_type": "DNS", "matcher": {"exact": host}}
    validation = {
        "default_validation_context": {"match_typed_subject_alt_names": [subject]},
        "validation_context_sds_secret_config": _name_secret(sds_folder, "client-authority"),
    }
    context = {
        "tls_certificate_sds_secret_configs": [_name_secret(sds_folder, "client-certificate")],
        "combined_validation_context": validation,
    }
    config = {
        "@type": f"{_SOCKETS}.UpstreamTlsContext",
        "common_tls_context": context,
        "sni": host,
        "max_session_keys": _TLS_SESSIONS,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _name_secret(sds_folder: Path, name: str) -> Json:
    """Name an SDS file to Envoy."""
    source = {"path_config_source": {"path": str(sds_folder / f"{name}.json")}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _name_file(folder: Path, name: str) -> Json:
    """Name a file of a mounted Secret to Envoy. Raises UserError if it is missing."""
    file = folder / name
    if not file.is_file():
        raise UserError(
            f"{file} is missing; the Secret that is mounted at {folder} needs the keys {CERTIFICATE}, {PRIVATE_KEY} "
            f"and {AUTHORITY}",
            code="gateway.certificate-missing",
            file=str(file),
            keys=[CERTIFICATE, PRIVATE_KEY, AUTHORITY],
        )
    return {"filename": str(file)}


def _write_secret(sds_folder: Path, name: str, secret: Json) -> None:
    kind = f"{_SOCKETS}.Secret"
    document = {"resources": [{"@type": kind, "name": name, **secret}]}
    (sds_folder / f"{name}.json").write_text(json.dumps(document, indent=1))
