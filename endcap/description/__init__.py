"""What a shop's data say: computed once from its snapshot and dataset, told alike by steps, commands and the report."""

from endcap.description.describe import describe, newest_items
from endcap.description.tables import tables

__all__ = ["describe", "newest_items", "tables"]
