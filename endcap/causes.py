"""What lies below an error of a client library: TLS that cannot be, or a page for people in place of an answer."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

_PAGE = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|title)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, the outermost first. Libraries also hand causes on as arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        below = (one.__cause__, one.__context__, getattr(one, "reason", None), getattr(one, "orig", None), *one.args)
        waiting += [cause for cause in below if isinstance(cause, BaseException)]


def tls_trouble(error: BaseException) -> str | None:
    """Why there is no TLS with a server, such as an unknown authority; None where that is not so, or may pass."""
    for one in causes(error):
        # A connection that ends while it is made is a server that restarts.
        if isinstance(one, ssl.SSLError) and not isinstance(one, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return getattr(one, "verify_message", "") or one.reason or str(one)
    return None


def page_title(content: str, kind: str = "") -> str | None:
    """The title of a page for people, such as a login page, empty where it has none; None where the content is no page.

    kind: the answer's Content-Type.
    """
    if "html" not in kind.lower() and not _PAGE.match(content):
        return None
    title = _TITLE.search(content)
    return " ".join(title[1].split())[:80] if title else ""
