"""The refit step: the winner of the gate, fitted on all data, becomes a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from endcap.errors import UserError
from endcap.features.view import declared_features, everything, item_table, open_view
from endcap.features.vocabulary import Vocabulary
from endcap.models import Model, load
from endcap.registry.package import write_package
from endcap.spec import Recommender
from endcap.store import Store, code_fingerprint, content_key, fingerprint
from endcap.training.train import CODE, MODEL, VOCABULARY, Progress, facts_of, fit_anew

PACKAGE_CODE = (*CODE, "endcap.registry.package", "endcap.ranking")


def refit(
    recommender: Recommender,
    dataset: str,
    trained: str,
    verdict: str,
    store: Store,
    *,
    progress: Progress = lambda line: None,
) -> str:
    """Fit the winner on all data for the number of epochs found, and write its package; returns the address.

    With `refit: false` the judged model itself is packed. Raises UserError where the verdict is that the gate failed.
    """
    if not facts_of(store, verdict)["passed"]:
        raise UserError(f"{verdict}: the gate failed, so there is nothing to pack; `endcap run` trains another model")
    kind = f"packages/{recommender.name}"
    inputs = [content_key(address) for address in (dataset, trained)]
    key = fingerprint(inputs, recommender.model_dump(mode="json"), code_fingerprint(*PACKAGE_CODE))
    with store.workspace(kind, key, progress) as work:
        found = store.find(kind, key)
        if found:
            return found
        winner = _winner(recommender, dataset, trained, store, work, progress)
        sources = {"dataset": dataset, "trained": trained, "verdict": verdict}
        with store.publish(kind, key) as draft:
            _write(draft.path, recommender, winner, sources, store)
            draft.facts |= {"recommender": recommender.name, **sources}
    return draft.address


@dataclass(frozen=True)
class _Winner:
    """A model with the items that it scores, in its order, and the time (epoch ms) of the last event it has seen."""

    model: Model
    vocabulary: Vocabulary
    items: pa.Table
    fitted_until: int


def _winner(
    recommender: Recommender, dataset: str, trained: str, store: Store, work: Path, progress: Progress
) -> _Winner:
    """The model to pack: fitted on all data, or the judged one itself."""
    folder = store.fetch(dataset)
    if not recommender.refit:
        return _as_judged(recommender, folder, store.fetch(trained, verify=True))
    return _fitted_on_all(recommender, folder, facts_of(store, trained)["epochs"], work, progress)


def _fitted_on_all(recommender: Recommender, dataset: Path, epochs: int, work: Path, progress: Progress) -> _Winner:
    vocabulary, sessions = everything(dataset, recommender)
    items = item_table(dataset, vocabulary, sessions)
    progress(f"fitting {recommender.model.name} on all {len(sessions):,} sessions")
    model = fit_anew(recommender, sessions, len(vocabulary), epochs, work / "fit", progress)
    return _Winner(model, vocabulary, items, int(sessions.times.max()))


def _as_judged(recommender: Recommender, dataset: Path, trained: Path) -> _Winner:
    model, view = load(trained / MODEL), open_view(dataset, recommender)
    seen = view.train if model.needs_validation else view.training
    return _Winner(model, Vocabulary.load(trained / VOCABULARY), view.items, int(seen.times.max()))


def _write(place: Path, recommender: Recommender, winner: _Winner, sources: dict[str, str], store: Store) -> None:
    made_of = facts_of(store, sources["dataset"])
    write_package(
        place,
        model=winner.model,
        vocabulary=winner.vocabulary,
        items=winner.items,
        recommender=recommender,
        shop_features=declared_features(store.fetch(sources["dataset"])),
        event_types=made_of["event_types"],
        fitted_until=winner.fitted_until,
        lineage={**sources, "snapshot": made_of["snapshot"]},
    )
