"""Remove secrets from tracebacks, log records and warnings.

Libraries write their arguments there, such as a database's address with a password. Each of Endcap's programs calls
`redact_output` once, before it does anything else.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from functools import cache
from types import TracebackType
from typing import Any

from endcap.redaction import redact


def format_traceback(error: BaseException) -> str:
    """Return the error's traceback as Python prints it, without secrets."""
    return redact("".join(traceback.format_exception(error)))


@cache
def redact_output() -> None:
    """Remove secrets from the uncaught errors, log records and warnings that this process prints."""
    sys.excepthook = _print_uncaught
    threading.excepthook = _print_thread_error
    make, write = logging.getLogRecordFactory(), warnings.formatwarning

    def record(*positional: Any, **named: Any) -> logging.LogRecord:
        entry = make(*positional, **named)
        try:
            text = entry.getMessage()
        except (TypeError, ValueError):  # the caller's mistake, which logging reports itself
            return entry
        if (shown := redact(text)) != text:
            entry.msg, entry.args = shown, None
        return entry

    def warning(*positional: Any, **named: Any) -> str:
        return redact(write(*positional, **named))

    logging.setLogRecordFactory(record)
    warnings.formatwarning = warning


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr, flush=True)


def _print_thread_error(of: threading.ExceptHookArgs) -> None:
    if of.exc_value is not None and not issubclass(of.exc_type, SystemExit):
        print(f"in thread {of.thread.name if of.thread else '?'}:", file=sys.stderr)
        _print_uncaught(of.exc_type, of.exc_value, of.exc_traceback)
