"""Rebuilds a version's dataset, judged model and final model in a clean store, by the settings that were found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from endcap.errors import NotFoundError
from endcap.features import build
from endcap.machine import describe_machine
from endcap.models import load
from endcap.models.device import find_device
from endcap.models.fit import open_model_view
from endcap.registry.package import MODEL, VOCABULARY, describe_environment
from endcap.registry.recipe import Recipe
from endcap.reproduction.clean_store import CleanStore
from endcap.reproduction.original import Original, make_gone_error
from endcap.reproduction.threads import use_threads
from endcap.spec.settings import RefitSettings
from endcap.spec.shop import Shop
from endcap.spec.training import TrainingSpec
from endcap.steps import STEPS
from endcap.store import fingerprint
from endcap.training.recipes import fit_model
from endcap.training.refit import fit_winner

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Rebuilt:
    """What was rebuilt.

    Attributes
    ----------
    dataset, trained, fitted
        Addresses in the clean store.
    package
        Folder with the files of a package that hold its model.
    from_snapshot
        Whether the dataset was made of the snapshot; else it is a copy, because the shop's spec is not known.
    device
        Where the judged model was fitted.
    """

    dataset: str
    trained: str
    fitted: str
    package: Path
    from_snapshot: bool
    device: str


def rebuild(original: Original, clean: CleanStore, progress: Progress) -> Rebuilt:
    """Rebuild a version. Nothing is searched: models are fitted as found, for the recorded number of epochs.

    Parameters
    ----------
    original
        The version.
    clean
        An empty store that can read the version's snapshot.
    progress
        Takes lines for people.

    Raises
    ------
    NotFoundError
        A part of the snapshot was removed meanwhile (`reproduction.gone`).
    UserError, IntegrityError
        As the steps features, train and refit raise them.
    """
    if original.shop is None:
        progress("the store has no record of the shop's spec, so the dataset is taken as it is")
        dataset = clean.copy(original.dataset.address)
    else:
        progress(f"making the dataset of {original.snapshot}")
        dataset = _build_dataset(original, original.shop, clean, progress)
    recipe = _place_here(original.recipe)
    with use_threads(original.trained.facts.get("machine", {})):
        trained, device = _fit_judged(recipe, dataset, clean, progress)
    settings = RefitSettings.of(original.recommender).model_copy(update=_select_fit(recipe))
    with use_threads(original.fitted.facts.get("machine", {})):
        fitted = fit_winner(settings, dataset, trained, clean, progress)
    package = _pack(clean.fetch(fitted), clean.work_folder("packages", "rebuilt"), settings)
    return Rebuilt(dataset, trained, fitted, package, original.shop is not None, device)


def _build_dataset(original: Original, shop: Shop, clean: CleanStore, progress: Progress) -> str:
    # All engines make the same dataset; this one needs no other server.
    features = shop.features.model_copy(update={"engine": "duckdb"})
    try:
        return build(
            shop.model_copy(update={"features": features}),
            original.snapshot,
            clean,
            until=original.until,
            progress=progress,
        )
    except NotFoundError as error:
        raise make_gone_error(
            original.lineage.version, [str(error.fields.get("address", original.snapshot))], clean.origin
        ) from error


def _place_here(recipe: Recipe) -> Recipe:
    """Have as many workers as the original had, on this machine."""
    training = recipe.settings.training
    here = TrainingSpec(workers=training.workers, cpu=training.cpu, gpu=training.gpu)
    return replace(recipe, settings=recipe.settings.model_copy(update={"training": here}))


def _select_fit(recipe: Recipe) -> Mapping[str, Any]:
    return {"workers": recipe.settings.workers, "training": recipe.settings.training}


def _fit_judged(recipe: Recipe, dataset: str, clean: CleanStore, progress: Progress) -> tuple[str, str]:
    """Fit the model that the gate judged, and return its address and where it was fitted."""
    settings, started = recipe.settings, time.monotonic()
    kind, key = STEPS["train"].folder(settings.name), fingerprint(settings.key(), dict(recipe.fit_results))
    view = open_model_view(clean.fetch(dataset), settings)
    progress(f"fitting {recipe.model.name} as it was judged")
    with clean.workspace(kind, key, progress) as work:
        model = fit_model(recipe, view, dataset, clean, key, work, progress)
        with clean.publish(kind, key) as draft:
            (draft.path / MODEL).mkdir()
            model.save(draft.path / MODEL)
            view.vocabulary.save(draft.path / VOCABULARY)
            draft.facts |= {
                "dataset": dataset,
                "model": recipe.model.model_dump(mode="json"),
                "seed": settings.seed,
                "found": dict(recipe.fit_results),
                "n_items": len(view.vocabulary),
                "counts": view.counts,
                "seconds": round(time.monotonic() - started, 3),
                "environment": describe_environment(),
                "machine": describe_machine(),
                "device": find_device(model),
            }
    return draft.address, draft.facts["device"]


def _pack(fitted: Path, folder: Path, settings: RefitSettings) -> Path:
    """Write the model's files as a package has them: read, and saved once more."""
    (folder / MODEL).mkdir(parents=True)
    load(fitted / MODEL, settings.classes).save(folder / MODEL)
    (folder / VOCABULARY).write_bytes((fitted / VOCABULARY).read_bytes())
    return folder
