"""Old names of fields that own models use: they work for this release, with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


def rename_fields(**names: str) -> Callable[[_Class], _Class]:
    """Let a dataclass take and show fields by their old names, too: ``rename_fields(old="new")``."""

    def decorate(kind: _Class) -> _Class:
        init = kind.__init__  # type: ignore[misc]

        @functools.wraps(init)
        def take(self: Any, *arguments: Any, **fields: Any) -> None:
            for old, new in names.items():
                if old in fields:
                    _warn(kind, old, new)
                    fields[new] = fields.pop(old)
            init(self, *arguments, **fields)

        kind.__init__ = take  # type: ignore[misc]
        for old, new in names.items():
            setattr(kind, old, property(functools.partial(_show, kind, old, new)))
        return kind

    return decorate


def _show(kind: type, old: str, new: str, value: Any) -> Any:
    _warn(kind, old, new)
    return getattr(value, new)


def _warn(kind: type, old: str, new: str) -> None:
    words = f"{kind.__name__}.{old} is called {new}; the old name goes with the next release"
    warnings.warn(words, DeprecationWarning, stacklevel=3)
