"""The records of a shop's runs: an error in them may quote a row of its log."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from endcap.forgetting.scan import CustomerScan
from endcap.retention.needs import LONGEST_RUN
from endcap.runs import list_runs
from endcap.runs.record import RUNNING
from endcap.store import Store

Json = dict[str, Any]


def find_run_records(store: Store, shop: str, recommenders: Collection[str], scan: CustomerScan) -> list[str]:
    """Find the documents of a shop's runs and of their steps that name a customer."""
    holding = []
    for name in store.list_documents("runs"):
        record = store.read_document(name)
        if record and (record.get("shop") == shop or record.get("recommender") in recommenders):
            documents = {name: record} | {step: store.read_document(step) for step in store.list_documents(name)}
            holding += [path for path, document in documents.items() if scan.is_in_json(document)]
    return holding


def hide_in_run_records(store: Store, names: Collection[str], scan: CustomerScan) -> None:
    """Take customers out of documents of runs."""

    def hide(document: Json | None) -> Json:
        hidden: Json = scan.hide_in_json(document or {})
        return document if document is not None and hidden == document else hidden

    for name in names:
        store.update_document(name, hide)


def list_earlier_runs(
    store: Store, shop: str, recommenders: Collection[str], since: datetime, now: datetime
) -> list[str]:
    """List the runs that go on and began before a moment: they may use data that were there then."""
    return sorted(
        run.name
        for run in list_runs(store, limit=2**31)
        if run.state == RUNNING
        and run.started is not None
        and run.started - timedelta(seconds=1) < since
        and now - run.started <= LONGEST_RUN
        # A run may have begun without a word of what it is about.
        and (run.document.get("shop") in (shop, None, "") or run.recommender in recommenders)
    )
