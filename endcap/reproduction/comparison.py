"""What of a rebuilt version is equal to the original, what differs, and what differs around them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from endcap.errors import IntegrityError
from endcap.models import files
from endcap.store.artifact_files import hash_file

Json = dict[str, Any]
Subject = Literal["data", "judged model", "package", "metrics"]
_SHOWN = 3
"""Names of files, arrays or metrics in one text."""


@dataclass(frozen=True)
class Compared:
    """A part of a version beside its rebuilt part.

    Attributes
    ----------
    subject
        ``data``, ``judged model``, ``package`` or ``metrics``.
    equal
        Whether both are equal: rows and metrics as numbers, models bit for bit. None: they could not be compared.
    text
        What differs, or why nothing could be compared.
    """

    subject: Subject
    equal: bool | None
    text: str = ""

    def to_json(self) -> Json:
        """Return the result as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Circumstance:
    """Something recorded on which a model may depend, and that is another one here.

    Attributes
    ----------
    name
        Such as ``threads.torch``, ``packages.numpy`` or ``commit``.
    original, here
        Both values; None where it is not known, or not there.
    """

    name: str
    original: Any
    here: Any

    def to_json(self) -> Json:
        """Return it as JSON values."""
        return asdict(self)


def compare_models(subject: Subject, original: Path, rebuilt: Path) -> Compared:
    """Compare the files of two models bit for bit. Of arrays that differ, the text says by how much."""
    names = sorted(
        {str(file.relative_to(top)) for top in (original, rebuilt) for file in top.rglob("*") if file.is_file()}
    )
    differing = [name for name in names if not _are_equal(original / name, rebuilt / name)]
    texts = [f"{name}: {_describe_difference(original / name, rebuilt / name)}" for name in differing[:_SHOWN]]
    return Compared(subject, not differing, "; ".join(texts))


def compare_metrics(original: Mapping[str, float | None], rebuilt: Mapping[str, float | None]) -> Compared:
    """Compare metrics as numbers. Metrics of the original that this release does not measure are not compared."""
    shared = [name for name in rebuilt if name in original]
    if not shared:
        return Compared("metrics", None, "the verdict has no metric that this release measures")
    differing = [name for name in shared if not _is_same_number(original[name], rebuilt[name])]
    texts = [f"{name} {original[name]!r} → {rebuilt[name]!r}" for name in differing[:_SHOWN]]
    rest = len(differing) - len(texts)
    return Compared("metrics", not differing, ", ".join([*texts, *([f"and {rest} more"] if rest > 0 else [])]))


def compare_records(prefix: str, original: Any, here: Any) -> Iterator[Circumstance]:
    """Yield what differs between two nested records, of the keys that both have: a value not recorded tells nothing."""
    if isinstance(original, Mapping) and isinstance(here, Mapping):
        for name in original:
            if name in here:
                yield from compare_records(f"{prefix}.{name}" if prefix else name, original[name], here[name])
    elif isinstance(original, list) and isinstance(here, list):
        # Long lists of names: only those that one side alone has.
        alone = [sorted(set(original) - set(here)), sorted(set(here) - set(original))]
        if any(alone):
            yield Circumstance(prefix, *alone)
    elif original != here:
        yield Circumstance(prefix, original, here)


def _are_equal(first: Path, second: Path) -> bool:
    return first.is_file() and second.is_file() and hash_file(first) == hash_file(second)


def _describe_difference(original: Path, rebuilt: Path) -> str:
    if not (original.is_file() and rebuilt.is_file()):
        return "only the original has it" if original.is_file() else "only the rebuilt model has it"
    if original.name == files.TENSORS:
        try:
            return _describe_arrays(files.tensors(original.parent), files.tensors(rebuilt.parent))
        except IntegrityError:  # a model of a user's own may write what it likes
            pass
    return "differs"


def _describe_arrays(original: Mapping[str, NDArray[Any]], rebuilt: Mapping[str, NDArray[Any]]) -> str:
    texts = []
    for name in sorted({*original, *rebuilt}):
        if name not in original or name not in rebuilt:
            texts.append(f"{name} is only in {'the original' if name in original else 'the rebuilt model'}")
        elif original[name].shape != rebuilt[name].shape or original[name].dtype != rebuilt[name].dtype:
            shapes = (f"{values.dtype}{list(values.shape)}" for values in (original[name], rebuilt[name]))
            texts.append(f"{name} is {' → '.join(shapes)}")
        elif original[name].tobytes() != rebuilt[name].tobytes():
            texts.append(f"{name} {_describe_values(original[name], rebuilt[name])}")
    rest = len(texts) - _SHOWN
    return ", ".join([*texts[:_SHOWN], *([f"and {rest} more arrays"] if rest > 0 else [])]) or "differs"


def _describe_values(original: NDArray[Any], rebuilt: NDArray[Any]) -> str:
    differing = original != rebuilt
    with np.errstate(all="ignore"):
        largest = np.abs(original.astype(np.float64) - rebuilt.astype(np.float64)).max(initial=0.0)
    return f"{int(differing.sum()):,} of {original.size:,} values, by {largest:.2g} at most"


def _is_same_number(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second or all(value is None or math.isnan(value) for value in (first, second))
    return first == second or (math.isnan(first) and math.isnan(second))
