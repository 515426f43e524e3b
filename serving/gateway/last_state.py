"""The last state that the xDS service knew, in a file that outlives it: who answers, what is listed if nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError
from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream


@dataclass(frozen=True)
class LastState:
    splits: Mapping[str, Split]
    """Who answers, by recommender."""
    in_use: list[Upstream]
    """All that an Envoy may still send requests to."""


def write_last_state(file: Path, state: LastState) -> None:
    """In one step: a reader finds the state before or this one. Raises OSError."""
    draft = file.with_name(f".{file.name}")
    draft.write_text(json.dumps(asdict(state), indent=1))
    draft.replace(file)


def read_last_state(file: Path) -> LastState | None:
    """What was written; None where nothing was. Raises IntegrityError where it cannot be read."""
    try:
        document = json.loads(file.read_text())
        splits = {name: _split(**split) for name, split in document["splits"].items()}
        return LastState(splits, [Upstream(**upstream) for upstream in document["in_use"]])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"the last state in {file} cannot be read ({error!r}); it is written again",
            code="gateway.state-unreadable",
            file=str(file),
            reason=repr(error),
        ) from None


def _split(terms: Any, **document: Any) -> Split:
    parts = {
        name: Upstream(**document.pop(name)) if document[name] else document.pop(name)
        for name in ("stable", "canary", "shadow")
    }
    return Split(**parts, **document, terms=GatewaySettings.from_json(terms))
