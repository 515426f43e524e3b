"""What a gateway is told of access as it starts, and the policy of the moment beside it."""

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
    """access: who may do what now; None: not known yet, so that nothing is open."""

    def __init__(self, source: PolicyFile | None = None, usual: Access | None = None) -> None:
        """usual: all but the policy."""
        self._source = source or PolicyFile(default=RANKINGS)
        usual = usual or Access()
        self._origins, self._hosts, self._rate = usual.origins, usual.hosts, usual.rate
        self._known: Access | None = None

    @classmethod
    def of(cls, options: argparse.Namespace, default: Policy) -> AccessSettings:
        """What was given by `add_options`. default: the policy where no file is given."""
        usual = Access(origins=tuple(options.allow_origin), hosts=tuple(options.host_name), rate=options.rate)
        return cls(PolicyFile(options.access, default), usual)

    @property
    def access(self) -> Access | None:
        policy = self._source.policy
        if policy is None:
            return None
        if self._known is None or self._known.policy is not policy:
            self._known = Access(policy, self._origins, self._hosts, self._rate)
        return self._known

    @property
    def error(self) -> EndcapError | None:
        """Why the newest policy is not followed; None where it is."""
        return self._source.error

    def describe_health(self) -> dict[str, Any]:
        """For a health page: whether a policy is known, and the code of why the newest is not followed."""
        known = self._source.policy is not None
        error = self._source.error
        return {"known": known, **({"error": error.code} if error else {})}


def make_local_settings(host: str, file: Path | None = None, access: Access | None = None) -> AccessSettings:
    """Of a gateway on this machine that listens on `host`.

    On loopback whoever asks by a local name may do everything: it is this machine's user. Beyond it, all get rankings
    and nothing else, unless a file says more, and any Host header is answered unless some are named.
    """
    access = access or Access()
    local = _is_loopback(host)
    hosts = (*LOCAL_HOSTS, *access.hosts) if local or access.hosts else ()
    return AccessSettings(PolicyFile(file, EVERYTHING if local else RANKINGS), replace(access, hosts=hosts))


def parse_access(origins: Sequence[str], hosts: Sequence[str], rate: str) -> Access:
    """What options say, but for the policy. Raises UserError for a value that is none."""
    try:
        return Access(
            origins=tuple(map(parse_origin, origins)),
            hosts=tuple(map(parse_host, hosts)),
            rate=parse_rate(rate) if rate else None,
        )
    except argparse.ArgumentTypeError as error:
        raise UserError(str(error), code="access.option-invalid") from None


def require_access(settings: AccessSettings) -> Access:
    """Who may do what, known now. Raises UserError or StorageError where the policy cannot be used."""
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
    """Options of access; repeated ones add up."""
    add = parser.add_argument
    add("--access", type=Path, metavar="FILE", help="the access policy; left out: all get rankings, and nothing else")
    origin = "an origin whose pages may ask, such as https://shop.example.com; may be repeated"
    add("--allow-origin", type=parse_origin, action="append", default=[], metavar="ORIGIN", help=origin)
    host = "a Host header that is answered; may be repeated; left out: any"
    add("--host-name", type=parse_host, action="append", default=[], metavar="NAME", help=host)
    add("--rate", type=parse_rate, metavar="N:BURST", help="requests a second of each client, and how many at once")


def format_options(options: argparse.Namespace) -> list[str]:
    """What `add_options` has read, as words for another program that takes them."""
    words = [f"--access={options.access}"] if options.access else []
    words += [f"--allow-origin={origin}" for origin in options.allow_origin]
    words += [f"--host-name={host}" for host in options.host_name]
    return [*words, *([f"--rate={options.rate.perSecond}:{options.rate.burst}"] if options.rate else [])]


def parse_origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: an origin such as https://shop.example.com")
    return text


def parse_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: a host name without a port, in small letters")
    return text


def parse_rate(text: str) -> Rate:
    per_second, _, burst = text.partition(":")
    try:
        return Rate(perSecond=int(per_second), burst=int(burst))
    except ValueError:
        allowed = "allowed: N:BURST of whole numbers from 1 on, such as 50:100"
        raise argparse.ArgumentTypeError(f"found {text!r}; {allowed}") from None
