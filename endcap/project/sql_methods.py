"""The method of a project that runs a step of SQL, and the shop as ingest reads it: with each table in its place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from endcap.errors import NotFoundError
from endcap.project.artifacts import SqlTable
from endcap.project.base import Input, ProjectBase
from endcap.spec import Shop
from endcap.spec.base import parse_date
from endcap.spec.sql_inputs import list_source_steps
from endcap.spec.sql_step import SqlSpec


class SqlMethods(ProjectBase):
    """Steps of SQL."""

    def sql(
        self,
        step: str,
        *,
        snapshot: Input = None,
        dataset: Input = None,
        until: datetime | str | None = None,
        spec: SqlSpec | None = None,
        tables: Mapping[str, str] | None = None,
    ) -> SqlTable:
        """Run a step of SQL of the recommender's pipeline, and keep its rows as a table.

        Parameters
        ----------
        step
            The step's name, as `pipeline.steps` has it.
        snapshot, dataset
            What `ingest` and `features` made, for a statement that reads their tables.
        until
            The logical date, for a statement that reads `$logical_date` or `$window_start`.
        spec
            A spec in place of the one that the recommender has under this name.
        tables
            Addresses of what other steps of SQL made, by the steps' names. None: those that the statement needs run
            first.

        Returns
        -------
        SqlTable
            The rows.

        Raises
        ------
        UserError
            The statement has a mistake; the error says line and column.
        NotFoundError
            The recommender has no step of SQL of this name.
        DataError
            An input is missing or cannot be read, or the rows are not what is expected.

        Examples
        --------
        >>> from endcap.spec.sql_step import SqlSpec
        >>> text = "select item, count(*) as events from events group by item"
        >>> snapshot = project.ingest()
        >>> table = project.sql("popular", spec=SqlSpec(text=text), snapshot=snapshot)
        >>> table.to_pandas()["events"].sum()
        55339
        """
        from endcap.description.summaries import summarize_sql
        from endcap.sql import find_needed, run_sql

        spec = spec or self._find_sql(step)
        artifacts = {
            name: self._resolve_input(name, value)
            for name, value in (("snapshot", snapshot), ("dataset", dataset))
            if value
        }
        needed = [] if tables is not None else find_needed(step, spec)
        artifacts |= {name: self._resolve_input(name, None) for name in needed if name not in artifacts}
        if tables is None:
            tables = self._make_tables([source.step for source in spec.inputs.values() if source.step], until)
        end = parse_date(until) if isinstance(until, str) and until else until or None
        assert not isinstance(end, str)
        with self._show_step(step) as progress:
            address = run_sql(
                step, spec, self.shop.name, self.store,
                tables=tables, artifacts=artifacts, until=end,
                window=self.shop.window, spark=self.shop.spark, progress=progress,
            )  # fmt: skip
        facts = self._read_facts(address)
        self._tables[step] = address
        return SqlTable(address, summarize_sql(facts), facts, self.store)

    def _find_sql(self, step: str) -> SqlSpec:
        steps = {name: entry.sql for name, entry in self.recommender.pipeline.steps.items() if entry.sql is not None}
        if step not in steps:
            raise NotFoundError(
                f"the recommender {self.recommender.name} has no step of SQL {step!r}; it has "
                f"{', '.join(steps) or 'none'}",
                code="project.sql-step-unknown",
                step=step,
                known=list(steps),
            )
        return steps[step]

    def _make_tables(self, steps: list[str], until: datetime | str | None) -> dict[str, str]:
        """Run these steps if this project has their specs, and return the addresses of all that it has run.

        A step that has run before for the same date is found again.
        """
        for step in steps:
            if self._recommender is not None and step in self.recommender.pipeline.steps:
                self.sql(step, until=until)
        return self._tables

    def _place_tables(self, shop: Shop, tables: Mapping[str, str] | None, until: datetime | str | None) -> Shop:
        """Return the shop with the files of a table in the place of each source that names a step of SQL."""
        steps = list_source_steps(shop)
        if not steps:
            return shop
        from endcap.sql import ROWS, find_warehouse_table, get_table

        addresses = self._make_tables(steps, until) if tables is None else tables
        origins: dict[str, dict[str, Any]] = {}
        for step in steps:
            address = get_table(step, addresses)
            table = find_warehouse_table(self._read_facts(address))
            files = {} if table else {"path": str(self.store.fetch(address) / ROWS), "format": "parquet"}
            origins[step] = {"step": None, "bigquery": table, **files}

        def place(table: Any) -> Any:
            sources = [
                source if source.step is None else source.model_copy(update=origins[source.step])
                for source in table.sources
            ]
            return table.model_copy(update={"sources": sources})

        changes = {"events": place(shop.events)}
        if shop.customers is not None:
            changes["customers"] = place(shop.customers)
        return shop.model_copy(update=changes)
