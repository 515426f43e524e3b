"""The refit step: the gate's winner, fitted on all data, becomes a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import UserError
from endcap.features.dataset_files import read_customer_ids, read_declared_features
from endcap.features.vocabulary import Vocabulary
from endcap.machine import describe_machine
from endcap.models import Model, load
from endcap.models.custom import find_own_modules
from endcap.models.device import find_device
from endcap.models.fit import FullData, fit_with_settings, get_last_time, get_part, open_model_view
from endcap.models.preprocessed import unwrap
from endcap.registry.package import RULES, describe_environment, write_package
from endcap.registry.recipe import select_recipe_facts
from endcap.rules import Catalogue
from endcap.safe_reading import read_json
from endcap.spec.model import ModelSpec
from endcap.spec.settings import RefitSettings
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key
from endcap.store.schemas import report_malformed
from endcap.training.distributed import DistributedFitter
from endcap.training.train import MODEL, VOCABULARY, Progress, read_facts

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender

FIT = "endcap.training.refit:fit_winner"
"""The entry of the fit alone: code that only packs fits nothing anew."""
ITEMS, CUSTOMERS = "items.parquet", "customers.parquet"


def refit(
    recommender: Recommender,
    dataset: str,
    trained: str,
    verdict: str,
    store: Store,
    *,
    progress: Progress = lambda line: None,
) -> str:
    """Fit the winner on all data for the number of epochs that its training chose, and write its package.

    With `refit: false` the judged model itself is packed. The package has the shop's rules that the model was judged
    by. The fitted model is an artifact of its own: if only settings of serving, the gate or the pipeline change, it is
    packed again, and not fitted.

    Parameters
    ----------
    recommender
        The recommender.
    dataset, trained, verdict
        Addresses of the dataset, the trained model and the gate's verdict.
    store
        Where artifacts lie.
    progress
        Takes lines for people.

    Returns
    -------
    str
        Address of the package.

    Raises
    ------
    UserError
        The gate failed, or was undecided.
    """
    judged = read_facts(store, verdict)
    if not judged["passed"]:
        if judged.get("outcome") == "undecided":
            lacking = judged["evidence"]["lacking"]
            raise UserError(
                f"{verdict}: the gate is undecided, so there is nothing to pack: {'; '.join(lacking)}",
                code="training.gate-undecided",
                verdict=verdict,
                lacking=lacking,
            )
        raise UserError(
            f"{verdict}: the gate failed, so there is nothing to pack; `endcap run` trains another model",
            code="training.gate-failed",
            verdict=verdict,
        )
    settings = RefitSettings.of(recommender)
    winner = fit_winner(settings, dataset, trained, store, progress)
    kind = STEPS["refit"].folder(settings.name)
    inputs = [get_content_key(address) for address in (dataset, trained, winner)]
    code = fingerprint_code(STEPS["refit"].entry, *_find_own_code(settings))
    rules = read_house_rules(store, verdict)
    key = fingerprint(inputs, recommender.model_dump(mode="json"), code, *([] if rules is None else [rules.version]))
    address = store.find(kind, key)
    if address:
        return address
    sources = {"dataset": dataset, "trained": trained, "verdict": verdict}
    with store.publish(kind, key) as draft:
        _write(draft.path, recommender, winner, sources, rules, store)
        draft.facts |= {"recommender": settings.name, **sources, "fitted": winner}
    return draft.address


def read_house_rules(store: Store, verdict: str) -> Catalogue | None:
    """Return the shop's rules of a verdict, with the blacklist, without items; None if the shop has none."""
    file = store.fetch(verdict) / RULES
    with report_malformed("verdicts", verdict):
        return Catalogue.from_json(read_json(file)) if file.exists() else None


def make_fit_key(settings: RefitSettings, dataset: str, trained: str) -> str:
    """Return the key of what `fit_winner` makes of a dataset and a trained model with the code of now."""
    inputs = [get_content_key(address) for address in (dataset, trained)]
    return fingerprint(inputs, settings.key(), fingerprint_code(FIT, *_find_own_code(settings)))


def fit_winner(settings: RefitSettings, dataset: str, trained: str, store: Store, progress: Progress) -> str:
    """Return the address of the model to pack with its vocabulary and items: fitted on all data, or the judged one."""
    kind = f"refitted/{settings.name}"
    key = make_fit_key(settings, dataset, trained)
    with store.workspace(kind, key, progress) as work:
        address = store.find(kind, key)
        if address:
            return address
        fit = _fit_on_all if settings.refit else _load_judged
        winner = fit(settings, dataset, trained, store, key, work, progress)
        with store.publish(kind, key) as draft:
            (draft.path / MODEL).mkdir()
            winner.model.save(draft.path / MODEL)
            winner.vocabulary.save(draft.path / VOCABULARY)
            pq.write_table(winner.items, draft.path / ITEMS)
            customers = read_customer_ids(store.fetch(dataset), winner.model.known_customers)
            pq.write_table(pa.table({"customer": customers}), draft.path / CUSTOMERS)
            draft.facts |= {
                "environment": describe_environment(),
                "machine": describe_machine(),
                "fitted_until": winner.until,
                "device": winner.device,
            }
    return draft.address


@dataclass(frozen=True)
class _FinalFit:
    """A model with the items that it scores, in its order.

    until: time of the last event that it was trained on, epoch ms. device: where it was fitted; None: not known.
    """

    model: Model
    vocabulary: Vocabulary
    items: pa.Table
    until: int
    device: str | None


def _fit_on_all(
    settings: RefitSettings, dataset: str, trained: str, store: Store, key: str, work: Path, progress: Progress
) -> _FinalFit:
    data = FullData.of(store.fetch(dataset), settings)
    facts = read_facts(store, trained)
    spec = _parse_model(facts["model"], settings)
    progress(f"fitting {spec.name} on all {data.count:,} sessions")
    if settings.workers > 1:
        with DistributedFitter(settings, dataset, store, key, work / "workers", progress) as workers:
            fitted = workers.fit(spec, "everything", facts["found"])
        model, device = fitted.model, fitted.device
    else:
        model = fit_with_settings(
            spec,
            data.sessions,
            len(data.vocabulary),
            facts["found"],
            items=data.items,
            seed=settings.seed,
            workspace=work / "fit",
            progress=progress,
            preprocessing=settings.preprocessing,
        )
        device = find_device(model)
    return _FinalFit(model, data.vocabulary, data.items, data.last, device)


def _load_judged(
    settings: RefitSettings, dataset: str, trained: str, store: Store, key: str, work: Path, progress: Progress
) -> _FinalFit:
    judged, view = store.fetch(trained, verify=True), open_model_view(store.fetch(dataset), settings)
    model = load(judged / MODEL, settings.classes)
    sessions = get_part(view, "train" if unwrap(model).needs_validation else "training")
    device = read_facts(store, trained).get("device")
    return _FinalFit(model, Vocabulary.load(judged / VOCABULARY), view.items, get_last_time(sessions), device)


def _find_own_code(settings: RefitSettings) -> list[str]:
    return find_own_modules(settings.model, *settings.preprocessing)


def _parse_model(model: dict[str, Any], settings: RefitSettings) -> ModelSpec:
    """Return the spec that the train step noted; its classes must be those that this recommender lists."""
    return RefitSettings.model_validate({**settings.model_dump(mode="json"), "model": model}).model


def _write(
    place: Path, recommender: Recommender, winner: str, sources: dict[str, str], rules: Catalogue | None, store: Store
) -> None:
    dataset_facts, folder = read_facts(store, sources["dataset"]), store.fetch(winner, verify=True)
    write_package(
        place,
        model=load(folder / MODEL, recommender.classes),
        vocabulary=Vocabulary.load(folder / VOCABULARY),
        items=pq.read_table(folder / ITEMS),
        customers=pq.read_table(folder / CUSTOMERS)["customer"],
        recommender=recommender,
        shop_features=read_declared_features(store.fetch(sources["dataset"])),
        event_types=dataset_facts["event_types"],
        session_gap=dataset_facts.get("session_gap_ms"),
        fitted_until=read_facts(store, winner)["fitted_until"],
        house_rules=rules,
        recipe=select_recipe_facts(read_facts(store, sources["trained"])),
        lineage={**sources, "snapshot": dataset_facts["snapshot"]},
        pseudonyms=dataset_facts.get("pseudonyms"),
    )
