"""A recommender's preprocessors in their order: fitted, applied, checked, saved and loaded as one."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import DataError, IntegrityError, UserError
from endcap.features.sessions import Sessions, Types
from endcap.preprocessing.base import Preprocessor, Training
from endcap.spec.custom import get_class_path, load_custom_class, parse_parameters
from endcap.spec.preprocessing import PreprocessorSpec

STEPS = "steps.json"
FORMATS = (".json", ".safetensors")
NOBODY = -1


def find_preprocessor_class(path: str) -> type[Preprocessor]:
    """The preprocessor of a path. Raises UserError: not there, no preprocessor, or named by another path."""
    return load_custom_class(path, Preprocessor, "preprocessor", "docs/own-preprocessing.md")  # type: ignore[type-abstract]


class Preprocessing:
    """Steps that a model's sessions pass through, one after the other.

    What the steps are given is the same wherever it comes from: the features and the event types that the training
    part had, and of customers those that the step itself knows.
    """

    def __init__(self, steps: Sequence[Preprocessor]) -> None:
        self.steps = list(steps)
        self._n_items = 0
        self._features: tuple[str, ...] = ()
        self._types: tuple[str, ...] | None = None

    @classmethod
    def of(cls, specs: Sequence[PreprocessorSpec]) -> Self:
        """The steps of a spec, not fitted yet. Raises UserError, SpecError: a class is not here, or its parameters."""
        return cls([_make_steps(spec) for spec in specs])

    def fit(self, training: Training, progress: Callable[[str], None] = lambda line: None) -> Sessions:
        """Fit each step on what the steps before leave of the training part; returns what the last one leaves.

        Raises DataError where no events are left.
        """
        sessions = training.sessions
        self._n_items = training.n_items
        self._features = tuple(sessions.features)
        self._types = None if sessions.types is None else sessions.types.names
        for step in self.steps:
            before, name = len(sessions.items), get_class_path(type(step))
            step.fit(replace(training, sessions=sessions))
            sessions = self._applied(step, sessions)
            progress(f"preprocessing: {name} leaves {len(sessions.items):,} of {before:,} events")
            if before and not len(sessions.items):
                raise DataError(
                    f"{name} leaves none of the {before:,} training events; change its parameters or its `transform`",
                    code="preprocessing.nothing-left",
                    path=name,
                    events=before,
                )
        return sessions

    def transform(self, sessions: Sessions) -> Sessions:
        """The sessions as the model sees them: as many, in the same order. Raises UserError where a step breaks the
        contract."""
        transformed = self._as_trained(sessions)
        for step in self.steps:
            transformed = self._applied(step, transformed)
        return transformed

    @property
    def known_customers(self) -> NDArray[np.int32]:
        """Customers that any of the steps knows: int32 [c], ascending."""
        known = [step.known_customers for step in self.steps]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.int32), *known]))

    def save(self, folder: Path) -> None:
        """Write the fitted steps into an existing folder. Raises UserError where one writes another format."""
        document = {
            "n_items": self._n_items,
            "features": list(self._features),
            "types": None if self._types is None else list(self._types),
            "steps": [
                {"class": get_class_path(type(step)), "parameters": step.parameters.model_dump(mode="json")}
                for step in self.steps
            ],
        }
        (folder / STEPS).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        for number, step in enumerate(self.steps):
            place = folder / str(number)
            place.mkdir()
            step.save(place)
            foreign = sorted(file.name for file in place.rglob("*") if file.is_file() and file.suffix not in FORMATS)
            if foreign:
                raise UserError(
                    f"{get_class_path(type(step))} saves {', '.join(foreign)}; a package holds .json and .safetensors "
                    "alone",
                    code="preprocessing.state-format",
                    path=get_class_path(type(step)),
                    files=foreign,
                )

    @classmethod
    def load(cls, folder: Path, classes: Collection[str]) -> Self:
        """The steps that `save` wrote. classes: those that may be imported.

        Raises IntegrityError where the files are damaged, UserError where a class is not listed or not here.
        """
        try:
            document = json.loads((folder / STEPS).read_text(encoding="utf-8"))
            written = [(str(step["class"]), dict(step["parameters"])) for step in document["steps"]]
            n_items, features, types = document["n_items"], document["features"], document["types"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{folder / STEPS} is missing or damaged ({error}); train the model again",
                code="preprocessing.damaged",
                file=str(folder / STEPS),
            ) from error
        for path, _ in written:
            _refuse_unlisted(path, classes)
        steps = []
        for number, (path, parameters) in enumerate(written):
            kind, place = find_preprocessor_class(path), folder / str(number)
            steps.append(kind.load(place, parse_parameters(path, kind, parameters)))
        loaded = cls(steps)
        loaded._n_items, loaded._features = n_items, tuple(features)
        loaded._types = None if types is None else tuple(types)
        return loaded

    def _as_trained(self, sessions: Sessions) -> Sessions:
        """With the features and the event types of the training part, no others."""
        missing = [name for name in self._features if name not in sessions.features]
        if missing:
            raise UserError(
                f"preprocessing was fitted with the event features {', '.join(self._features)}, and these sessions "
                f"lack {', '.join(missing)}",
                code="preprocessing.features-missing",
                features=missing,
            )
        features, types = {name: sessions.features[name] for name in self._features}, None
        if self._types is not None:
            known = sessions.types
            codes = np.zeros(len(sessions.items), dtype=np.int16) if known is None else known.told_by(self._types)
            types = Types(self._types, codes)
        return replace(sessions, features=features, types=types)

    def _applied(self, step: Preprocessor, sessions: Sessions) -> Sessions:
        customers = sessions.customers
        transformed = step.transform(replace(sessions, customers=_known_to(step, customers)))
        wrong = _mistake(transformed, sessions, self._n_items)
        if wrong:
            raise UserError(
                f"{get_class_path(type(step))}.transform {wrong}; see docs/own-preprocessing.md",
                code="preprocessing.contract",
                path=get_class_path(type(step)),
                mistake=wrong,
            )
        return replace(transformed, customers=customers)


def _make_steps(spec: PreprocessorSpec) -> Preprocessor:
    kind = find_preprocessor_class(spec.path)
    return kind(parse_parameters(spec.path, kind, spec.parameters))


def _refuse_unlisted(path: str, classes: Collection[str]) -> None:
    if path not in classes:
        listed = sorted(classes)
        raise UserError(
            f"the preprocessor {path} is not on its recommender's list of classes ({', '.join(listed) or 'empty'}), so "
            f"it is not imported; if you trust it, add it: classes: [{', '.join([*listed, path])}], and run again",
            code="preprocessing.class-unlisted",
            path=path,
            listed=listed,
        )


def _known_to(step: Preprocessor, customers: NDArray[np.int32]) -> NDArray[np.int32]:
    """The customers, -1 for those that the step does not know: serving could not name them to it."""
    known = step.known_customers
    if not len(known):
        return np.full(len(customers), NOBODY, dtype=np.int32)
    return np.where(np.isin(customers, known), customers, NOBODY).astype(np.int32)


def _mistake(result: Any, sessions: Sessions, n_items: int) -> str:
    """What is wrong with a step's result, in words; empty where nothing is."""
    if not isinstance(result, Sessions):
        return f"returns {type(result).__name__}, not Sessions"
    items, offsets, events = result.items, result.offsets, len(result.items)
    if len(result) != len(sessions):
        return f"makes {len(result):,} sessions of {len(sessions):,}"
    if items.dtype != np.int32 or result.times.dtype != np.int64:
        return f"returns items of {items.dtype} and times of {result.times.dtype}, not int32 and int64"
    if len(result.times) != events or offsets[0] != 0 or offsets[-1] != events or (offsets[1:] < offsets[:-1]).any():
        return "returns times or offsets that do not fit the items"
    if events and not 0 <= items.min() <= items.max() < n_items:
        return f"returns items outside of the vocabulary's {n_items:,}"
    for name, values in result.features.items():
        if values.dtype != np.float32 or len(values) != events:
            return f"returns the feature {name!r} as {values.dtype} [{len(values)}], not float32 [{events}]"
    if result.types is not None and len(result.types.codes) != events:
        return "returns types that do not fit the items"
    return ""
