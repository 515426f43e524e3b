"""The methods of a project that make and describe data: a snapshot, and the dataset made of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from endcap.errors import NotFoundError, UserError
from endcap.progress import Notice
from endcap.project.artifacts import Dataset, Snapshot
from endcap.project.base import Input
from endcap.project.progress_bar import Progress
from endcap.project.results import Description
from endcap.project.sql_methods import SqlMethods
from endcap.spec.base import parse_date


class DataMethods(SqlMethods):
    """The steps `ingest` and `features`, and `describe`."""

    def ingest(
        self,
        events: Any = None,
        *,
        items: Any = None,
        customers: Any = None,
        tables: Mapping[str, str] | None = None,
        until: datetime | str | None = None,
    ) -> Snapshot:
        """Check every event, item and customer, set bad rows aside, and write a snapshot.

        Parameters
        ----------
        events, items, customers
            Frames in place of the shop's files: pandas, Polars, Arrow, or a stream of Arrow batches, with the columns
            that the shop's spec names. The project keeps them as its sources.
        tables
            Addresses of what steps of SQL made, by the steps' names, for sources that name one. None: those steps run
            first.
        until
            The logical date, UTC if it names no zone. Of a table of BigQuery, only the days that a dataset of this date
            needs are read. None: all days.

        Returns
        -------
        Snapshot
            The checked log.

        Raises
        ------
        DataError
            Files or columns are missing, or too many rows are bad.
        UserError
            The shop's spec does not declare a table that is given.

        Examples
        --------
        >>> snapshot = project.ingest()
        >>> snapshot.facts["events"]
        55339
        >>> snapshot.bad
        {}
        """
        from endcap.description.summaries import summarize_ingest
        from endcap.events import ingest
        from endcap.project.frames import use_frames

        frames = {"events": events, "items": items, "customers": customers}
        if any(frame is not None for frame in frames.values()):
            self._shop = use_frames(self.shop, frames, self.store)
        shop = self._place_tables(self.shop, tables, until)
        with self._show_step("ingest") as progress:
            address = ingest(shop, self.store, until=_parse_until(until), progress=progress)
        facts = self._read_facts(address)
        files = [file for notice in self._notices["ingest"] for file in notice.fields["files"]]
        summary = summarize_ingest(facts, files=len(files))
        return Snapshot(self._remember("snapshot", address), summary, facts, self.store)

    def features(self, snapshot: Input = None, *, until: datetime | str | None = None) -> Dataset:
        """Make sessions, the item table and event features of a snapshot: a dataset for all recommenders of the shop.

        Items and customers are published in the online store. That is the one that the project or ENDCAP_ONLINE names;
        by default, it is a file in the store's folder. A dataset that exists already is published too if the online
        store lacks it. If the online store fails, the step succeeds and its summary says so.

        Parameters
        ----------
        snapshot
            What `ingest` made.
        until
            Only events before this moment count; None: all events. A moment without a time zone is in UTC.

        Returns
        -------
        Dataset
            Sessions, items and event features.

        Raises
        ------
        DataError
            No events are left.
        UserError
            There is no snapshot yet.

        Examples
        --------
        >>> dataset = project.features(until="2026-03-14")
        >>> dataset.to_pandas("items")["events"].is_monotonic_decreasing
        True
        """
        from endcap.deploy import find_served_datasets
        from endcap.description.summaries import summarize_features
        from endcap.features.retention import publish_dataset_rows

        taken = self._resolve_input("snapshot", snapshot)
        with self._show_step("features") as progress:
            address = self._build_dataset(taken, until, progress)
            description = self._describe_dataset(taken, address, progress)
            served = find_served_datasets(self.shop.name, self.store)
            published = publish_dataset_rows(
                self.shop, address, self.store, progress, online=self._online, served=served
            )
        facts = self._read_facts(address)
        summary = f"{summarize_features(facts, description)}{published}"
        return Dataset(address, summary, facts, self.store)

    def describe(self, *, snapshot: Input = None, dataset: Input = None) -> Description:
        """Describe the shop's data: period, rows, sessions, values that match nothing, and warnings.

        Parameters
        ----------
        snapshot, dataset
            What `ingest` and `features` made. If one is given, the one that belongs to it is used as the other. If
            neither is given, both are made now, and nothing is written to the online store.

        Returns
        -------
        Description
            The facts and the warnings.

        Raises
        ------
        DataError
            As `ingest` and `features` do.
        UserError
            The blacklist has mistakes.

        Examples
        --------
        >>> description = project.describe()
        >>> description.facts["data"]["events"]
        55339
        >>> description.warnings
        []
        """
        from endcap.description import describe
        from endcap.events.query import find_addresses
        from endcap.rules.read import read_rules

        inputs = {
            name: self._resolve_input(name, value)
            for name, value in (("snapshot", snapshot), ("dataset", dataset))
            if value
        }
        left_out = None
        if not inputs:
            inputs["snapshot"] = self.ingest().address
            left_out = [notice.fields for notice in self._notices["ingest"]]
            with self._show_step("features") as progress:
                inputs["dataset"] = self._build_dataset(inputs["snapshot"], None, progress)
        log, dataset_address = find_addresses(self.store, shop=self.shop.name, **inputs)
        with self._show_step("describe") as progress:
            rules = read_rules(self.shop, progress)
            return Description(describe(log, dataset_address, self.store, rules, left_out=left_out))

    def _build_dataset(self, snapshot: str, until: datetime | str | None, progress: Progress) -> str:
        from endcap.description import DescriptionWork
        from endcap.features import build
        from endcap.spark.executor_store import ExecutorStore

        end, then = _parse_until(until), DescriptionWork(ExecutorStore(self.store.root))
        address = build(self.shop, snapshot, self.store, until=end, progress=progress, then=then)
        return self._remember("dataset", address)

    def _describe_dataset(self, snapshot: str, dataset: str, progress: Progress) -> Mapping[str, Any] | None:
        """The description of a dataset that a step has made. What cannot be described is no reason to fail."""
        from endcap.description import describe
        from endcap.rules.read import read_rules

        rules = None
        try:
            rules = read_rules(self.shop, progress)
        except UserError as error:  # the evaluate step stops at it
            progress(Notice(f"the blacklist cannot be held against the log: {error}"))
        try:
            description = describe(snapshot, dataset, self.store, rules)
        except NotFoundError:  # the snapshot that the dataset was made of is no more
            return None
        for warning in description["warnings"]:
            if warning["name"] not in ("files_left_out", "bad_rows"):  # which ingest tells
                progress(Notice(warning["text"], **{name: warning[name] for name in warning if name != "text"}))
        return description


def _parse_until(until: datetime | str | None) -> datetime | None:
    """Return a logical date as a time; None if it is empty."""
    if isinstance(until, str):
        return parse_date(until) if until else None
    return until
