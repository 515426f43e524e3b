"""What lies below an error of a client library: TLS that cannot be, or a page for people in place of an answer."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

_PAGE = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|title)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


def walk_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that led to it, the outermost first. Libraries also hand causes on as arguments."""
    waiting, visited = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in visited:
            continue
        visited.add(id(cause))
        yield cause
        below = (
            cause.__cause__,
            cause.__context__,
            getattr(cause, "reason", None),
            getattr(cause, "orig", None),
            *cause.args,
        )
        waiting += [another for another in below if isinstance(another, BaseException)]


def explain_tls_failure(error: BaseException) -> str | None:
    """Why there is no TLS with a server, such as an unknown authority; None where that is not so, or may pass."""
    for cause in walk_causes(error):
        # A connection that ends while it is made is a server that restarts.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return getattr(cause, "verify_message", "") or cause.reason or str(cause)
    return None


def find_page_title(content: str, kind: str = "") -> str | None:
    """The title of a page for people, such as a login page, empty where it has none; None where the content is no page.

    kind: the answer's Content-Type.
    """
    if "html" not in kind.lower() and not _PAGE.match(content):
        return None
    title = _TITLE.search(content)
    return " ".join(title[1].split())[:80] if title else ""
