"""The address of an online store on a server, read once and strictly.

redis-py takes what it does not understand for something else: a misspelt option becomes an argument that a connection
does not know, a data base that is no number becomes number 0. Neither is an error of its own before the first use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from endcap.addresses import split_server
from endcap.errors import UserError
from endcap.redaction import HIDDEN
from endcap.secrets import locate_mounted

PORT = 6379
CERTIFICATES = "ENDCAP_ONLINE_SECRET"
"""A folder with ca.crt and, where the server asks for a client's certificate, tls.crt and tls.key."""
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a number, such as 0")
    return int(text)


def _parse_switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("true or false")
    return _SWITCH[text.lower()]


def _check_file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError("a file that is there")
    return text


def _check_demand(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return text


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "db": _parse_number,
    "username": str,
    "password": str,
    "client_name": str,
}
"""What any address may say after its ?."""
_TLS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _check_demand,
    "ssl_check_hostname": _parse_switch,
    "ssl_ca_certs": _check_file,
    "ssl_certfile": _check_file,
    "ssl_keyfile": _check_file,
    "ssl_password": str,
}
"""What one of `rediss` may say besides."""


@dataclass(frozen=True)
class ServerAddress:
    """An address's meaning. options: of a connection, credentials among them. shown: the address without these."""

    tls: bool
    host: str
    port: int
    options: dict[str, Any] = field(repr=False)
    shown: str


def parse_address(url: str) -> ServerAddress:
    """Parse ``redis://USER:PASSWORD@HOST:PORT/DB?OPTION=VALUE``, or the same with ``rediss``.

    All but the host may be left out.

    Raises
    ------
    UserError
        The address is malformed. The message shows neither user nor password.
    """
    scheme = url.partition("://")[0]
    try:
        parts = split_server(url)
    except ValueError as error:
        raise _make_malformed_error(f"{scheme}://{HIDDEN}", str(error)) from None
    host, port = unquote(parts.hostname or "localhost"), parts.port or PORT
    # Brackets keep the numbers of IPv6 apart from the port.
    shown = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if parts.fragment:
        raise _make_malformed_error(shown, "a # after the host")
    allowed = {**_OPTIONS, **(_TLS if scheme == "rediss" else {})}
    credentials = {"username": parts.username, "password": parts.password}
    options: dict[str, Any] = {name: unquote(value) for name, value in credentials.items() if value}
    if database := parts.path.strip("/"):
        options["db"] = _parse_option(shown, "the data base", database, _parse_number)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            why = "; Endcap sets the times of connections itself" if "time" in name or "retry" in name else ""
            raise _make_malformed_error(
                shown, f"the unknown option {name}{why}; options are {', '.join(allowed)}", option=name
            )
        if name in options:
            raise _make_malformed_error(shown, f"{name} twice", option=name)
        options[name] = _parse_option(shown, name, value, allowed[name])
    if scheme == "rediss":
        options = {**_find_certificates(), **options}
    return ServerAddress(scheme == "rediss", host, port, options, shown)


def _find_certificates() -> dict[str, str]:
    """Files that a pod is given: of a Secret of the store's own, else by keys of the object store's."""
    names = {"ssl_ca_certs": "ca.crt", "ssl_certfile": "tls.crt", "ssl_keyfile": "tls.key"}
    own = {option: locate_mounted(key, folder=CERTIFICATES) for option, key in names.items()}
    if not any(own.values()):
        own = {option: locate_mounted(f"online-{key}") for option, key in names.items()}
    if not own["ssl_certfile"] or not own["ssl_keyfile"]:
        return {"ssl_ca_certs": own["ssl_ca_certs"]} if own["ssl_ca_certs"] else {}
    return {option: file for option, file in own.items() if file}


def _parse_option(shown: str, name: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise _make_malformed_error(shown, f"a wrong value of {name}; it must be {error}", option=name) from None


def _make_malformed_error(shown: str, what: str, **fields: str) -> UserError:
    return UserError(
        f"online store {shown}: found {what}. Allowed: redis://HOST:PORT/DB or rediss://HOST:PORT/DB (with TLS), "
        "USER:PASSWORD and @ before the host where there are such",
        code="online.address-malformed",
        found=shown,
        allowed=["redis", "rediss", "sqlite"],
        **fields,
    )
