"""The refit step: the winner of the gate, fitted on all data, becomes a package."""

from __future__ import annotations

from endcap.errors import UserError
from endcap.features.view import declared_features, everything, item_table, open_view
from endcap.features.vocabulary import Vocabulary
from endcap.models import load
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
    found = store.find(kind, key)
    if found:
        return found
    folder = store.fetch(dataset)
    judged = facts_of(store, trained)
    if recommender.refit:
        vocabulary, sessions = everything(folder, recommender)
        items = item_table(folder, vocabulary, sessions)
        work = store.workspace(kind, key)
        progress(f"fitting {recommender.model.name} on all {len(sessions):,} sessions")
        model = fit_anew(recommender, sessions, len(vocabulary), judged["epochs"], work / "fit", progress)
    else:
        place = store.fetch(trained, verify=True)
        model, vocabulary = load(place / MODEL), Vocabulary.load(place / VOCABULARY)
        view = open_view(folder, recommender)
        items, sessions = view.items, view.train if model.needs_validation else view.training
    made_of = facts_of(store, dataset)
    with store.publish(kind, key) as draft:
        write_package(
            draft.path,
            model=model,
            vocabulary=vocabulary,
            items=items,
            recommender=recommender,
            shop_features=declared_features(folder),
            event_types=made_of["event_types"],
            fitted_until=int(sessions.times.max()),
            lineage={"dataset": dataset, "snapshot": made_of["snapshot"], "trained": trained, "verdict": verdict},
        )
        draft.facts |= {"recommender": recommender.name, "dataset": dataset, "trained": trained, "verdict": verdict}
    store.discard_workspace(kind, key)
    return draft.address
