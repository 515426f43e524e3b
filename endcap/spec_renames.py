"""Keys of specs that have other names since endcap/v2, and the same documents under the new names.

Two readers share this table. Spec files that people write must have the new names: `endcap.spec.migration` refuses the
old ones and rewrites files. Documents that an earlier release stored are translated as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["Recommender", "Shop", "Environments"]
Key = tuple[str | int, ...]
Json = dict[str, Any]

ApiVersion = Literal["endcap/v2"]
"""The version of spec files that this release reads."""
API_VERSION: ApiVersion = "endcap/v2"
OLD_API_VERSION = "endcap/v1"
"""The version before, which `endcap spec migrate` reads, and stored specs may have."""

MODEL_PARAMETERS = {
    "batch": "batch_size",  # `batch` is the section of lists that are made ahead of time
    "last": "last_events",  # one name in all models for how much of a session's end counts
    "max_events": "last_events",  # `serving.max_events` refuses a request; this cuts a session
}
"""Parameters of Endcap's own models: old name -> new name. Classes of your own keep their names."""
_MODELS = ("model", "model.members.*", "baselines.*")
RENAMES: Mapping[Kind, Mapping[str, str]] = {
    "Recommender": {
        **{f"{place}.{old}": new for place in _MODELS for old, new in MODEL_PARAMETERS.items()},
        "search.finish": "overtime",  # of the time budget; a verb that did not say what it limits
        "search.grace": "min_epochs",  # the counterpart of the models' `max_epochs`
        "search.max_failed": "max_failed_share",  # `training.max_failures` is a number
        "evaluation.negatives.sampled": "count",
        "evaluation.negatives.given": "path",  # as sources have it
        "gate.evidence.sessions": "min_sessions",  # limits are called min and max everywhere
        "gate.evidence.half_width": "max_half_width",
        "batch.active": "active_within",  # as `ready_within`
        "batch.partition": "partition_size",
        "pipeline.steps.*.retries.most": "max_backoff",  # as Kubeflow Pipelines calls it
    },
    "Shop": {
        "events.missing": "null_values",  # as Arrow's CSV reader calls it
        "events.missing_items": "null_item_values",  # not items that are missing
    },
    "Environments": {},
}
"""By kind: the old path -> the new name of its last key. `*` stands for every place of a list or map.

Sections that the online store holds (`rules`) keep their names: predictors of two releases read them at the same time.
"""


@dataclass(frozen=True)
class SpecChange:
    """One thing that migration changes in a document.

    Attributes
    ----------
    key
        Where it stands, by the names that the document has.
    old, new
        The key's names; or the values, where `of` is ``value``.
    of
        Whether the key itself is renamed or its value changes.
    """

    key: Key
    old: str
    new: str
    of: Literal["key", "value"] = "key"

    @property
    def new_key(self) -> Key:
        """Where it stands afterwards, as far as this change goes."""
        return (*self.key[:-1], self.new) if self.of == "key" else self.key


def find_changes(document: object, kind: Kind, *, custom: Callable[[str], bool] | None = None) -> list[SpecChange]:
    """What migration changes in a spec or in a part of one, such as an overlay.

    Parameters
    ----------
    document
        Of JSON's types. Anything else in it is left alone.
    custom
        Whether the model of a label is a class of the user's own, whose parameters keep their names; the label of a
        single model is empty. None: as the document says.
    """
    if not isinstance(document, dict):
        return []
    is_custom = custom or (lambda label: is_custom_model(document, label))
    changes: list[SpecChange] = []
    if document.get("apiVersion") == OLD_API_VERSION:
        changes.append(SpecChange(("apiVersion",), OLD_API_VERSION, API_VERSION, "value"))
    for path, new in RENAMES[kind].items():
        *parents, old = path.split(".")
        changes += [SpecChange((*key, old), old, new) for key, map_ in _walk_places(document, parents) if old in map_]
    if kind == "Recommender":
        changes += _find_search_changes(document.get("search"), is_custom)
    return changes


def find_kind(document: object) -> Kind | None:
    """The kind of a spec. A part that does not say has a key that only one kind has, or nothing to rename."""
    if not isinstance(document, dict):
        return None
    stated_kind = document.get("kind")
    if stated_kind is not None:
        return next((kind for kind in RENAMES if kind == stated_kind), None)
    sections = {kind: {path.partition(".")[0] for path in paths} for kind, paths in RENAMES.items()}
    return next((kind for kind, names in sections.items() if names & document.keys()), None)


def is_custom_model(document: Mapping[str, Any], label: str) -> bool:
    """Whether a recommender's model, or its blend's member of this label, is a class of the user's own."""
    model = document.get("model")
    if label and isinstance(model, dict):
        members = model.get("members")
        model = members.get(label) if isinstance(members, dict) else None
    return isinstance(model, dict) and model.get("name") == "custom"


def apply_changes(document: Json, changes: list[SpecChange]) -> Json:
    """The document after these changes, its keys in their order; the document itself stays as it is."""
    keys = {change.key: change.new for change in changes if change.of == "key"}
    values = {change.key: change.new for change in changes if change.of == "value"}

    def build(value: Any, key: Key) -> Any:
        if key in values:
            return values[key]
        if isinstance(value, dict):
            return {keys.get((*key, name), name): build(child, (*key, name)) for name, child in value.items()}
        if isinstance(value, list):
            return [build(child, (*key, number)) for number, child in enumerate(value)]
        return value

    built: Json = build(document, ())
    return built


def migrate_spec(document: Json) -> Json:
    """A stored spec, whole, of any release, under this release's names. What is no spec stays as it is."""
    if document.get("apiVersion") != OLD_API_VERSION or (kind := find_kind(document)) is None:
        return document
    return apply_changes(document, find_changes(document, kind))


def migrate_specs(documents: Json) -> Json:
    """Stored specs by name, such as ``{"recommender": …, "shop": …}``, under this release's names."""
    return {
        name: migrate_spec(document) if isinstance(document, dict) else document for name, document in documents.items()
    }


def migrate_model(model: Json) -> Json:
    """The stored spec or parameters of a model, which have no apiVersion, under this release's names."""
    document = {"model": model}
    migrated: Json = apply_changes(document, find_changes(document, "Recommender"))["model"]
    return migrated


def migrate_facts(facts: Json) -> Json:
    """An artifact's facts: `model` is a model's spec, `models` are such by label, `recipe` may hold one."""
    changed = dict(facts)
    if isinstance(recipe := facts.get("recipe"), dict):
        changed["recipe"] = migrate_facts(recipe)
    if isinstance(model := facts.get("model"), dict):
        changed["model"] = migrate_model(model)
    if isinstance(models := facts.get("models"), dict):
        changed["models"] = {
            label: migrate_model(model) if isinstance(model, dict) else model for label, model in models.items()
        }
    return changed


def _walk_places(value: Any, path: list[str], key: Key = ()) -> Iterator[tuple[Key, Json]]:
    """Every map under a path, with its key."""
    if not path:
        if isinstance(value, dict):
            yield key, value
        return
    first, *rest = path
    if isinstance(value, dict):
        names = list(value) if first == "*" else [first] if first in value else []
        for name in names:
            yield from _walk_places(value[name], rest, (*key, name))
    elif isinstance(value, list) and first == "*":
        for number, child in enumerate(value):
            yield from _walk_places(child, rest, (*key, number))


def _find_search_changes(search: object, is_custom: Callable[[str], bool]) -> Iterator[SpecChange]:
    """What `search.space` and `search.fixed` call parameters: by name, or by member and name."""
    if not isinstance(search, dict):
        return
    space, fixed = search.get("space"), search.get("fixed")
    for name in space if isinstance(space, dict) else ():
        if (new := _rename_parameter(name, is_custom)) is not None:
            yield SpecChange(("search", "space", name), name, new)
    for number, name in enumerate(fixed if isinstance(fixed, list) else ()):
        if (new := _rename_parameter(name, is_custom)) is not None:
            yield SpecChange(("search", "fixed", number), name, new, "value")


def _rename_parameter(name: object, is_custom: Callable[[str], bool]) -> str | None:
    """The new name of `width` or `gru4rec.width`; None where it keeps its own."""
    if not isinstance(name, str):
        return None
    label, dot, parameter = name.rpartition(".")
    new = MODEL_PARAMETERS.get(parameter)
    return None if new is None or is_custom(label) else f"{label}{dot}{new}"
