"""The settings of access that a gateway gets when it starts, and the policy as it is now."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError, UserError
from endcap_serving.gateway.access.access import LOCAL_HOSTS, Access
from endcap_serving.gateway.access.policy import EVERYTHING, RANKINGS, Policy, Rate
from endcap_serving.gateway.access.policy_file import PolicyFile

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")
_HOST = re.compile(r"(\*\.)?[a-z0-9.-]+|\[[0-9a-f:]+\]")


class AccessSettings:
    """Joins the settings of the start with the policy of now.

    Parameters
    ----------
    source
        Where the policy comes from; None: everyone gets rankings.
    settings
        All settings except the policy; None: those of `Access`.
    """

    def __init__(self, source: PolicyFile | None = None, settings: Access | None = None) -> None:
        self._source = source or PolicyFile(default=RANKINGS)
        self._settings = settings or Access()
        self._access: Access | None = None

    @classmethod
    def from_options(cls, options: argparse.Namespace, default: Policy) -> AccessSettings:
        """Make the settings from the options of `add_access_options`. default: the policy if they name no file."""
        settings = Access(origins=tuple(options.allow_origin), hosts=tuple(options.host_name), rate=options.rate)
        return cls(PolicyFile(options.access, default), settings)

    @property
    def access(self) -> Access | None:
        """Who may do what now; None: the policy is not known yet, so no request may be taken."""
        policy = self._source.policy
        if policy is None:
            return None
        if self._access is None or self._access.policy is not policy:
            self._access = replace(self._settings, policy=policy)
        return self._access

    @property
    def error(self) -> EndcapError | None:
        """Why the policy is not the newest one; None: it is."""
        return self._source.error

    def describe_health(self) -> dict[str, Any]:
        """Describe the policy for a health page: whether one is known, and the code of the error with the newest."""
        is_known = self._source.policy is not None
        error = self._source.error
        return {"known": is_known, **({"error": error.code} if error else {})}


def make_local_settings(host: str, file: Path | None = None, access: Access | None = None) -> AccessSettings:
    """Make the settings of a gateway on this machine.

    Parameters
    ----------
    host
        The address that it listens on.
    file
        The access policy, if any.
    access
        All settings except the policy; None: those of `Access`.

    Returns
    -------
    AccessSettings
        Without a file, a gateway on loopback allows everything to requests with a local Host header: they come from
        this machine's user. On another address it allows rankings only, and takes any Host header unless `access` names
        some.
    """
    access = access or Access()
    is_local = _is_loopback(host)
    hosts = (*LOCAL_HOSTS, *access.hosts) if is_local or access.hosts else ()
    return AccessSettings(PolicyFile(file, EVERYTHING if is_local else RANKINGS), replace(access, hosts=hosts))


def parse_access(origins: Sequence[str], hosts: Sequence[str], rate: str) -> Access:
    """Parse all settings except the policy.

    Parameters
    ----------
    origins
        Origins such as https://shop.example.com.
    hosts
        Host names without a port.
    rate
        ``N:BURST``; empty: no limit.

    Returns
    -------
    Access
        The settings.

    Raises
    ------
    UserError
        If a value is wrong.
    """
    try:
        return Access(
            origins=tuple(map(parse_origin, origins)),
            hosts=tuple(map(parse_host, hosts)),
            rate=parse_rate(rate) if rate else None,
        )
    except argparse.ArgumentTypeError as error:
        raise UserError(str(error), code="access.option-invalid") from None


def require_access(settings: AccessSettings) -> Access:
    """Return who may do what. Raises UserError or StorageError if the policy cannot be used."""
    access = settings.access
    if access is None:
        assert settings.error is not None
        raise settings.error
    return access


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of access to a command line. A repeated option adds another value."""
    add = parser.add_argument
    add("--access", type=Path, metavar="FILE", help="the access policy; left out: everyone gets rankings only")
    origin = "an origin whose pages may send requests, such as https://shop.example.com; may be repeated"
    add("--allow-origin", type=parse_origin, action="append", default=[], metavar="ORIGIN", help=origin)
    host = "a Host header to answer; may be repeated; left out: any"
    add("--host-name", type=parse_host, action="append", default=[], metavar="NAME", help=host)
    add(
        "--rate",
        type=parse_rate,
        metavar="N:BURST",
        help="how many requests each client may send: N a second, BURST at once",
    )


def format_options(options: argparse.Namespace) -> list[str]:
    """Write the options of `add_access_options` as arguments for another program."""
    arguments = [f"--access={options.access}"] if options.access else []
    arguments += [f"--allow-origin={origin}" for origin in options.allow_origin]
    arguments += [f"--host-name={host}" for host in options.host_name]
    return [*arguments, *([f"--rate={options.rate.perSecond}:{options.rate.burst}"] if options.rate else [])]


def parse_origin(text: str) -> str:
    """Check an origin. Raises argparse.ArgumentTypeError."""
    if not _ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: an origin such as https://shop.example.com")
    return text


def parse_host(text: str) -> str:
    """Check a host name. Raises argparse.ArgumentTypeError."""
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a host name in small letters, without a port")
    return text


def parse_rate(text: str) -> Rate:
    """Parse ``N:BURST``. Raises argparse.ArgumentTypeError."""
    per_second, _, burst = text.partition(":")
    try:
        return Rate(perSecond=int(per_second), burst=int(burst))
    except ValueError:
        allowed = "allowed: N:BURST, both whole numbers of at least 1, such as 50:100"
        raise argparse.ArgumentTypeError(f"found {text!r}; {allowed}") from None
