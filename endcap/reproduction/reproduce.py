"""`reproduce`: rebuild a version and compare it, without touching the original."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.errors import UserError
from endcap.evaluation.remeasure import measure_again
from endcap.features.dataset import make_key as make_dataset_key
from endcap.features.window import to_milliseconds
from endcap.registry import Version
from endcap.registry.package import MODEL, VOCABULARY
from endcap.reproduction.clean_store import CleanStore
from endcap.reproduction.comparison import (
    Circumstance,
    Compared,
    compare_metrics,
    compare_models,
    compare_records,
)
from endcap.reproduction.original import Original, read_original
from endcap.reproduction.rebuild import Rebuilt, rebuild
from endcap.reproduction.threads import use_threads
from endcap.runs.code import describe_code
from endcap.spec.settings import FeatureSettings, RefitSettings, TrainSettings
from endcap.store import Store, get_content_key
from endcap.training.refit import make_fit_key, read_house_rules
from endcap.training.score_sources import keep_recipes
from endcap.training.train import make_key as make_train_key

Json = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Reproduction:
    """A version that was rebuilt, and what is equal.

    Attributes
    ----------
    recommender, version, package
        The version, and its package's address.
    compared
        The parts, each equal, different, or not comparable.
    circumstances
        What differs around the original and the rebuilt version, and may be why they differ.
    notes
        What a reader must know to judge the result.
    seconds
        How long it took.
    kept
        The folder of the rebuilt artifacts; None: they were removed.
    """

    recommender: str
    version: str
    package: str
    compared: Sequence[Compared]
    circumstances: Sequence[Circumstance]
    notes: Sequence[str]
    seconds: float
    kept: str | None

    @property
    def equal(self) -> bool:
        """Whether everything that could be compared is equal, the package's model among it."""
        return all(part.equal is not False for part in self.compared)

    def to_json(self) -> Json:
        """Return the result as JSON values."""
        return {
            "recommender": self.recommender,
            "version": self.version,
            "package": self.package,
            "equal": self.equal,
            "compared": [part.to_json() for part in self.compared],
            "circumstances": [circumstance.to_json() for circumstance in self.circumstances],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "kept": self.kept,
        }


def reproduce(
    version: Version, store: Store, *, keep: Path | None = None, progress: Progress = lambda line: None
) -> Reproduction:
    """Rebuild a version from its snapshot in a clean store, and compare it with the original.

    The dataset is made of the snapshot. The judged model and the final model are fitted by the settings that a search
    left and for the number of epochs that was chosen, with as many threads as were recorded. Nothing is searched,
    registered or deployed, and nothing is written to the store of the original.

    Parameters
    ----------
    version
        The version.
    store
        The store that holds its package.
    keep
        A new or empty folder that keeps the rebuilt artifacts, as a store. None: they are removed.
    progress
        Takes lines for people.

    Returns
    -------
    Reproduction
        What is equal, what differs, and what may be why.

    Raises
    ------
    NotFoundError
        Something is gone that the version is rebuilt from (`reproduction.gone`, `reproduction.no-spec`).
    UserError
        `keep` holds something, the package does not tell its recipe, or a class of a user's own is not installed here.
    IntegrityError
        Something stored is damaged.
    """
    started = time.monotonic()
    original = read_original(version, store)
    with _open_folder(keep) as folder:
        clean = CleanStore(folder, store, original.inputs)
        rebuilt = rebuild(original, clean, progress)
        progress("comparing")
        compared = (
            _compare_data(original, clean, rebuilt),
            _compare_judged(original, store, clean, rebuilt),
            compare_models("package", original.package / MODEL, rebuilt.package / MODEL),
            _measure(original, store, clean, rebuilt, progress),
        )
        circumstances = tuple(_list_circumstances(original, clean, rebuilt))
    return Reproduction(
        version.name,
        version.version,
        get_content_key(version.package),
        compared,
        circumstances,
        tuple(_list_notes(original, rebuilt)),
        round(time.monotonic() - started, 3),
        None if keep is None else str(keep),
    )


@contextlib.contextmanager
def _open_folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="endcap-reproduce-") as folder:
            yield Path(folder)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UserError(
            f"{keep} holds something already, and what lies there could be taken for what is rebuilt; name a new "
            "folder or an empty one",
            code="reproduction.folder-in-use",
            folder=str(keep),
        )
    keep.mkdir(parents=True, exist_ok=True)
    yield keep
    shutil.rmtree(keep / ".work", ignore_errors=True)


def _compare_data(original: Original, clean: CleanStore, rebuilt: Rebuilt) -> Compared:
    if not rebuilt.from_snapshot:
        return Compared("data", None, "the shop's spec is not known: the dataset is the original's own")
    if not original.content:
        return Compared("data", None, "the dataset is gone, and its digest is not recorded")
    content = clean.manifest(rebuilt.dataset)["facts"]["content"]
    same = content == original.content
    return Compared("data", same, "" if same else f"content {original.content} → {content}")


def _compare_judged(original: Original, store: Store, clean: CleanStore, rebuilt: Rebuilt) -> Compared:
    if original.trained.is_gone:
        return Compared("judged model", None, f"{get_content_key(original.trained.address)} is gone")
    folders = [store.fetch(original.trained.address, verify=True), clean.fetch(rebuilt.trained)]
    if folders[0].joinpath(VOCABULARY).read_bytes() != folders[1].joinpath(VOCABULARY).read_bytes():
        return Compared("judged model", False, f"{VOCABULARY}: other items, or in another order")
    return compare_models("judged model", folders[0] / MODEL, folders[1] / MODEL)


def _measure(original: Original, store: Store, clean: CleanStore, rebuilt: Rebuilt, progress: Progress) -> Compared:
    if original.verdict.is_gone:
        return Compared("metrics", None, f"{get_content_key(original.verdict.address)} is gone")
    progress("measuring the judged model")
    rules = read_house_rules(store, original.verdict.address)
    try:
        with use_threads(original.verdict.facts.get("machine", {})):
            measured = measure_again(original.recommender, rebuilt.dataset, rebuilt.trained, rules, clean)
    except UserError as error:  # files of given candidates, for example, are no artifacts
        return Compared("metrics", None, f"{error} [{error.code}]")
    return compare_metrics(original.metrics, measured)


def _list_circumstances(original: Original, clean: CleanStore, rebuilt: Rebuilt) -> Iterator[Circumstance]:
    """Yield what the records of the original and of the rebuilt version say differently, each difference once."""
    code, here = original.lineage.describe_code(), describe_code()
    recorded_code = {name: text for name, text in code.items() if text}
    differences = [
        *compare_records("", recorded_code, {**here, "release": here["version"]}),
        *_compare_keys(original),
    ]
    for facts, address in ((original.trained.facts, rebuilt.trained), (original.fitted.facts, rebuilt.fitted)):
        own = clean.manifest(address)["facts"]
        for name, prefix in (("environment", "packages"), ("machine", ""), ("device", "device")):
            if facts.get(name):
                differences += compare_records(prefix, facts[name], own[name])
    distinct: list[Circumstance] = []
    for difference in differences:
        if difference not in distinct:
            distinct.append(difference)
            yield difference


def _compare_keys(original: Original) -> Iterator[Circumstance]:
    """Yield the steps whose key would be another one now: by their code, or by defaults of their settings.

    Keys cover all code that a step reaches, of a user's own classes too, and releases of libraries to major.minor.
    """
    recommender, dataset, trained = original.recommender, original.dataset.address, original.trained.address
    train_settings = keep_recipes(TrainSettings.of(recommender), original.recipe.model)
    keys = {
        "key.train": (trained, make_train_key(train_settings, dataset)),
        "key.refit": (original.fitted.address, make_fit_key(RefitSettings.of(recommender), dataset, trained)),
    }
    if original.shop is not None:
        end = None if original.until is None else to_milliseconds(original.until)
        key = make_dataset_key(FeatureSettings.of(original.shop), original.snapshot, end)
        keys = {"key.features": (dataset, key), **keys}
    for name, (address, key) in keys.items():
        recorded = address.rpartition("/")[2]
        if recorded and recorded != key:
            yield Circumstance(name, recorded, key)


def _list_notes(original: Original, rebuilt: Rebuilt) -> Iterator[str]:
    if not rebuilt.from_snapshot:
        yield "The store has no record of the run, so the dataset was not made anew: only the fits were repeated."
    if "machine" not in original.trained.facts and "machine" not in original.fitted.facts:
        yield "The original does not say on which processor and with how many threads it was fitted."
    if original.recipe.settings.workers > 1:
        yield f"{original.recipe.settings.workers} workers shared the fit; their machines are not recorded."
    if rebuilt.device.startswith("cuda"):
        yield "The model was fitted on a GPU, whose sums need not be equal twice."
