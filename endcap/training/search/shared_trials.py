"""Trials that searches share: those of the same model on the same data, whatever the searches' budgets.

The record of a running search lies in a workspace of the store, which one process has at a time. When the search has
ended, its trials become a document, which a later search with another budget starts with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endcap.models.custom import find_own_modules
from endcap.spec.search import SearchSpec
from endcap.spec.settings import TrainSettings, ViewSettings
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key
from endcap.store.schemas import report_malformed
from endcap.training.search.record import ModelTrials, Trial

KIND = "searches"
TRIALS = ("endcap.training.search.trial:run", "endcap.training.search.record:SearchRecord")
"""The entries of what a trial's outcome, and what is kept of it, depend on."""
BUDGET = {"trials", "time_budget", "overtime", "concurrency", "cpu", "nice", "max_failed_share", "address", "cluster"}
"""Settings of a search that change no trial's outcome: only which trials there are, and where they run."""


def fingerprint_trials(settings: TrainSettings, dataset: str) -> str:
    """Return the fingerprint of what the outcomes of a search's trials depend on."""
    search = (settings.search or SearchSpec()).model_dump(mode="json", exclude=BUDGET)
    code = fingerprint_code(*TRIALS, *find_own_modules(settings.model, *settings.preprocessing))
    return fingerprint(get_content_key(dataset), ViewSettings.of(settings).key(), search, code)


def inherit_trials(store: Store, name: str, key: str, parts: Mapping[str, ModelTrials]) -> None:
    """Give the trials of earlier searches to a new one.

    Parameters
    ----------
    store
        Where the document lies.
    name
        The recommender's name.
    key
        What `fingerprint_trials` returned.
    parts
        The new search's trials, by label; changed in place.
    """
    document = store.read_document(_name_document(name, key)) or {}
    with report_malformed(KIND, _name_document(name, key)):
        for label, trials in document.get("members", {}).items():
            if label in parts:
                parts[label].inherit(Trial.from_json(trial) for trial in trials)


def share_trials(store: Store, name: str, key: str, parts: Mapping[str, ModelTrials]) -> None:
    """Keep the trials of a search, beside those that other searches kept meanwhile. See `inherit_trials`."""

    def merged(document: dict[str, Any] | None) -> dict[str, Any]:
        members = dict((document or {}).get("members", {}))
        for label, part in parts.items():
            known = {trial["number"]: trial for trial in members.get(label, [])}
            own = {trial.number: trial.to_json() for trial in part.of("complete", "pruned", "cut")}
            members[label] = [trial for _, trial in sorted({**known, **own}.items())]
        return {"members": members}

    store.update_document(_name_document(name, key), merged)


def _name_document(name: str, key: str) -> str:
    return f"{KIND}/{name}/{key}"
