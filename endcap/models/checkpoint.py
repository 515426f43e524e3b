"""Checkpoints of an unfinished fit: one file that is replaced in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.store import CHECKPOINT, report_storage_errors

Arrays = dict[str, NDArray[Any]]


def write(workspace: Path, fit: str, state: Mapping[str, Any], groups: Mapping[str, Arrays]) -> None:
    """Write a checkpoint. A kill at any moment leaves the checkpoint before or this one.

    Parameters
    ----------
    workspace
        Folder of the checkpoint.
    fit
        Fingerprint of the fit's arguments.
    state
        JSON.
    groups
        Groups of arrays, by name.
    """
    from safetensors.numpy import save

    # safetensors writes the memory as it lies, which of a transposed array is in another order.
    arrays = {
        f"{group}/{name}": np.asarray(values, order="C")
        for group, members in groups.items()
        for name, values in members.items()
    }
    data = save(arrays, metadata={"fit": fit, "state": json.dumps(state)})
    draft = workspace / f"{CHECKPOINT}.draft"
    with report_storage_errors(workspace):
        with draft.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        draft.replace(workspace / CHECKPOINT)


def read(workspace: Path, fit: str) -> tuple[dict[str, Any], dict[str, Arrays]] | None:
    """Return the state and the groups of arrays that `write` wrote for the same fit.

    Parameters
    ----------
    workspace
        Folder of the checkpoint.
    fit
        Fingerprint of the fit's arguments.

    Returns
    -------
    tuple or None
        None: there is no checkpoint, or it is of another fit.
    """
    from safetensors import SafetensorError, safe_open

    groups: dict[str, Arrays] = {}
    try:
        with safe_open(workspace / CHECKPOINT, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("fit") != fit:
                return None
            for key in file.keys():  # noqa: SIM118 - no mapping, though it has keys
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = np.array(file.get_tensor(key))
    except (FileNotFoundError, SafetensorError):
        return None
    return json.loads(metadata["state"]), groups
