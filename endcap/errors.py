"""Every error that Endcap raises on purpose.

EndcapError
├── UserError             the input is wrong; trying again does not help
│   ├── SpecError         a spec file is wrong; holds every problem, not only the first
│   ├── DataError         input data is wrong: columns, times, too many bad rows
│   ├── RequestError      a ranking request is wrong (HTTP 400)
│   ├── NotFoundError     nothing is stored under a name or an address
│   └── DivergedError     a training's loss stopped being a number
├── IntegrityError        something stored is damaged or incomplete
├── StorageError          the disk or object store refused: full, read-only, no permission
├── ClusterError          a Kubernetes cluster refused or lacks something, or work in it failed
├── OnlineStoreError      the online store is unavailable, slow or full; serving continues without it
└── TransientError        the failure may pass: the caller may try again

A message says what was wrong, what is allowed, and the next thing to do. A code names the fault for programs: it is
stable, and `docs/errors.md` lists each with its cause and its remedy. Fields hold the values that the message names.
Neither holds a secret: `endcap.redaction` takes them out of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from endcap.redaction import redact, redact_all

UNNAMED = "unnamed"
"""The code of an error that no code names: of a user's own step, and in run records of earlier releases."""


class EndcapError(Exception):
    """Base of all errors that are reported to a person without a traceback.

    Parameters
    ----------
    message
        The text for a person.
    code
        The fault's stable name, such as ``store.not-found``: the part of Endcap, a dot, the fault. All of Endcap's own
        errors have a code. A user's own step may leave it out.
    fields
        The values that the message names, as JSON can hold them.

    Notes
    -----
    Secrets are removed from the message and from the fields.

    Examples
    --------
    >>> try:
    ...     endcap.open("no-such-spec")
    ... except endcap.EndcapError as error:
    ...     print(error.code, error.fields["spec"])
    spec.not-found no-such-spec
    """

    def __init__(self, message: str, /, *, code: str = UNNAMED, **fields: Any) -> None:
        super().__init__(redact(message))
        self.code = code
        self.fields: dict[str, Any] = redact_all(fields)

    def to_json(self) -> dict[str, Any]:
        """The error as a document: `code`, `message` and `fields`."""
        return {"code": self.code, "message": str(self), "fields": self.fields}

    # Errors cross processes: an exception with keyword arguments is not unpickled by itself.
    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), str(self), self.__dict__)

    @classmethod
    def _restored(cls, message: str, state: dict[str, Any]) -> Self:
        error = cls.__new__(cls, message)
        Exception.__init__(error, message)
        error.__dict__.update(state)
        return error


def _restore(kind: type[EndcapError], message: str, state: dict[str, Any]) -> EndcapError:
    return kind._restored(message, state)


def append_code(message: str, code: str) -> str:
    """Add the code to the end of the message's first line, as people see it."""
    if code == UNNAMED:
        return message
    first, newline, rest = message.partition("\n")
    return f"{first} [{code}]{newline}{rest}"


def describe_error(error: EndcapError) -> dict[str, Any]:
    """Return the error as a document for another process: `to_json`, and as `kind` a class of this module."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    return {"kind": kind.__name__, **error.to_json()}


def rebuild_error(document: Mapping[str, Any]) -> EndcapError:
    """Make the error again from the document that `describe_error` returned."""
    fields = document["fields"]
    kind: type[EndcapError] = globals()[document["kind"]]
    if kind is SpecError:
        return SpecError([Problem(**problem) for problem in fields["problems"]])
    return _restore(kind, document["message"], {"code": document["code"], "fields": fields})


class UserError(EndcapError):
    """The input is wrong; trying again with the same input does not help.

    Examples
    --------
    >>> try:
    ...     endcap.open("trial", store=folder).train()
    ... except endcap.UserError as error:
    ...     print(error.code)
    project.input-missing
    """


ProblemCode = Literal[
    "circle",
    "conflict",
    "duplicate",
    "malformed",
    "missing",
    "newer-version",
    "no-model",
    "no-preprocessor",
    "not-allowed",
    "not-found",
    "older-version",
    "renamed-key",
    "too-large",
    "unknown-key",
    "unknown-name",
    "unreadable",
    "unset-variable",
    "wrong-type",
]
"""What may be wrong at a key of a spec; `docs/errors.md` says what each means."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec: its place, the wrong value, and what is allowed."""

    file: str
    key: str
    found: str
    allowed: str
    hint: str = ""
    code: ProblemCode = field(kw_only=True)

    def __str__(self) -> str:
        text = f"{self.file}: {self.key or '(top level)'}: found {self.found}; allowed: {self.allowed}"
        return f"{text}. {self.hint}" if self.hint else text


class SpecError(UserError):
    """One or more mistakes in spec files, all of them at once.

    Attributes
    ----------
    problems
        Each mistake with its file, key, value and what is allowed.

    Examples
    --------
    >>> try:
    ...     endcap.open("trial", sets=["seed=-1", "model.sampel=3"])
    ... except endcap.SpecError as error:
    ...     print([problem.key for problem in error.problems])
    ['seed', 'model.sampel']
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = [Problem(**redact_all(asdict(problem))) for problem in problems]
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the spec:"
        super().__init__(
            "\n".join([head, *(f"  - {problem}" for problem in self.problems)]),
            code="spec.invalid",
            problems=[asdict(problem) for problem in self.problems],
        )


class DataError(UserError):
    """Input data cannot be used as the shop's file describes it."""


class RequestError(UserError):
    """A ranking request is malformed."""


class NotFoundError(UserError):
    """Nothing is stored under this name or address."""


class DivergedError(UserError):
    """A training's loss stopped being a number; other settings may work."""


class IntegrityError(EndcapError):
    """Something stored is damaged or incomplete."""


class StorageError(EndcapError):
    """The disk or the object store refused a read or a write."""


class ClusterError(EndcapError):
    """A Kubernetes cluster refused or lacks something, or work in it failed."""


class OnlineStoreError(EndcapError):
    """The online store is unavailable, slow or full."""


class RunInterruptedError(EndcapError):
    """A person interrupted the run."""


class TransientError(EndcapError):
    """A failure that may pass when tried again."""
