"""How an S3 server is reached: read from the environment, once, here."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from endcap.addresses import split_server
from endcap.errors import UserError
from endcap.redaction import HIDDEN
from endcap.secrets import AWS, locate_mounted, read_first, read_variable

SECRET = "endcap-store"  # noqa: S105 (a name)
"""The Kubernetes Secret whose keys become these variables in pods."""
ENDPOINTS = ("ENDCAP_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
"""The last as KServe has it: host and port, spoken to without TLS where S3_USE_HTTPS is 0."""
REGIONS = ("ENDCAP_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
CAS = ("ENDCAP_S3_CA", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
CONDITIONS = "ENDCAP_S3_CONDITIONS"
"""`none`: the server knows no conditional writes; whoever says so sees to it that no two processes change anything."""
CA_KEY = "ca.crt"
"""Of the mounted Secret: certificates of a private authority."""
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
    CONDITIONS,
)
"""Keys of the store's Secret, those that KServe reads among them; what it lacks is not set."""
MOUNTED = "/var/run/secrets/endcap/store"
"""Where the store's Secret lies as files, for the certificates that it may hold."""


@dataclass(frozen=True)
class S3Settings:
    """The settings of one S3 server."""

    host: str
    """Host and, where it is not the scheme's own, port."""
    secure: bool
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    ca: str | None = None
    """A file of certificate authorities; None: the usual ones."""
    alone: bool = False
    """Whether documents are changed without a server that keeps two writers apart."""

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"{'https' if self.secure else 'http'}://{self.host}"


def read_s3_settings(environment: Mapping[str, str] | None = None) -> S3Settings:
    """Read the settings from environment variables.

    Parameters
    ----------
    environment
        The variables; None: those of this process.

    Returns
    -------
    S3Settings
        The settings.

    Raises
    ------
    UserError
        Variables are missing or wrong. The message names each.
    """
    endpoint = read_first(ENDPOINTS[:-1], environment) or _read_kserve_endpoint(environment)
    keys = {name: read_variable(name, environment) for name in AWS}
    missing = [] if endpoint else [ENDPOINTS[0]]
    missing += [name for name in AWS[:2] if not keys[name]]
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
    host, secure = _parse_endpoint(endpoint)
    region = read_first(REGIONS, environment) or (None if "amazonaws." in host else "us-east-1")
    _check_signed(keys, region)
    conditions = read_variable(CONDITIONS, environment)
    if conditions not in ("", "none"):
        raise UserError(
            f"{CONDITIONS}: found {conditions!r}; allowed: none, for a server that knows no conditional writes, or "
            "leave it out",
            code="store.conditions-malformed",
            variable=CONDITIONS,
            found=conditions,
        )
    return S3Settings(
        host=host,
        secure=secure,
        access_key=keys[AWS[0]],
        secret_key=keys[AWS[1]],
        session_token=keys[AWS[2]] or None,
        # Servers other than Amazon's answer to this region unless told otherwise; asking would take a right of its own.
        region=region,
        ca=_find_certificates(environment),
        alone=conditions == "none",
    )


def _check_signed(keys: Mapping[str, str], region: str | None) -> None:
    """Raise UserError for what cannot stand in a request's headers: the client would fail with an error of Python's."""
    for name, value in keys.items():
        if not value.isascii():
            raise UserError(
                f"{name}: its value has letters beyond ASCII; allowed: the key as the server gave it",
                code="store.key-malformed",
                variable=name,
            )
    if region and not re.fullmatch(r"[A-Za-z0-9_-]+", region):
        raise UserError(
            f"{REGIONS[0]}: found {region!r}; allowed: a region's name, such as eu-central-1",
            code="store.region-malformed",
            variable=REGIONS[0],
            found=region,
        )


def _find_certificates(environment: Mapping[str, str] | None) -> str | None:
    """The file of certificates. Raises UserError where it is none."""
    own = read_variable(CAS[0], environment) or locate_mounted(CA_KEY, environment)
    file = own or read_first(CAS[1:], environment)
    if not file:
        return None
    if not Path(file).is_file():
        raise UserError(
            f"{CAS[0]}: found {file}, which is no file; name a file of certificates in PEM, or leave it out",
            code="store.certificates-not-found",
            variable=CAS[0],
            found=file,
        )
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl's own among them
        raise UserError(
            f"{CAS[0]}: {file} cannot be read as certificates ({error}); allowed: a file in PEM, which begins with "
            "-----BEGIN CERTIFICATE-----",
            code="store.certificates-unreadable",
            variable=CAS[0],
            found=file,
            reason=str(error),
        ) from None
    return file


def _read_kserve_endpoint(environment: Mapping[str, str] | None) -> str:
    endpoint = read_variable(ENDPOINTS[-1], environment)
    plain = endpoint and "://" not in endpoint and read_variable("S3_USE_HTTPS", environment) == "0"
    return f"http://{endpoint}" if plain else endpoint


def _parse_endpoint(text: str) -> tuple[str, bool]:
    """Host with port, and whether it is spoken to by TLS: http:// switches that off."""
    allowed = "host, host:port, http://host:port or https://host:port"
    try:
        parts = split_server(text if "://" in text else f"https://{text}")
        more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or bool(more)
    except ValueError:
        wrong = True
    if wrong:
        # Whatever stands before an @ may be a key.
        shown = HIDDEN + text[text.rindex("@") :] if "@" in text else text
        raise UserError(
            f"{ENDPOINTS[0]}: found {shown!r}; allowed: {allowed}. The bucket is named in the store's address, keys by "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            code="store.endpoint-malformed",
            variable=ENDPOINTS[0],
            found=shown,
        )
    return parts.netloc, parts.scheme == "https"
