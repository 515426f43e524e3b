"""Item and customer tables: each is kept whole, and made again when one of its files changes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.events.forget_list import FORGOTTEN, NOBODY, ForgetList, keep_by_outcome
from endcap.events.snapshot import QUARANTINE
from endcap.events.source_inputs import SourceInput
from endcap.sources.find import prepare_parts
from endcap.sources.load import Loader, Progress
from endcap.sources.pseudonymised_rows import find_key_id, find_row_pseudonyms
from endcap.sources.quarantine import Quarantine
from endcap.sources.table_mapping import get_item_layout
from endcap.sources.values.clock import make_clock
from endcap.sources.write_table import write_table
from endcap.spec.shop import Shop
from endcap.spec.side_tables import Customers, Items
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code

Json = dict[str, Any]


@dataclass
class TableKeeper:
    """Makes tables, or finds them in the store.

    Attributes
    ----------
    shop, store
        The shop's spec, and the store that keeps its tables.
    staging
        The folder that a table is put into.
    bad_rows
        A folder in which bad rows lie while a table is made, and stay if too many are bad.
    connection
        The DuckDB connection that reads.
    progress
        Takes a line now and then.
    forgotten
        Customers whose rows are left out.
    """

    shop: Shop
    store: Store
    staging: Path
    bad_rows: Path
    connection: Any
    progress: Progress
    forgotten: ForgetList = NOBODY

    def keep(
        self, name: str, table: Items | Customers, inputs: Sequence[SourceInput], end: int, quarantine: Quarantine
    ) -> Json:
        """Put a table into the staging folder as ``<name>.parquet``, and return its facts.

        Parameters
        ----------
        name
            ``items`` or ``customers``.
        table
            The shop's declaration of it.
        inputs
            Its sources.
        end
            The time of the log's last event, epoch ms.
        quarantine
            Takes what is known of its rows.

        Raises
        ------
        DataError
            If no row remains, or too many are bad.
        """
        kind, key = f"parsed/{self.shop.name}", self._compute_key(name, table, inputs, end)
        address = self.store.find(kind, key) or self._make(name, table, inputs, end, (kind, key))
        folder, facts = self.store.fetch(address), self.store.manifest(address)["facts"]
        present = [file.name for entry in inputs for file in entry.source_files.files]
        names = dict(zip(facts["files"], present, strict=True))
        quarantine.merge(name, facts["quarantine"], folder / QUARANTINE, names)
        quarantine.check(name, end=True)
        shutil.copyfile(folder / f"{name}.parquet", self.staging / f"{name}.parquet")
        table_facts: Json = facts["table"]
        return table_facts

    def _compute_key(self, name: str, table: Items | Customers, inputs: Sequence[SourceInput], end: int) -> str:
        # Rows of a layout with times count up to the log's last event.
        published = get_item_layout(table)
        timed = published is not None and published.time is not None
        files = [
            [
                entry.source.model_dump(mode="json", exclude={"path", "bigquery"}),
                [[file.format, file.compression] for file in entry.source_files.files],
                entry.digests,
            ]
            for entry in inputs
        ]
        events = self.shop.events.model_dump(mode="json", include={"time", "null_values", "float_ids"})
        declared = table.model_dump(mode="json", exclude={"sources"})
        code = fingerprint_code(STEPS["ingest"].entry)
        key_id = find_key_id(self.shop) if name == "customers" else None
        key = fingerprint(name, files, declared, events, end if timed else None, key_id, code)
        return self.forgotten.replace_key(key)

    def _make(
        self, name: str, table: Items | Customers, inputs: Sequence[SourceInput], end: int, place: tuple[str, str]
    ) -> str:
        events = self.shop.events
        bad_rows, whole = self.bad_rows / f"{name}.{QUARANTINE}", events.float_ids == "whole"
        with Quarantine(bad_rows, events.max_bad_share, events.time) as quarantine:
            clock = make_clock(events.time.zone)
            pseudonyms = find_row_pseudonyms(self.shop) if name == "customers" else None
            loader = Loader(
                name,
                self.connection,
                quarantine,
                self.progress,
                clock,
                words=events.null_values,
                pseudonyms=pseudonyms,
                hides=self.forgotten.covers_text if self.forgotten else None,
            )
            files = [(entry.source, entry.source_files.files) for entry in inputs]
            prepare_parts((file for entry in inputs for file in entry.source_files.files), self.progress)
            exclude = (lambda column: (self.forgotten.match_sql(column), FORGOTTEN)) if self.forgotten else None
            facts = write_table(table, files, self.staging, loader, end, whole=whole, exclude=exclude)
        place = place[0], keep_by_outcome(self.store, self.shop.name, place[1], quarantine.export(name), self.forgotten)
        with self.store.publish(*place) as draft:
            shutil.move(self.staging / f"{name}.parquet", draft.path / f"{name}.parquet")
            shutil.move(bad_rows, draft.path / QUARANTINE)
            draft.facts |= {
                "files": [file.name for entry in inputs for file in entry.source_files.files],
                "table": facts,
                "quarantine": quarantine.export(name),
            }
        return draft.address
