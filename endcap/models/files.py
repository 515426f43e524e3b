"""A model's files: `model.json` and `tensors.safetensors`. Reading them runs no code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.errors import IntegrityError
from endcap.safe_reading import check_regular, read_json
from endcap.spec.custom import get_class_path
from endcap.spec_renames import migrate_model

DESCRIPTION = "model.json"
DESCRIBED = frozenset({"name", "class", "parameters", "n_items"})
"""Keys of the description that every model has; the others are a model's own settings."""
CUSTOM = "custom"
"""The name of a model whose class is outside Endcap."""
TENSORS = "tensors.safetensors"
_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "BOOL": "?"} | {
    "U64": "u8",
    "U32": "u4",
    "U16": "u2",
    "U8": "u1",
}
"""NumPy's names of safetensors' types."""

_MAPPED_BYTES = 2**20


def write(folder: Path, description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a model's files into an existing folder.

    Parameters
    ----------
    folder
        The model's folder.
    description
        JSON, with the model's `name`.
    tensors
        Arrays, by name.
    """
    from safetensors.numpy import save_file

    # Renamed into place: a model may still read the file that was there, from the memory that it is mapped to.
    draft = folder / f"{TENSORS}.draft"
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, draft)
    draft.replace(folder / TENSORS)
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")


def description(model: Any) -> dict[str, Any]:
    """Return what `model.json` says of every model; `load` finds the class by it.

    Parameters
    ----------
    model
        A model with `parameters` and `n_items`.
    """
    # A class of one's own may derive from one of Endcap's models, and has that one's specification too.
    is_own = vars(type(model)).get("specification") is None
    return {
        "name": CUSTOM if is_own else model.name,
        **({"class": get_class_path(type(model))} if is_own else {}),
        "parameters": model.parameters.model_dump(mode="json"),
        "n_items": model.n_items,
    }


def describe(folder: Path) -> dict[str, Any]:
    """Return the description that `write` wrote.

    Raises
    ------
    IntegrityError
        It is missing, or describes no model.
    """
    file = folder / DESCRIPTION
    try:
        description = read_json(file)
    except (OSError, ValueError) as error:
        raise make_damaged_error(file, error) from error
    if not isinstance(description, dict) or not {"name", "parameters", "n_items"} <= description.keys():
        reason = "it needs name, parameters and n_items"
        raise IntegrityError(
            f"{file} describes no model: {reason}", code="models.damaged", path=str(file), reason=reason
        )
    return _migrate_names(description)


def _migrate_names(description: dict[str, Any]) -> dict[str, Any]:
    """Return the description with this release's names of parameters, which an earlier release may have written."""
    if description["name"] == CUSTOM or not isinstance(description["parameters"], dict):
        return description
    return {**description, "parameters": migrate_model(description["parameters"])}


def tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays that `write` wrote.

    Large arrays are the file's own pages: they are read when they are first used, in memory that processes share.
    Writing into an array copies its pages, and the file stays as it is.

    Raises
    ------
    IntegrityError
        The arrays are missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    file = folder / TENSORS
    try:
        check_regular(file)
        with safe_open(file, framework="np") as checked:
            names = checked.offset_keys()
            parts = {name: checked.get_slice(name) for name in names}
            headers = {name: (np.dtype(_TYPES[part.get_dtype()]), part.get_shape()) for name, part in parts.items()}
        # The format has no gaps: the arrays end where the file ends, each where the next one begins.
        pages = np.asarray(np.memmap(file, np.uint8, mode="c"))
        begin = len(pages) - sum(kind.itemsize * math.prod(shape) for kind, shape in headers.values())
        loaded = {}
        for name, (kind, shape) in headers.items():
            end = begin + kind.itemsize * math.prod(shape)
            values = pages[begin:end].view(kind).reshape(shape)
            # The format aligns nothing, on which the last digit of a product may depend: small arrays are copied.
            loaded[name] = values if values.nbytes >= _MAPPED_BYTES else values.copy()
            begin = end
    except (OSError, KeyError, ValueError, TypeError, OverflowError, SafetensorError) as error:
        raise make_damaged_error(file, error) from error
    return loaded


def make_damaged_error(file: Path, error: Exception) -> IntegrityError:
    """Return the error of a model with damaged files.

    Parameters
    ----------
    file
        The damaged file or folder.
    error
        What went wrong while it was read.
    """
    return IntegrityError(
        f"{file} is missing or damaged ({error}); train the model again",
        code="models.damaged",
        path=str(file),
        reason=str(error),
    )
