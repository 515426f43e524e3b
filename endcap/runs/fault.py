"""What went wrong in a step or a run, as it crosses processes and is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from endcap.errors import UNNAMED, EndcapError, append_code
from endcap.redaction import redact


@dataclass(frozen=True)
class Fault:
    """An error without its exception.

    Parameters
    ----------
    message
        For a person.
    code
        Its stable name, see `docs/errors.md`.
    fields
        What the message speaks of, as values of JSON.
    """

    message: str
    code: str = UNNAMED
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Make the fault of an exception. One that is not an EndcapError has the code `step.crashed`."""
        if isinstance(error, EndcapError):
            # A field that JSON cannot hold must not lose the rest.
            return cls(str(error), code=error.code, fields=json.loads(json.dumps(error.fields, default=str)))
        kind = type(error).__name__
        return Fault(redact(f"{kind}: {error}"), code="step.crashed", fields={"type": kind})

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self | None:
        """Read the fault in the document of a step or a run. Earlier releases wrote only its message, as `cause`."""
        if error := document.get("error"):
            return cls.from_json(error)
        return cls(document["cause"]) if document.get("cause") else None

    @classmethod
    def from_json(cls, error: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(error["message"], error.get("code", UNNAMED), error.get("fields") or {})

    def to_json(self) -> dict[str, Any]:
        """Return `code`, `message` and `fields`, as `EndcapError.to_json` does."""
        return {"code": self.code, "message": self.message, "fields": dict(self.fields)}

    def __str__(self) -> str:
        return append_code(self.message, self.code)
