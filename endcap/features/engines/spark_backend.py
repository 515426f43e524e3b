"""Ibis on Spark without temporary views: a statement carries the plans of the tables that it names.

A view would cost three calls for every table that is kept: to make it, to look its schema up, and to drop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
from ibis.backends.pyspark import Backend
from ibis.backends.pyspark.datatypes import PySparkSchema, PySparkType
from ibis.expr import operations as ops
from ibis.expr.schema import Schema

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


class PlanBackend(Backend):  # type: ignore[misc]
    """Ibis's backend of Spark, whose tables are data frames of this process."""

    def do_connect(self, session: SparkSession) -> None:
        """Use a session."""
        self.register_options()
        super().do_connect(session)
        self._frames: dict[str, DataFrame] = {}

    def show(self, frame: DataFrame, schema: Schema | None = None) -> ir.Table:
        """Show a data frame as a table. Without its schema, Spark is asked."""
        name = ibis.util.gen_name("endcap")
        if schema is None:
            schema = Schema(PySparkType.to_ibis(frame.schema))
        self._frames[name] = frame
        table: ir.Table = ops.DatabaseTable(name, schema=schema, source=self).to_expr()
        return table

    def cast(self, frame: DataFrame, schema: Schema) -> Any:
        """Give columns the types that Ibis takes them for: Spark's own numbers of rows and literals are narrower."""
        from pyspark.sql.connect import functions

        columns = [functions.col(name).cast(PySparkType.from_ibis(kind)) for name, kind in schema.items()]
        return frame.select(*columns)

    def hide(self, name: str) -> None:
        """Forget a table. What Spark keeps of it is freed when no other frame is made of it."""
        del self._frames[name]

    def plan(self, table: ir.Table) -> DataFrame:
        """Return Spark's own form of a table, which is not computed yet."""
        self._run_pre_execute_hooks(table)
        return self.raw_sql(self.compile(table))

    def raw_sql(self, query: Any, **kwargs: Any) -> DataFrame:
        """Return a statement's data frame, without a call to Spark."""
        from pyspark.sql.connect import plan
        from pyspark.sql.connect.dataframe import DataFrame

        text = query if isinstance(query, str) else query.sql(dialect=self.dialect)
        # Names are long and random, so none is a part of another, or of what a user wrote.
        named = [(name, frame) for name, frame in self._frames.items() if name in text]
        views = [plan.SubqueryAlias(frame._plan, name) for name, frame in named]
        return DataFrame(plan.SQL(text, [], {}, views), self._session)

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        schema = PySparkSchema.from_ibis(op.schema)
        self._frames[op.name] = self._session.createDataFrame(op.data.to_frame(), schema=schema)
