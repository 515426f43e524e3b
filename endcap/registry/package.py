"""A package: all that serving needs of one judged model, in a folder that holds data only."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from endcap.errors import IntegrityError, RequestError
from endcap.features.event_features import compute_features, select_model_features
from endcap.features.vocabulary import Vocabulary
from endcap.models import Model, load
from endcap.pseudonyms import Pseudonymiser, require_pseudonymiser
from endcap.ranking import Ranker
from endcap.ranking.session import Evaluate
from endcap.registry import package_files
from endcap.rules import Catalogue, Rulebook
from endcap.spec.event_features import EventFeature
from endcap.spec.model import ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.recommender import Recommender
from endcap.spec_renames import migrate_spec
from endcap.store import open_document, stamp_document
from endcap.store.safe_paths import join_safely

MODEL, VOCABULARY, ITEMS, CUSTOMERS = "model", "vocabulary.json", "items.parquet", "customers.parquet"
SPEC, FEATURES, INFO, EXAMPLE = "spec.json", "features.json", "info.json", "example.json"
ENVIRONMENT = "environment.json"
RULES = "rules.json"
"""The shop's rules and blacklist as the package's model was judged by; not there where the shop has none."""
IMAGE = "ENDCAP_IMAGE"
"""The image that this runs in, by digest where it was given by digest; a pipeline sets it on every task."""
_DECLARATIONS = TypeAdapter(list[EventFeature])
PACKAGE = "package"
"""The kind of `info.json`, whose version is that of all files in a package and of what they mean."""
EXAMPLE_TIME = 1_577_836_800_000
"""2020-01-01: the example's answer must not depend on when it is asked."""
EXAMPLE_ITEMS = 40
"""Of the most popular items, how many are tried for an example."""
SCORE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PackageContents:
    """The contents of a package.

    Attributes
    ----------
    model
        The fitted model.
    vocabulary
        The items that the model knows.
    items
        A row for each item, in the vocabulary's order.
    recommender
        The recommender's spec.
    features
        The event features that the model may use.
    event_types
        The event types that the model was trained on; None: all.
    session_gap
        The milliseconds without activity that end a customer's session. None: sessions are not cut by gaps, or the
        package is too old to say.
    info
        Where the package comes from.
    environment
        The versions that made it.
    example
        A request with its answer.
    customers
        The model's index of each customer that it knows, by id.
    house_rules
        The shop's rules; None if it has none.
    """

    model: Model
    vocabulary: Vocabulary
    items: pa.Table
    recommender: Recommender
    features: Sequence[EventFeature]
    event_types: Sequence[str] | None
    session_gap: int | None
    info: dict[str, Any]
    environment: dict[str, str]
    example: dict[str, Any]
    customers: Mapping[str, int]
    house_rules: Catalogue | None

    @property
    def evaluate(self) -> Evaluate | None:
        """The evaluator of the features that the model uses; None if it uses none."""
        return _make_evaluate(self.recommender, self.features)


@dataclass(frozen=True)
class LoadedPackage(PackageContents):
    """A package that answers requests."""

    ranker: Ranker

    def check(self) -> None:
        """Rank the example request again. Raises IntegrityError if the answer differs from the one in the package."""
        written = self.example["answer"]
        try:
            answer: Any = _rank_request(self.ranker, self.example["request"])
            scores, expected = _list_scores(answer), _list_scores(written)
        except (RequestError, *package_files.DAMAGE_ERRORS) as error:  # files that do not fit each other
            answer, scores, expected = f"{type(error).__name__}: {error}", [], [0.0]
        same = len(scores) == len(expected)
        if not same or not np.allclose(scores, expected, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE):
            raise IntegrityError(
                f"the package's example request is answered with {answer}, at its writing with {written}. "
                f"It was written with {self.environment}; this environment is {describe_environment()}. Install the "
                "versions that it was written with, or register a new version",
                code="registry.example-differs",
                found=answer,
                expected=written,
                written_with=self.environment,
                environment=describe_environment(),
            )


def write_package(
    folder: Path,
    *,
    model: Model,
    vocabulary: Vocabulary,
    items: pa.Table,
    recommender: Recommender,
    shop_features: Sequence[EventFeature] = (),
    event_types: Sequence[str] | None = None,
    session_gap: int | None = None,
    fitted_until: int | None = None,
    customers: pa.Array | None = None,
    house_rules: Catalogue | None = None,
    recipe: Mapping[str, Any] | None = None,
    pseudonyms: str | None = None,
    lineage: Mapping[str, Any],
) -> None:
    """Write a package into an existing folder.

    Parameters
    ----------
    folder
        The folder.
    model
        The fitted model.
    vocabulary
        The items that the model knows.
    items
        A row for each item, in the vocabulary's order, with `item` and the attributes that the shop has.
    recommender
        The recommender's spec.
    shop_features
        The shop's declarations of event features.
    event_types
        The event types that the model is trained on; None: all.
    session_gap
        The milliseconds without activity that end a customer's session; None: sessions are not cut by gaps.
    fitted_until
        The time of the last event that the model learnt from, epoch milliseconds.
    customers
        The ids of the model's `known_customers` as strings, in the same order. Needed if the model knows customers.
    house_rules
        The shop's rules with the blacklist, about the items of `items`.
    recipe
        How the model was fitted, as JSON values: its spec after a search (`model`) and the results of its fits
        (`found`).
    pseudonyms
        The id of the key whose pseudonyms the dataset has in place of ids; None: it has the ids.
    lineage
        JSON values, such as the addresses of the dataset and the verdict.
    """
    if items.column("item").to_pylist() != list(vocabulary.ids):
        raise ValueError("the item table is not in the order of the vocabulary")
    known = _index_customers(model, customers)
    (folder / MODEL).mkdir()
    model.save(folder / MODEL)
    vocabulary.save(folder / VOCABULARY)
    pq.write_table(items, folder / ITEMS)
    if known:
        pq.write_table(pa.table({"customer": customers}), folder / CUSTOMERS)
    if house_rules is not None:
        _write_json(folder / RULES, house_rules.to_json())
    (folder / SPEC).write_text(recommender.model_dump_json(indent=1) + "\n")
    declared = [feature.model_dump(mode="json") for feature in shop_features]
    types = None if event_types is None else list(event_types)
    _write_json(folder / FEATURES, {"events": declared, "event_types": types, "session_gap_ms": session_gap})
    _write_json(folder / ENVIRONMENT, describe_environment())
    about: dict[str, Any] = {"name": recommender.name, "items": len(items), "fitted_until": fitted_until}
    if pseudonyms is not None:
        about["pseudonyms"] = pseudonyms
    _write_json(
        folder / INFO, stamp_document(PACKAGE, {**about, **({} if recipe is None else {"recipe": recipe}), **lineage})
    )
    ranker = _make_ranker(model, vocabulary, items, recommender, shop_features, event_types, known, house_rules)
    asks: dict[str, Any] = {"customer": next(iter(known))} if known else {}
    _write_json(folder / EXAMPLE, _make_example(ranker, {"k": min(5, recommender.serving.max_k), **asks}))


def load_package(folder: Path) -> LoadedPackage:
    """Load a package, ready to answer requests.

    Parameters
    ----------
    folder
        The package's folder.

    Raises
    ------
    IntegrityError, UserError
        As in `load_contents`. UserError also if the package knows shoppers by pseudonyms, and this process does not
        have their key.
    """
    contents = load_contents(folder)
    pseudonymiser = open_pseudonymiser(contents)
    with package_files.report_damage(folder):
        ranker = _make_ranker(
            contents.model,
            contents.vocabulary,
            contents.items,
            contents.recommender,
            contents.features,
            contents.event_types,
            contents.customers,
            contents.house_rules,
            pseudonymiser,
        )
    return LoadedPackage(**vars(contents), ranker=ranker)


def open_pseudonymiser(contents: PackageContents) -> Pseudonymiser | None:
    """Make what maps the ids of requests to a package that was trained on pseudonyms; None for others.

    Raises
    ------
    UserError
        If this process does not have the key that the package was trained with.
    """
    key_id = contents.info.get("pseudonyms")
    if key_id is None:
        return None
    return require_pseudonymiser(f"the package of {contents.recommender.name} was trained on pseudonyms", key_id)


def load_contents(folder: Path) -> PackageContents:
    """Load the contents of a package, for steps that use its model in their own way. No code from the package runs.

    Parameters
    ----------
    folder
        The package's folder.

    Returns
    -------
    PackageContents
        The contents. If the model's class is the user's own, the class that is installed here makes it, if the
        package's recommender lists it.

    Raises
    ------
    IntegrityError
        The package is damaged.
    UserError
        The package has another format, or the model's class is not listed or not installed. The message says what to
        do.
    """
    info = read_info(folder)
    recommender = read_recommender(folder)
    with package_files.report_damage(folder):
        features = package_files.read_json_file(folder, FEATURES, package_files.FEATURES_ADAPTER)
        declared = read_declarations(features)
        made_with = package_files.read_json_file(folder, ENVIRONMENT, package_files.ENVIRONMENT_ADAPTER)
        example = package_files.read_json_file(folder, EXAMPLE, package_files.EXAMPLE_ADAPTER)
        vocabulary = package_files.read_vocabulary(folder, VOCABULARY)
        items = package_files.read_table(folder, ITEMS, "item")
        package_files.check_order(items, vocabulary.ids)
        ids = package_files.read_table(folder, CUSTOMERS, "customer")["customer"] if _has(folder, CUSTOMERS) else None
        house_rules = Catalogue.from_json(package_files.read_json_file(folder, RULES)) if _has(folder, RULES) else None
    model = load(join_safely(folder, MODEL, str(folder)), recommender.classes)
    if not model.n_items == len(items) == len(vocabulary.ids):
        raise IntegrityError(
            f"{folder}: model, item table and vocabulary have {model.n_items}, {len(items)} and "
            f"{len(vocabulary.ids)} items; register another version",
            code="registry.package-damaged",
            path=str(folder),
            reason="model, item table and vocabulary differ in their items",
            items={"model": model.n_items, "table": len(items), "vocabulary": len(vocabulary.ids)},
        )
    try:
        customers = _index_customers(model, ids)
    except ValueError as error:
        raise IntegrityError(
            f"{folder}: {error}; register another version",
            code="registry.package-damaged",
            path=str(folder),
            reason=str(error),
        ) from error
    return PackageContents(
        model=model,
        vocabulary=vocabulary,
        items=items,
        recommender=recommender,
        features=declared,
        event_types=features["event_types"],
        session_gap=features.get("session_gap_ms"),
        info=info,
        environment=made_with,
        example=example,
        customers=customers,
        house_rules=house_rules,
    )


def is_package(folder: Path) -> bool:
    """Tell whether a folder holds a package, and not only a trained model."""
    return (folder / INFO).is_file()


def read_recommender(folder: Path) -> Recommender:
    """Read the recommender's spec of a package without loading the package.

    Parameters
    ----------
    folder
        The package's folder.

    Raises
    ------
    IntegrityError
        The package is damaged.
    """
    with package_files.report_damage(folder):
        document = package_files.read_json_file(folder, SPEC)  # of bounded depth, as the check below needs it
        return Recommender.model_validate_json(json.dumps(migrate_spec(document)))


def read_model_specs(folder: Path) -> list[ModelSpec | PreprocessorSpec]:
    """Read the specs of a package's model and preprocessors without loading the package.

    Parameters
    ----------
    folder
        The package's folder.

    Raises
    ------
    IntegrityError
        The package is damaged.
    """
    recommender = read_recommender(folder)
    return [recommender.model, *recommender.preprocessing]


def read_info(folder: Path) -> dict[str, Any]:
    """Read where a package comes from. Read this first, because other files may be missing or differ in another format.

    Parameters
    ----------
    folder
        The package's folder.

    Raises
    ------
    IntegrityError
        The package is damaged.
    UserError
        The package has another format.
    """
    with package_files.report_damage(folder):
        info = package_files.read_json_file(folder, INFO)
        # Release 0.1.0 said it there alone.
        written_by = package_files.read_json_file(folder, ENVIRONMENT, package_files.ENVIRONMENT_ADAPTER).get("endcap")
    about = open_document(PACKAGE, info, str(folder), written_by=written_by)
    with package_files.report_damage(folder):
        package_files.INFO_ADAPTER.validate_python(about, strict=True)
    return about


def read_declarations(features: Mapping[str, Any]) -> list[EventFeature]:
    """Read the declarations of event features out of a package's `FEATURES`. Raises ValueError."""
    return _DECLARATIONS.validate_python(features["events"])


def _has(folder: Path, name: str) -> bool:
    return os.path.lexists(folder / name)


def describe_environment() -> dict[str, str]:
    """Describe what a model's numbers may depend on: versions of libraries and, in a pod, the image."""
    versions = {"python": platform.python_version()}
    for name in ("endcap", "torch", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    image = os.environ.get(IMAGE)
    return {**versions, "image": image} if image else versions


def _make_ranker(
    model: Model,
    vocabulary: Vocabulary,
    items: pa.Table,
    recommender: Recommender,
    declared: Sequence[EventFeature],
    event_types: Sequence[str] | None,
    customers: Mapping[str, int],
    house_rules: Catalogue | None,
    pseudonymiser: Pseudonymiser | None = None,
) -> Ranker:
    return Ranker(
        model,
        vocabulary,
        items,
        exclude=recommender.exclude,
        serving=recommender.serving,
        evaluate=_make_evaluate(recommender, declared),
        event_types=event_types,
        customers=customers,
        rulebook=Rulebook(vocabulary, items, house_rules) if house_rules is not None else None,
        pseudonymiser=pseudonymiser,
    )


def _make_evaluate(recommender: Recommender, declared: Sequence[EventFeature]) -> Evaluate | None:
    # A preprocessor may read any feature.
    used = list(declared) if recommender.preprocessing else select_model_features(recommender, declared)
    return partial(compute_features, used) if used else None


def _index_customers(model: Model, ids: pa.Array | pa.ChunkedArray | None) -> dict[str, int]:
    """The model's index of each customer that it knows, by id; ids: in the order of its `known_customers`."""
    known = model.known_customers
    if len(known) != (0 if ids is None else len(ids)):
        raise ValueError(f"the model knows {len(known)} customers, and {0 if ids is None else len(ids)} have an id")
    return {} if ids is None else dict(zip(ids.to_pylist(), known.tolist(), strict=True))


def _make_example(ranker: Ranker, asks: Mapping[str, Any]) -> dict[str, Any]:
    """A request of two popular items and its answer: the first pair that the model has an opinion on, of a few.

    Preprocessing may leave nothing of the most popular ones, and then the answer would say nothing of the model.
    """
    examples = []
    for first in range(0, max(1, min(EXAMPLE_ITEMS, len(ranker.vocabulary.ids))), 2):
        pair = ranker.vocabulary.ids[first : first + 2]
        events = [{"item": item, "time": EXAMPLE_TIME + 60_000 * step} for step, item in enumerate(pair)]
        request = {"events": events, **asks}
        examples.append({"request": request, "answer": _rank_request(ranker, request)})
        if any(item["score"] is not None for item in examples[-1]["answer"]["items"]):
            return examples[-1]
    return examples[0]


def _rank_request(ranker: Ranker, request: Any) -> dict[str, Any]:
    return ranker.rank([ranker.parse(request)])[0].to_json()


def _list_scores(answer: Mapping[str, Any]) -> list[float]:
    return [-1.0 if item["score"] is None else float(item["score"]) for item in answer["items"]]


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
