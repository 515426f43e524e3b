"""What every address with credentials must keep to, so that no two readers take it for different ones.

A password with / ? or # in it ends the host early: URL parsers then take a part of the password for the host or the
port, and quote it. So these letters, @ and a lone % are refused in user and password, unless they are written by their
numbers, as Python's `urllib.parse.quote(password, safe="")` writes them.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

ENCODED = "in user and password write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25"
_LONE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTED = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[^\[\]:@]*")


def split_server(address: str) -> SplitResult:
    """The parts of a server's address, `scheme://[user:password@]host[:port]/…`.

    Raises ValueError, whose text says what is wrong and shows nothing of the address.
    """
    rest = address.partition("://")[2]
    if _UNPRINTED.search(address):
        raise ValueError("a blank or a line break inside")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    credentials, _, place = authority.rpartition("@")
    if "@" in rest[len(authority) :] or "@" in credentials or _LONE.search(credentials):
        raise ValueError(f"credentials that can be read in two ways; {ENCODED}")
    host, _, port = place.rpartition(":") if re.search(r":[^\]]*$", place) else (place, "", "")
    if not _HOST.fullmatch(host):
        raise ValueError(f"a host that is none; a host of numbers is written in brackets, and {ENCODED}")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"a port that is no number from 1 to 65535; {ENCODED}")
    try:
        return urlsplit(address)
    except ValueError:  # its text quotes what may be a password
        raise ValueError(f"no address that can be read; {ENCODED}") from None
