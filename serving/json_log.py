"""Logs as JSON lines, a line an event, for whoever collects a cluster's logs."""

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
"""Message of the line in which a process of Endcap logs the error that it ends by."""
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Time, level and message, and whatever was given as `extra`; of a logged exception trace, code and fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line |= log_fields_of(record.exc_info[1])
        line |= {key: value for key, value in record.__dict__.items() if key not in _USUAL}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(redact_all(line), default=lambda value: redact(str(value)))


def log_fields_of(error: BaseException) -> dict[str, Any]:
    """An error as `extra` of a log line: its text as `error`; of Endcap's own also `code`, and `fields` if any."""
    if not isinstance(error, EndcapError):
        return {"error": str(error) or repr(error)}
    return {"error": str(error), "code": error.code, **({"fields": error.fields} if error.fields else {})}


def log_json_lines() -> None:
    """Every logger's lines, from INFO on, go to stdout. No secret leaves this process by them, or by a traceback."""
    redact_output()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
