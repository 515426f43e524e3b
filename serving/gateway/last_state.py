"""The last state of the xDS service, in a file that outlives it: who answers, and the lists for when nobody does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from endcap.errors import DataError, IntegrityError
from endcap.experiments.layout import Layout
from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream


@dataclass(frozen=True)
class LastState:
    """What the xDS service keeps.

    Parameters
    ----------
    splits
        The split of each recommender, by name.
    in_use
        All upstreams that an Envoy may still send requests to.
    """

    splits: Mapping[str, Split]
    in_use: list[Upstream]


def write_last_state(file: Path, state: LastState) -> None:
    """Write the state in one step: a reader meets the state before or this one. Raises OSError."""
    draft = file.with_name(f".{file.name}")
    draft.write_text(json.dumps(asdict(state), indent=1))
    draft.replace(file)


def read_last_state(file: Path) -> LastState | None:
    """Read the state.

    Parameters
    ----------
    file
        The file that `write_last_state` wrote.

    Returns
    -------
    LastState or None
        None if there is no file.

    Raises
    ------
    IntegrityError
        If the file cannot be read, or does not hold a state.
    """
    try:
        document = json.loads(file.read_text())
        splits = {name: _read_split(**split) for name, split in document["splits"].items()}
        return LastState(splits, [Upstream(**upstream) for upstream in document["in_use"]])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise IntegrityError(
            f"the last state in {file} cannot be read ({error!r}); the next change of routes writes it again",
            code="gateway.state-unreadable",
            file=str(file),
            reason=repr(error),
        ) from None


def _read_split(terms: Any, challengers: Any = (), layout: Any = None, **document: Any) -> Split:
    # An earlier release knew fewer arms, and no A/B test.
    stored = {name: document.pop(name, None) for name in ("stable", "canary", "previous", "baseline", "shadow")}
    upstreams = {name: Upstream(**upstream) if upstream else None for name, upstream in stored.items()}
    return Split(
        **upstreams,
        **document,
        terms=GatewaySettings.from_json(terms),
        challengers=tuple(Upstream(**upstream) if upstream else None for upstream in challengers),
        layout=Layout.from_json(layout["segments"]) if layout else None,
    )
