"""Load a recommender and its shop from files, check both, and report all mistakes at once.

A document has several layers: the file that it `extends` (at any depth), the file itself, its overlay for the
environment (`<stem>/overlays/<env>.yaml` beside it), and `--set`. Later layers win. Maps are merged key by key, lists
are replaced as a whole, and null removes a key. `--set shop.KEY=VALUE` changes the shop's file, `--set shop=NAME`
chooses the shop.

A source's path is relative to the file that has it; with `--set`, to the current folder. `~`, `${NAME}` and
`${NAME:-default}` are expanded. Addresses such as s3://bucket/key do not change. A step's file of SQL is read, and its
text takes the file's place.
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
from endcap.spec.for_each import MARK, ValueChoice, choose, list_values, name_after, split_path
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
from endcap.spec.sql_files import read_sql_files
from endcap.spec.yaml_tree import YamlNode, format_path, join_words, list_yaml_names, parse_yaml


@dataclass(frozen=True)
class Loaded:
    """A recommender with its shop.

    Attributes
    ----------
    recommender, shop
        The two specs.
    files
        The files that they were read from, in the order of merging.
    absent
        Your own classes that are not installed here. Their parameters were not checked.
    """

    recommender: Recommender
    shop: Shop
    files: list[Path]
    absent: tuple[str, ...] = ()


def load(
    path: str | Path, *, env: str | None = None, sets: Sequence[str] = (), overlays: Sequence[str | Path] = ()
) -> Loaded:
    """Load a recommender's file and its shop's file.

    Parameters
    ----------
    path
        The recommender's file. ``home.yaml#shoes`` is the recommender of the value ``shoes`` of its `for_each`.
    env
        The environment whose overlays are merged; None: no overlay.
    sets
        Keys to set, such as ``model.width=64`` or ``shop.window=30d``.
    overlays
        More files to merge over the recommender's.

    Returns
    -------
    Loaded
        Both specs.

    Raises
    ------
    SpecError
        The files have mistakes; the error has all of them.
    """
    name, value = split_path(path)
    file = make_absolute(name)
    problems: list[Problem] = []
    layers, shop_layers = Layers("Recommender", problems=problems), Layers("Shop")
    document = layers.read(file, env, [make_absolute(overlay) for overlay in overlays])
    choice = ValueChoice(YamlNode({}, file, 1)) if document is None else choose(document, value, problems)
    of_recommender, of_shop = _sort_settings([*choice.settings, *parse_settings(sets, problems)])
    document = None if document is None else _finish_document(layers, choice.document, of_recommender)
    shop_file = None if document is None else _find_shop_file(document, file, problems)
    shop_document = None if shop_file is None else shop_layers.read(shop_file, env)
    if shop_document is not None:
        of_shop = [*_name_own_shop(shop_document, choice), *of_shop]
        shop_document = _finish_document(shop_layers, shop_document, of_shop)
    places: list[Problem] = []
    _check_environment(env, [spec_file for spec_file in (file, shop_file) if spec_file is not None], places)
    return _build_loaded(
        _ReadDocument(document if layers.right_kind else None, problems, layers.lacks),
        _ReadDocument(shop_document if shop_layers.right_kind else None, shop_layers.problems, shop_layers.lacks),
        [*shop_layers.files, *layers.files],
        places,
    )


def list_paths(path: str | Path, *, env: str | None = None) -> list[Path]:
    """List the recommenders of a file: ``home.yaml#shoes`` for each value of its `for_each`.

    Parameters
    ----------
    path
        The recommender's file.
    env
        The environment whose overlay is merged; None: no overlay.

    Returns
    -------
    list of Path
        The path itself, if it names a value, or the file has no `for_each` or mistakes there, which `load` tells.
        Empty if no value's `if` holds.

    Raises
    ------
    SpecError
        An `if` is wrong.
    """
    file, value = split_path(path)
    document = None if value else Layers("Recommender").read(make_absolute(file), env)
    problems: list[Problem] = []
    names = None if document is None else list_values(document, problems)
    if names is None:
        return [Path(path)]
    if problems:
        raise SpecError(problems)
    return [Path(f"{file}{MARK}{name}") for name in names]


def load_documents(recommender: Mapping[str, Any], shop: Mapping[str, Any]) -> Loaded:
    """Load specs that are documents of JSON's types, such as a notebook has, in place of files.

    Parameters
    ----------
    recommender, shop
        The documents. Paths of sources are relative to the current folder.

    Returns
    -------
    Loaded
        Both specs.

    Raises
    ------
    SpecError
        The documents have mistakes; the error has all of them.
    """
    return _build_loaded(_read_mapping(recommender, "Recommender"), _read_mapping(shop, "Shop"))


@dataclass(frozen=True)
class _ReadDocument:
    """A merged document; None if its values cannot be checked."""

    document: YamlNode | None
    problems: list[Problem]
    """The problems of reading it."""
    lacks: bool = False
    """Whether keys may be missing; see `Layers`."""

    def add_findings(self, findings: list[Finding]) -> list[Problem]:
        """List the problems of reading, then those of values by line. A key that could not be read has no second
        one."""
        if self.document is None:
            return self.problems
        unread = {problem.key for problem in self.problems if problem.key}
        of_values = [problem for problem in sort_by_line(self.document, findings) if problem.key not in unread]
        return [*self.problems, *(problem for problem in of_values if not self.lacks or problem.code in _WRONG_ALONE)]


_WRONG_ALONE = ("duplicate", "not-allowed", "unknown-key", "wrong-type")
"""The codes of mistakes that do not depend on missing keys."""


def _read_mapping(document: Mapping[str, Any], kind: Literal["Recommender", "Shop"]) -> _ReadDocument:
    origin = f"the {kind.lower()}"
    try:
        text = json.dumps(document, default=str)
    except (RecursionError, ValueError):  # it may contain itself
        actual, allowed = "a document that contains itself, or is nested too deeply", "maps and lists, as in YAML files"
        return _ReadDocument(None, [Problem(origin, "", actual, allowed, code="too-large")])
    node, problems = parse_yaml(text, origin=origin)
    node = node if node is not None else YamlNode({}, None, 0, origin)
    node, outdated = migrate_node(node, kind)
    problems += outdated
    return _ReadDocument(_expand_paths(node, kind, problems), problems)


def _build_loaded(
    recommender: _ReadDocument, shop: _ReadDocument, files: Sequence[Path] = (), further: Sequence[Problem] = ()
) -> Loaded:
    """Validate both documents. Raises SpecError with all problems.

    Each check runs on the right values, so that a mistake hides no other mistake.
    """
    recommender_spec = shop_spec = UNKNOWN
    findings: list[Finding] = []
    of_shop: list[Finding] = []
    absent: list[str] = []
    if shop.document is not None:
        shop_spec, of_shop = validate_document(shop.document, Shop)
    if recommender.document is not None:
        recommender_spec, findings = validate_document(recommender.document, Recommender)
        own = {**recommender_spec.models, **recommender_spec.preprocessors}
        wrong, absent = check_custom_classes(own, recommender_spec.classes, recommender.document)
        findings += wrong
    if recommender.document is not None and shop.document is not None:
        findings += check_agreement(recommender_spec, shop_spec, recommender.document)
    if problems := [*recommender.add_findings(findings), *shop.add_findings(of_shop), *further]:
        raise SpecError(problems)
    return Loaded(recommender_spec, shop_spec, list(files), tuple(absent))


def dump_specs(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Return both specs as documents of JSON's types, with all defaults. Pipeline steps get these.

    Returns
    -------
    dict
        The documents `recommender` and `shop`.
    """
    return {
        "recommender": loaded.recommender.model_dump(mode="json", exclude_none=True),
        "shop": loaded.shop.model_dump(mode="json", exclude_none=True),
    }


def _sort_settings(all_settings: list[Setting]) -> tuple[list[Setting], list[Setting]]:
    """Split settings into those of the recommender, and those of the shop, without their prefix."""
    of_shop = [setting for setting in all_settings if setting.key[0] == "shop" and len(setting.key) > 1]
    of_recommender = [setting for setting in all_settings if setting not in of_shop]
    return of_recommender, [replace(setting, key=setting.key[1:]) for setting in of_shop]


def _name_own_shop(document: YamlNode, choice: ValueChoice) -> list[Setting]:
    """Return the setting of the shop's name, if `for_each` sets keys of the shop: other data are of another shop."""
    name = document.value.get("name")
    sets_shop = any(setting.key[0] == "shop" and len(setting.key) > 1 for setting in choice.settings)
    return [name_after(name, choice.value)] if sets_shop and name is not None else []


def _finish_document(layers: Layers, document: YamlNode, sets: Sequence[Setting]) -> YamlNode:
    for setting in sets:
        document = apply_setting(document, setting, layers.problems)
    document, outdated = migrate_node(document, layers.kind)
    layers.problems += outdated
    return _expand_paths(document, layers.kind, layers.problems)


def _expand_paths(document: YamlNode, kind: str, problems: list[Problem]) -> YamlNode:
    if kind == "Shop":
        return expand_source_paths(document, problems)
    return read_sql_files(expand_negatives_path(document, problems), problems)


def _find_shop_file(document: YamlNode, file: Path, problems: list[Problem]) -> Path | None:
    """Find the file of a recommender's shop.

    A name is looked up in `shops` beside the file that has it, then beside the recommender's file. A text with .yaml at
    its end or a slash is a path relative to the file that has it.
    """
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
    """Add the problems of the file of environments, and an environment that neither it nor an overlay has."""
    try:
        named = list_environments(find_file(files[0]))
    except SpecError as error:
        problems += error.problems
        return
    except NotFoundError:  # who needs a place gets this error
        if env is not None and not any(is_file(locate_overlay(file, env)) for file in files):
            raise
        return
    environments = sorted({*list_overlay_names(files), *named})
    if env is not None and env not in environments:
        allowed = (
            join_words(environments) or f"none: no file lies in {format_path(locate_overlay(files[0], env).parent)}"
        )
        hint, actual = suggest(env, environments), "no overlay and no environment has this name"
        problems.append(Problem(f"--env {env}", "", actual, allowed, hint, code="unknown-name"))
