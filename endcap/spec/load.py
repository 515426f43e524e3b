"""From the files that a user writes to checked specs, with every mistake reported at once.

A document is made of layers, the later one winning: what it `extends` (at any depth), the file itself, its overlay of
the environment (`<stem>/overlays/<env>.yaml` beside it), then `--set`. Maps merge key by key, lists are replaced whole,
null removes a key. `--set shop.KEY=VALUE` addresses the shop's file, `--set shop=NAME` chooses the shop.

Paths of sources are relative to the file that names them (`--set`: to the current folder); `~`, `${NAME}` and
`${NAME:-default}` are expanded; addresses such as s3://bucket/key stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from endcap.errors import Problem, SpecError
from endcap.spec.base import suggest
from endcap.spec.custom import check_own
from endcap.spec.environments import find_file, names_of
from endcap.spec.layers import Layers, Setting, absolute, applied, overlay_file, overlay_names, settings
from endcap.spec.nodes import Node, listed, parse, shown, spelled, yaml_names
from endcap.spec.recommender import GivenSplit, Recommender
from endcap.spec.shop import Shop
from endcap.spec.side import named
from endcap.spec.variables import expand
from endcap.spec.words import problems_of

_Spec = TypeVar("_Spec", Recommender, Shop)
_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True)
class Loaded:
    """A recommender with its shop, and the files that they were read from, in the order of merging."""

    recommender: Recommender
    shop: Shop
    files: list[Path]
    absent: tuple[str, ...] = ()
    """Classes of one's own that are not installed here: their parameters could not be checked."""


def load(path: str | Path, *, env: str | None = None, sets: Sequence[str] = ()) -> Loaded:
    """Read a recommender's file and its shop's. Raises SpecError with every problem of both."""
    file = absolute(path)
    problems: list[Problem] = []
    of_recommender, of_shop = _sorted(settings(sets, problems))
    layers = Layers("Recommender", problems=problems)
    document = _document(layers, file, env, of_recommender)
    recommender = _validated(document, Recommender, layers)
    shop_file = _shop_file(document, file, problems) if document is not None and layers.right_kind else None
    shop = None
    files = layers.files
    if shop_file is not None:
        shop_layers = Layers("Shop", problems=problems)
        shop = _validated(_document(shop_layers, shop_file, env, of_shop), Shop, shop_layers)
        files = [*shop_layers.files, *files]
    _check_environment(env, [one for one in (file, shop_file) if one is not None], problems)
    absent: list[str] = []
    if recommender is not None and document is not None:
        wrong, absent = check_own({**recommender.models, **recommender.preprocessors}, document)
        problems += wrong
    if recommender is not None and shop is not None and document is not None:
        problems += _disagreements(recommender, shop, document)
    if problems or recommender is None or shop is None:
        raise SpecError(problems)
    return Loaded(recommender, shop, files, tuple(absent))


def load_documents(recommender: Mapping[str, Any], shop: Mapping[str, Any]) -> Loaded:
    """The same for specs that are no files but documents of JSON's types, such as a notebook writes.

    Paths of sources are relative to the current folder. Raises SpecError with every problem of both.
    """
    problems: list[Problem] = []
    document, made = _of_document(recommender, Recommender, problems)
    _, made_shop = _of_document(shop, Shop, problems)
    absent: list[str] = []
    if made is not None:
        wrong, absent = check_own(made.models, document)
        problems += wrong
    if made is not None and made_shop is not None:
        problems += _disagreements(made, made_shop, document)
    if problems or made is None or made_shop is None:
        raise SpecError(problems)
    return Loaded(made, made_shop, [], tuple(absent))


def _of_document(document: Mapping[str, Any], model: type[_Spec], problems: list[Problem]) -> tuple[Node, _Spec | None]:
    origin = f"the {model.__name__.lower()}"
    node, wrong = parse(json.dumps(document, default=str), origin=origin)
    problems += wrong
    node = node if node is not None else Node({}, None, 0, origin)
    node = (_with_paths if model is Shop else _with_given_path)(node, problems)
    try:
        return node, model.model_validate(node.plain())
    except ValidationError as error:
        problems += problems_of(error, node, model)
        return node, None


def resolved(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Both specs as documents of JSON's types, with everything filled in: what pipeline steps are handed."""
    return {
        "recommender": loaded.recommender.model_dump(mode="json", exclude_none=True),
        "shop": loaded.shop.model_dump(mode="json", exclude_none=True),
    }


def _sorted(found: list[Setting]) -> tuple[list[Setting], list[Setting]]:
    """Settings of the recommender, and those of the shop without their prefix."""
    of_shop = [one for one in found if one.key[0] == "shop" and len(one.key) > 1]
    return [one for one in found if one not in of_shop], [replace(one, key=one.key[1:]) for one in of_shop]


def _document(layers: Layers, file: Path, env: str | None, sets: Sequence[Setting]) -> Node | None:
    document = layers.read(file, env)
    if document is None:
        return None
    for setting in sets:
        document = applied(document, setting, layers.problems)
    return (_with_paths if layers.kind == "Shop" else _with_given_path)(document, layers.problems)


def _validated(document: Node | None, model: type[_Spec], layers: Layers) -> _Spec | None:
    if document is None or not layers.right_kind:
        return None
    try:
        return model.model_validate(document.plain())
    except ValidationError as error:
        layers.problems += problems_of(error, document, model)
        return None


def _shop_file(document: Node, file: Path, problems: list[Problem]) -> Path | None:
    """The file of a recommender's shop: a name is looked up in `shops` beside the file that gives it, then beside
    the recommender's own; what ends in .yaml or holds a slash is a path from the file that gives it."""
    node = document.value.get("shop")
    if node is None or not isinstance(node.value, str):
        return None  # the model's own check reports it
    beside = _folder(node)
    if node.value.endswith((".yaml", ".yml")) or "/" in node.value:
        candidates = [absolute(beside / node.value)]
    else:
        candidates = [folder / "shops" / f"{node.value}.yaml" for folder in (beside, file.parent)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    folder = candidates[-1].parent
    names = yaml_names(folder)
    allowed = f"a shop of {shown(folder)}: {listed(names)}" if names else f"a YAML file; {shown(folder)} has none"
    wanted = candidates[-1].stem
    hint = suggest(wanted, names)
    problems.append(Problem(node.place, "shop", repr(node.value), allowed, hint, code="unknown-name"))
    return None


def _check_environment(env: str | None, files: list[Path], problems: list[Problem]) -> None:
    """An environment that neither a spec's overlay nor the file of environments has is a slip, not a wish for none."""
    if env is None or any(overlay_file(file, env).is_file() for file in files):
        return
    environments = find_file(files[0])
    try:
        there = sorted({*overlay_names(files), *names_of(environments)})
    except SpecError as error:
        problems += error.problems
        return
    if env not in there:
        allowed = listed(there) or f"none: no file lies in {shown(overlay_file(files[0], env).parent)}"
        hint, found = suggest(env, there), "no overlay or environment of this name"
        problems.append(Problem(f"--env {env}", "", found, allowed, hint, code="unknown-name"))


def _folder(node: Node) -> Path:
    """The folder that paths of a value start from: its file's, or the current one for the command line's."""
    return Path.cwd() if node.file is None else node.file.parent


def _with_paths(document: Node, problems: list[Problem]) -> Node:
    """The shop's document with each source's path expanded and absolute."""
    for table in (("events",), ("items",), ("customers",), ("rules", "blacklist")):
        key = (*table, "sources")
        sources = document.at(key)
        if not isinstance(sources.value, list) or sources is document.at(table):
            continue
        name = spelled(key)
        changed = [_with_path(source, f"{name}[{n}].path", problems) for n, source in enumerate(sources.value)]
        document = _with_value(document, key, changed)
    return document


def _with_value(node: Node, key: tuple[str, ...], value: Any) -> Node:
    """The document with another value under a key that is there."""
    if not key:
        return replace(node, value=value)
    return replace(node, value=node.value | {key[0]: _with_value(node.value[key[0]], key[1:], value)})


def _with_given_path(document: Node, problems: list[Problem]) -> Node:
    """The recommender's document with the path of `evaluation.negatives` expanded and absolute."""
    keys = ("evaluation", "negatives", "given")
    if document.at(keys) is document.at(keys[:2]):
        return document
    changed = _with_path(document.at(keys[:2]), ".".join(keys), problems, "given")
    return _with_value(document, keys[:2], changed.value)


def _with_path(source: Node, key: str, problems: list[Problem], name: str = "path") -> Node:
    path = source.value.get(name) if isinstance(source.value, dict) else None
    if path is None or not isinstance(path.value, str) or not path.value:
        return source
    expanded = expand(path, key, problems)
    if not _ADDRESS.match(expanded):
        expanded = str(absolute(_folder(path) / Path(expanded).expanduser()))
    return replace(source, value=source.value | {name: replace(path, value=expanded)})


def _disagreements(recommender: Recommender, shop: Shop, document: Node) -> list[Problem]:
    """What only the two specs together show to be wrong."""
    found = []
    if isinstance(recommender.split, GivenSplit) and all(one.part == "train" for one in shop.events.sources):
        place = document.at(("split", "by")).place
        allowed = f"time; or a source with `part: test` in the shop {shop.name}"
        found.append(Problem(place, "split.by", "'given', and no source of test sessions", allowed, code="conflict"))
    events = [feature.name for feature in shop.features.events if feature.values is not None]
    items = [] if shop.items is None else shop.items.attributes
    told: dict[Literal["features", "item_features"], tuple[list[str], str]] = {
        "features": (events, f"features of the shop {shop.name} that have buckets or a limited number of values"),
        "item_features": (items, f"attributes of the items of the shop {shop.name}"),
    }
    for field, (names, what) in told.items():
        for key, name in named(recommender.models, field).items():
            if name not in names:
                allowed = f"{what}: {listed(names) or 'none'}"
                hint = suggest(name, names)
                place = document.at(key).place
                found.append(Problem(place, spelled(key), repr(name), allowed, hint, code="unknown-name"))
    return found
