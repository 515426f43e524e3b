"""What a shop's data say: computed once from its snapshot and dataset, told alike by steps, commands and the report."""

from endcap.description.describe import describe, read_newest_items
from endcap.description.tables import build_tables

__all__ = ["build_tables", "describe", "read_newest_items"]
