"""How models lie on disk: `model.json` and `tensors.safetensors`. Reading them runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.errors import IntegrityError

DESCRIPTION = "model.json"
TENSORS = "tensors.safetensors"


def write(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a model's description (with its `name`) and arrays into an existing folder."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / TENSORS)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")


def describe(folder: Path) -> dict[str, Any]:
    """The description that `write` wrote. Raises IntegrityError where it is missing or no model's."""
    file = folder / DESCRIPTION
    try:
        description = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file} is missing or damaged ({error}); train the model again") from error
    if not isinstance(description, dict) or not {"name", "parameters", "n_items"} <= description.keys():
        raise IntegrityError(f"{file} describes no model: it needs name, parameters and n_items")
    return description


def tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays that `write` wrote. Raises IntegrityError where they are missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        loaded: dict[str, NDArray[Any]] = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{folder / TENSORS} is missing or damaged ({error}); train the model again") from error
    return loaded
