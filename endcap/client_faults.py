"""Explain errors of HTTP clients: a server without usable TLS, or a web page in place of an answer."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

_PAGE = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|title)\b", re.IGNORECASE | re.DOTALL
)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


def walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the outermost first. Some libraries pass a cause as an argument of the error."""
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
    """Say why a server has no usable TLS, such as an unknown authority; None if it has, or the fault may pass."""
    for cause in walk_causes(error):
        # A connection that ends while it is made is a server that restarts.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return getattr(cause, "verify_message", "") or cause.reason or str(cause)
    return None


def find_page_title(content: str, kind: str = "") -> str | None:
    """Return the title of a web page, such as a login page.

    Parameters
    ----------
    content
        The body of an answer.
    kind
        The answer's Content-Type.

    Returns
    -------
    str or None
        The title, empty if the page has none; None if the content is no web page.
    """
    if "html" not in kind.lower() and not _PAGE.match(content):
        return None
    title = _TITLE.search(content)
    return " ".join(title[1].split())[:80] if title else ""
