"""From the files that a user writes to checked specs, with every mistake reported at once.

A document is made of layers, the later one winning: what it `extends` (at any depth), the file itself, its overlay of
the environment (`<stem>/overlays/<env>.yaml` beside it), then `--set`. Maps merge key by key, lists are replaced whole,
null removes a key. `--set shop.KEY=VALUE` addresses the shop's file, `--set shop=NAME` chooses the shop.

Paths of sources are relative to the file that names them (`--set`: to the current folder); `~`, `${NAME}` and
`${NAME:-default}` are expanded; addresses such as s3://bucket/key stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from endcap.errors import NotFoundError, Problem, SpecError
from endcap.safe_reading import is_file
from endcap.spec.agreement import check_agreement
from endcap.spec.base import UNKNOWN, suggest
from endcap.spec.custom import check_custom_classes
from endcap.spec.environments import find_file, list_environments
from endcap.spec.layers import (
    Layers,
    Setting,
    apply_setting,
    list_overlay_names,
    locate_overlay,
    make_absolute,
    parse_settings,
)
from endcap.spec.migration import migrate_node
from endcap.spec.problems import Finding, sort_by_line, validate_document
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop
from endcap.spec.source_paths import expand_negatives_path, expand_source_paths, get_base_folder
from endcap.spec.yaml_tree import YamlNode, format_path, join_words, list_yaml_names, parse_yaml


@dataclass(frozen=True)
class Loaded:
    """A recommender with its shop, and the files that they were read from, in the order of merging."""

    recommender: Recommender
    shop: Shop
    files: list[Path]
    absent: tuple[str, ...] = ()
    """Classes of one's own that are not installed here: their parameters could not be checked."""


def load(
    path: str | Path, *, env: str | None = None, sets: Sequence[str] = (), overlays: Sequence[str | Path] = ()
) -> Loaded:
    """Read a recommender's file and its shop's. overlays: files that are laid over the recommender's, beside that of
    the environment. Raises SpecError with every problem of both."""
    file = make_absolute(path)
    problems: list[Problem] = []
    of_recommender, of_shop = _sort_settings(parse_settings(sets, problems))
    layers, shop_layers = Layers("Recommender", problems=problems), Layers("Shop")
    document = _build_document(layers, file, env, of_recommender, [make_absolute(overlay) for overlay in overlays])
    shop_file = None if document is None else _find_shop_file(document, file, problems)
    shop_document = None if shop_file is None else _build_document(shop_layers, shop_file, env, of_shop)
    places: list[Problem] = []
    _check_environment(env, [spec_file for spec_file in (file, shop_file) if spec_file is not None], places)
    return _build_loaded(
        _ReadDocument(document if layers.right_kind else None, problems, layers.lacks),
        _ReadDocument(shop_document if shop_layers.right_kind else None, shop_layers.problems, shop_layers.lacks),
        [*shop_layers.files, *layers.files],
        places,
    )


def load_documents(recommender: Mapping[str, Any], shop: Mapping[str, Any]) -> Loaded:
    """The same for specs that are no files but documents of JSON's types, such as a notebook writes.

    Paths of sources are relative to the current folder. Raises SpecError with every problem of both.
    """
    return _build_loaded(_read_mapping(recommender, "Recommender"), _read_mapping(shop, "Shop"))


@dataclass(frozen=True)
class _ReadDocument:
    """A document out of its layers. It is None where its values cannot be judged."""

    document: YamlNode | None
    problems: list[Problem]
    """What was wrong while it was read."""
    lacks: bool = False
    """Keys may be missing: see `Layers.lacks`."""

    def with_values(self, findings: list[Finding]) -> list[Problem]:
        """These problems, then those of values, in the order of lines; of a key that could not be read that alone."""
        if self.document is None:
            return self.problems
        read = {problem.key for problem in self.problems if problem.key}
        rest = [problem for problem in sort_by_line(self.document, findings) if problem.key not in read]
        return [*self.problems, *(problem for problem in rest if not self.lacks or problem.code in _WRONG_ALONE)]


_WRONG_ALONE = ("duplicate", "not-allowed", "unknown-key", "wrong-type")
"""Codes of what no key that is missing would mend."""


def _read_mapping(document: Mapping[str, Any], kind: Literal["Recommender", "Shop"]) -> _ReadDocument:
    origin = f"the {kind.lower()}"
    try:
        text = json.dumps(document, default=str)
    except (RecursionError, ValueError):  # it may hold itself
        actual, allowed = "a document without an end, or nested very deep", "maps and lists as YAML files have them"
        return _ReadDocument(None, [Problem(origin, "", actual, allowed, code="too-large")])
    node, problems = parse_yaml(text, origin=origin)
    node = node if node is not None else YamlNode({}, None, 0, origin)
    node, outdated = migrate_node(node, kind)
    problems += outdated
    return _ReadDocument((expand_source_paths if kind == "Shop" else expand_negatives_path)(node, problems), problems)


def _build_loaded(
    recommender: _ReadDocument, shop: _ReadDocument, files: Sequence[Path] = (), further: Sequence[Problem] = ()
) -> Loaded:
    """Both specs out of their documents.

    Each check runs on what is right of both, so that no mistake hides another that does not depend on it.
    """
    made_recommender = made_shop = UNKNOWN
    findings: list[Finding] = []
    of_shop: list[Finding] = []
    absent: list[str] = []
    if shop.document is not None:
        made_shop, of_shop = validate_document(shop.document, Shop)
    if recommender.document is not None:
        made_recommender, findings = validate_document(recommender.document, Recommender)
        own = {**made_recommender.models, **made_recommender.preprocessors}
        wrong, absent = check_custom_classes(own, made_recommender.classes, recommender.document)
        findings += wrong
    if recommender.document is not None and shop.document is not None:
        findings += check_agreement(made_recommender, made_shop, recommender.document)
    if problems := [*recommender.with_values(findings), *shop.with_values(of_shop), *further]:
        raise SpecError(problems)
    return Loaded(made_recommender, made_shop, list(files), tuple(absent))


def dump_specs(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Both specs as documents of JSON's types, with everything filled in: what pipeline steps are handed."""
    return {
        "recommender": loaded.recommender.model_dump(mode="json", exclude_none=True),
        "shop": loaded.shop.model_dump(mode="json", exclude_none=True),
    }


def _sort_settings(all_settings: list[Setting]) -> tuple[list[Setting], list[Setting]]:
    """Settings of the recommender, and those of the shop without their prefix."""
    of_shop = [setting for setting in all_settings if setting.key[0] == "shop" and len(setting.key) > 1]
    of_recommender = [setting for setting in all_settings if setting not in of_shop]
    return of_recommender, [replace(setting, key=setting.key[1:]) for setting in of_shop]


def _build_document(
    layers: Layers, file: Path, env: str | None, sets: Sequence[Setting], overlays: Sequence[Path] = ()
) -> YamlNode | None:
    document = layers.read(file, env, overlays)
    if document is None:
        return None
    for setting in sets:
        document = apply_setting(document, setting, layers.problems)
    document, outdated = migrate_node(document, layers.kind)
    layers.problems += outdated
    return (expand_source_paths if layers.kind == "Shop" else expand_negatives_path)(document, layers.problems)


def _find_shop_file(document: YamlNode, file: Path, problems: list[Problem]) -> Path | None:
    """The file of a recommender's shop: a name is looked up in `shops` beside the file that gives it, then beside
    the recommender's own; what ends in .yaml or holds a slash is a path from the file that gives it."""
    node = document.value.get("shop")
    if node is None or not isinstance(node.value, str):
        return None  # the model's own check reports it
    beside = get_base_folder(node)
    if node.value.endswith((".yaml", ".yml")) or "/" in node.value:
        candidates = [make_absolute(beside / node.value)]
    else:
        candidates = [folder / "shops" / f"{node.value}.yaml" for folder in (beside, file.parent)]
    for candidate in candidates:
        if is_file(candidate):
            return candidate
    folder = candidates[-1].parent
    names = list_yaml_names(folder)
    allowed = (
        f"a shop of {format_path(folder)}: {join_words(names)}"
        if names
        else f"a YAML file; {format_path(folder)} has none"
    )
    name = candidates[-1].stem
    hint = suggest(name, names)
    problems.append(Problem(node.place, "shop", repr(node.value), allowed, hint, code="unknown-name"))
    return None


def _check_environment(env: str | None, files: list[Path], problems: list[Problem]) -> None:
    """What is wrong in the file of environments; and an environment that neither it nor a spec's overlay has, which is
    a slip, not a wish for none."""
    try:
        named = list_environments(find_file(files[0]))
    except SpecError as error:
        problems += error.problems
        return
    except NotFoundError:  # whoever needs a place is told
        if env is not None and not any(is_file(locate_overlay(file, env)) for file in files):
            raise
        return
    environments = sorted({*list_overlay_names(files), *named})
    if env is not None and env not in environments:
        allowed = (
            join_words(environments) or f"none: no file lies in {format_path(locate_overlay(files[0], env).parent)}"
        )
        hint, actual = suggest(env, environments), "no overlay or environment of this name"
        problems.append(Problem(f"--env {env}", "", actual, allowed, hint, code="unknown-name"))
