"""Logs as JSON lines, one line for each event, so that a cluster's log collector can read them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from endcap.errors import EndcapError
from endcap.output_redaction import redact_output
from endcap.redaction import redact, redact_all

CANNOT_RUN = "cannot run"
"""The message of the log line that says by which error a process of Endcap ends."""
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON.

    The line has the time, the level, the logger, the message and the values of `extra`. If an exception was logged, it
    also has the error's text, code and fields, and the traceback. Secrets are redacted.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line |= make_log_fields(record.exc_info[1])
        line |= {key: value for key, value in record.__dict__.items() if key not in _USUAL}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(redact_all(line), default=lambda value: redact(str(value)))


def make_log_fields(error: BaseException) -> dict[str, Any]:
    """Make the `extra` of a log line about an error.

    Returns
    -------
    dict
        The error's text under `error`. For an error of Endcap's also `code`, and `fields` if there are any.
    """
    if not isinstance(error, EndcapError):
        return {"error": str(error) or repr(error)}
    return {"error": str(error), "code": error.code, **({"fields": error.fields} if error.fields else {})}


def log_json_lines() -> None:
    """Send the lines of every logger, from INFO on, to stdout as JSON, and redact secrets in logs and tracebacks."""
    redact_output()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
