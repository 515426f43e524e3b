"""The last state that the xDS service knew, in a file that outlives it: who answers whom, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError

from .gateway import Split, Upstream


def write(file: Path, splits: Mapping[str, Split]) -> None:
    """In one step: a reader finds the state before or this one. Raises OSError."""
    draft = file.with_name(f".{file.name}")
    draft.write_text(json.dumps({name: asdict(split) for name, split in splits.items()}, indent=1))
    draft.replace(file)


def read(file: Path) -> dict[str, Split] | None:
    """What was written; None where nothing was. Raises IntegrityError where it cannot be read."""
    try:
        return {name: _split(**split) for name, split in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the last state in {file} cannot be read ({error}); it is written anew") from None


def _split(stable: Any, canary: Any, share: float, salt: str) -> Split:
    return Split(Upstream(**stable) if stable else None, Upstream(**canary) if canary else None, share, salt)
