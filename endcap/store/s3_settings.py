"""How an S3 server is reached: read from the environment, once, here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from endcap.errors import UserError

SECRET = "endcap-store"  # noqa: S105 (a name)
"""The Kubernetes Secret whose keys become these variables in pods."""
ENDPOINTS = ("ENDCAP_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
"""The last as KServe has it: host and port, spoken to without TLS where S3_USE_HTTPS is 0."""
REGIONS = ("ENDCAP_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
CAS = ("ENDCAP_S3_CA", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
MOUNT = "ENDCAP_S3_SECRET"
"""A folder with the Secret's keys as files: certificates of a private authority are its key `ca.crt`."""
CA_KEY = "ca.crt"
SECRET_KEYS = (
    "ENDCAP_S3_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "S3_ENDPOINT",
    "S3_USE_HTTPS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "ENDCAP_S3_REGION",
    "AWS_DEFAULT_REGION",
    "ENDCAP_S3_CA",
)
"""Keys of the store's Secret, those that KServe reads among them; what it lacks is not set."""
MOUNTED = "/var/run/secrets/endcap/store"
"""Where the store's Secret lies as files, for the certificates that it may hold."""


@dataclass(frozen=True)
class S3Settings:
    """Of one S3 server."""

    host: str
    """Host and, where it is not the scheme's own, port."""
    secure: bool
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    ca: str | None = None
    """A file of certificate authorities; None: the usual ones."""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}"


def from_environment(environment: Mapping[str, str] | None = None) -> S3Settings:
    """The settings that the environment holds. Raises UserError that names every variable that is missing or wrong."""
    given = os.environ if environment is None else environment
    endpoint = _first(given, ENDPOINTS[:-1]) or _kserves_endpoint(given)
    missing = [] if endpoint else [ENDPOINTS[0]]
    missing += [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not given.get(name)]
    if missing or not endpoint:
        examples = {ENDPOINTS[0]: " (such as https://s3.eu-central-1.amazonaws.com or minio:9000)"}
        raise UserError(
            f"an s3:// address needs {' and '.join(name + examples.get(name, '') for name in missing)} in the "
            f"environment; in a cluster {'it is a key' if len(missing) == 1 else 'they are keys'} of the same name in "
            f"the Secret {SECRET}",
            code="store.settings-missing",
            variables=missing,
            secret=SECRET,
        )
    host, secure = _endpoint(endpoint)
    ca = given.get(CAS[0]) or _mounted_ca(given) or _first(given, CAS[1:])
    if ca and not Path(ca).is_file():
        raise UserError(
            f"{CAS[0]}: found {ca}, which is no file; name a file of certificates in PEM, or leave it out",
            code="store.certificates-not-found",
            variable=CAS[0],
            found=ca,
        )
    return S3Settings(
        host=host,
        secure=secure,
        access_key=given["AWS_ACCESS_KEY_ID"],
        secret_key=given["AWS_SECRET_ACCESS_KEY"],
        session_token=given.get("AWS_SESSION_TOKEN") or None,
        # Servers other than Amazon's answer to this region unless told otherwise; asking would take a right of its own.
        region=_first(given, REGIONS) or (None if "amazonaws." in host else "us-east-1"),
        ca=ca,
    )


def _kserves_endpoint(given: Mapping[str, str]) -> str | None:
    endpoint = given.get(ENDPOINTS[-1])
    plain = endpoint and "://" not in endpoint and given.get("S3_USE_HTTPS") == "0"
    return f"http://{endpoint}" if plain else endpoint


def _mounted_ca(given: Mapping[str, str]) -> str | None:
    folder = given.get(MOUNT)
    file = Path(folder) / CA_KEY if folder else None
    return str(file) if file is not None and file.is_file() else None


def _endpoint(given: str) -> tuple[str, bool]:
    """Host with port, and whether it is spoken to by TLS: http:// switches that off."""
    parts = urlsplit(given if "://" in given else f"https://{given}")
    allowed = "host, host:port, http://host:port or https://host:port"
    try:
        more = parts.path.strip("/") or parts.query or parts.username
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or bool(more) or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise UserError(
            f"{ENDPOINTS[0]}: found {given!r}; allowed: {allowed}. The bucket is named in the store's address",
            code="store.endpoint-malformed",
            variable=ENDPOINTS[0],
            found=given,
        )
    return parts.netloc, parts.scheme == "https"


def _first(given: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((given[name] for name in names if given.get(name)), None)
