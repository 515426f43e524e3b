"""What the files of each model hold: the shapes, types and bounds that the model's code relies on.

A model looks its stored indices up without a check if a check would cost time with each request, also in compiled code.
So they are checked here, once, before a model takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.spec.model import StackedSpec
from endcap.spec.neural import NeuMFSpec, SASRecSpec
from endcap.store.safe_paths import find_name_fault

Arrays = Mapping[str, NDArray[Any]]
Json = Mapping[str, Any]
KINDS = {"float": "f", "whole": "iu", "number": "fiu", "any": "fiub"}
_CODES = "codes."
"""Before the name of an item's feature, in tensors: the items' codes."""
_LARGEST = int(np.iinfo(np.int32).max)
_MOST_SESSIONS = 1 << 31
_MOST_EVENTS = 1 << 53
_SPARE_SESSIONS = 10_000_000
"""Sessions without events that a model may count: each costs it a few bytes."""


class ModelFileError(ValueError):
    """A model's files are wrong."""


@dataclass(frozen=True)
class ArrayShape:
    """What an array has to be like.

    Attributes
    ----------
    kind
        A key of `KINDS`.
    dims
        Sizes, or names of sizes; a name stands for the same size wherever it occurs.
    below
        The values are 0 … below-1; None: any.
    starts
        The name of an array: these values are the starts of its parts, from 0 to its end. Empty: they are not.
    at_least
        The smallest value, in place of 0.
    """

    kind: str
    dims: tuple[int | str, ...]
    below: int | None = None
    starts: str = ""
    at_least: int = 0


def check(name: str, description: Json, arrays: Arrays) -> None:
    """Check the files of one of Endcap's own models.

    Parameters
    ----------
    name
        The model's name.
    description
        The content of `model.json`.
    arrays
        The model's tensors, by name.

    Raises
    ------
    ValueError
        The model could not work with them: a `ModelFileError`, or an error of the spec.
    KeyError, TypeError
        Something is missing, or of another type.
    """
    n_items = description["n_items"]
    if isinstance(n_items, bool) or not isinstance(n_items, int) or n_items < 0:
        raise ModelFileError(f"n_items is {n_items!r:.50}, a whole number from 0 is expected")
    expected = _ARRAYS[name](description, arrays, n_items) if name in _ARRAYS else {}
    sizes: dict[str, int] = {}
    for key, array in expected.items():
        _check_array(key, array, arrays, sizes)


def _check_array(key: str, array: ArrayShape, arrays: Arrays, sizes: dict[str, int]) -> None:
    values = arrays[key]
    if values.dtype.kind not in KINDS[array.kind]:
        raise ModelFileError(f"{key} holds {values.dtype}, {array.kind} values are expected")
    both = zip(array.dims, values.shape, strict=False)
    expected = tuple(sizes.setdefault(dim, size) if isinstance(dim, str) else dim for dim, size in both)
    if len(array.dims) != values.ndim or expected != values.shape:
        raise ModelFileError(f"{key} has the shape {list(values.shape)}, {list(array.dims)} is expected")
    if array.starts:
        end = len(arrays[array.starts])
        if not len(values) or values[0] != 0 or values[-1] != end or (np.diff(values.astype(np.int64)) < 0).any():
            raise ModelFileError(f"{key} does not ascend from 0 to the {end:,} of {array.starts}")
    if array.below is not None and len(values) and not array.at_least <= values.min() <= values.max() < array.below:
        present, allowed = f"{values.min()} to {values.max()}", f"{array.at_least} to {array.below - 1}"
        raise ModelFileError(f"{key} holds {present}, {allowed} are allowed")


def _expect_popularity(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    return {"counts": ArrayShape("number", (n,))}


def _expect_sequential_rules(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    return {
        "starts": ArrayShape("whole", (n + 1,), starts="followers"),
        "followers": ArrayShape("whole", ("rules",), below=n),
        "weights": ArrayShape("float", ("rules",)),
    }


def _expect_histories(n: int) -> dict[str, ArrayShape]:
    return {
        "customers": ArrayShape("whole", ("customers",), below=_LARGEST),
        "history_starts": ArrayShape("whole", ("starts",), starts="history_items"),
        "history_items": ArrayShape("whole", ("had",), below=n),
    }


def _check_histories(arrays: Arrays) -> None:
    if len(arrays["history_starts"]) != len(arrays["customers"]) + 1:
        raise ModelFileError("history_starts does not have one more than customers")
    _check_ascending(arrays["customers"])


def _check_ascending(customers: NDArray[Any]) -> None:
    if customers.ndim == 1 and (np.diff(customers.astype(np.int64)) <= 0).any():
        raise ModelFileError("customers do not ascend")


def _expect_rows(n: int, data: str, indices: str, starts: str) -> dict[str, ArrayShape]:
    """Return what a sparse matrix's arrays have to be like."""
    return {
        starts: ArrayShape("whole", (n + 1,), starts=indices),
        indices: ArrayShape("whole", ("pairs",), below=n),
        data: ArrayShape("float", ("pairs",)),
    }


def _expect_item_knn(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    _check_histories(arrays)
    return {**_expect_rows(n, "similarities", "neighbours", "neighbour_starts"), **_expect_histories(n)}


def _expect_ease(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    _check_histories(arrays)
    weights = (
        {"weights": ArrayShape("float", (n, n))}
        if "weights" in arrays
        else _expect_rows(n, "data", "indices", "indptr")
    )
    return {"seen": ArrayShape("any", (n,)), **weights, **_expect_histories(n)}


def _expect_vsknn(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    sessions = description["n_sessions"]
    most = min(_MOST_SESSIONS, len(arrays["holders"]) + _SPARE_SESSIONS)
    if isinstance(sessions, bool) or not isinstance(sessions, int) or not 0 <= sessions <= most:
        raise ModelFileError(f"n_sessions is {sessions!r:.50}, 0 to {most:,} are allowed")
    return {
        "holder_starts": ArrayShape("whole", (n + 1,), starts="holders"),
        "holders": ArrayShape("whole", ("holders",), below=sessions),
    }


def _expect_neumf(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    from endcap.neural.factors import FactorsShape

    spec = NeuMFSpec.model_validate(description["parameters"])
    shape = FactorsShape(spec.variant, spec.width, tuple(spec.layers))
    _check_ascending(arrays["customers"])
    dense = sum(_multiply(size) for size in shape.weights().values())
    return {
        "users": ArrayShape("float", ("customers", shape.embedding)),
        "items": ArrayShape("float", (n, shape.embedding)),
        "dense": ArrayShape("float", (dense,)),
        "customers": ArrayShape("whole", ("customers",), below=_LARGEST),
        "seen": ArrayShape("any", (n,)),
        "typical": ArrayShape("float", (n, shape.embedding)),
    }


def _expect_gru4rec(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    from endcap.neural.gru import EVENT, ITEM, GRUShape

    codes = {name.removeprefix(_CODES): name for name in arrays if name.startswith(_CODES)}
    events = {name.removeprefix(EVENT): len(arrays[name]) for name in arrays if name.startswith(EVENT)}
    sizes = {name: len(arrays[f"{ITEM}{name}"]) for name in codes}
    shape = GRUShape(n, arrays["items"].shape[-1], "output" in arrays, events, sizes)
    tables = dict.fromkeys(["items", "output"] if shape.separate else ["items"], (n, shape.width))
    expected = {name: ArrayShape("float", size) for name, size in {**tables, "bias": (n,), **shape.dense()}.items()}
    expected |= {stored: ArrayShape("whole", (n,), below=sizes[name]) for name, stored in codes.items()}
    _check_no_others(arrays, expected)
    return expected


def _expect_sasrec(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    from endcap.neural.attention import AttentionShape

    spec = SASRecSpec.model_validate(description["parameters"])
    of_events, of_items = (_read_counts(description[name]) for name in ("features", "item_features"))
    shape = AttentionShape(n, spec.width, spec.blocks, spec.heads, spec.last_events, of_events, of_items)
    expected = {name: ArrayShape("float", size) for name, size in shape.weights().items()}
    codes = {f"{_CODES}{name}": ArrayShape("whole", (n,), size + 1, at_least=-1) for name, size in of_items.items()}
    return expected | codes


def _expect_blend(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    weights, scales = dict(description["weights"]), dict(description["scales"])
    for label, weight in weights.items():
        if fault := find_name_fault(label) or ("names a folder in a folder" if "/" in label else ""):
            raise ModelFileError(f"the member {label!r:.100} {fault}")
        _check_number(weight, f"the weight of {label}")
    for label, scale in scales.items():
        if dict(scale).get("kind", "logits") not in ("logits", "votes", "alone"):
            raise ModelFileError(f"the scale of {label} is of an unknown kind")
        _check_number(dict(scale).get("temperature", 1.0), f"the temperature of {label}")
    return {}


def _expect_stacked(description: Json, arrays: Arrays, n: int) -> dict[str, ArrayShape]:
    scores = StackedSpec.model_validate(description["parameters"]).scores
    _expect_blend({**description, "weights": dict.fromkeys(scores, 1.0)}, arrays, n)
    if dict(description["scales"]).keys() != scores.keys():
        raise ModelFileError("the scales are not those of its recommenders")
    for name, weight in dict(description["weights"]).items():
        _check_number(weight, f"the weight of {name}")
    return {"counts": ArrayShape("whole", (n,), below=_MOST_EVENTS)}


def _check_number(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ModelFileError(f"{what} is {value!r:.50}, a number is expected")


def _read_counts(document: Any) -> dict[str, int]:
    counts = dict(document)
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 0 for size in counts.values()):
        raise ModelFileError("the features do not tell how many codes they have")
    return counts


def _multiply(size: tuple[int, ...]) -> int:
    total = 1
    for length in size:
        total *= length
    return total


def _check_no_others(arrays: Arrays, expected: Mapping[str, ArrayShape]) -> None:
    if unknown := sorted(arrays.keys() - expected.keys()):
        raise ModelFileError(f"there are tensors that the model does not know: {', '.join(unknown)[:200]}")


_ARRAYS: dict[str, Callable[[Json, Arrays, int], dict[str, ArrayShape]]] = {
    "popularity": _expect_popularity,
    "recent-popularity": _expect_popularity,
    "sequential-rules": _expect_sequential_rules,
    "vsknn": _expect_vsknn,
    "ease": _expect_ease,
    "item-knn": _expect_item_knn,
    "gru4rec": _expect_gru4rec,
    "neumf": _expect_neumf,
    "sasrec": _expect_sasrec,
    "blend": _expect_blend,
    "stacked": _expect_stacked,
}
