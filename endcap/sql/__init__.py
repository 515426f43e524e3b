"""Steps of SQL: one SELECT over named inputs becomes a table of the store, which the shop's sources can read."""

from endcap.sql.run import check_sql, find_needed, run_sql
from endcap.sql.tables import ROWS, find_warehouse_table, get_table, is_table

__all__ = ["ROWS", "check_sql", "find_needed", "find_warehouse_table", "get_table", "is_table", "run_sql"]
